"""Operators, containers and iteration over values."""

from __future__ import annotations

import contextlib
import operator
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import libcst as cst

from bn_audit.source.interpreter import attributes, calls, classes, records, scopes, tensors, torch_calls
from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.libraries import canonical, is_object
from bn_audit.source.interpreter.run import Run
from bn_audit.source.interpreter.values import (
    HOLE,
    BoundMethod,
    BuiltinVal,
    ClassVal,
    Const,
    DictVal,
    External,
    ExternalResult,
    Func,
    Hole,
    Instance,
    KerasTensor,
    ListVal,
    Module,
    ModuleRef,
    Partial,
    RegistryGap,
    SetVal,
    Step,
    TensorVal,
    Unknown,
    Value,
    dependencies,
)

__all__ = [
    "assumed",
    "binary",
    "blur",
    "compare",
    "delete_item",
    "element_of",
    "extend",
    "item",
    "iterate",
    "key_of",
    "likely",
    "merge_dict",
    "one_of",
    "part_of",
    "set_item",
    "slice_of",
    "supposed",
    "truth",
    "unknown_attribute",
]

_MANY = 1 << 20
_MAX_TEXT = 1_000
"""Longest text that tells how something not known would be written."""
MAX_SIZE = 100_000
"""Longest constant string or list that an operator may make."""


def truth(value: Value) -> bool | None:
    """``bool(value)``, or None if not known."""
    if isinstance(value, Const):
        return bool(value.value)
    if isinstance(value, ListVal):
        if any(not isinstance(entry, Hole) for entry in value.items):
            return True
        return None if value.items else False
    if isinstance(value, DictVal):
        return True if value.items else (None if value.open else False)
    if unknown_attribute(value):
        return None
    if isinstance(value, (ClassVal, Func, BoundMethod, BuiltinVal, Partial, ModuleRef)):
        return True
    if isinstance(value, External):
        return False if value.name == "typing.TYPE_CHECKING" else (is_object(value.name) or None)
    if isinstance(value, Module):
        return None if value.type_name in ("Sequential", "ModuleList", "ModuleDict") and not value.children else True
    if isinstance(value, Instance):
        return None if value.symbolic else True
    if isinstance(value, ExternalResult) and value.func.leaf[:1].isupper():
        return True
    return None


def iterate(run: Run, value: Value) -> list[Value | Hole]:
    """The items of an iterable; a Hole where an unknown number of them stands."""
    if isinstance(value, SetVal) and len(value.items) > 1:
        return [HOLE]  # in an order that nobody knows: sorted() and its like look at the items themselves
    if isinstance(value, ListVal):
        run.step(len(value.items) // 64)
        return list(value.items)
    if isinstance(value, DictVal):
        run.step(len(value.items) // 64)
        keys: list[Value | Hole] = [unhashed(key) for key in value.items]
        return [*keys, HOLE] if value.open else keys
    if isinstance(value, Const) and isinstance(value.value, (str, bytes)) and len(value.value) <= MAX_SIZE:
        return [Const(part) for part in value.value]
    if isinstance(value, Module):
        run.step(len(value.children) // 8)
    if isinstance(value, Module) and classes.container(value) in ("ParameterList", "ParameterDict"):
        keyed = classes.container(value) == "ParameterDict"
        return [
            HOLE if isinstance(part, RegistryGap) else (Const(name) if keyed else part)
            for name, part in value.params.items()
            if part is not None
        ]
    if isinstance(value, Module) and classes.container(value) == "ModuleDict":
        return [HOLE if isinstance(child, RegistryGap) else Const(name) for name, child in value.children.items()]
    if isinstance(value, Module):
        return [
            HOLE if isinstance(child, RegistryGap) else child for child in value.children.values() if child is not None
        ]
    if isinstance(value, TensorVal):
        return tensors.items(value) or [HOLE]
    if isinstance(value, Instance):
        items = value.attrs.get("__items__")
        if isinstance(items, ListVal):
            return list(items.items)
        found = classes.find(value.cls, "__iter__")
        if found is not None and isinstance(found[0], Func):
            made = calls.call_function(run, found[0], [value], {}, found[0].frame, found[0].node)
            return iterate(run, made) if made is not value else [HOLE]
    if isinstance(value, ClassVal) and records.is_enum(value):
        return list(records.enum_members(value).values())
    return [HOLE]


def element_of(run: Run, iterable: Value, frame: Frame, node: cst.CSTNode) -> Value:
    """An unknown item of an iterable, depending on what the iterable depends on."""
    return run.unknown("an item of something that is not known", frame.module, node, deps=dependencies(iterable))


def part_of(run: Run, value: Value, number: int, frame: Frame, node: cst.CSTNode) -> Value:
    """The ``number``-th part of a value that cannot be unpacked for sure."""
    if isinstance(value, ListVal):
        before = value.items[: number + 1]
        if len(before) > number and not any(isinstance(entry, Hole) for entry in before):
            found = before[number]
            assert isinstance(found, Value)
            return found
    key = f"{value.key}[{number}]" if isinstance(value, Unknown) and value.key else None
    reason = value.reason if isinstance(value, Unknown) else "unpacked from something that is not known"
    called = isinstance(value, ExternalResult) or (isinstance(value, Unknown) and value.called)
    return run.unknown(reason, frame.module, node, key=key, deps=dependencies(value), called=called)


def item(run: Run, container: Value, key: Value, frame: Frame, node: cst.CSTNode) -> Value:
    """``container[key]``."""
    if isinstance(container, DictVal):
        label = hashed(key)
        if label is not None and label.key in container.items:
            return container.items[label.key]
        if label is not None and container.factory is not None and not container.open:
            made = calls.call(run, container.factory, [], {}, False, frame, node)
            container.items[label.key] = made
            return made
    if isinstance(container, ClassVal) and records.is_enum(container):
        member = records.enum_members(container).get(key.value) if isinstance(key, Const) else None
        return member or run.unknown("a member of an enumeration that is not known", frame.module, node)
    if isinstance(container, Instance) and "__items__" not in container.attrs:
        getter = classes.find(container.cls, "__getitem__")
        if getter is not None and isinstance(getter[0], Func):
            return calls.call_function(run, getter[0], [container, key], {}, frame, node)
    if isinstance(container, (ModuleRef, External)):
        key = supposed(run, key, lambda: _key_text(frame, node))
    if isinstance(key, Const):
        name = key.value
        if isinstance(container, ListVal) and isinstance(name, int):
            items = container.items
            reach = items[: name + 1] if name >= 0 else items[name:] if -name <= len(items) else []
            if (
                reach
                and not any(isinstance(entry, Hole) for entry in reach)
                and len(reach) >= (name + 1 if name >= 0 else -name)
            ):
                found = reach[-1] if name >= 0 else reach[0]
                assert isinstance(found, Value)
                return found
        elif isinstance(container, Const) and isinstance(container.value, (str, bytes)) and isinstance(name, int):
            try:
                return Const(container.value[name])
            except IndexError:
                pass
        elif isinstance(container, Module):
            return module_item(run, container, name, frame, node)
        elif isinstance(container, ModuleRef) and isinstance(name, str):  # globals()["name"]
            return scopes.member(run, container, name, frame.module, node)
        elif isinstance(container, Instance) and isinstance(container.attrs.get("__items__"), (ListVal, DictVal)):
            return item(run, container.attrs["__items__"], key, frame, node)
        elif isinstance(container, External) and isinstance(name, str) and not container.leaf[:1].isupper():
            return attributes.get(run, container, name, frame, node)  # nn.__dict__["Linear"]
        elif _is_generic(container):
            return container  # list[int], nn.ModuleDict[str]
    elif _is_generic(container):
        return container
    if isinstance(container, DictVal) and not container.open and container.items:
        return one_of(run, dict(container.items), key, frame, node)
    if isinstance(container, ListVal) and container.items and not container.open:
        entries = {number: entry for number, entry in enumerate(container.items) if isinstance(entry, Value)}
        return one_of(run, entries, key, frame, node)
    base = key_of(container)
    same = f"{base}[{key.value!r}]" if base and isinstance(key, Const) else None
    deps = dependencies(container) | dependencies(key)
    if isinstance(container, Unknown):
        name = key.value if isinstance(key, Const) and isinstance(key.value, str) else None
        text = f"{container.text}[{name!r}]" if container.text and name is not None else None
        likely = run.hint(container.text, name) if name is not None else None
        return run.unknown(
            container.reason, frame.module, node, key=same, deps=deps, called=container.called, text=text, likely=likely
        )
    called = isinstance(container, ExternalResult)
    return run.unknown("an item that is not known", frame.module, node, key=same, deps=deps, called=called)


def _is_generic(value: Value) -> bool:
    """Whether an item of a value is a generic alias; ``os.environ["X"]`` is none."""
    return isinstance(value, (ClassVal, BuiltinVal)) or (isinstance(value, External) and value.leaf[:1].isupper())


_MAX_CHOICES = 4


def one_of(
    run: Run, values: dict[Any, Value], key: Value, frame: Frame, node: cst.CSTNode, default: Value | None = None
) -> Value:
    """The one of some values that a key picks which is not known: tried as decisions where there are few."""
    deps = dependencies(key)
    unknown = run.unknown("picked by a key that is not known", frame.module, node, deps=deps)
    hint = likely(run, key)
    chosen = [hint.value] if hint is not None and isinstance(hint.value, (str, int)) and hint.value in values else []
    choices = [*chosen, *(choice for choice in values if choice not in chosen)]
    if chosen and len(choices) >= _MAX_CHOICES:
        choices, default = choices[: _MAX_CHOICES - 1], default or unknown
    choices = choices if default is None else [*choices, HOLE]
    if isinstance(key, Const) or len(choices) > _MAX_CHOICES:
        return unknown
    base = key_of(key) or f"node:{id(node)}"
    if base in run.equal:
        return values.get(run.equal[base], default or unknown)
    for choice in choices[:-1]:
        guess = choice in chosen if chosen else None
        outcome = run.decide(
            f"{base} == {choice!r}",
            lambda c=choice: f"{_key_text(frame, node)} == {c!r}",  # type: ignore[misc]
            deps,
            likely=guess,
        )
        if outcome is None:
            return unknown
        if outcome:
            run.equal[base] = choice
            return values[choice]
    return default or values[choices[-1]]


def _key_text(frame: Frame, node: cst.CSTNode) -> str:
    """How a message writes the key of ``container[key]`` or ``container.get(key)``."""
    key: cst.CSTNode | None = None
    if isinstance(node, cst.Subscript) and isinstance(node.slice[0].slice, cst.Index):
        key = node.slice[0].slice.value
    elif isinstance(node, cst.Call) and node.args:
        key = node.args[0].value
    return "the key" if key is None else frame.module.tree.code_for_node(key)


def module_item(run: Run, module: Module, name: Any, frame: Frame, node: cst.CSTNode) -> Value:
    """``sequential[0]``, ``modulelist[-1]``, ``moduledict["key"]``."""
    if isinstance(name, str):
        child = module.children.get(name)
        if isinstance(child, Module):
            return child
    elif isinstance(name, int):
        children = list(module.children.values())
        reach = children[: name + 1] if name >= 0 else children[name:] if -name <= len(children) else []
        if (
            reach
            and not any(isinstance(child, RegistryGap) for child in reach)
            and -len(children) <= name < len(children)
        ):
            found = children[name]
            if isinstance(found, Module):
                return found
    return run.unknown("a part of a module that is not known", frame.module, node, called=True)


def slice_of(run: Run, container: Value, bounds: list[Value | None], frame: Frame, node: cst.CSTNode) -> Value:
    """``container[a:b:c]``."""
    edges: list[Any] = []
    for bound in bounds:
        if bound is None:
            edges.append(None)
        elif isinstance(bound, Const) and (bound.value is None or isinstance(bound.value, int)):
            edges.append(bound.value)
        else:
            edges.append(...)
    certain = ... not in edges
    step = Step(frame.module, node)
    if isinstance(container, ListVal):
        if certain and not container.open:
            return ListVal(container.items[slice(*edges)], container.kind, step)
        start, stop = edges[0], edges[1]
        if certain and edges[2] in (None, 1) and start in (None, 0) and isinstance(stop, int):
            head = container.items[:stop]
            if stop < 0 and not any(isinstance(entry, Hole) for entry in container.items[stop:]):
                return ListVal(head, container.kind, step)
            if stop >= 0 and not any(isinstance(entry, Hole) for entry in head):
                return ListVal(head, container.kind, step)
        return ListVal([HOLE], container.kind, step)
    if isinstance(container, Const) and isinstance(container.value, (str, bytes)) and certain:
        return Const(container.value[slice(*edges)], step)
    if isinstance(container, Module) and certain and container.type_name in ("Sequential", "ModuleList"):
        part = Module(container.type_name, None, step)
        children = list(container.children.items())
        if any(isinstance(child, RegistryGap) for _, child in children):
            part.add_gap("a slice of a module that is partly unknown", step)
            return part
        for number, (name, child) in enumerate(children[slice(*edges)]):
            # Sequential keeps the names of what it slices; ModuleList counts anew.
            part.children[name if container.type_name == "Sequential" else str(number)] = child
        return part
    reason = container.reason if isinstance(container, Unknown) else "a slice of something that is not known"
    called = isinstance(container, (ExternalResult, Module)) or (isinstance(container, Unknown) and container.called)
    return run.unknown(reason, frame.module, node, deps=dependencies(container), called=called)


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add,
    "Subtract": operator.sub,
    "Multiply": operator.mul,
    "Divide": operator.truediv,
    "FloorDivide": operator.floordiv,
    "Modulo": operator.mod,
    "Power": operator.pow,
    "LeftShift": operator.lshift,
    "RightShift": operator.rshift,
    "BitAnd": operator.and_,
    "BitOr": operator.or_,
    "BitXor": operator.xor,
}


def binary(run: Run, name: str, left: Value, right: Value, frame: Frame, node: cst.CSTNode) -> Value:
    """``left <operator> right``; ``name`` is libcst's class name of the operator."""
    step = Step(frame.module, node)
    if isinstance(left, Const) and isinstance(right, Const):
        if isinstance(left.value, str) and name == "Modulo":
            return _percent(run, left.value, right, frame, node)
        if _affordable(name, left.value, right.value):
            try:
                return Const(_BINARY[name](left.value, right.value), step)
            except Exception:  # whatever Python raises here, the program being read raises too
                return run.unknown("an operation that fails", frame.module, node)
    if isinstance(left, ListVal) and isinstance(right, ListVal):
        run.step((len(left.items) + len(right.items)) // 64)
        if name == "Add":
            return ListVal([*left.items, *right.items], left.kind, step)
        if name == "BitOr":
            return ListVal([*left.items, *right.items], left.kind, step)
    if name == "Multiply":
        listed, count = (left, right) if isinstance(left, ListVal) else (right, left)
        if isinstance(listed, ListVal):
            if isinstance(count, Const) and isinstance(count.value, int) and len(listed.items) * count.value <= 4096:
                return ListVal(listed.items * count.value, listed.kind, step)
            return ListVal([*listed.items, HOLE], listed.kind, step)
    if isinstance(left, DictVal) and isinstance(right, DictVal) and name == "BitOr":
        merged = DictVal(dict(left.items), open=left.open, origin=step, deps=left.deps)
        merge_dict(merged, right)
        return merged
    if isinstance(left, Const) and isinstance(left.value, str) and name == "Modulo":
        return _percent(run, left.value, right, frame, node)
    if isinstance(left, Module) and isinstance(right, (Module, ListVal)) and name == "Add":
        joined = Module(left.type_name, None, step)
        for child in [*left.children.values(), *iterate(run, right)]:
            if isinstance(child, Module):
                joined.children[str(len(joined.children))] = child
            else:
                joined.add_gap("joined with something that is not known", step)
        return joined
    if isinstance(left, TensorVal) or isinstance(right, TensorVal):
        return _tensor_arithmetic(name, left, right, step)
    if isinstance(left, KerasTensor) or isinstance(right, KerasTensor):
        return KerasTensor(None, tuple(side for side in (left, right) if isinstance(side, KerasTensor)), step)
    for side in (left, right):
        if isinstance(side, Unknown):
            text = None
            if name == "Add" and isinstance(left, Const) and isinstance(left.value, str):
                text = left.value + (right.text or "{...}") if isinstance(right, Unknown) else None
                if text is not None and len(text) > _MAX_TEXT:
                    text = None
            hint = _likely_result(run, name, left, right)
            deps = dependencies(left) | dependencies(right)
            many = _multiple(name, left, right)
            return run.unknown(side.reason, frame.module, node, deps=deps, text=text, likely=hint, multiple=many)
    deps = dependencies(left) | dependencies(right)
    return run.unknown("not followed", frame.module, node, deps=deps, multiple=_multiple(name, left, right))


def _times(value: Value) -> tuple[str, float] | None:
    """What a value that is not known is how many times: itself once, if it is no product."""
    if isinstance(value, Unknown):
        return value.multiple or (None if value.key is None else (value.key, 1.0))
    key = key_of(value) if isinstance(value, BoundMethod) else None  # ``args.width``
    return None if key is None else (key, 1.0)


def _multiple(name: str, left: Value, right: Value) -> tuple[str, float] | None:
    """How many times another value that is not known a product is, or a quotient that is certainly exact."""
    if name == "Multiply" and isinstance(left, Const):
        left, right = right, left
    found = _times(left)
    if found is None or not isinstance(right, Const):
        return None
    number = right.value
    if type(number) not in (int, float) or not 0 < number < _MANY:
        return None
    base, times = found
    if name == "Multiply":
        return base, times * number
    exact = name == "Divide" or (name == "FloorDivide" and (times / number).is_integer())
    return (base, times / number) if exact else None


def _as_often(left: Value, right: Value) -> bool | None:
    """Whether two values that are not known are as many times the same one: ``planes * 1`` and ``4 * planes`` are not.
    What has no width is no layer, so that one is not taken to be 0."""
    one, other = _times(left), _times(right)
    if one is None or other is None or not any(isinstance(row, Unknown) and row.multiple for row in (left, right)):
        return None
    return abs(one[1] - other[1]) < 1e-9 * one[1] if one[0] == other[0] else None


def _tensor_arithmetic(name: str, left: Value, right: Value, step: Step) -> TensorVal:
    """Shape and dtype of an elementwise operation, where they are certain."""
    tensor, other = (left, right) if isinstance(left, TensorVal) else (right, left)
    assert isinstance(tensor, TensorVal)
    if isinstance(other, TensorVal):
        same = tensor.shape is not None and tensor.shape == other.shape and None not in tensor.shape
        dtype = tensor.dtype if tensor.dtype == other.dtype and name != "Divide" else None
        return TensorVal(tensor.shape if same else None, dtype, step)
    if not isinstance(other, Const):
        return TensorVal(None, None, step)
    keeps = tensor.dtype is not None and (
        "float" in tensor.dtype or (isinstance(other.value, int) and name != "Divide")
    )
    return TensorVal(tensor.shape, tensor.dtype if keeps else None, step)


def _affordable(name: str, left: Any, right: Any) -> bool:
    """Keep ``10 ** 10 ** 10`` and ``"a" * 10 ** 9`` from being computed."""
    if name in ("Power", "LeftShift"):
        return (
            isinstance(right, (int, float)) and abs(right) <= 512 and not (isinstance(left, int) and abs(left) > 10**9)
        )
    if name == "Multiply":
        for text, count in ((left, right), (right, left)):
            if isinstance(text, (str, bytes)):
                return isinstance(count, int) and len(text) * count <= MAX_SIZE
        return all(not isinstance(side, int) or abs(side) < 10**300 for side in (left, right))
    if name == "Add" and isinstance(left, (str, bytes)) and isinstance(right, (str, bytes)):
        return len(left) + len(right) <= MAX_SIZE
    return True


def _percent(run: Run, template: str, right: Value, frame: Frame, node: cst.CSTNode) -> Value:
    values = right.items if isinstance(right, ListVal) and right.kind == "tuple" else [right]
    plain = [entry.value for entry in values if isinstance(entry, Const)]
    # A width in the template may ask for a text of any length.
    modest = len(template) < 4096 and "*" not in template and not re.search(r"\d{4}", template)
    modest = modest and sum(len(entry) for entry in plain if isinstance(entry, (str, bytes))) <= MAX_SIZE // 8
    if modest and len(plain) == len(values):
        try:
            return Const(template % tuple(plain), Step(frame.module, node))
        except (TypeError, ValueError, KeyError, OverflowError):
            pass
    hint: Const | None = None
    guesses = [
        entry if isinstance(entry, Const) else likely(run, entry) for entry in values if isinstance(entry, Value)
    ]
    if modest and len(guesses) == len(values) and all(guess is not None for guess in guesses):
        with contextlib.suppress(TypeError, ValueError, KeyError, OverflowError):
            hint = Const(template % tuple(guess.value for guess in guesses if guess is not None))
    deps = dependencies(right)
    return run.unknown("a text with parts that are not known", frame.module, node, deps=deps, likely=hint)


_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "Equal": operator.eq,
    "NotEqual": operator.ne,
    "LessThan": operator.lt,
    "LessThanEqual": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanEqual": operator.ge,
}


def compare(run: Run, name: str, left: Value, right: Value, frame: Frame, node: cst.CSTNode) -> Value:
    """``left <comparison> right``; ``name`` is libcst's class name of the operator."""
    outcome = _compare(run, name, left, right)
    if outcome is not None:
        return Const(outcome)
    deps = dependencies(left) | dependencies(right)
    key, base = None, key_of(left)
    if base and isinstance(right, Const):
        key = {"Equal": f"{base} == {right.value!r}", "NotEqual": f"not {base} == {right.value!r}"}.get(name)
        if right.value is None and name in ("Is", "IsNot"):
            key = f"{base} == None" if name == "Is" else f"not {base} == None"
        elif key is None:
            key = f"{base} {name} {right.value!r}"
    guess = _compare(run, name, likely(run, left) or left, likely(run, right) or right)
    hint = None if guess is None else Const(guess)
    return run.unknown("a comparison that is not known", frame.module, node, key=key, deps=deps, likely=hint)


def likely(run: Run, value: Value) -> Const | None:
    """What a value that is not known is if nobody asks for anything else; None if there is no hint."""
    if isinstance(value, BoundMethod) and isinstance(value.func, str) and unknown_attribute(value):
        return run.likely.get(value.func)
    return value.likely if isinstance(value, Unknown) else None


def supposed(run: Run, value: Value, text: Callable[[], str]) -> Value:
    """A name that is not known as what it likely is, if this run may assume that; the value itself if not."""
    hint = likely(run, value)
    base = key_of(value)
    if hint is None or not isinstance(hint.value, str):
        return value
    base = base or f"likely {hint.value}"
    if base in run.equal:
        return Const(run.equal[base], value.origin)
    outcome = run.decide(
        f"{base} == {hint.value!r}", lambda: f"{text()} == {hint.value!r}", dependencies(value), likely=True
    )
    if not outcome:
        return value
    run.equal[base] = hint.value
    return Const(hint.value, value.origin)


def _likely_result(run: Run, name: str, left: Value, right: Value) -> Const | None:
    """The same for ``left <operator> right``."""
    one = left if isinstance(left, Const) else likely(run, left)
    other = right if isinstance(right, Const) else likely(run, right)
    if one is None or other is None or not _affordable(name, one.value, other.value):
        return None
    try:
        return Const(_BINARY[name](one.value, other.value))
    except Exception:  # a hint that does not fit is none
        return None


def key_of(value: Value) -> str | None:
    """What identifies a value that is not known wherever it is read; None where that is not certain."""
    if isinstance(value, External):
        return value.name
    if isinstance(value, ExternalResult):
        return f"result {value.number}"
    if isinstance(value, BoundMethod):
        base = key_of(value.self_value) if unknown_attribute(value) else None
        return f"{base}.{value.func}" if base else None
    return value.key if isinstance(value, Unknown) and value.key and not value.key.startswith("#") else None


def assumed(run: Run, value: Value) -> bool | None:
    """What this run has assumed of the truth of a value that is not known, if anything."""
    key = key_of(value)
    negated = False
    while key is not None and key.startswith("not "):
        key, negated = key[4:], not negated
    if key is None:
        return None
    if key in run.assumed:
        return run.assumed[key] != negated
    left, equals, right = key.partition(" == ")
    return (repr(run.equal[left]) == right) != negated if equals and left in run.equal else None


def unknown_attribute(value: Value) -> bool:
    """Whether a value is an attribute of what something outside the project returned: ``args.bn``. It may be a method
    of it, and is one where it is called, or anything else."""
    while isinstance(value, BoundMethod) and isinstance(value.func, str):
        value = value.self_value
        if isinstance(value, ExternalResult):
            return True
    return False


def _compare(run: Run, name: str, left: Value, right: Value) -> bool | None:
    if name in ("Is", "IsNot"):
        same = _identical(left, right)
        return None if same is None else same == (name == "Is")
    if name in ("In", "NotIn"):
        inside = _contains(left, right)
        return None if inside is None else inside == (name == "In")
    if isinstance(left, Const) and isinstance(right, Const):
        try:
            return bool(_COMPARE[name](left.value, right.value))
        except Exception:  # whatever Python raises here, the program being read raises too
            return None
    if name in ("Equal", "NotEqual"):
        same = _identical(left, right)
        if same is None and isinstance(left, ListVal) and isinstance(right, ListVal):
            same = _same_items(left, right)
        if same is None:
            same = _as_often(left, right)
        if same is not None:
            return same == (name == "Equal")
    return None


def _same_items(left: ListVal, right: ListVal) -> bool | None:
    if left.open or right.open:
        return None
    if len(left.items) != len(right.items):
        return False
    for one, other in zip(left.items, right.items, strict=True):
        if not (isinstance(one, Const) and isinstance(other, Const)):
            return None
        if one.value != other.value:
            return False
    return True


_SOLID = (ListVal, DictVal, ClassVal, Func, Module, Instance, ModuleRef, Partial, BuiltinVal, External, TensorVal)


def _identical(left: Value, right: Value) -> bool | None:
    """``left is right``: known for constants, for classes, and for None beside anything that is certainly an object."""
    if isinstance(left, Const) and isinstance(right, Const):
        return type(left.value) is type(right.value) and left.value == right.value
    if isinstance(left, External) and isinstance(right, External):
        if left.name == right.name:
            return True
        return False if left.leaf != right.leaf and is_object(left.name) and is_object(right.name) else None
    if isinstance(left, ClassVal) and isinstance(right, ClassVal):
        return left.node is right.node
    if isinstance(left, Func) and isinstance(right, Func):
        return left.node is right.node
    if isinstance(left, BuiltinVal) and isinstance(right, BuiltinVal):
        return left.name == right.name
    if left is right and not isinstance(left, Unknown):
        return True
    if any(isinstance(side, External) and not is_object(side.name) for side in (left, right)):
        return None
    if isinstance(left, Instance) and isinstance(right, Instance) and records.is_enum(left.cls):
        return False
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Const) and (isinstance(other, _SOLID) and not isinstance(other, TensorVal)):
            return False
        if isinstance(one, Const) and one.value is None and isinstance(other, (TensorVal, ExternalResult)):
            return False if isinstance(other, TensorVal) or other.func.leaf[:1].isupper() else None
    if isinstance(left, _SOLID) and isinstance(right, _SOLID) and type(left) is not type(right):
        return False
    return None


def _contains(value: Value, container: Value) -> bool | None:
    if isinstance(container, Const) and isinstance(container.value, str):
        return value.value in container.value if isinstance(value, Const) and isinstance(value.value, str) else None
    if isinstance(container, DictVal):
        label = hashed(value)
        if label is None:
            return None
        return True if label.key in container.items else (None if container.open else False)
    if isinstance(container, Module) and isinstance(value, Const):
        if value.value in container.children:
            return True
        return None if any(isinstance(child, RegistryGap) for child in container.children.values()) else False
    if isinstance(container, ListVal):
        unsure = container.open
        for entry in container.items:
            if isinstance(entry, Hole):
                continue
            same = _identical(entry, value)
            if same is None and isinstance(entry, Const) and isinstance(value, Const):
                same = entry.value == value.value
            if same:
                return True
            unsure = unsure or same is None
        return None if unsure else False
    return None


@dataclass(frozen=True, slots=True)
class Label:
    """The key under which a dict of ours keeps something."""

    key: Hashable


class _Named(str):
    """Stands for a class or function as a key: equal wherever the same one is meant."""

    value: Value


def hashed(key: Value) -> Label | None:
    """The key for a value, None if it is not known or cannot be one."""
    if isinstance(key, Const):
        try:
            hash(key.value)
        except TypeError:
            return None
        return Label(key.value)
    if isinstance(key, (ClassVal, External)):
        named = _Named(f"{key.module.path}:{key.name}" if isinstance(key, ClassVal) else canonical(key.name))
        named.value = key
        return Label(named)
    if isinstance(key, (Instance, Func)):
        return Label(key)
    if isinstance(key, ListVal) and key.kind == "tuple" and not key.open:
        parts = [hashed(entry) for entry in key.items if isinstance(entry, Value)]
        return None if None in parts else Label(tuple(part.key for part in parts if part is not None))
    return None


def unhashed(key: object) -> Value:
    """The value that a key of a dict stands for."""
    if isinstance(key, _Named):
        return key.value
    if isinstance(key, Value):
        return key
    if isinstance(key, tuple):
        return ListVal([unhashed(part) for part in key], "tuple")
    return Const(key)


def merge_dict(target: DictVal, value: Value) -> None:
    """``{**target, **value}``."""
    if isinstance(value, DictVal):
        target.items.update(value.items)
        target.open = target.open or value.open
        target.deps |= value.deps
    else:
        target.open = True
        target.deps |= dependencies(value)


def set_item(run: Run, container: Value, key: Value, value: Value, frame: Frame, node: cst.CSTNode) -> None:
    """``container[key] = value``."""
    if isinstance(container, DictVal):
        label = hashed(key)
        if label is not None:
            container.items[label.key] = value
            return
        container.open = True
        container.deps |= dependencies(key)
    elif isinstance(container, ListVal):
        index = key.value if isinstance(key, Const) else None
        if isinstance(index, int) and -len(container.items) <= index < len(container.items) and not container.open:
            container.items[index] = value
        else:
            container.items.append(HOLE)
    elif isinstance(container, Module) and classes.container(container) in ("ParameterList", "ParameterDict"):
        torch_calls.set_parameter(run, container, key, value, Step(frame.module, node))
    elif isinstance(container, Module):
        step = Step(frame.module, node)
        name = key.value if isinstance(key, Const) else None
        if isinstance(name, int) and not isinstance(name, bool):
            names = list(container.children)
            name = names[name] if -len(names) <= name < len(names) else None
        if isinstance(name, str) and (isinstance(value, Module) or (isinstance(value, Const) and value.value is None)):
            container.children[name] = value if isinstance(value, Module) else None
            if run.repeats(container):
                container.add_gap("filled in a loop of unknown length", step)
        else:
            if isinstance(value, Module) and isinstance(key, Unknown):
                container.children[key.text or "?"] = value
            container.add_gap("a part set under a key that is not known", step)
    elif isinstance(container, Instance):
        items = container.attrs.get("__items__")
        if isinstance(items, (DictVal, ListVal)):
            set_item(run, items, key, value, frame, node)


def delete_item(run: Run, container: Value, key: Value) -> None:
    """``del container[key]``."""
    if isinstance(container, DictVal):
        label = hashed(key)
        if label is not None:
            container.items.pop(label.key, None)
        else:
            container.open = True
    elif isinstance(container, ListVal):
        if isinstance(key, Const) and isinstance(key.value, int) and not container.open:
            try:
                del container.items[key.value]
                return
            except IndexError:
                pass
        container.items.append(HOLE)
    elif isinstance(container, Module):
        name = key.value if isinstance(key, Const) else None
        names = list(container.children)
        if isinstance(name, int) and -len(names) <= name < len(names):
            del container.children[names[name]]
            if container.type_name in ("ModuleList", "Sequential"):
                container.children = {
                    str(number) if label.isdigit() else label: child
                    for number, (label, child) in enumerate(container.children.items())
                }
        elif isinstance(name, str) and name in container.children:
            del container.children[name]
        else:
            container.add_gap("a part deleted under a key that is not known", None)


def extend(run: Run, target: ListVal, value: Value) -> None:
    """``target.extend(value)``."""
    target.items.extend(iterate(run, value))
    target.trim()
    if run.repeats(target):
        target.items.append(HOLE)


def blur(value: Value, step: Step) -> None:
    """Something that is not known may have changed this value in place."""
    if isinstance(value, Instance):
        value.open_reason = "may be changed under a condition that is not known"
    elif isinstance(value, ListVal):
        value.items.append(HOLE)
    elif isinstance(value, DictVal):
        value.open = True
    elif isinstance(value, Module):
        value.add_gap("may be changed under a condition that is not known", step)
