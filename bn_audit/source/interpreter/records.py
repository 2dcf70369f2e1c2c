"""Classes that Python's library makes of a list of fields or members: named tuples, dataclasses, enumerations."""

from __future__ import annotations

import keyword
from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.interpreter import attributes, calls, classes, operations
from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.run import Run
from bn_audit.source.interpreter.values import (
    BuiltinVal,
    ClassVal,
    Const,
    DictVal,
    EnumMember,
    External,
    ExternalResult,
    Func,
    Hole,
    Instance,
    ListVal,
    Step,
    Unknown,
    Value,
)

if TYPE_CHECKING:
    from bn_audit.source.interpreter.calls import Arguments

__all__ = ["as_dict", "enum_members", "fill", "is_enum", "is_namedtuple", "make_enum", "method", "named_tuple",
           "replaced"]  # fmt: skip

METHODS = frozenset({"_asdict", "_fields", "_replace"})
"""What a named tuple has beside its fields."""
_ITEMS = "__items__"


# --- named tuples and dataclasses ------------------------------------------------------------------------------------


def named_tuple(
    run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode, *, typed: bool = False
) -> Value:
    """``collections.namedtuple(name, fields, defaults=...)`` and ``typing.NamedTuple(name, [(field, type), ...])``."""
    title, given = calls.argument(args, kwargs, 0, "typename"), calls.argument(args, kwargs, 1, "field_names")
    names = _field_names(run, given, typed)
    unknown = run.unknown("a named tuple whose fields are not known", frame.module, node, called=True)
    if names is None or not isinstance(title, Const) or not str(title.value).isidentifier():
        return unknown
    if len(set(names)) != len(names) or not all(name.isidentifier() and not keyword.iskeyword(name) for name in names):
        return unknown
    body = "\n".join(f"    {name}: object" for name in names) or "    pass"
    definition = cst.parse_statement(f"class {title.value}(NamedTuple):\n{body}\n")
    assert isinstance(definition, cst.ClassDef)
    cls = ClassVal(str(title.value), definition, frame.module, [External("typing.NamedTuple")], {}, frame)
    cls.origin = Step(frame.module, node)
    defaults = kwargs.get("defaults")
    if defaults is not None and not (isinstance(defaults, Const) and defaults.value is None):
        items = operations.iterate(run, defaults)
        if any(isinstance(item, Hole) for item in items) or len(items) > len(names):
            return unknown
        for name, item in zip(names[len(names) - len(items) :], items, strict=True):
            assert isinstance(item, Value)
            cls.attrs[name] = item
    return cls


def _field_names(run: Run, value: Value | None, typed: bool) -> list[str] | None:
    if isinstance(value, Const) and isinstance(value.value, str):
        return value.value.replace(",", " ").split()
    found: list[str] = []
    for item in operations.iterate(run, value) if isinstance(value, ListVal) else [value]:
        if typed and isinstance(item, ListVal) and item.items and isinstance(item.items[0], Value):
            item = item.items[0]
        if not (isinstance(item, Const) and isinstance(item.value, str)):
            return None
        found.append(item.value)
    return found


def is_namedtuple(cls: ClassVal) -> bool:
    """Whether instances of a class are named tuples."""
    return any(base.name == "typing.NamedTuple" for base in classes.external_bases(cls))


def fill(
    run: Run,
    cls: ClassVal,
    value: Value,
    args: Arguments,
    kwargs: dict[str, Value],
    frame: Frame,
    node: cst.CSTNode,
    open_kwargs: bool = False,
) -> None:
    """What ``__init__`` of a dataclass, or ``__new__`` of a named tuple, does with its arguments."""
    rest = list(args)
    uncertain = open_kwargs or any(isinstance(arg, Hole) for arg in args)
    fields: list[Value] = []
    for name, default in classes.annotated_fields(cls).items():
        made: Value | None = None
        settings = default.kwargs if isinstance(default, ExternalResult) and default.func.leaf == "field" else {}
        initialised = not _says(settings.get("init"), False)
        if initialised and rest and isinstance(rest[0], Value) and not _says(settings.get("kw_only"), True):
            made = rest.pop(0)  # type: ignore[assignment]
        elif initialised and name in kwargs:
            made = kwargs[name]
        elif initialised and uncertain:
            made = run.unknown(f"{name} comes from arguments that are not known", frame.module, node)
        elif isinstance(default, ExternalResult) and default.func.leaf in ("field", "Factory", "ib", "attrib"):
            made = settings.get("default")
            factory = settings.get("default_factory") or settings.get("factory")
            if made is None and factory is not None:
                made = calls.call(run, factory, [], {}, False, frame, node)
        else:
            made = default
        if made is None:
            made = run.unknown(f"{name} is not passed", frame.module, node)
        fields.append(made)
        attributes.set_attribute(run, value, name, made, frame, node)
    if is_namedtuple(cls):
        if isinstance(value, Instance):
            value.attrs[_ITEMS] = ListVal([*fields], "tuple", Step(frame.module, node))
        return
    post = classes.find(cls, "__post_init__")
    if post is not None and isinstance(post[0], Func):
        calls.call_function(run, post[0], [value], {}, frame, node)


def _says(value: Value | None, wanted: bool) -> bool:
    return isinstance(value, Const) and value.value is wanted


def replaced(
    run: Run, value: Value | None, kwargs: dict[str, Value], open_kwargs: bool, frame: Frame, node: cst.CSTNode
) -> Value:
    """``dataclasses.replace(value, ...)`` and ``named._replace(...)``."""
    if not isinstance(value, Instance):
        return run.unknown("a copy of something that is not known", frame.module, node)
    twin = Instance(value.cls, Step(frame.module, node))
    given = {name: value.attrs[name] for name in classes.annotated_fields(value.cls) if name in value.attrs}
    if open_kwargs:
        given = {name: run.unknown("may be replaced", frame.module, node) for name in given}
    fill(run, value.cls, twin, [], {**given, **kwargs}, frame, node)
    return twin


def as_dict(value: Value, seen: int = 0) -> Value:
    """``dataclasses.asdict``: dataclasses, named tuples aside, become dicts at any depth."""
    if seen > 20:
        return Unknown("a structure too deep to follow")
    if isinstance(value, Instance) and not is_enum(value.cls):
        fields = classes.annotated_fields(value.cls)
        return DictVal(
            {name: as_dict(value.attrs[name], seen + 1) for name in fields if name in value.attrs}, origin=value.origin
        )
    if isinstance(value, ListVal):
        parts = [as_dict(item, seen + 1) if isinstance(item, Value) else item for item in value.items]
        return ListVal(parts, value.kind, value.origin)
    if isinstance(value, DictVal):
        return DictVal({key: as_dict(item, seen + 1) for key, item in value.items.items()}, open=value.open)
    return value


def method(
    run: Run, value: Instance, name: str, kwargs: dict[str, Value], open_kwargs: bool, frame: Frame, node: cst.CSTNode
) -> Value:
    """A method of a named tuple."""
    if name == "_replace":
        return replaced(run, value, kwargs, open_kwargs, frame, node)
    return as_dict(value)


# --- enumerations ----------------------------------------------------------------------------------------------------

_ENUMS = frozenset({"enum.Enum", "enum.IntEnum", "enum.StrEnum", "enum.Flag", "enum.IntFlag"})


def is_enum(cls: ClassVal) -> bool:
    """Whether a class is an enumeration."""
    return any(base.name in _ENUMS for base in classes.external_bases(cls))


def make_enum(run: Run, cls: ClassVal, frame: Frame, node: cst.CSTNode) -> None:
    """Make members of the constants in an enumeration's body."""
    mixed = any(
        (isinstance(base, BuiltinVal) and base.name in ("int", "str", "float"))
        or (isinstance(base, External) and base.name in ("enum.IntEnum", "enum.StrEnum", "enum.IntFlag"))
        for base in classes.mro(cls)
    )
    init = classes.find(cls, "__init__")
    number = 0
    for name, value in list(cls.attrs.items()):
        if isinstance(value, ExternalResult) and value.func.name == "enum.auto":
            value = Const(number + 1, value.origin)
        if name.startswith("_") or not isinstance(value, (Const, ListVal, DictVal, External, ClassVal, ExternalResult)):
            continue
        if isinstance(value, Const) and isinstance(value.value, int):
            number = value.value
        if mixed and isinstance(value, Const):
            cls.attrs[name] = EnumMember(value.value, cls, name, value.origin)
            continue
        member = Instance(cls, value.origin)
        member.attrs.update(name=Const(name), value=value, _name_=Const(name), _value_=value)
        cls.attrs[name] = member
        if init is not None and isinstance(init[0], Func):
            items = operations.iterate(run, value) if isinstance(value, ListVal) else [value]
            calls.call_function(run, init[0], [member, *items], {}, frame, node)


def enum_members(cls: ClassVal) -> dict[str, Value]:
    """The members of an enumeration by name."""
    return {
        name: value
        for name, value in cls.attrs.items()
        if (isinstance(value, Instance) and value.cls is cls) or (isinstance(value, EnumMember) and value.cls is cls)
    }
