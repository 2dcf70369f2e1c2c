"""The edit after which a call passes ``skip_bn=True``: which node it concerns, and what to write there.

Found here, and tried by the explorer, which runs the program as if the edit had been made. An edit concerns the call at
which a site stands, and nothing that other calls share: a keyword more in the call, or True in place of the False that
is written in it, in a dict that it unpacks where it stands, or in the only assignment of a variable that only this
call reads.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from bn_audit.finding import Edit, Location
from bn_audit.site import SkipBnEdit
from bn_audit.source.call_layout import Argument, CallText, add_keyword
from bn_audit.source.interpreter.flmodel import Arrival
from bn_audit.source.interpreter.run import Change
from bn_audit.source.interpreter.values import Const, Omitted, Step
from bn_audit.source.locate import Locator
from bn_audit.source.nodes import walk
from bn_audit.source.parse import is_notebook
from bn_audit.source.project import PyModule
from bn_audit.source.targets import Tree

__all__ = ["Candidate", "candidate", "edit"]

_SKIP_BN = "skip_bn"


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A change that may make a call pass ``skip_bn=True``.

    Attributes:
        module, call: the call at which the site stands.
        keyword: the argument that the call shall get, or that is written in it; "" if it has none by that name.
        constant: what shall be True instead; None if the call gets an argument.
        holder: the variable it is assigned to; "" if it is written in the call itself.
        shared: whether other files may read that variable.
        new: whether nothing between the call and FLModel knows the keyword yet.
        certain: whether it reaches FLModel without anything between.
    """

    module: PyModule
    call: cst.Call
    keyword: str
    constant: cst.CSTNode | None = None
    holder: str = ""
    shared: bool = False
    new: bool = False
    certain: bool = False

    @property
    def change(self) -> Change:
        """The change, for a run to suppose."""
        if self.constant is not None:
            return Change(self.constant)
        return Change(self.call, self.keyword, self.new)

    @property
    def steps(self) -> Iterator[Step]:
        """What must be located before the edit can be written."""
        if self.constant is not None:
            yield Step(self.module, self.call)
            yield Step(self.module, self.constant)
        else:
            for node in (self.call, self.call.func, *self.call.args):
                yield Step(self.module, node)


def candidate(place: Step, arrivals: Sequence[Arrival], tree: Tree) -> Candidate | None:
    """What to change at a site, from all that reaches FLModel there; None if there is nothing that is the same for all.

    ``tree`` is that of the file in which the site stands.
    """
    call, module = place.node, place.module
    if not isinstance(call, cst.Call) or not all(_fits(arrival) for arrival in arrivals):
        return None
    direct = all(arrival.step.node is call for arrival in arrivals)
    values = [arrival.skip_bn_value for arrival in arrivals]
    if all(value is None for value in values):
        return Candidate(module, call, _SKIP_BN, new=True, certain=direct)
    names = {value.name if isinstance(value, Omitted) else None for value in values}
    name = names.pop() if len(names) == 1 else None
    if name is not None:
        return Candidate(module, call, name)
    origins = {id(value.origin.node): value.origin for value in values if value is not None and value.origin}
    if len(origins) != 1 or not all(value is not None and value.origin for value in values):
        return None
    (origin,) = origins.values()
    if origin.module is not module or not _is_constant(origin.node):
        return None
    return _constant(call, origin.node, tree, direct)


def _fits(arrival: Arrival) -> bool:
    """Whether a call certainly does not pass ``skip_bn=True``, and its model has a BatchNorm to skip, or asks so."""
    value = arrival.skip_bn_value
    known = value is None or isinstance(value, Const)
    has_norms = arrival.raw is not None and any(norm.batchnorm is not False for norm in arrival.raw.profile.norms)
    return known and (has_norms or arrival.wrapped is not None) and arrival.skip_bn is False and arrival.takes_skip_bn


def _is_constant(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Name) and node.value in ("False", "None")


def _constant(call: cst.Call, node: cst.CSTNode, tree: Tree, direct: bool) -> Candidate | None:
    """The change of a constant, if it stands where only this call takes it from."""
    holding = tree.parent(node)
    if isinstance(holding, cst.Arg) and tree.parent(holding) is call:
        keyword = "" if holding.keyword is None else holding.keyword.value
        return Candidate(tree.module, call, keyword, node, certain=direct)
    keyword, value = _entry(node, tree)
    user = tree.parent(value)
    if keyword and isinstance(user, cst.Arg) and user.star == "**" and tree.parent(user) is call:
        return Candidate(tree.module, call, keyword, node)
    holder = _assigned(value, user)
    if holder is None:
        return None
    uses = list(_uses(holder.value, tree))
    reads = [use for use in uses if use is not holder]
    if len(reads) != 1 or holder not in uses:
        return None
    reader = tree.parent(reads[0])
    if not isinstance(reader, cst.Arg) or tree.parent(reader) is not call or reader.star == "*":
        return None
    scope = tree.scope(holder)
    if isinstance(scope, cst.ClassDef):
        return None
    shared = scope is None and not is_notebook(tree.module.path)
    keyword = keyword or ("" if reader.keyword is None else reader.keyword.value)
    return Candidate(tree.module, call, keyword, node, holder.value, shared)


def _entry(node: cst.CSTNode, tree: Tree) -> tuple[str, cst.CSTNode]:
    """The key and the dict, for a value in ``{"skip_bn": False}`` or ``dict(skip_bn=False)``; else the node itself."""
    holding = tree.parent(node)
    if isinstance(holding, cst.DictElement) and isinstance(holding.key, cst.SimpleString):
        table, key = tree.parent(holding), holding.key.evaluated_value
        if isinstance(table, cst.Dict) and isinstance(key, str):
            return key, table
    if isinstance(holding, cst.Arg) and holding.keyword is not None:
        table = tree.parent(holding)
        if isinstance(table, cst.Call) and isinstance(table.func, cst.Name) and table.func.value == "dict":
            return holding.keyword.value, table
    return "", node


def _assigned(value: cst.CSTNode, user: cst.CSTNode | None) -> cst.Name | None:
    """The name that a value is assigned to where it stands, alone."""
    if isinstance(user, cst.Assign) and user.value is value and len(user.targets) == 1:
        target = user.targets[0].target
    elif isinstance(user, cst.AnnAssign) and user.value is value:
        target = user.target
    else:
        return None
    return target if isinstance(target, cst.Name) else None


def _uses(name: str, tree: Tree) -> Iterator[cst.Name]:
    """Where a name stands for a variable of a file, whichever of that name it is."""
    for node in walk(tree.module.tree):
        if isinstance(node, cst.Name) and node.value == name:
            above = tree.parent(node)
            names_other = (isinstance(above, cst.Arg) and above.keyword is node) or (
                isinstance(above, cst.Attribute) and above.attr is node
            )
            if not names_other:
                yield node


def edit(found: Candidate, locator: Locator) -> SkipBnEdit | None:
    """What to write; None where the layout of the call is beyond us, or the constant stands in another cell."""
    place = locator.at(Step(found.module, found.call))
    argument = f"{found.keyword or _SKIP_BN}=True"
    if found.constant is not None:
        at = locator.at(Step(found.module, found.constant))
        if at.cell != place.cell:
            return None
        change = Edit(at.line, at.column, at.end_line, at.end_column, "True")
        return SkipBnEdit((change,), argument, found.holder, found.shared)
    text = next((part.source for part in found.module.parsed.parts if part.cell == place.cell), None)
    if text is None:
        return None
    lines = _Lines(text)
    arguments = []
    for arg in found.call.args:
        at = locator.at(Step(found.module, arg))
        bare = isinstance(arg.value, cst.GeneratorExp) and not arg.value.lpar
        arguments.append(Argument(*lines.span(at), arg.star, bare))
    callee = locator.at(Step(found.module, found.call.func))
    call = CallText.find(text, lines.span(callee)[1], lines.span(place)[1], arguments)
    if call is None:
        return None
    edits = []
    for offset, content in add_keyword(call, argument.replace("=", _equal_sign(found))):
        line, column = lines.position(offset)
        edits.append(Edit(line, column, line, column, content))
    return SkipBnEdit(tuple(edits), argument)


def _equal_sign(found: Candidate) -> str:
    """The equal sign of the other keyword arguments, with the white space that all of them have around it."""
    signs = {
        found.module.tree.code_for_node(arg.equal)
        for arg in found.call.args
        if arg.keyword is not None and isinstance(arg.equal, cst.AssignEqual)
    }
    sign = signs.pop() if len(signs) == 1 else "="
    return sign if sign in (" = ", "= ", " =") else "="


class _Lines:
    """Positions and offsets in a text with ``\\n`` line ends."""

    def __init__(self, text: str) -> None:
        self._starts = [0]
        for line in text.split("\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)

    def span(self, location: Location) -> tuple[int, int]:
        """The offsets of a stretch."""
        start = self._starts[location.line - 1] + location.column - 1
        return start, self._starts[location.end_line - 1] + location.end_column - 1

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, of an offset."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1
