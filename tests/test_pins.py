from __future__ import annotations

from pathlib import Path

import pytest

from bn_audit.pins import _above, pinned

NAMES = ("secretflow", "secretflow-lite")


@pytest.fixture(autouse=True)
def _forget() -> None:
    _above.cache_clear()


def project(root: Path, files: dict[str, str]) -> str:
    (root / ".git").mkdir()
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    source = root / "src" / "pkg" / "train.py"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.touch()
    return str(source)


POETRY = "[tool.poetry.dependencies]\npython = '^3.10'\n"
PIPFILE_LOCK = '{"default": {"secretflow": {"version": "==1.3.0b0"}}}'


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"requirements.txt": "numpy\nsecretflow==1.4.0b0\n"}, "1.4.0b0"),
        ({"requirements.txt": "SecretFlow_Lite[extra] == 1.4.0b0 ; python_version < '3.12'  # why\n"}, "1.4.0b0"),
        ({"requirements.txt": "secretflow==1.4.0b0 \\\n    --hash=sha256:abc\n"}, "1.4.0b0"),
        ({"requirements.txt": "secretflow==1.4.*\n"}, "1.4"),
        ({"requirements.txt": "secretflow~=1.4.0\n"}, "1.4.0"),
        ({"requirements/base.txt": "secretflow===1.5.0\n"}, "1.5.0"),
        ({"requirements-dev.txt": "secretflow==1.5.0\n"}, "1.5.0"),
        ({"pyproject.toml": "[project]\ndependencies = ['secretflow==1.6.0b0']\n"}, "1.6.0b0"),
        ({"pyproject.toml": "[project.optional-dependencies]\nfl = ['secretflow==1.6.0b0']\n"}, "1.6.0b0"),
        ({"pyproject.toml": "[dependency-groups]\ndev = ['secretflow==1.6.0b0', {include-group = 'x'}]\n"}, "1.6.0b0"),
        ({"pyproject.toml": f"{POETRY}secretflow = '==1.7.0'\n"}, "1.7.0"),
        ({"pyproject.toml": f"{POETRY}secretflow = {{version = '==1.7.0', optional = true}}\n"}, "1.7.0"),
        ({"pyproject.toml": "[tool.poetry.group.fl.dependencies]\nsecretflow = '==1.7.0'\n"}, "1.7.0"),
        ({"setup.cfg": "[options]\ninstall_requires =\n    numpy\n    secretflow==1.8.0b0\n"}, "1.8.0b0"),
        ({"setup.cfg": "[options.extras_require]\nfl =\n    secretflow==1.8.0b0\n"}, "1.8.0b0"),
        ({"Pipfile": "[packages]\nsecretflow = '==1.9.0b0'\n"}, "1.9.0b0"),
        ({"Pipfile.lock": PIPFILE_LOCK}, "1.3.0b0"),
        ({"uv.lock": "[[package]]\nname = 'secretflow'\nversion = '1.10.0b1'\n"}, "1.10.0b1"),
        ({"poetry.lock": "[[package]]\nname = 'secretflow'\nversion = '1.10.0b1'\n"}, "1.10.0b1"),
        # A lock file knows better than a manifest, a nearer file better than one further up.
        (
            {
                "poetry.lock": "[[package]]\nname = 'secretflow'\nversion = '1.1.0'\n",
                "requirements.txt": "secretflow==1.2",
            },
            "1.1.0",
        ),
        ({"requirements.txt": "secretflow==1.2", "src/pkg/requirements.txt": "secretflow==1.3"}, "1.3"),
        # Nothing exact.
        ({}, None),
        ({"requirements.txt": "secretflow>=1.4\n"}, None),
        ({"requirements.txt": "secretflow\nnot-secretflow==1.0\n"}, None),
        ({"requirements.txt": "# secretflow==1.0\n"}, None),
        ({"requirements.txt": "secretflow==1.2\n", "requirements-dev.txt": "secretflow==1.3\n"}, None),
        ({"pyproject.toml": f"{POETRY}secretflow = '1.7.0'\n"}, None),
        # Files that are broken, or of another shape, are not ours to judge.
        ({"pyproject.toml": "[project\n", "setup.cfg": "no section\n", "Pipfile.lock": "[", "uv.lock": "x"}, None),
        ({"pyproject.toml": "project = 1\n", "Pipfile.lock": "[1]", "uv.lock": "package = 1\n"}, None),
        ({"pyproject.toml": "[tool]\npoetry = 1\n[dependency-groups]\na = 1\n", "Pipfile": "packages = [1]\n"}, None),
    ],
)
def test_pins(tmp_path: Path, files: dict[str, str], version: str | None) -> None:
    assert pinned(project(tmp_path, files), NAMES) == version


def test_the_search_ends_at_the_root_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("secretflow==1.2\n", encoding="utf-8")
    inner = tmp_path / "repository"
    inner.mkdir()
    assert pinned(project(inner, {}), NAMES) is None
