"""The edit after which the model of an FLModel call is made by ``local_batchnorm``: around which expression it is
written, and where its import goes.

The wrapper takes whatever FLModel takes for a model: a class, a function that makes one, a TorchModel. So it is written
around the ``model`` argument of the call, and nothing that other calls share changes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from bn_audit.finding import Edit
from bn_audit.source.interpreter.flmodel import Arrival
from bn_audit.source.interpreter.libraries import is_flmodel
from bn_audit.source.interpreter.needs import FLMODEL_PARAMETERS
from bn_audit.source.interpreter.values import ExternalResult, Step
from bn_audit.source.locate import Locator
from bn_audit.source.nodes import dotted_name, walk
from bn_audit.source.project import PyModule

__all__ = ["Wrap", "wrap", "wrap_edits"]

_MODULE, _NAME = "bn_audit.federated.secretflow", "local_batchnorm"
_MODEL = FLMODEL_PARAMETERS.index("model")


@dataclass(frozen=True, slots=True, eq=False)
class Wrap:
    """The argument of a call that can be wrapped.

    Attributes:
        module, call: the call.
        argument: the expression of its ``model``.
        name: what the wrapper is called in the file; "" if it is not imported yet.
    """

    module: PyModule
    call: cst.Call
    argument: cst.BaseExpression
    name: str

    @property
    def steps(self) -> Iterator[Step]:
        """What must be located before the edits can be written."""
        yield Step(self.module, self.call)
        yield Step(self.module, self.argument)


class _Surroundings:
    """What a file says of the wrapper, and which top-level statement of a part each of its calls stands in.

    Gone over once a file: some files have a thousand calls.
    """

    def __init__(self, module: PyModule) -> None:
        self.name = _imported(module)
        self._statements = {
            id(node): number
            for part in module.parsed.parts
            for number, statement in enumerate(part.module.body)
            for node in walk(statement)
            if isinstance(node, cst.Call)
        }
        self._imports = {
            part.cell: [number for number, statement in enumerate(part.module.body) if _is_import(statement)]
            for part in module.parsed.parts
        }

    def import_before(self, call: cst.Call, cell: int | None) -> int | None:
        """The number of the last import at the top level of a part that comes before a call in it."""
        imports = self._imports[cell]
        number = bisect_left(imports, self._statements.get(id(call), max(imports, default=0) + 1))
        return imports[number - 1] if number else None


def wrap(place: Step, arrivals: Sequence[Arrival]) -> Wrap | None:
    """What to wrap at a site; None where it is no call of FLModel itself, or the model cannot be told from the call."""
    call = place.node
    if not isinstance(call, cst.Call) or not all(_fits(arrival, call) for arrival in arrivals):
        return None
    argument = _argument(call)
    name = place.module.derive(_Surroundings).name
    if argument is None or name is None:
        return None
    return Wrap(place.module, call, argument, name)


def _fits(arrival: Arrival, call: cst.Call) -> bool:
    """Whether a call makes SecretFlow's own FLModel, of what makes a model with norm layers and is not wrapped yet."""
    made = arrival.value
    direct = arrival.step.node is call and isinstance(made, ExternalResult) and is_flmodel(made.func.name)
    has_norms = arrival.raw is not None and bool(arrival.raw.profile.norms) and arrival.backend == "torch"
    return direct and has_norms and arrival.wrapped is None and arrival.from_builder


def _argument(call: cst.Call) -> cst.BaseExpression | None:
    for number, arg in enumerate(call.args):
        if arg.star == "*":
            return None
        if arg.keyword is not None and arg.keyword.value == "model":
            return arg.value
        if arg.star == "" and arg.keyword is None and number == _MODEL:
            return arg.value
    return None


def _imported(module: PyModule) -> str | None:
    """What the wrapper is called in a file: "" where it is not imported, None where its name is taken."""
    for part in module.parsed.parts:
        for statement in part.module.body:
            for small in statement.body if isinstance(statement, cst.SimpleStatementLine) else ():
                if isinstance(small, cst.ImportFrom) and small.module is not None and not small.relative:
                    if dotted_name(small.module) != _MODULE or isinstance(small.names, cst.ImportStar):
                        continue
                    for alias in small.names:
                        if alias.name.value == _NAME:
                            bound = alias.asname.name if alias.asname is not None else alias.name
                            return bound.value if isinstance(bound, cst.Name) else None
    taken = any(isinstance(node, cst.Name) and node.value == _NAME for node in walk(module.tree))
    return None if taken else ""


def wrap_edits(found: Wrap, locator: Locator) -> tuple[Edit, ...]:
    """What to write; nothing where there is no place for the import in the file, or in the cell of the call."""
    place, argument = (locator.at(step) for step in found.steps)
    if argument.cell != place.cell:
        return ()
    edits = [
        _insertion(argument.line, argument.column, f"{found.name or _NAME}("),
        _insertion(argument.end_line, argument.end_column, ")"),
    ]
    if not found.name:
        imported = _import(found, place.cell, locator)
        if imported is None:
            return ()
        edits.append(imported)
    return tuple(sorted(edits, key=lambda edit: (edit.line, edit.column)))


def _insertion(line: int, column: int, content: str) -> Edit:
    return Edit(line, column, line, column, content)


def _import(found: Wrap, cell: int | None, locator: Locator) -> Edit | None:
    """The import: after the last one at the top level that comes before the call."""
    text = f"from {_MODULE} import {_NAME}"
    part = next((part for part in found.module.parsed.parts if part.cell == cell), None)
    if part is None:
        return None
    last = found.module.derive(_Surroundings).import_before(found.call, cell)
    if last is not None:
        line = locator.at(Step(found.module, part.module.body[last])).end_line
        # At the end of that line, whatever comment stands there: what begins the next one stays where it is.
        return _insertion(line, len(part.source.split("\n")[line - 1]) + 1, f"\n{text}")
    first = part.module.body[0]
    if isinstance(first, cst.SimpleStatementLine) and not _is_docstring(first):
        return _insertion(locator.at(Step(found.module, first)).line, 1, f"{text}\n")
    return None


def _is_import(statement: cst.BaseStatement | cst.SimpleStatementLine) -> bool:
    return isinstance(statement, cst.SimpleStatementLine) and isinstance(
        statement.body[-1], (cst.Import, cst.ImportFrom)
    )


def _is_docstring(statement: cst.SimpleStatementLine) -> bool:
    first = statement.body[0]
    return isinstance(first, cst.Expr) and isinstance(first.value, (cst.SimpleString, cst.ConcatenatedString))
