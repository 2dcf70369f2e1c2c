"""Which settings hold for which file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bn_audit.settings.config import Config, ConfigError
from bn_audit.settings.keys import Vocabulary
from bn_audit.settings.load import read_inline
from bn_audit.settings.resolver import Resolver
from tests.settings.files import VOCABULARY, write


def words() -> Vocabulary:
    return VOCABULARY


@pytest.fixture
def resolver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Resolver]:
    """A resolver in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def make(**options: object) -> Resolver:
        return Resolver(words, **options)  # type: ignore[arg-type]

    return make


def test_the_nearest_file_with_our_table_holds(tmp_path: Path, resolver: Callable[..., Resolver]) -> None:
    far = write(tmp_path / "pyproject.toml", "[tool.bn-audit]\nignore = ['BNA106']\n")
    write(tmp_path / "a" / "pyproject.toml", "[project]\nname = 'about-bn-audit'\n")
    near = write(tmp_path / "a" / "b" / "bn-audit.toml", "select = ['BNA108']\n")
    settings = resolver()
    assert settings.of("x.py")["path"] == settings.of("a/x.py")["path"] == far
    assert settings.of(str(tmp_path / "a" / "b" / "c" / "x.py"))["path"] == near
    assert settings.of("a/b/none/x.py").get("ignore") is None
    assert settings.files() == tuple(sorted([far, near]))


def test_our_own_file_wins_in_one_folder_with_a_note(tmp_path: Path, resolver: Callable[..., Resolver]) -> None:
    shared = write(tmp_path / "pyproject.toml", "[tool.bn-audit]\nignore = ['BNA106']\n")
    own = write(tmp_path / "bn-audit.toml", "")
    settings = resolver()
    assert settings.of("a.py")["path"] == settings.of("b.py")["path"] == own
    assert settings.notes == ["pyproject.toml: `tool.bn-audit` is not read, because bn-audit.toml stands beside it"]
    Path(shared).write_text("[tool.other]\n", encoding="utf-8")
    settings = resolver()
    assert (settings.of("a.py")["path"], settings.notes) == (own, [])


def test_no_file(resolver: Callable[..., Resolver]) -> None:
    assert resolver().of("a.py") == Config()


def test_names_of_entries_save_the_search(
    tmp_path: Path, resolver: Callable[..., Resolver], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "bn-audit.toml", "jobs = 1")
    settings = resolver()
    settings.at(str(tmp_path), ["bn-audit.toml"])
    asked: list[str] = []
    monkeypatch.setattr(os.path, "isfile", lambda path: asked.append(path) or False)  # type: ignore[func-returns-value]
    assert settings.at(str(tmp_path / "a"), ["x.py"])["jobs"] == 1
    assert settings.at(str(tmp_path / "a"), None)["jobs"] == 1
    assert asked == []


def test_folders_within_folders_without_end(resolver: Callable[..., Resolver]) -> None:
    assert resolver().at("/" + "a/" * 5_000) == Config()


def test_a_file_that_holds_everywhere(tmp_path: Path, resolver: Callable[..., Resolver]) -> None:
    write(tmp_path / "a" / "bn-audit.toml", "jobs = 1")
    write(tmp_path / "other" / "some.toml", "extend-exclude = ['x/y']\nextend = 'base.toml'")
    write(tmp_path / "other" / "base.toml", "jobs = 2\nextend-exclude = ['z/z']\n")
    settings = resolver(file="other/some.toml")
    assert settings.of("a/x.py")["jobs"] == 2
    # As in ruff, what is relative in it is relative to the working directory.
    assert settings.of("a/x.py")["extend_exclude"] == (f"{tmp_path}/z/z", f"{tmp_path}/x/y")
    with pytest.raises(ConfigError, match="No such file"):
        resolver(file="none.toml")
    write(tmp_path / "pyproject.toml", "")
    with pytest.raises(ConfigError, match=r"there is no table `tool\.bn-audit`"):
        resolver(file="pyproject.toml")


def test_isolated(tmp_path: Path, resolver: Callable[..., Resolver]) -> None:
    write(tmp_path / "bn-audit.toml", "no TOML at all")
    assert resolver(isolated=True).of("a.py") == Config()
    assert resolver(isolated=True, flags=[Config(jobs=1)]).of("a.py")["jobs"] == 1


def test_flags_lie_over_files(tmp_path: Path, resolver: Callable[..., Resolver]) -> None:
    path = write(
        tmp_path / "bn-audit.toml",
        "select = ['BNA1']\nextend-select = ['BNA4']\nignore = ['BNA106']\nextend-exclude = ['a']\nfail-on = 'error'\n",
    )
    inline = read_inline("ignore = ['BNA107']\nextend-exclude = ['b']", VOCABULARY)
    flags = Config(ignore=("BNA108",), fail_on="info", origins={"ignore": ("--ignore",), "fail-on": ("--fail-on",)})
    config = resolver(flags=[inline, flags]).of("x.py")
    assert config["ignore"] == ("BNA106", "BNA107", "BNA108")
    assert config["origins"]["ignore"] == (path, "--config", "--ignore")
    assert (config["select"], config["extend_select"]) == (("BNA1",), ("BNA4",))
    assert (config["extend_exclude"], config["fail_on"]) == (("a", "b"), "info")


def test_select_on_the_command_line_begins_anew(tmp_path: Path, resolver: Callable[..., Resolver]) -> None:
    write(tmp_path / "bn-audit.toml", "extend-select = ['BNA4']\nignore = ['BNA1']\njobs = 3")
    config = resolver(flags=[Config(select=("BNA1",), origins={"select": ("--select",)})]).of("x.py")
    assert {"select", "jobs"} <= config.keys()
    assert not {"ignore", "extend_select"} & config.keys()
    assert config["origins"].keys() == {"select", "jobs"}


def test_exclusions(tmp_path: Path, resolver: Callable[..., Resolver]) -> None:
    write(tmp_path / "bn-audit.toml", "extend-exclude = ['gen/*']")
    write(tmp_path / "a" / "bn-audit.toml", "exclude = ['x.py']")
    settings = resolver()
    here, below = settings.exclusion(str(tmp_path)), settings.exclusion(str(tmp_path / "a"))
    assert here.matches("y.py", f"{tmp_path}/gen/y.py") and here.matches("venv", f"{tmp_path}/venv")
    assert not here.matches("x.py", f"{tmp_path}/x.py")
    assert below.matches("x.py", f"{tmp_path}/a/x.py") and not below.matches("venv", f"{tmp_path}/a/venv")
    assert settings.exclusion(str(tmp_path / "b")) is here


@pytest.mark.parametrize(
    ("pattern", "silent"),
    [
        ("a.py", {"a.py", "tests/a.py", "tests/deep/a.py"}),
        ("tests/*", {"tests/a.py", "tests/b.py", "tests/deep/a.py"}),
        ("tests/**/a.py", {"tests/a.py", "tests/deep/a.py"}),
        ("tests", set()),
        ("!a.py", {"b.py", "tests/b.py"}),
        ("!tests/*", {"a.py", "b.py"}),
        ("*.{py,ipynb}", {"a.py", "b.py", "tests/a.py", "tests/b.py", "tests/deep/a.py"}),
    ],
)
def test_per_file_ignores(tmp_path: Path, resolver: Callable[..., Resolver], pattern: str, silent: set[str]) -> None:
    write(tmp_path / "bn-audit.toml", f"per-file-ignores = {{'{pattern}' = ['BNA1']}}")
    settings = resolver()
    files = ("a.py", "b.py", "tests/a.py", "tests/b.py", "tests/deep/a.py")
    assert {file for file in files if settings.ignored(file) == ("BNA1",)} == silent
    assert all(settings.ignored(file) == () for file in files if file not in silent)


def test_the_run_follows_the_working_directory(tmp_path: Path, resolver: Callable[..., Resolver]) -> None:
    write(tmp_path / "other" / "bn-audit.toml", "jobs = 1")
    write(tmp_path / "other" / "sub" / "bn-audit.toml", "jobs = 2")
    inside = [str(tmp_path / "other" / "sub" / "a.py"), "other/b.py"]
    assert resolver().run(inside)["jobs"] == 1
    assert resolver().run(inside[:1])["jobs"] == 2
    assert resolver().run([]) == Config()
    write(tmp_path / "bn-audit.toml", "jobs = 3")
    assert resolver().run(inside)["jobs"] == 3
