"""Python's builtin functions, and the methods of strings, lists, dicts and tensors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import libcst as cst

from bn_audit.source.interpreter import (
    attributes,
    calls,
    classes,
    expressions,
    operations,
    ordering,
    tensors,
    torch_classes,
)
from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.libraries import base_kind, canonical
from bn_audit.source.interpreter.run import Run
from bn_audit.source.interpreter.values import (
    HOLE,
    BoundMethod,
    BuiltinVal,
    ClassVal,
    Const,
    DictVal,
    External,
    Func,
    Hole,
    Instance,
    ListVal,
    Module,
    ModuleRef,
    Partial,
    SetVal,
    Step,
    TensorVal,
    Unknown,
    Value,
    dependencies,
)

if TYPE_CHECKING:
    from bn_audit.source.interpreter.calls import Arguments

__all__ = ["call", "constants", "is_a", "method"]

MAX_RANGE = 4096


class _Call:
    """What a builtin is called with."""

    __slots__ = ("args", "frame", "kwargs", "node", "run")

    def __init__(self, run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> None:
        self.run = run
        self.args = args
        self.kwargs = kwargs
        self.frame = frame
        self.node = node

    def arg(self, number: int, name: str = "") -> Value | None:
        return calls.argument(self.args, self.kwargs, number, name)

    def unknown(self, reason: str = "not followed") -> Unknown:
        deps: frozenset[str] = frozenset()
        for value in [*self.args, *self.kwargs.values()]:
            deps |= dependencies(value)
        return self.run.unknown(reason, self.frame.module, self.node, deps=deps)

    def items(self, number: int = 0) -> list[Value | Hole]:
        value = self.arg(number)
        return [HOLE] if value is None else operations.iterate(self.run, value)

    @property
    def step(self) -> Step:
        return Step(self.frame.module, self.node)


def constants(args: Arguments) -> list[Any] | None:
    """The Python values of arguments that are all constants, else None."""
    found = [arg.value for arg in args if isinstance(arg, Const)]
    return found if len(found) == len(args) else None


def call(run: Run, name: str, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    """Call a builtin."""
    handler = _FUNCTIONS.get(name)
    this = _Call(run, args, kwargs, frame, node)
    return handler(this) if handler is not None else this.unknown(f"{name}() is not followed")


def _range(this: _Call) -> Value:
    numbers = constants(this.args)
    if numbers and all(isinstance(number, int) for number in numbers) and len(numbers) <= 3:
        try:
            found = range(*numbers)
        except ValueError:
            return this.unknown()
        if len(found) <= MAX_RANGE:
            return ListVal([Const(number) for number in found], "range", this.step)
    return ListVal([HOLE], "range", this.step)


def _len(this: _Call) -> Value:
    value = this.arg(0)
    if isinstance(value, ListVal) and not value.open:
        return Const(len(value.items))
    if isinstance(value, DictVal) and not value.open:
        return Const(len(value.items))
    if isinstance(value, Const) and isinstance(value.value, (str, bytes)):
        return Const(len(value.value))
    if isinstance(value, Module):
        children = operations.iterate(this.run, value)
        if not any(isinstance(child, Hole) for child in children):
            return Const(len(children))
    if isinstance(value, Instance):
        items = value.attrs.get("__items__")
        if isinstance(items, ListVal) and not items.open:
            return Const(len(items.items))
        found = classes.find(value.cls, "__len__")
        if found is not None and isinstance(found[0], Func):
            return calls.call_function(this.run, found[0], [value], {}, this.frame, this.node)
    if isinstance(value, TensorVal) and value.shape and value.shape[0] is not None:
        return Const(value.shape[0])
    return this.unknown("the length of something that is not known")


def _list(this: _Call, kind: str = "list") -> Value:
    items = (_members_of(this) if kind == "set" else this.items()) if this.args else []
    return SetVal(items, this.step) if kind == "set" else ListVal(items, kind, this.step)


def _dict(this: _Call) -> Value:
    result = DictVal(dict(this.kwargs), origin=this.step)
    if this.args:
        value = this.arg(0)
        first = DictVal(origin=this.step)
        if isinstance(value, DictVal):
            operations.merge_dict(first, value)
        else:
            for item in this.items():
                pair = operations.iterate(this.run, item) if isinstance(item, ListVal) else []
                if len(pair) == 2 and isinstance(pair[0], Value) and isinstance(pair[1], Value):
                    operations.set_item(this.run, first, pair[0], pair[1], this.frame, this.node)
                else:
                    first.open = True
        operations.merge_dict(first, result)
        return first
    return result


def _enumerate(this: _Call) -> Value:
    start = this.arg(1, "start")
    first = start.value if isinstance(start, Const) and isinstance(start.value, int) else 0
    items: list[Value | Hole] = []
    certain = True
    for number, item in enumerate(this.items(), first):
        if isinstance(item, Hole):
            certain = False
            items.append(HOLE)
            continue
        index: Value = Const(number) if certain else this.run.unknown("an index after an unknown stretch")
        items.append(ListVal([index, item], "tuple"))
    return ListVal(items, "list", this.step)


def _zip(this: _Call) -> Value:
    rows = [operations.iterate(this.run, arg) if isinstance(arg, Value) else [HOLE] for arg in this.args]
    items: list[Value | Hole] = []
    if not rows:
        return ListVal([], "list", this.step)
    for number in range(min(len(row) for row in rows)):
        parts = [row[number] for row in rows]
        if any(isinstance(part, Hole) for part in parts):
            items.append(HOLE)
            break
        items.append(ListVal(parts, "tuple"))
    return ListVal(items, "list", this.step)


def _map(this: _Call) -> Value:
    func = this.arg(0)
    if func is None:
        return ListVal([HOLE], "list", this.step)
    tuples: Arguments
    if len(this.args) > 2:
        rows = _zip(_Call(this.run, this.args[1:], {}, this.frame, this.node))
        tuples = rows.items if isinstance(rows, ListVal) else [HOLE]
    else:
        tuples = []
        for item in this.items(1):
            tuples.append(item if isinstance(item, Hole) else ListVal([item], "tuple"))
    items: list[Value | Hole] = []
    for entry in tuples:
        if isinstance(entry, ListVal):
            items.append(calls.call(this.run, func, list(entry.items), {}, False, this.frame, this.node))
        else:
            items.append(HOLE)
    return ListVal(items, "list", this.step)


def _filter(this: _Call) -> Value:
    func = this.arg(0)
    items: list[Value | Hole] = []
    for item in this.items(1):
        if isinstance(item, Hole) or func is None:
            items.append(HOLE)
            continue
        kept = item
        if not (isinstance(func, Const) and func.value is None):
            kept = calls.call(this.run, func, [item], {}, False, this.frame, this.node)
        outcome = operations.truth(kept)
        if outcome is None:
            items.append(HOLE)
        elif outcome:
            items.append(item)
    return ListVal(items, "list", this.step)


def _reversed(this: _Call) -> Value:
    return ListVal(list(reversed(this.items())), "list", this.step)


def _sort_key(this: _Call) -> Callable[[Value], Value] | None:
    key = this.kwargs.get("key")
    if key is None or (isinstance(key, Const) and key.value is None):
        return None
    found = key
    return lambda item: calls.call(this.run, found, [item], {}, False, this.frame, this.node)


def _reverse(this: _Call) -> bool | None:
    reverse = this.kwargs.get("reverse")
    return False if reverse is None else operations.truth(reverse)


def _members_of(this: _Call) -> list[Value | Hole]:
    """The items of the first argument where their order does not matter."""
    value = this.arg(0)
    return list(value.items) if isinstance(value, SetVal) else this.items()


def _sorted(this: _Call) -> Value:
    items = _members_of(this)
    reverse = _reverse(this)
    found = ordering.ordered(items, _sort_key(this), reverse) if reverse is not None else None
    return ListVal([HOLE] if found is None and len(items) != 1 else found or items, "list", this.step)


def _any_all(this: _Call, wanted: bool) -> Value:
    unsure = False
    for item in _members_of(this):
        outcome = None if isinstance(item, Hole) else operations.truth(item)
        if outcome is wanted:
            return Const(wanted)
        unsure = unsure or outcome is None
    return this.unknown() if unsure else Const(not wanted)


_NUMERIC: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "pow": lambda base, exponent: base**exponent if abs(exponent) <= 64 else None,
    "int": int,
    "float": float,
    "round": round,
    "bool": bool,
    "str": str,
    "repr": repr,
    "divmod": divmod,
    "max": max,
    "min": min,
    "sum": sum,
}
"""Functions of constants that yield a constant, and none that could be asked for a result of any size."""


def _numeric(name: str) -> Callable[[_Call], Value]:
    def compute(this: _Call) -> Value:
        args: Arguments = this.args
        if name in ("max", "min") and set(this.kwargs) <= {"key"}:
            rows = _members_of(this) if len(args) == 1 else args
            found = ordering.picked(rows, _sort_key(this), name == "max")
            return found if found is not None else this.unknown("a number that is not known")
        if name == "sum" and args:
            plain = constants([*_members_of(this), *args[1:]])
            values: list[Any] | None = [plain] if plain is not None else None
        else:
            values = constants(args)
        if values is not None and not this.kwargs and _small(values):
            try:
                result = _NUMERIC[name](*values)
            except Exception:  # whatever Python raises here, the program being read raises too
                return this.unknown("an operation that fails")
            if isinstance(result, tuple):
                return ListVal([Const(item) for item in result], "tuple", this.step)
            return Const(result, this.step)
        if name == "bool" and this.args:
            value = this.arg(0)
            outcome = None if value is None else operations.truth(value)
            if outcome is not None:
                return Const(outcome, this.step)
            return value if isinstance(value, Unknown) else this.unknown()
        if name == "int" and isinstance(this.arg(0), Unknown):
            return this.unknown("a number that is not known")
        if name == "str" and this.args:
            value = this.arg(0)
            text = value.text if isinstance(value, Unknown) else None
            unknown = this.unknown("a text that is not known")
            unknown.text = "{" + text + "}" if text else None
            return unknown
        return this.unknown("a number that is not known")

    return compute


def _small(values: list[Any]) -> bool:
    return all(
        not (isinstance(value, int) and abs(value) > 10**12) and not (isinstance(value, str) and len(value) > 10_000)
        for value in values
    )


def _isinstance(this: _Call) -> Value:
    value, wanted = this.arg(0), this.arg(1)
    if value is None or wanted is None:
        return this.unknown()
    options = operations.iterate(this.run, wanted) if isinstance(wanted, ListVal) else [wanted]
    unsure = False
    for option in options:
        outcome = None if isinstance(option, Hole) else is_a(value, option)
        if outcome:
            return Const(True)
        unsure = unsure or outcome is None
    if not unsure:
        return Const(False)
    return this.unknown("an isinstance test that is not known")


_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (float,), "str": (str,), "bool": (bool,), "bytes": (bytes,), "complex": (complex,),
}  # fmt: skip


def is_a(value: Value, wanted: Value) -> bool | None:
    """``isinstance(value, wanted)`` for one class, None if not known."""
    if isinstance(wanted, BuiltinVal):
        if isinstance(value, Const):
            types = _PYTHON_TYPES.get(wanted.name)
            return isinstance(value.value, types) if types else wanted.name == "object"
        if isinstance(value, ListVal):
            return wanted.name == value.kind or wanted.name == "object"
        if isinstance(value, DictVal):
            return wanted.name in ("dict", "object")
        if isinstance(value, (Module, Func, ClassVal, Partial, TensorVal)):
            return wanted.name == "object" or (wanted.name == "type" and isinstance(value, ClassVal))
        if isinstance(value, Instance):
            return classes.subclass(value.cls, wanted)
        return None
    if isinstance(value, Instance):
        return classes.subclass(value.cls, wanted)
    if isinstance(value, Module):
        return _module_is_a(value, wanted)
    if isinstance(value, (Const, ListVal, DictVal)):
        if isinstance(wanted, External) and wanted.package in ("collections", "typing", "numbers", "abc"):
            return None
        return False if isinstance(wanted, (ClassVal, External)) else None
    if (
        isinstance(value, (ClassVal, Func))
        and isinstance(wanted, External)
        and base_kind(wanted.name) in ("torch", "layer")
    ):
        return False
    return None


def _module_is_a(value: Module, wanted: Value) -> bool | None:
    if isinstance(wanted, ClassVal):
        return classes.subclass(value.cls, wanted) if value.cls is not None else False
    if not isinstance(wanted, External):
        return None
    name = canonical(wanted.name)
    if name == "torch.nn.Module":
        return value.framework == "torch"
    if value.cls is not None:
        return classes.subclass(value.cls, wanted)
    if value.framework == "keras":
        leaf = name.rpartition(".")[2]
        return None if leaf in ("Layer", "Model") or not name.startswith("keras.") else value.type_name == leaf
    found = torch_classes.subclass(f"torch.nn.{value.type_name}", name)
    if found is None and "BatchNorm" in name and name.startswith("torch.nn."):
        # Of another library's class it is known whether it is a _BatchNorm, but not of how many dimensions.
        batchnorm = value.norm.batchnorm if value.norm is not None else False
        return batchnorm if name.endswith("._BatchNorm") or batchnorm is False else None
    return found


def _hasattr(this: _Call) -> Value:
    value, name = this.arg(0), this.arg(1)
    if isinstance(name, Const) and isinstance(name.value, str):
        if isinstance(value, Module):
            for table in (value.params, value.buffers, value.children, value.attrs):
                if name.value in table:
                    return Const(True)
            if value.cls is None:
                return this.unknown()
            if name.value in _class_members(value.cls):
                return Const(True)
            bases = {base_kind(base.name) for base in classes.external_bases(value.cls)}
            # A private name that no class of the project defines is not torch's either.
            alone = name.value.startswith("_") and bases <= {"torch", "layer", "plain"}
            return Const(False) if alone or bases <= {"torch", "plain"} else this.unknown()
        if isinstance(value, Instance) and name.value in value.attrs:
            return Const(True)
    return this.unknown()


def _class_members(cls: ClassVal) -> set[str]:
    found: set[str] = set()
    for entry in classes.mro(cls):
        if isinstance(entry, ClassVal):
            found |= set(entry.attrs)
    return found


def _getattr(this: _Call) -> Value:
    value, name = this.arg(0), this.arg(1)
    if isinstance(value, (External, ModuleRef)) and isinstance(name, Value):
        name = operations.supposed(this.run, name, lambda: _text_of(this, 1))
    if value is not None and isinstance(name, Const) and isinstance(name.value, str):
        if len(this.args) > 2:
            there = _hasattr(this)
            if isinstance(there, Const) and not there.value:
                default = this.arg(2)
                return default if default is not None else this.unknown()
            if not isinstance(there, Const):
                return this.unknown("an attribute that may be missing")
        return attributes.get(this.run, value, name.value, this.frame, this.node)
    called = isinstance(value, (External, Module))
    result = this.unknown("an attribute picked by a name that is not known")
    result.called = called
    return result


def _text_of(this: _Call, number: int) -> str:
    """How a message writes an argument."""
    args = this.node.args if isinstance(this.node, cst.Call) else ()
    return expressions.code(this.frame, args[number].value) if number < len(args) else "the name"


def _setattr(this: _Call) -> Value:
    target, name, value = this.arg(0), this.arg(1), this.arg(2)
    if target is None or value is None:
        return Const(None)
    if isinstance(name, Const) and isinstance(name.value, str):
        attributes.set_attribute(this.run, target, name.value, value, this.frame, this.node)
    elif isinstance(target, Module):
        if isinstance(value, Module):
            text = name.text if isinstance(name, Unknown) and name.text else "?"
            target.children[text] = value
        target.add_gap("set under a name that is not known", this.step)
    return Const(None)


def _delattr(this: _Call) -> Value:
    target, name = this.arg(0), this.arg(1)
    if target is not None and isinstance(name, Const):
        attributes.delete(this.run, target, name.value)
    return Const(None)


def _type(this: _Call) -> Value:
    value = this.arg(0)
    if len(this.args) == 1:
        if isinstance(value, (Instance, Module)) and value.cls is not None:
            return value.cls
        if isinstance(value, Module) and value.framework == "torch" and torch_classes.is_torch_layer(value.type_name):
            return External(f"torch.nn.{value.type_name}", this.step)
        if isinstance(value, Partial):
            return External("functools.partial", this.step)
        if isinstance(value, Func):
            return External("types.FunctionType", this.step)
        if isinstance(value, Const) and type(value.value).__name__ in _PYTHON_TYPES:
            return BuiltinVal(type(value.value).__name__)
        if isinstance(value, ListVal) and value.kind in ("list", "tuple", "set"):
            return BuiltinVal(value.kind)
    return this.unknown("a class that is not known")


def _next(this: _Call) -> Value:
    items = this.items()
    if items and isinstance(items[0], Value):
        return items[0]
    return this.unknown("an item that is not known")


def _callable(this: _Call) -> Value:
    value = this.arg(0)
    if value is None or operations.unknown_attribute(value):
        return this.unknown()
    if isinstance(value, (Func, ClassVal, Partial, BoundMethod, BuiltinVal, Module)):
        return Const(True)
    if isinstance(value, (Const, ListVal, DictVal, TensorVal)):
        return Const(False)
    return this.unknown()


def _nothing(this: _Call) -> Value:
    return Const(None)


def _issubclass(this: _Call) -> Value:
    cls, other = this.arg(0), this.arg(1)
    outcome = classes.subclass(cls, other) if cls is not None and other is not None else None
    return this.unknown() if outcome is None else Const(outcome)


_FUNCTIONS: dict[str, Callable[[_Call], Value]] = {
    "range": _range,
    "len": _len,
    "list": _list,
    "iter": _list,
    "tuple": lambda this: _list(this, "tuple"),
    "set": lambda this: _list(this, "set"),
    "frozenset": lambda this: _list(this, "set"),
    "dict": _dict,
    "enumerate": _enumerate,
    "zip": _zip,
    "map": _map,
    "filter": _filter,
    "reversed": _reversed,
    "sorted": _sorted,
    "any": lambda this: _any_all(this, True),
    "all": lambda this: _any_all(this, False),
    "isinstance": _isinstance,
    "issubclass": _issubclass,
    "hasattr": _hasattr,
    "getattr": _getattr,
    "setattr": _setattr,
    "delattr": _delattr,
    "type": _type,
    "next": _next,
    "callable": _callable,
    "print": _nothing,
    **{name: _numeric(name) for name in _NUMERIC},
}


def method(
    run: Run, value: Value, name: str, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode
) -> Value:
    """A method of a constant, list, dict or tensor."""
    this = _Call(run, args, kwargs, frame, node)
    if isinstance(value, Const):
        return _constant_method(value, name, this)
    if isinstance(value, DictVal):
        return _dict_method(value, name, this)
    if isinstance(value, ListVal):
        return _list_method(value, name, this)
    if isinstance(value, BuiltinVal) and value.name == "dict" and name == "fromkeys":
        return _from_keys(this)
    if isinstance(value, TensorVal):
        return tensors.method(value, name, args, kwargs, this.step)
    found = this.unknown(f"{name}() is not followed")
    hint = operations.likely(run, value)
    if hint is not None and isinstance(hint.value, str) and name in _TEXT_METHODS:
        result = _constant_method(hint, name, this)
        found.likely = result if isinstance(result, Const) else None
    return found


def _from_keys(this: _Call) -> Value:
    table = DictVal(origin=this.step)
    value = this.arg(1) or Const(None)
    for key in this.items():
        if isinstance(key, Hole):
            table.open = True
        else:
            operations.set_item(this.run, table, key, value, this.frame, this.node)
    return table


_TEXT_METHODS = frozenset(
    [
        "lower",
        "upper",
        "strip",
        "split",
        "rsplit",
        "join",
        "format",
        "replace",
        "startswith",
        "endswith",
        "lstrip",
        "rstrip",
        "title",
        "capitalize",
        "count",
        "find",
        "index",
        "isdigit",
        "isalpha",
        "removeprefix",
        "removesuffix",
        "zfill",
        "splitlines",
        "partition",
        "rpartition",
        "bit_length",
        "is_integer",
        "encode",
        "decode",
    ]
)


def _constant_method(value: Const, name: str, this: _Call) -> Value:
    if name not in _TEXT_METHODS:
        return this.unknown(f"{name}() is not followed")
    plain: list[Any] = []
    for arg in this.args:
        inner = constants(arg.items) if isinstance(arg, ListVal) else None
        if isinstance(arg, Const):
            plain.append(arg.value)
        elif inner is not None:
            plain.append(tuple(inner) if isinstance(arg, ListVal) and arg.kind == "tuple" else inner)
    named = {key: item.value for key, item in this.kwargs.items() if isinstance(item, Const)}
    if (
        len(plain) != len(this.args)
        or len(named) != len(this.kwargs)
        or not _small([*plain, *named.values(), value.value])
    ):
        return this.unknown("a text with parts that are not known")
    if _grows(name, value.value, plain):
        return this.unknown("a text too long to follow")
    try:
        result = getattr(value.value, name)(*plain, **named)
    except Exception:  # whatever Python raises here, the program being read raises too
        return this.unknown("an operation that fails")
    if isinstance(result, (list, tuple)):
        return ListVal([Const(item) for item in result], "list" if isinstance(result, list) else "tuple", this.step)
    return Const(result, this.step)


def _grows(name: str, text: Any, args: list[Any]) -> bool:
    """Whether a method of a string may yield something out of proportion to what it is given."""
    if any(isinstance(arg, int) and abs(arg) > 4096 for arg in args):
        return True
    if name == "replace":
        return len(str(text)) * max((len(str(arg)) for arg in args), default=1) > 1_000_000
    return name == "format" and re.search(r"\d{4}", str(text)) is not None


def _dict_method(value: DictVal, name: str, this: _Call) -> Value:
    run = this.run
    if name in ("get", "pop", "setdefault"):
        key = this.arg(0)
        default = this.arg(1) if len(this.args) > 1 else this.kwargs.get("default", Const(None))
        label = operations.hashed(key) if key is not None else None
        if key is not None and label is not None:
            found = value.items.get(label.key)
            if found is not None:
                if name == "pop":
                    del value.items[label.key]
                return found
            if not value.open:
                if name == "setdefault" and default is not None:
                    operations.set_item(run, value, key, default, this.frame, this.node)
                return default if default is not None else this.unknown()
            return run.unknown(
                f"{label.key!r} of a dict that is not known", this.frame.module, this.node,
                key=f"{'/'.join(sorted(value.deps))}[{label.key!r}]" if value.deps else None, deps=value.deps,
            )  # fmt: skip
        if key is not None and not value.open and name == "get":
            given = default if len(this.args) > 1 or "default" in this.kwargs else None
            if value.items or given is not None:
                return operations.one_of(run, dict(value.items), key, this.frame, this.node, given)
        return run.unknown(
            "an item that is not known", this.frame.module, this.node, deps=value.deps | dependencies(key)
        )
    if name == "items":
        items: list[Value | Hole] = [
            ListVal([operations.unhashed(key), item], "tuple") for key, item in value.items.items()
        ]
        return ListVal([*items, HOLE] if value.open else items, "list", this.step)
    if name == "values":
        found_values: list[Value | Hole] = list(value.items.values())
        return ListVal([*found_values, HOLE] if value.open else found_values, "list", this.step)
    if name == "keys":
        return ListVal(operations.iterate(run, value), "list", this.step)
    if name == "update":
        if this.args:
            operations.merge_dict(value, _dict(_Call(run, this.args, {}, this.frame, this.node)))
        operations.merge_dict(value, DictVal(dict(this.kwargs)))
        return Const(None)
    if name == "copy":
        return DictVal(dict(value.items), open=value.open, origin=value.origin, deps=value.deps)
    if name == "clear":
        value.items.clear()
        value.open = False
        return Const(None)
    return this.unknown(f"{name}() is not followed")


def _list_method(value: ListVal, name: str, this: _Call) -> Value:
    run = this.run
    first = this.arg(0)
    if name in ("append", "add"):
        value.items.append(first if first is not None else HOLE)
        if run.repeats(value):
            value.items.append(HOLE)
        return Const(None)
    if name in ("extend", "update"):
        if first is not None:
            operations.extend(run, value, first)
        else:
            value.items.append(HOLE)
        return Const(None)
    if name == "insert":
        item = this.arg(1)
        if isinstance(first, Const) and isinstance(first.value, int) and not value.open and item is not None:
            value.items.insert(first.value, item)
        else:
            value.items.append(HOLE)
        return Const(None)
    if name == "pop":
        index = first.value if isinstance(first, Const) else (-1 if not this.args else None)
        if isinstance(index, int) and not value.open and -len(value.items) <= index < len(value.items):
            found = value.items.pop(index)
            if isinstance(found, Value):
                return found
        elif value.items and not isinstance(value.items[-1], Hole):
            value.items.append(HOLE)
        return this.unknown("an item that is not known")
    if name == "copy":
        return ListVal(list(value.items), value.kind, this.step)
    if name == "reverse":
        value.items.reverse()
        return Const(None)
    if name == "clear":
        value.items.clear()
        return Const(None)
    if name == "index" and first is not None and not value.open:
        for number, entry in enumerate(value.items):
            if isinstance(entry, Const) and isinstance(first, Const) and entry.value == first.value:
                return Const(number)
    if name == "sort":
        reverse = _reverse(this)
        found_items = ordering.ordered(value.items, _sort_key(this), reverse) if reverse is not None else None
        value.items[:] = [HOLE] if found_items is None and value.items else found_items or []
        return Const(None)
    if name in ("remove", "discard"):
        plain = constants(value.items)
        if plain is not None and isinstance(first, Const) and first.value in plain:
            del value.items[plain.index(first.value)]
        elif plain is None or not isinstance(first, Const):
            value.items[:] = [HOLE]
        return Const(None)
    return this.unknown(f"{name}() is not followed")
