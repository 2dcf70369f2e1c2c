"""Walking libcst trees quickly: the fields of each node class that hold code, and nothing about white space.

``CSTNode.children`` and the visitors go over every comma and blank; this walk touches only what means something,
which is what
makes reading a file cost little more than parsing it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import libcst as cst

__all__ = ["children", "dotted_name", "is_empty", "leaf_name", "reads", "root_name", "walk"]

_LAYOUT = (
    "whitespace",
    "lpar",
    "rpar",
    "leading_lines",
    "lines_after",
    "trailing",
    "lbracket",
    "rbracket",
    "lbrace",
    "rbrace",
)
_NO_CODE = {
    "comma", "semicolon", "dot", "equal", "colon", "first_colon", "second_colon", "header", "footer", "annotation",
    "returns", "asynchronous", "operator", "type_parameters", "separator", "star_token", "default_indent", "parens",
}  # fmt: skip

_NO_NODES = (type(None), str, bool, cst.MaybeSentinel)
"""What else than nodes, and sequences of them, the fields of nodes hold."""

_FIELDS: dict[type[cst.CSTNode], tuple[str, ...]] = {}


def _fields(kind: type[cst.CSTNode]) -> tuple[str, ...]:
    names = tuple(
        field.name
        for field in dataclasses.fields(kind)
        if not field.name.startswith(_LAYOUT) and field.name not in _NO_CODE
    )
    _FIELDS[kind] = names
    return names


def children(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The direct parts of a node that hold code, in source order; annotations are left out."""
    kind = type(node)
    for name in _FIELDS.get(kind) or _fields(kind):
        value = getattr(node, name)
        # An `isinstance` of libcst's classes, which are abstract, would be half of all the time that reading takes.
        shape = type(value)
        if shape is tuple or shape is list:
            yield from value
        elif shape not in _NO_NODES:
            yield value


def walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """A node and everything below it, in source order, without recursion."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(list(children(current))))


def reads(node: cst.CSTNode, name: str | None) -> bool:
    """Whether a name stands anywhere in a node."""
    return any(isinstance(part, cst.Name) and part.value == name for part in walk(node))


def dotted_name(node: cst.CSTNode | None) -> str | None:
    """``a.b.c`` for a chain of names, else None."""
    parts: list[str] = []
    while isinstance(node, cst.Attribute):
        parts.append(node.attr.value)
        node = node.value
    if isinstance(node, cst.Name):
        parts.append(node.value)
        return ".".join(reversed(parts))
    return None


def leaf_name(node: cst.CSTNode) -> str:
    """The last part of what is named, whatever it is taken from: ``normal_`` of ``torch.empty(3).normal_``; "" if it is
    no name and no attribute."""
    leaf = node.attr if isinstance(node, cst.Attribute) else node
    return leaf.value if isinstance(leaf, cst.Name) else ""


def root_name(node: cst.CSTNode) -> str | None:
    """The name at the root of ``name.attr[0].method()``: what a change to the expression may change."""
    while True:
        if isinstance(node, cst.Name):
            return node.value
        if isinstance(node, (cst.Attribute, cst.Subscript)):
            node = node.value
        elif isinstance(node, cst.Call):
            node = node.func
        else:
            return None


_CONTAINERS = frozenset(["list", "dict", "set", "OrderedDict", "defaultdict", "deque", "Queue", "SimpleQueue"])


def is_empty(node: cst.CSTNode | None) -> bool:
    """Whether a value is None, or a container with nothing in it, as far as its expression tells."""
    if isinstance(node, (cst.List, cst.Dict)):
        return not node.elements
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply):  # ``[None] * n``
        listed = next((side for side in (node.left, node.right) if isinstance(side, cst.List)), None)
        return listed is not None and all(is_empty(row.value) for row in listed.elements)
    if isinstance(node, cst.Call):
        name = leaf_name(node.func) if dotted_name(node.func) or _is_managed(node.func) else ""
        return name in _CONTAINERS and (not node.args or name in ("defaultdict", "Queue"))
    return isinstance(node, cst.Name) and node.value == "None"


def _is_managed(node: cst.BaseExpression) -> bool:
    """``Manager().dict``: a container that processes share."""
    return (
        isinstance(node, cst.Attribute) and isinstance(node.value, cst.Call) and leaf_name(node.value.func) == "Manager"
    )
