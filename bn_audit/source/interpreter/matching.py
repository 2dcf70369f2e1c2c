"""``match``: whether a pattern fits a value, and the names it captures."""

from __future__ import annotations

import libcst as cst

from bn_audit.source.interpreter import classes, expressions, operations
from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.run import Run
from bn_audit.source.interpreter.values import (
    BuiltinVal,
    ClassVal,
    Const,
    DictVal,
    Instance,
    ListVal,
    Module,
    Unknown,
    Value,
)
from bn_audit.source.names import pattern_names

__all__ = ["matches"]

_Captured = dict[str, Value]


def matches(run: Run, pattern: cst.MatchPattern, subject: Value, frame: Frame) -> bool | None:
    """Whether a pattern fits, None if not known. What it captures is bound in the frame, to unknowns if that is not
    certain."""
    captured: _Captured = {}
    outcome = _fits(run, pattern, subject, frame, captured)
    if outcome:
        frame.vars.update(captured)
    elif outcome is None:
        for name in pattern_names(pattern):
            frame.vars[name] = run.unknown("captured by a pattern that may not fit", frame.module, pattern)
    return outcome


def _fits(run: Run, pattern: cst.CSTNode, subject: Value, frame: Frame, captured: _Captured) -> bool | None:
    if isinstance(pattern, cst.MatchAs):
        inner = True if pattern.pattern is None else _fits(run, pattern.pattern, subject, frame, captured)
        if pattern.name is not None:
            captured[pattern.name.value] = subject
        return inner
    if isinstance(pattern, (cst.MatchValue, cst.MatchSingleton)):
        value = expressions.evaluate(run, pattern.value, frame)
        outcome = operations.compare(run, "Equal", subject, value, frame, pattern)
        return operations.truth(outcome)
    if isinstance(pattern, cst.MatchOr):
        return _any([_fits(run, element.pattern, subject, frame, captured) for element in pattern.patterns])
    if isinstance(pattern, cst.MatchSequence):
        return _sequence(run, pattern, subject, frame, captured)
    if isinstance(pattern, cst.MatchMapping):
        return _mapping(run, pattern, subject, frame, captured)
    if isinstance(pattern, cst.MatchClass):
        return _class(run, pattern, subject, frame, captured)
    return None


def _any(outcomes: list[bool | None]) -> bool | None:
    return True if True in outcomes else (None if None in outcomes else False)


def _all(outcomes: list[bool | None]) -> bool | None:
    return False if False in outcomes else (None if None in outcomes else True)


def _sequence(run: Run, pattern: cst.MatchSequence, subject: Value, frame: Frame, captured: _Captured) -> bool | None:
    if isinstance(subject, Instance):
        subject = subject.attrs.get("__items__", subject)
    if isinstance(subject, (Const, DictVal, Module, ClassVal)):
        return False
    if not isinstance(subject, ListVal) or subject.open:
        return None
    if subject.kind == "set":
        return False
    items = [item for item in subject.items if isinstance(item, Value)]
    parts = list(pattern.patterns)
    star = next((number for number, part in enumerate(parts) if isinstance(part, cst.MatchStar)), None)
    if len(items) < len(parts) - (star is not None) or (star is None and len(items) != len(parts)):
        return False
    rest: list[Value] = []
    if star is not None:
        tail = len(items) - (len(parts) - star - 1)
        rest, items = items[star:tail], [*items[:star], *items[tail:]]
        name = parts[star].name  # type: ignore[union-attr]
        if name is not None:
            captured[name.value] = ListVal([*rest], "list", subject.origin)
        del parts[star]
    return _all(
        [
            _fits(run, part.value, item, frame, captured)  # type: ignore[union-attr]
            for part, item in zip(parts, items, strict=True)
        ]
    )


def _mapping(run: Run, pattern: cst.MatchMapping, subject: Value, frame: Frame, captured: _Captured) -> bool | None:
    if isinstance(subject, (Const, ListVal, Module, ClassVal, Instance)):
        return False if not isinstance(subject, Instance) else None
    if not isinstance(subject, DictVal):
        return None
    left = dict(subject.items)
    outcomes: list[bool | None] = []
    for element in pattern.elements:
        key = expressions.evaluate(run, element.key, frame)
        found = left.pop(key.value, None) if isinstance(key, Const) else None
        if found is None:
            outcomes.append(None if subject.open or not isinstance(key, Const) else False)
        else:
            outcomes.append(_fits(run, element.pattern, found, frame, captured))
    if pattern.rest is not None:
        captured[pattern.rest.value] = DictVal(left, open=subject.open, deps=subject.deps)
    return _all(outcomes)


_SELF_MATCHING = frozenset({"bool", "bytes", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple"})


def _class(run: Run, pattern: cst.MatchClass, subject: Value, frame: Frame, captured: _Captured) -> bool | None:
    from bn_audit.source.interpreter.builtin_calls import is_a

    cls = expressions.evaluate(run, pattern.cls, frame)
    fits = None if isinstance(subject, Unknown) else is_a(subject, cls)
    if fits is False:
        return False
    outcomes: list[bool | None] = [fits]
    names: list[str | None] = []
    if isinstance(cls, ClassVal):
        names = [*classes.annotated_fields(cls)]
    for number, part in enumerate(pattern.patterns):
        if isinstance(cls, BuiltinVal) and cls.name in _SELF_MATCHING and number == 0:
            outcomes.append(_fits(run, part.value, subject, frame, captured))
            continue
        name = names[number] if number < len(names) else None
        outcomes.append(_member(run, part.value, subject, name, frame, captured))
    for keyword in pattern.kwds:
        outcomes.append(_member(run, keyword.pattern, subject, keyword.key.value, frame, captured))
    return _all(outcomes)


def _member(
    run: Run, pattern: cst.CSTNode, subject: Value, name: str | None, frame: Frame, captured: _Captured
) -> bool | None:
    found = subject.attrs.get(name) if isinstance(subject, Instance) and name is not None else None
    return None if found is None else _fits(run, pattern, found, frame, captured)
