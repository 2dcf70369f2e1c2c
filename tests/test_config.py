from __future__ import annotations

import errno
from pathlib import Path

import pytest

from bn_audit.config import Config, ConfigError, find, parse_version
from bn_audit.finding import Severity


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_key(tmp_path: Path) -> None:
    path = write(
        tmp_path / "pyproject.toml",
        """
        [tool.bn-audit]
        select = ["BNA1", "BNA303"]
        ignore = ["BNA106"]
        extend-select = ["BNA4"]
        exclude = ["old"]
        extend-exclude = ["third_party"]
        fail-on = "error"
        secretflow-version = "1.12.0b0"
        """,
    )
    assert find(str(tmp_path)) == Config(
        path=path,
        select=("BNA1", "BNA303"),
        ignore=("BNA106",),
        extend_select=("BNA4",),
        exclude=("old",),
        extend_exclude=("third_party",),
        fail_on=Severity.ERROR,
        secretflow_version="1.12.0b0",
    )


def test_the_nearest_file_with_our_table_counts(tmp_path: Path) -> None:
    far = write(tmp_path / "pyproject.toml", "[tool.bn-audit]\nignore = ['BNA106']\n")
    write(tmp_path / "a" / "pyproject.toml", "[project]\nname = 'about-bn-audit'\n")
    assert find(str(tmp_path / "a"))["path"] == far
    near = write(tmp_path / "a" / "bn-audit.toml", "ignore = ['BNA108']\n")
    write(tmp_path / "a" / "b" / "c.py", "")
    assert find(str(tmp_path / "a" / "b")) == Config(path=near, ignore=("BNA108",))


def test_our_own_file_wins_in_one_folder(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "[tool.bn-audit]\nignore = ['BNA106']\n")
    own = write(tmp_path / "bn-audit.toml", "")
    assert find(str(tmp_path)) == Config(path=own)


def test_without_a_file(tmp_path: Path) -> None:
    assert find(str(tmp_path)) == Config()


def test_a_broken_file_of_others_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "this is no TOML")
    assert find(str(tmp_path)) == Config()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ingore = []", "unknown key `ingore`; did you mean `ignore`?"),
        ("zzz = 1", "unknown key `zzz`; known keys are exclude, extend-exclude, extend-select, fail-on, ignore"),
        ("path = 'x'", "unknown key `path`"),
        ("extend_select = []", "did you mean `extend-select`?"),
        ("select = 'BNA1'", "`select` must be a list of strings"),
        ("select = [1]", "`select` must be a list of strings"),
        ("fail-on = 'never'", "`fail-on` must be one of info, warning, error"),
        ("fail-on = ['error']", "`fail-on` must be one of"),
        ("secretflow-version = 1.13", "`secretflow-version`: a version is written as a string"),
        ("secretflow-version = 'latest'", "`secretflow-version`: 'latest' is not a version"),
        ("select = [", "bn-audit.toml: "),
    ],
)
def test_errors_name_the_file_and_the_key(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path / "bn-audit.toml", text)
    with pytest.raises(ConfigError) as raised:
        find(str(tmp_path))
    assert str(raised.value).startswith(path)
    assert says in str(raised.value)


def test_a_table_that_is_none(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "[tool]\nbn-audit = 3\n")
    with pytest.raises(ConfigError, match="must be a table"):
        find(str(tmp_path))


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "bn-audit.toml", "")

    def refuse(name: str, mode: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", name)

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ConfigError, match="Permission denied") as raised:
        find(str(tmp_path))
    assert str(raised.value).startswith(path)


@pytest.mark.parametrize("text", ["1.13", "1.13.0", "1.13.0b0", "v1.5.0", "1.4.0.dev1", "1.13.0b0+cpu"])
def test_versions(text: str) -> None:
    assert parse_version(text) == text.removeprefix("v")


@pytest.mark.parametrize("text", ["", "latest", "1.x", "1..2", ">=1.13"])
def test_no_versions(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        parse_version(text)
