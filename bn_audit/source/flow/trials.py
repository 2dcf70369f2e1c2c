"""What a project's tests make: a model that is there to try a function on takes part in no federation.

A test says nothing of who uses the function: a cache, a channel or a class that it fills with a model of its own is
filled with others elsewhere. What a test averages itself, in its own file, is its own affair.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

import libcst as cst

from bn_audit.source.flow.index import FileIndex, Scope
from bn_audit.source.flow.values import Env, Made
from bn_audit.source.nodes import leaf_name
from bn_audit.source.project import PyModule

__all__ = ["without_trials"]

_FILE = re.compile(r"(?:test_.*|.*_tests?|conftest)\.py$")
"""What pytest calls files of tests by default, and its files of fixtures."""
_CASES = re.compile(r"Tests?(?![a-z])|TestCase$")


def without_trials(models: Iterable[Made], module: PyModule) -> Iterator[Made]:
    """The models that take part in what a file does: without those that tests in other files make."""
    for made in models:
        test = _test_of(made.env)
        if test is None or test is module:
            yield made


def _test_of(env: Env) -> PyModule | None:
    """The file of the test that runs a scope; None if no test does, as far as its callers are known."""
    current: Env | None = env
    while current is not None:
        if _FILE.match(os.path.basename(current.module.path)) and _is_test(current.scope, current.module):
            return current.module
        current = current.caller
    return None


def _is_test(scope: Scope, module: PyModule) -> bool:
    """Whether a scope lies in a function that pytest or unittest runs, and that nobody in the file gives anything."""
    current: Scope | None = scope
    while current is not None:
        function = current.function
        if isinstance(function, cst.FunctionDef):
            name = function.name.value
            if any("fixture" in leaf_name(_called(row.decorator)) for row in function.decorators):
                return True
            owner = current.owner.name.value if current.owner is not None else ""
            if name.startswith("test") or name in ("setUp", "setup_method") or _CASES.search(owner):
                return not any(call.args for call in module.derive(FileIndex).calls_of(name))
        current = current.parent
    return False


def _called(node: cst.BaseExpression) -> cst.BaseExpression:
    return node.func if isinstance(node, cst.Call) else node
