"""Discovery, beside ruff and git where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bn_audit.source.discovery import Discovery, DiscoveryOptions, discover
from tests.source.conftest import Tree

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def init(folder: Path) -> None:
    """Make a folder an empty repository, without any git needed."""
    for name in ("objects", "refs", "info"):
        (folder / ".git" / name).mkdir(parents=True, exist_ok=True)
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")


def test_suffixes_and_order(tree: Tree) -> None:
    tree(dict.fromkeys(("b/z.py", "b.py", "a.pyi", "n.ipynb", "README.md", "x.pyc", "c/d/e.py", "py"), ""))
    assert discover(["."]) == Discovery(("a.pyi", "b.py", "b/z.py", "c/d/e.py", "n.ipynb"))


def test_default_excludes_hold_below_a_given_folder_only(tree: Tree) -> None:
    tree({f"{name}/x.py": "" for name in (".venv", "venv", "node_modules", ".git", "site-packages", "dist", "a")})
    assert discover(["."]).files == ("a/x.py",)
    assert discover(["venv", "site-packages/x.py"]).files == ("site-packages/x.py", "venv/x.py")


def test_explicit_files_are_read_whatever_they_are(tree: Tree) -> None:
    root = tree({"tool": "", "a.py": "", "venv/v.py": "", ".gitignore": "a.py\n"})
    init(root)
    assert discover(["tool", "a.py", "venv/v.py"]).files == ("a.py", "tool", "venv/v.py")
    forced = DiscoveryOptions(force_exclude=True)
    assert discover(["tool", "venv/v.py"], forced).files == ("tool",)
    assert discover(["venv"], forced).files == ()


def test_named_twice_is_found_once(tree: Tree) -> None:
    root = tree({"a/x.py": ""})
    assert discover(["a", "a/x.py", str(root / "a"), "./a/../a/x.py", "."]).files == ("a/x.py",)


def test_outside_the_working_directory_paths_are_absolute(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree({"a/x.py": "", "b/y.py": ""})
    monkeypatch.chdir(root / "a")
    assert discover([".", "../b"]).files == (str(root / "b/y.py"), "x.py")


def test_missing(tree: Tree) -> None:
    tree({"a.py": ""})
    assert discover(["none", "a.py/b", "a.py", "none"]) == Discovery(("a.py",), (), ("none", "a.py/b"))


def test_fifo_is_never_opened(tree: Tree) -> None:
    root = tree({"a.py": ""})
    os.mkfifo(root / "pipe.py")
    assert discover(["."]).files == ("a.py",)
    assert discover(["pipe.py"]).problems == ("pipe.py: not a regular file",)


def test_unreadable_folder_is_a_problem(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree({"a.py": "", "locked/b.py": "", "z/c.py": ""})
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert discover(["."]) == Discovery(("a.py", "z/c.py"), ("locked: Permission denied",))


@pytest.mark.skipif(sys.platform == "darwin", reason="file names there are UTF-8")
def test_odd_file_names(tree: Tree) -> None:
    root = tree({"a\nb.py": "", "c d.py": "", "é.py": ""})
    Path(os.fsdecode(os.fsencode(root) + b"/\xff.py")).touch()
    assert discover(["."]).files == ("a\nb.py", "c d.py", "é.py", "\udcff.py")


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("b.py", ("a.py", "d/c.py")),
        ("d", ("a.py", "b.py")),
        ("d/", ("a.py", "b.py")),
        ("*.py", ()),
        ("d/*.py", ("a.py", "b.py")),
        ("./d/b.py", ("a.py", "b.py", "d/c.py")),
        ("[ab].py", ("d/c.py",)),
        ("[!a].py", ("a.py",)),
        ("{a,c}.py", ("b.py", "d/b.py")),
        ("**/b.py", ("a.py", "d/c.py")),
        ("**/d/**/c.py", ("a.py", "b.py", "d/b.py")),
        ("?.py", ()),
        ("[z-a].py", ("a.py", "b.py", "d/b.py", "d/c.py")),
        ("[", ("a.py", "b.py", "d/b.py", "d/c.py")),
        ("", ("a.py", "b.py", "d/b.py", "d/c.py")),
    ],
)
def test_patterns(tree: Tree, pattern: str, left: tuple[str, ...]) -> None:
    tree(dict.fromkeys(("a.py", "b.py", "d/b.py", "d/c.py"), ""))
    assert discover(["."], DiscoveryOptions(extend_exclude=(pattern,))).files == left


def test_exclude_takes_the_place_of_the_defaults(tree: Tree) -> None:
    tree(dict.fromkeys(("a.py", "venv/b.py"), ""))
    assert discover(["."], DiscoveryOptions(exclude=("a.py",))).files == ("venv/b.py",)
    assert discover(["."], DiscoveryOptions(extend_exclude=("a.py",))).files == ()


def test_patterns_with_a_slash_are_relative_to_the_root(tree: Tree) -> None:
    root = tree(dict.fromkeys(("p/a/x.py", "a/x.py"), ""))
    assert discover(["."], DiscoveryOptions(extend_exclude=("a/x.py",), root=str(root / "p"))).files == ("a/x.py",)
    assert discover(["."], DiscoveryOptions(extend_exclude=(f"{root}/a/x.py",))).files == ("p/a/x.py",)


def test_links(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tree({"real/r.py": "", "b/x.py": "", ".venv/v.py": ""})
    other = tmp_path_factory.mktemp("other")
    (other / "o.py").touch()
    (other / "back").symlink_to(root)
    (root / "a").symlink_to(root / "real")
    (root / "b" / "up").symlink_to(root)
    (root / "b" / "top").symlink_to("/")
    (root / "b" / "loop").symlink_to("loop")
    (root / "b" / "broken.py").symlink_to("nothing.py")
    (root / "b" / "link.py").symlink_to(root / "real" / "r.py")
    (root / "b" / "outside.py").symlink_to(other / "o.py")
    (root / "environment").symlink_to(root / ".venv")
    assert discover(["."]).files == ("b/outside.py", "b/x.py", "real/r.py")
    (root / "other").symlink_to(other)
    assert discover(["."]).files == ("b/outside.py", "b/x.py", "other/o.py", "real/r.py")
    assert discover(["a"]).files == ("a/r.py",)


IGNORING = {
    ".gitignore": "*.gen.py\n/top.py\nskip/\n!keep.gen.py\nmid/only.py\ndeep/**/z.py\n\\#odd.py\n# x\n\ntrail.py  \n",
    "a/.gitignore": "!top.py\nlocal.py\n!x.gen.py\n",
    "allow/.gitignore": "*\n!*/\n!good.py\n",
    "b/.ignore": "ripgrep.py\n",
    "nested/.gitignore": "n.py\n",
    "skip/.gitignore": "!s.py\n",
    ".git/info/exclude": "private.py\n",
    **dict.fromkeys(
        (
            "top.py",
            "a/top.py",
            "a/local.py",
            "local.py",
            "x.gen.py",
            "keep.gen.py",
            "a/x.gen.py",
            "skip/s.py",
            "a/skip/s.py",
            "mid/only.py",
            "a/mid/only.py",
            "deep/z.py",
            "deep/q/r/z.py",
            "deep/q/y.py",
            "#odd.py",
            "trail.py",
            "allow/bad.py",
            "allow/good.py",
            "allow/d/bad.py",
            "allow/d/good.py",
            "b/ripgrep.py",
            "private.py",
            "a/private.py",
            "nested/n.py",
            "nested/x.gen.py",
            "nested/m.py",
            "n.py",
            "skip.py",
            "a/notebook.ipynb",
        ),
        "",
    ),
}


def git_files(root: Path) -> set[str]:
    command = ["git", "-C", str(root), "ls-files", "--others", "--exclude-standard", "-z"]
    environment = {**os.environ, "HOME": str(root), "XDG_CONFIG_HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return {name for name in done.stdout.split("\0") if name.endswith((".py", ".ipynb"))}


@needs_git
def test_agrees_with_git(tree: Tree) -> None:
    root = tree({name: text for name, text in IGNORING.items() if name != "b/.ignore"})
    init(root)
    assert git_files(root) == set(discover(["."]).files)
    assert set(discover(["a"]).files) == {name for name in git_files(root) if name.startswith("a/")}
    assert discover(["allow/d"]).files == ("allow/d/good.py",)


_NAMES = st.text(st.sampled_from("ab.-"), min_size=1, max_size=3).filter(lambda name: name.strip("."))
# Left out: `**` right after a literal beginning (`a**/b`), which git, having compared the beginning, reads like `**/b`.
_WILD = st.sampled_from(
    [
        "*",
        "**",
        "?",
        "a*",
        "*.a",
        "[ab]",
        "[!a]",
        "[^b]b",
        "[]a]",
        "[a-b]",
        "[b-a]",
        "[[:alpha:]]",
        "[[:x:]]",
        "[a",
        "\\a",
        "**a",
        "***",
        "\\",
        "[\\]]",
        "a ",
        "a\\ ",
        "[--b]",
        "[.-a]*",
    ]
)
_LINES = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(st.one_of(_NAMES, _WILD), min_size=1, max_size=3).map("/".join),
    st.sampled_from(["", "", "/", "\r", "  "]),
)


@needs_git
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    paths=st.sets(st.lists(_NAMES, min_size=1, max_size=3).map("/".join), min_size=4, max_size=12),
    lines=st.lists(_LINES, min_size=1, max_size=5),
    inner=st.lists(_LINES, max_size=2),
)
def test_agrees_with_git_on_any_pattern(paths: set[str], lines: list[str], inner: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        init(root)
        for path in paths:
            (root / "d" / path).parent.mkdir(parents=True, exist_ok=True)
            for file in (root / f"{path}.py", root / "d" / f"{path}.py"):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
        (root / ".gitignore").write_bytes("\n".join(lines).encode())
        (root / "d" / ".gitignore").write_bytes("\n".join(inner).encode())
        found = {os.path.relpath(path, root) for path in discover([folder]).files}
        assert found == git_files(root)


@pytest.mark.parametrize("paths", [["."], ["a", "deep/q"], ["skip", "allow/d", "nested"]])
@pytest.mark.parametrize("repository", [True, False])
def test_agrees_with_ruff(tree: Tree, paths: list[str], repository: bool) -> None:
    ruff = shutil.which("ruff", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if ruff is None:
        pytest.skip("ruff is not installed")
    root = tree(IGNORING)
    if repository:
        init(root)
        init(root / "nested")
    else:
        shutil.rmtree(root / ".git")
    command = [ruff, "check", "--isolated", "--show-files", "--extend-exclude", "y.py,deep/z.py", *paths]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    expected = {name.removeprefix(f"{root}/") for name in shown if name.endswith((".py", ".ipynb"))}
    found = discover(paths, DiscoveryOptions(extend_exclude=("y.py", "deep/z.py"))).files
    assert set(found) == expected


def test_no_gitignore(tree: Tree) -> None:
    root = tree(IGNORING)
    init(root / "x")
    everything = {name for name in IGNORING if name.endswith((".py", ".ipynb"))}
    assert set(discover(["."], DiscoveryOptions(respect_gitignore=False)).files) == everything


def test_worktrees_share_the_exclude_file(tree: Tree) -> None:
    tree(
        {
            "main/.git/info/exclude": "private.py\n",
            "main/.git/worktrees/w/commondir": "../..\n",
            "w/.git": "gitdir: ../main/.git/worktrees/w\n",
            "w/private.py": "",
            "w/public.py": "",
        }
    )
    assert discover(["w"]).files == ("w/public.py",)


def test_bad_ignore_lines_match_nothing(tree: Tree) -> None:
    root = tree({".gitignore": b"[z-a].py\n\xff\xfe.py\nb.py\n[\n!\n", "a.py": "", "b.py": ""})
    init(root)
    assert discover(["."]).files == ("a.py",)


def test_ten_thousand_files_are_found_quickly(tree: Tree) -> None:
    root = tree({".gitignore": "*.log\n/build/\n__pycache__/\n*.egg-info\n!keep.log\n"})
    init(root)
    for folder in range(100):
        (root / f"f{folder}").mkdir()
        for number in range(100):
            (root / f"f{folder}" / f"{number}.py").touch()
    start = time.process_time()
    assert len(discover(["."]).files) == 10_000
    assert time.process_time() - start < 1.5  # 0.1 s where this was written
