"""Configuration files, from their bytes to what they set."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bn_audit.settings.config import Config, ConfigError
from bn_audit.settings.keys import Vocabulary
from bn_audit.settings.load import load, place_of, read_inline
from bn_audit.settings.versions import parse_version
from tests.settings.files import VOCABULARY, write


def read(path: str, vocabulary: Vocabulary = VOCABULARY) -> Config:
    config = load(path, vocabulary)
    assert config is not None
    return config


def settings_of(config: Config) -> dict[str, object]:
    return {key: value for key, value in config.items() if key not in ("path", "root", "files", "origins")}


def test_every_key(tmp_path: Path) -> None:
    path = write(
        tmp_path / "pyproject.toml",
        """
        [tool.bn-audit]
        select = ["BNA1", "bna303"]
        extend-select = ["BNA4", "all"]
        ignore = ["BNA106"]
        per-file-ignores = { "tests/*" = ["BNA1"], "!conftest.py" = ["BNA303"] }
        exclude = ["old", "./generated/*.py"]
        extend-exclude = ["third_party/"]
        force-exclude = true
        respect-gitignore = false
        fail-on = "error"
        output-format = "concise"
        jobs = 2
        secretflow-version = "1.12.0b0"
        models-with-batchnorm = ["a.b"]
        models-without-batchnorm = ["a.c", "a.b.C.d"]
        batchnorm-classes = ["FancyBN", "a.BN"]
        flmodel-wrappers = ["a.fl"]

        [tool.bn-audit.extend-per-file-ignores]
        "a.py" = ["ALL"]
        """,
    )
    config = read(path)
    assert settings_of(config) == {
        "select": ("BNA1", "BNA303"),
        "extend_select": ("BNA4", ""),
        "ignore": ("BNA106",),
        "per_file_ignores": ((f"{tmp_path}/tests/*", ("BNA1",)), ("!conftest.py", ("BNA303",))),
        "extend_per_file_ignores": (("a.py", ("",)),),
        "exclude": ("old", f"{tmp_path}/generated/*.py"),
        "extend_exclude": ("third_party",),
        "force_exclude": True,
        "respect_gitignore": False,
        "fail_on": "error",
        "output_format": "concise",
        "jobs": 2,
        "secretflow_version": "1.12.0b0",
        "models_with_batchnorm": ("a.b",),
        "models_without_batchnorm": ("a.c", "a.b.C.d"),
        "batchnorm_classes": ("FancyBN", "a.BN"),
        "flmodel_wrappers": ("a.fl",),
    }
    assert (config["path"], config["root"], config["files"]) == (path, str(tmp_path), (path,))
    assert set(config["origins"].values()) == {(path,)}


@pytest.mark.parametrize(
    "text",
    [
        "[tool.bn-audit]\njobs = 3\n",
        '[tool."bn-audit"]\njobs = 3\n',
        "[ tool . bn-audit ]\njobs = 3\n",
        "[tool]\nbn-audit = {jobs = 3}\n",
        "[tool]\nbn-audit.jobs = 3\n",
        "tool.bn-audit.jobs = 3\n",
        "tool = {bn-audit = {jobs = 3}}\n",
        "'tool'.'bn-audit'.jobs = 3\n",
    ],
)
def test_every_way_to_write_the_table(tmp_path: Path, text: str) -> None:
    assert settings_of(read(write(tmp_path / "pyproject.toml", text))) == {"jobs": 3}


@pytest.mark.parametrize(
    "text",
    ["", "[project]\nname = 'bn-audit'\n[project.scripts]\nbn-audit = 'x:y'\n", "[tool.bn]\naudit = 1\n", "no TOML"],
)
def test_a_shared_file_without_the_table_does_not_count(tmp_path: Path, text: str) -> None:
    assert load(write(tmp_path / "pyproject.toml", text), VOCABULARY) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\ningore = []", ":2: unknown key `ingore`; did you mean `ignore`?"),
        ("zzz = 1", ":1: unknown key `zzz`; known keys are baseline, batchnorm-classes, cache-dir, exclude, extend,"),
        ("path = 'x'", ":1: unknown key `path`"),
        ("extend_select = []", "did you mean `extend-select`?"),
        ("# select\nselect = 'BNA1'", ":2: `select` must be a list of strings"),
        ("select = [1]", ":1: `select` must be a list of strings"),
        ("select = ['']", ":1: `select` holds an empty code"),
        ("jobs = 1\nignore = [\n  'BNA1',\n  'BNA7']", ":2: `ignore` names no rule: no rule's code begins with `BNA7`"),
        ("per-file-ignores = ['a.py']", ":1: `per-file-ignores` must be a table"),
        ("[per-file-ignores]\n'a.py' = 'BNA1'", ":1: `per-file-ignores` for 'a.py' must be a list of strings"),
        ("fail-on = 'never'", ":1: `fail-on` must be one of error, warning, info"),
        ("fail-on = ['error']", "`fail-on` must be one of"),
        ("output-format = 'xml'", "`output-format` must be one of concise, json, text"),
        ("secretflow-version = 1.13", "`secretflow-version` must be a version, written as a string"),
        ("secretflow-version = 'latest'", "`secretflow-version` must be a version: 'latest' is not a version"),
        ("force-exclude = 1", "`force-exclude` must be true or false"),
        ("jobs = -1", "`jobs` must be a whole number from 0"),
        ("jobs = true", "`jobs` must be a whole number from 0"),
        ("models-with-batchnorm = ['make']", "must be a list of dotted names with their module, which 'make' lacks"),
        ("batchnorm-classes = ['a b']", "`batchnorm-classes` must be a list of dotted names, which 'a b' is not"),
        ("exclude = {}", "`exclude` must be a list of strings"),
        ("extend = []", "`extend` must be a string"),
        ("jobs = 1\nselect = [ # never closed\n\n", ":2: "),
        ("jobs = 1\nselect = ]", ":2:10: "),
    ],
)
def test_errors_name_the_file_the_line_and_the_key(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path / "bn-audit.toml", text)
    with pytest.raises(ConfigError) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}:")
    assert says in str(raised.value)


def test_an_error_in_a_shared_file(tmp_path: Path) -> None:
    path = write(tmp_path / "pyproject.toml", "[tool.other]\nselect = 1\n[tool.bn-audit]\n\nselect = 1\n")
    with pytest.raises(ConfigError) as raised:
        read(path)
    assert str(raised.value) == f"{path}:5: `select` must be a list of strings"


def test_a_table_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a table"):
        read(write(tmp_path / "pyproject.toml", "[tool]\nbn-audit = 3\n"))


@pytest.mark.parametrize("data", [b"\xff", b"a = " + b"[" * 100_000, b"\xef\xbb\xbfjobs = 1"])
def test_bytes_that_are_no_toml(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bn-audit.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as raised:
        read(str(path))
    assert str(raised.value).startswith(str(path))


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "bn-audit.toml", "")

    def refuse(name: str, flags: int) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", name)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigError, match="Permission denied") as raised:
        read(path)
    assert str(raised.value).startswith(path)


def test_a_file_over_the_one_it_extends(tmp_path: Path) -> None:
    base = write(
        tmp_path / "shared" / "base.toml",
        "select = ['BNA1']\nignore = ['BNA106']\nextend-exclude = ['gen/*', 'old']\nfail-on = 'error'\n"
        "[per-file-ignores]\n'tests/*' = ['BNA1']\n",
    )
    path = write(
        tmp_path / "project" / "pyproject.toml",
        "[tool.bn-audit]\nextend = '../shared/base.toml'\nignore = ['BNA107']\nextend-exclude = ['gen/x']\n",
    )
    config = read(path)
    assert settings_of(config) == {
        "select": ("BNA1",),
        "ignore": ("BNA107",),
        "extend_exclude": (f"{tmp_path}/shared/gen/*", "old", f"{tmp_path}/project/gen/x"),
        "fail_on": "error",
        "per_file_ignores": ((f"{tmp_path}/shared/tests/*", ("BNA1",)),),
    }
    assert (config["path"], config["root"]) == (path, str(tmp_path / "project"))
    assert config["files"] == (path, base)
    assert config["origins"]["ignore"] == (path,)
    assert config["origins"]["extend-exclude"] == (base, path)


def test_chains_and_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path / "home" / "all.toml", "jobs = 1\nfail-on = 'info'\n")
    write(tmp_path / "a" / "bn-audit.toml", "extend = '~/all.toml'\njobs = 2\n")
    path = write(tmp_path / "b" / "bn-audit.toml", "extend = '../a/bn-audit.toml'\n")
    assert settings_of(read(path)) == {"jobs": 2, "fail_on": "info"}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a.toml": "extend = 'a.toml'"}, "a.toml:1: a configuration extends itself: {0}/a.toml -> {0}/a.toml"),
        (
            {"a.toml": "\nextend = 'b.toml'", "b.toml": "extend = 'a.toml'"},
            "b.toml:1: a configuration extends itself: ",
        ),
        ({"a.toml": "extend = 'none.toml'"}, "a.toml:1: `extend`: there is no file {0}/none.toml"),
        ({"a.toml": "extend = '.'"}, "a.toml:1: `extend`: there is no file {0}"),
        (
            {"a.toml": "extend = 'pyproject.toml'", "pyproject.toml": "[tool.x]"},
            "a.toml:1: `extend`: {0}/pyproject.toml has no table `tool.bn-audit`",
        ),
        ({"a.toml": "extend = 'b.toml'", "b.toml": "jbos = 1"}, "b.toml:1: unknown key `jbos`"),
    ],
)
def test_what_cannot_be_extended(tmp_path: Path, files: dict[str, str], says: str) -> None:
    for name, text in files.items():
        write(tmp_path / name, text)
    with pytest.raises(ConfigError) as raised:
        read(str(tmp_path / "a.toml"))
    assert says.format(tmp_path) in str(raised.value)


def test_a_cycle_through_a_link(tmp_path: Path) -> None:
    write(tmp_path / "a.toml", "extend = 'b.toml'")
    (tmp_path / "b.toml").symlink_to("a.toml")
    with pytest.raises(ConfigError, match="extends itself"):
        read(str(tmp_path / "a.toml"))


def test_inline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = read_inline("extend-exclude = ['a/b', 'c']", VOCABULARY)
    assert settings_of(config) == {"extend_exclude": (f"{tmp_path}/a/b", "c")}
    assert settings_of(read_inline("per-file-ignores.'a.py' = ['BNA1']", VOCABULARY)) == {
        "per_file_ignores": (("a.py", ("BNA1",)),)
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("jobs = ", "--config: 'jobs = ' is neither a file nor TOML"),
        ("jbos = 1", "--config: unknown key `jbos`; did you mean `jobs`?"),
        ("jobs = 'x'", "--config: `jobs` must be a whole number"),
        ("extend = 'x.toml'", "--config: `extend` must stand in a file"),
    ],
)
def test_inline_errors(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_inline(text, VOCABULARY)
    assert str(raised.value).startswith(says)


def test_the_place_of_a_key(tmp_path: Path) -> None:
    path = write(
        tmp_path / "pyproject.toml", "[tool.bn-audit]\nselect = []\n[tool.bn-audit.per-file-ignores]\n'a' = []\n"
    )
    assert place_of(path, "per-file-ignores", "a") == f"{path}:4"
    assert place_of(path, "none") == f"{path}:1"
    assert place_of(str(tmp_path / "none.toml"), "x") == str(tmp_path / "none.toml")


@pytest.mark.parametrize("text", ["1.13", "1.13.0", "1.13.0b0", "v1.5.0", "1.4.0.dev1", "1.13.0b0+cpu"])
def test_versions(text: str) -> None:
    assert parse_version(text) == text.removeprefix("v")


@pytest.mark.parametrize("text", ["", "latest", "1.x", "1..2", ">=1.13"])
def test_no_versions(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        parse_version(text)


def test_paths_are_the_systems(tmp_path: Path) -> None:
    """A folder whose name is a pattern is no pattern."""
    folder = tmp_path / "a[b]{c}*"
    config = read(write(folder / "bn-audit.toml", "extend-exclude = ['x/y.py']"))
    assert config["extend_exclude"] == (f"{tmp_path}{os.sep}a[[]b][{{]c[}}][*]/x/y.py",)
