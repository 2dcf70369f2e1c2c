"""Classes of the project: their order of bases, their members, and what kind of object they make."""

from __future__ import annotations

import libcst as cst

from bn_audit.source.interpreter import torch_classes
from bn_audit.source.interpreter.libraries import KERAS_MODELS, base_kind, canonical, is_flmodel
from bn_audit.source.interpreter.torch_classes import CONTAINERS
from bn_audit.source.interpreter.values import BuiltinVal, ClassVal, External, Module, Value
from bn_audit.source.names import statements as flat
from bn_audit.source.nodes import dotted_name

__all__ = ["annotated_fields", "container", "external_bases", "find", "kind", "mro", "subclass"]


def mro(cls: ClassVal) -> list[Value]:
    """The linearization of a class over its bases; depth first where Python would refuse the class."""
    return _linearize(cls, frozenset())


_MAX_BASES = 1000
"""Bases above bases that are followed; and how many of several lines of them are put in order."""


def _linearize(cls: Value, below: frozenset[int]) -> list[Value]:
    if not isinstance(cls, ClassVal) or id(cls.node) in below or len(below) > _MAX_BASES:
        return [cls]
    if cls.order is None:
        rows = [list(_linearize(base, below | {id(cls.node)})) for base in cls.bases]
        cls.order = [cls, *_merge([[entry for entry in row if not _same(entry, cls)] for row in rows], cls.bases)]
    return cls.order


def _merge(rows: list[list[Value]], bases: list[Value]) -> list[Value]:
    if len(rows) == 1:
        return rows[0]
    result: list[Value] = []
    if sum(map(len, rows)) > _MAX_BASES:
        return bases
    rows = [*rows, list(bases)]
    while any(rows):
        for row in rows:
            if row and not any(_in_tail(row[0], other) for other in rows):
                head = row[0]
                break
        else:
            # No consistent order (Python raises TypeError): keep what the first bases say.
            head = next(row[0] for row in rows if row)
        result.append(head)
        rows = [[entry for entry in row if not _same(entry, head)] for row in rows]
    return result


def _in_tail(value: Value, row: list[Value]) -> bool:
    return any(_same(value, entry) for entry in row[1:])


def _same(one: Value, other: Value) -> bool:
    if isinstance(one, ClassVal) and isinstance(other, ClassVal):
        return one.node is other.node
    if isinstance(one, External) and isinstance(other, External):
        return one.name == other.name
    if isinstance(one, BuiltinVal) and isinstance(other, BuiltinVal):
        return one.name == other.name
    return one is other


def find(cls: ClassVal, name: str, after: ClassVal | None = None) -> tuple[Value, Value] | None:
    """A member and the class that has it, along the order of bases, or beyond ``after`` in it (for ``super()``).

    Where the first base that could have it lies outside the project, that base stands for the member.
    """
    order = mro(cls)
    if after is not None:
        index = next(
            (i for i, entry in enumerate(order) if isinstance(entry, ClassVal) and entry.node is after.node), -1
        )
        order = order[index + 1 :]
    for entry in order:
        if isinstance(entry, ClassVal):
            if name in entry.attrs:
                return entry.attrs[name], entry
        elif not _lacks(entry, name):
            return entry, entry
    return None


def _lacks(base: Value, name: str) -> bool:
    """Whether a base outside the project certainly adds nothing to a lookup."""
    if isinstance(base, BuiltinVal):
        return True
    return isinstance(base, External) and base_kind(base.name) == "plain"


def external_bases(cls: ClassVal) -> list[External]:
    """The bases outside the project, in order."""
    return [entry for entry in mro(cls) if isinstance(entry, External)]


def kind(cls: ClassVal) -> str:
    """``flmodel``, ``torch``, ``keras``, or ``plain``.

    A class whose bases are not known counts as a torch module if it has a ``forward``.
    """
    if cls.kind is None:
        cls.kind = _kind(cls)
    return cls.kind


def _kind(cls: ClassVal) -> str:
    names = [base.name for base in external_bases(cls)]
    if cls.module.taught is not None and cls.module.taught.is_batchnorm(names):
        return "torch"
    if any(is_flmodel(name) for name in names):
        return "flmodel"
    kinds = {base_kind(name) for name in names}
    if kinds & {"torch", "layer", "library"}:
        return "torch"
    if "keras" in kinds:
        return "keras"
    unknown = any(not isinstance(entry, (ClassVal, BuiltinVal)) for entry in mro(cls)) and kinds != {"plain"}
    if unknown and any(isinstance(entry, ClassVal) and "forward" in entry.attrs for entry in mro(cls)):
        return "torch"
    return "plain"


def annotated_fields(cls: ClassVal) -> dict[str, Value | None]:
    """The fields of a dataclass or named tuple, in order, with their defaults."""
    fields: dict[str, Value | None] = {}
    for entry in reversed(mro(cls)):
        if not isinstance(entry, ClassVal):
            continue
        for statement in flat(entry.node.body):
            if not isinstance(statement, cst.AnnAssign) or not isinstance(statement.target, cst.Name):
                continue
            annotation = statement.annotation.annotation
            probe = annotation.value if isinstance(annotation, cst.Subscript) else annotation
            if (dotted_name(probe) or "").rpartition(".")[2] != "ClassVar":
                fields[statement.target.value] = entry.attrs.get(statement.target.value)
    return fields


def container(module: Module) -> str:
    """Which container of torch a module is (``Sequential``, ``ModuleDict``, ``ParameterList`` ...), "" for none."""
    if module.cls is None:
        return module.type_name if module.type_name in CONTAINERS else ""
    for base in external_bases(module.cls):
        leaf = base.name.rpartition(".")[2]
        if leaf in CONTAINERS and canonical(base.name).startswith("torch.nn."):
            return leaf
    return ""


def is_keras_model(cls: ClassVal) -> bool:
    """Whether a class is a Keras model, not merely a layer."""
    return any(canonical(base.name) in KERAS_MODELS for base in external_bases(cls))


def subclass(cls: Value, other: Value) -> bool | None:
    """``issubclass(cls, other)``, or None if not known."""
    if isinstance(cls, ClassVal):
        order = mro(cls)
        if any(_same(entry, other) for entry in order):
            return True
        if isinstance(other, (ClassVal, BuiltinVal)):
            return False if all(isinstance(entry, (ClassVal, BuiltinVal)) or _known(entry) for entry in order) else None
        if isinstance(other, External):
            if other.name == "torch.nn.Module" and kind(cls) == "torch":
                return True
            outcomes = [_outside(entry, other) for entry in order]
            return True if True in outcomes else (None if None in outcomes else False)
    if isinstance(cls, External) and isinstance(other, External):
        return torch_classes.subclass(canonical(cls.name), canonical(other.name))
    return None


def _outside(entry: Value, other: External) -> bool | None:
    """``issubclass(entry, other)`` for one entry of an order of bases, by itself."""
    if isinstance(entry, (ClassVal, BuiltinVal)):
        return False
    if not isinstance(entry, External):
        return None
    name, wanted = canonical(entry.name), canonical(other.name)
    if base_kind(name) in ("torch", "plain") and name != wanted:
        return False if wanted.startswith(("torch.nn.", "keras.")) or base_kind(wanted) == "plain" else None
    found = torch_classes.subclass(name, wanted)
    if found is None and base_kind(name) == "keras" and wanted.startswith("torch."):
        return False
    return found


def _known(entry: Value) -> bool:
    return isinstance(entry, External) and base_kind(entry.name) in ("torch", "plain", "keras", "layer")
