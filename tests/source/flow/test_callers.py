"""Which calls may run a function, told from the arguments alone: beside Python's own binding of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import libcst as cst
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.source.flow.callers import may_take
from bn_audit.source.flow.index import FileIndex
from bn_audit.source.flow.values import Env
from bn_audit.source.project import Project

PARAMETERS = st.sampled_from(
    ["", "a", "a, b", "a, b=1", "a, /, b", "a, *, k", "a, *, k=1", "*args", "a, *args", "**rest", "a, b=1, **rest"]
)
ARGUMENTS = st.sampled_from(
    [*("", "1", "1, 2", "1, 2, 3", "a=1", "1, b=2", "k=1", "1, k=2"), "*values", "1, *values", "**values", "1, z=2"]
)


def takes(folder: Path, definition: str, call: str, name: str = "run") -> bool:
    """What is said of the last call in a program, and the function of a name."""
    path = folder / "program.py"
    path.write_text(f"{definition}\n\n{call}\n", encoding="utf-8")
    module = Project().open(str(path))
    index = module.derive(FileIndex)
    (function,) = index.functions_of(name)
    scope = index.scope(function)
    assert scope is not None
    found = index.calls_of(name)[-1]
    assert isinstance(found, cst.Call)
    return may_take(Env(module, scope), found)


def binds(definition: str, call: str) -> bool:
    """Whether Python could run the call, with some values for the stars."""
    for values in ([], [1], [1, 2]):
        for named in ({}, {"k": 1}, {"a": 1}, {"b": 1}, {"a": 1, "b": 2}):
            space: dict[str, object] = {}
            exec(definition, space)
            function = space["run"]
            assert callable(function)
            space["run"] = _binder(function)
            space["values"] = named if "**values" in call else values
            try:
                exec(call, space)
            except TypeError:
                continue
            return True
    return False


def _binder(function: Callable[..., object]) -> Callable[..., object]:
    return lambda *args, **kwargs: inspect.signature(function).bind(*args, **kwargs)


@given(PARAMETERS, ARGUMENTS)
def test_what_python_binds_may_be_taken(tmp_path_factory: pytest.TempPathFactory, parameters: str, given: str) -> None:
    definition, call = f"def run({parameters}):\n    pass", f"run({given})"
    taken = takes(tmp_path_factory.mktemp("program"), definition, call)
    assert taken or not binds(definition, call)


@pytest.mark.parametrize(
    ("definition", "call", "expected"),
    [
        ("class A:\n    def run(self, x):\n        pass", "a.run(1)", True),
        ("class A:\n    def run(self, x):\n        pass", "A.run(a, 1)", True),
        ("class A:\n    def run(self, x):\n        pass", "a.run()", False),
        ("class A:\n    def run(self, x):\n        pass", "a.run(1, 2, 3)", False),
        ("class A:\n    @staticmethod\n    def run(x):\n        pass", "A.run(1)", True),
        ("def run(a, b=1):\n    pass", "run()", False),
        ("def run(a, b=1):\n    pass", "run(1, 2, 3)", False),
        ("def run(a, b=1):\n    pass", "run(1, c=2)", False),
        ("def run(a, b=1, **rest):\n    pass", "run(1, c=2)", True),
        ("def run(a, *rest):\n    pass", "run(1, 2, 3)", True),
        ("@wrapped\ndef run(x):\n    pass", "run()", True),
        ("def run(x):\n    pass", "pool.run(print, [1, 2])", False),
    ],
)
def test_methods_and_wrappers(tmp_path: Path, definition: str, call: str, expected: bool) -> None:
    assert takes(tmp_path, definition, call) is expected
