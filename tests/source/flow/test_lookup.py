"""What a name of a file's top level stands for is looked up without running what has no part in it."""

from __future__ import annotations

from pathlib import Path

import libcst as cst

from bn_audit.source.flow.lookup import Lookup
from bn_audit.source.interpreter.values import ClassVal, Func, Value
from bn_audit.source.project import Project

_LONG = "\n".join(f"history.append([train(model, {number}) for _ in range(9)])" for number in range(1000))
"""What takes more than a look-up may take."""


def _looked_up(folder: Path, text: str, name: str) -> tuple[Value | None, str]:
    path = folder / "main.py"
    path.write_text(text)
    module = Project([str(folder)]).open(str(path))
    found = Lookup(Project([str(folder)])).global_value(module, name)
    node = getattr(found, "node", None)
    return found, module.tree.code_for_node(node) if isinstance(node, cst.CSTNode) else ""


def test_a_function_that_is_defined_again_is_its_last_definition(tmp_path: Path) -> None:
    first, last = "def train(net, data):\n    return history\n", "def train(net, data):\n    return history, 2\n"
    head = "history, model = [], make()\n"
    found, code = _looked_up(tmp_path, f"{head}{first}{_LONG}\n{last}\n", "train")
    assert isinstance(found, Func) and code.strip() == last.strip()


def test_a_class_that_derives_from_its_former_self_is_built_on_it(tmp_path: Path) -> None:
    text = "class Net:\n    width = 8\nclass Net(Net):\n    depth = 2\n"
    found, _ = _looked_up(tmp_path, text, "Net")
    assert isinstance(found, ClassVal) and "depth" in found.attrs
    assert [base.attrs.keys() & {"width"} for base in found.bases if isinstance(base, ClassVal)] == [{"width"}]


def test_what_is_done_to_the_last_definition_counts(tmp_path: Path) -> None:
    text = "def f():\n    return 1\ndef f():\n    return 2\nf = other\ndef other():\n    return 3\n"
    found, _ = _looked_up(tmp_path, text, "f")
    assert not isinstance(found, Func)
