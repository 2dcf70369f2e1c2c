"""Nothing in the reader goes past :class:`bn_audit.source.outside.Outside`."""

from __future__ import annotations

import ast
from pathlib import Path

import bn_audit.source

ALLOWED = {
    "discovery.py",  # finds the files of a scan
    "exclusion.py",
    "ignore.py",
    "keeper.py",  # memories, not sources
    "outside.py",
    "positions.py",  # lines for frames, after the fact
    "prefilter.py",
    "raw.py",
    "read.py",
    "residence.py",  # the process's own memory
    "root.py",  # takes what asks for a path
    "signature.py",
    "versions.py",  # our own files
}
PURE = {"abspath", "basename", "commonpath", "dirname", "isabs", "join", "normpath", "relpath", "split", "splitext"}
FREE = {"cpu_count", "fsdecode", "fsencode", "getcwd", "path", "sched_getaffinity", "sep"}
READS = {"open", "read_bytes", "glob", "iglob", "scandir", "listdir"}


def test_only_a_few_modules_touch_the_file_system() -> None:
    root = Path(bn_audit.source.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        name = str(path.relative_to(root))
        if name in ALLOWED or name.startswith("zoo/"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                bad = node.attr not in FREE
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os.path":
                bad = node.attr not in PURE
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                bad = node.func.id in READS
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                bad = any(alias.name.partition(".")[0] in ("pathlib", "glob", "io", "shutil") for alias in node.names)
            else:
                bad = False
            if bad:
                found.append(f"{name}:{node.lineno}: {ast.unparse(node)}")
    assert found == []
