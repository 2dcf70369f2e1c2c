"""Forms to try: every pair of choices along the axes of the vocabulary, and drawn ones."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

from bn_audit.handwritten import (
    Add,
    Begin,
    Cast,
    Factor,
    Flattened,
    HandWritten,
    Library,
    Load,
    Loop,
    Number,
    Operation,
    Order,
    Rebuild,
    Reduction,
    Reductor,
    Rest,
)
from bn_audit.loading import Covers, How

__all__ = ["drawn", "pairwise", "sensible"]

_FACTORS = [None] + [
    Factor(operation, number, in_place) for operation in Operation for number in Number for in_place in (False, True)
]
_CASTS = [None, *Cast]
_PARAMETERS, _FLOATING = Covers(parameters=True), Covers(floating=True)
_LOADS = [Load(how) for how in How] + [
    Load(covers=_PARAMETERS),
    Load(How.COPY, covers=_FLOATING),
    Load(How.LENIENT, names=_PARAMETERS),
    Load(names=Covers()),
    Load(How.COPY, names=Covers()),
    Load(How.COPY, names=_PARAMETERS),
    Load(How.ASSIGN, names=_PARAMETERS),
]
_SHARED: dict[str, Sequence[Any]] = {
    "library": list(Library),
    "result": _CASTS,
    "onto": [None, Add.NEW, Add.IN_PLACE],
    "rebuild": [*Rebuild, None],
    "covers": [Covers(), _PARAMETERS, _FLOATING, Covers(without=frozenset({"entry", "1.weight", "1.running_mean"}))],
    "rest": [None, *Rest],
    "load": _LOADS,
    "difference": [False, True],
    "integers": [None, "floor", "first", "stacked"],
}
_AXES: dict[type, dict[str, Sequence[Any]]] = {
    Loop: {
        "begin": list(Begin),
        "first": _FACTORS,
        "term": _FACTORS,
        "cast": _CASTS,
        "recast": _CASTS,
        "fade": [None, *(Factor(Operation.TIMES, number, in_place=True) for number in Number)],
        "add": list(Add),
        "scale": _FACTORS,
        "order": list(Order),
        **_SHARED,
    },
    Reduction: {"by": list(Reductor), "term": _FACTORS, "cast": _CASTS, "scale": _FACTORS, **_SHARED},
}
_INTEGERS = {
    "floor": Loop(Begin.COPY, scale=Factor(Operation.FLOOR, Number.INT, in_place=True)),
    "first": Loop(Begin.CLONE, scale=Factor(Operation.OVER, Number.INT)),
    "stacked": Reduction(cast=Cast.FLOAT),
}
_OF_ARITHMETIC = ("begin", "first", "term", "cast", "recast", "fade", "add", "scale", "order", "difference", "by")


def pairwise() -> list[HandWritten]:
    """Every pair of choices on two axes, the others at their first."""
    forms: dict[HandWritten, None] = {}
    for kind, axes in _AXES.items():
        for one, other in itertools.combinations(axes, 2):
            for a, b in itertools.product(axes[one], axes[other]):
                form = _form(kind, {one: a, other: b})
                if form is not None:
                    forms[form] = None
    return list(forms)


def drawn(number: int, seed: int = 0) -> list[HandWritten]:
    """Forms drawn at random, every axis on its own."""
    rng = random.Random(seed)
    forms: dict[HandWritten, None] = {}
    while len(forms) < number:
        kind = rng.choice([Loop, Loop, Reduction])
        axes = _AXES[kind]
        chosen = {name: rng.choice(choices) for name, choices in axes.items() if rng.random() < 0.6}
        form = _form(kind, chosen)
        if form is not None:
            forms[form] = None
    return list(forms)


def _form(kind: type, chosen: dict[str, Any]) -> HandWritten | None:
    inner = {name: value for name, value in chosen.items() if name in _OF_ARITHMETIC}
    outer = {name: value for name, value in chosen.items() if name not in _OF_ARITHMETIC}
    if "integers" in outer:
        outer["integers"] = _INTEGERS.get(outer["integers"])
    if outer.get("library") is Library.NUMPY:
        outer.setdefault("rebuild", Rebuild.TENSOR)
    form = HandWritten(kind(**inner), **outer)
    return form if sensible(form) else None


def sensible(form: HandWritten) -> bool:
    """Whether somebody may have written it: what the vocabulary can say beyond that, no plan judges."""
    numpy = form.library is Library.NUMPY
    arithmetic = form.arithmetic.arithmetic if isinstance(form.arithmetic, Flattened) else form.arithmetic
    factors = [arithmetic.term, arithmetic.scale]
    if isinstance(arithmetic, Loop):
        factors.append(arithmetic.first)
        if arithmetic.first is not None and arithmetic.begin not in (Begin.FIRST, Begin.COPY, Begin.CLONE):
            return False
        scalars = arithmetic.begin in (Begin.ZERO, Begin.FLOAT_ZERO, Begin.NOTHING)
        if arithmetic.fade is not None and (scalars or numpy or not arithmetic.add.in_place):
            return False
        if arithmetic.add not in (Add.NEW, Add.IN_PLACE):
            if numpy or scalars or arithmetic.term is None or arithmetic.term.in_place or arithmetic.recast is not None:
                return False
            if arithmetic.term.operation is not Operation.TIMES:
                return False
    else:
        if arithmetic.term is not None and arithmetic.term.in_place and (arithmetic.cast or arithmetic.difference):
            return False
        if numpy and arithmetic.by in (Reductor.NAN_MEAN, Reductor.QUANTILE):
            return False
        if arithmetic.by is Reductor.AVERAGE:
            weights = arithmetic.term is None or arithmetic.term.operation is Operation.TIMES
            if not numpy or not weights or (arithmetic.term is not None and arithmetic.term.in_place):
                return False
    tensors = (Number.TENSOR, Number.DOUBLE_TENSOR, Number.INT_TENSOR)
    if numpy and any(factor is not None and factor.number in tensors for factor in factors):
        return False
    if numpy is not (form.rebuild is not None) and not (numpy and form.load.how in (How.STATE_DICT, How.LENIENT)):
        return False
    if not numpy and form.rebuild is not None:
        return False
    if numpy and form.rest not in (None, Rest.ABSENT, Rest.OWN):
        return False
    if form.integers is not None and isinstance(arithmetic, Loop) and arithmetic.order is Order.PARTIES:
        return False
    # A median has no linear combination to be told by once it is scaled.
    median = isinstance(arithmetic, Reduction) and arithmetic.by in (Reductor.MEDIAN, Reductor.QUANTILE)
    return not (median and (arithmetic.term or arithmetic.scale or arithmetic.difference or form.onto))
