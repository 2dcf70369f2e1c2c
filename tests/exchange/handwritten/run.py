"""Run a form as Python on models, and say what became of every entry."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from bn_audit.exchange.fedbn import expected_fates
from bn_audit.exchange.handwritten import plan
from bn_audit.exchange.plan import Fate, Plan
from bn_audit.handwritten import (
    Begin,
    Factor,
    Flattened,
    HandWritten,
    Library,
    Loop,
    Operation,
    Rebuild,
    Reduction,
    Reductor,
)
from bn_audit.profile import Profile
from tests.exchange.handwritten.write import source_of

__all__ = ["Measured", "disagreements", "measure", "party"]

State = Mapping[str, torch.Tensor]
_WEIGHTS = (1, 2, 3, 1, 2)


@dataclass(frozen=True)
class Measured:
    """What a run did: the error, or every entry's fates, more than one where equal values do not tell them apart.

    A fate is averaged, misplaced and whose, stale (all parties hold one party's or the server's), corrupt (nobody's),
    or None: each party kept its own.
    """

    error: tuple[str, str] | None
    fates: Mapping[str, frozenset[tuple[Fate | None, str | None]]]


@cache
def _functions(form: HandWritten) -> tuple[str, dict[str, Any]]:
    source = source_of(form)
    namespace: dict[str, Any] = {"copy": copy, "torch": torch, "np": np, "floating": _floating, "complex_": _complex}
    exec(compile(source, "<form>", "exec"), namespace)
    return source, namespace


def _floating(value: Any) -> bool:
    return (
        bool(value.is_floating_point()) if isinstance(value, torch.Tensor) else np.issubdtype(value.dtype, np.floating)
    )


def _complex(value: Any) -> bool:
    return bool(value.is_complex()) if isinstance(value, torch.Tensor) else np.iscomplexobj(value)


def party(build: Callable[[], nn.Module], number: int) -> nn.Module:
    """A model whose state differs from that of other numbers in every entry."""
    model = build()
    generator = torch.Generator().manual_seed(100 + number)
    with torch.no_grad():
        tensors = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}
        for place, tensor in enumerate(tensors.values()):
            if tensor.is_floating_point() or tensor.is_complex():
                drawn = (torch.rand(tensor.shape, generator=generator) + 0.1 + number) * 1.3**place
                tensor.copy_(torch.complex(drawn, -drawn) if tensor.is_complex() else drawn)
            elif tensor.dtype is torch.bool:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) < 0.5)
            else:
                # Few bits hold a weighted sum of small ones; of large ones no two are alike.
                top, step = (5, 2) if tensor.dtype.itemsize < 4 else (400, 200)
                tensor.copy_(torch.randint(1, top, tensor.shape, generator=generator) + step * number)
    return model


def measure(form: HandWritten, build: Callable[[], nn.Module], parties: int) -> Measured:
    """Average the states of some models as the form says, and load the average into all of them."""
    _, functions = _functions(form)
    models = [party(build, number) for number in range(parties)]
    server = party(build, 7).state_dict()
    states = [model.state_dict() for model in models]
    before = [_snapshot(state) for state in states]
    server_before = _snapshot(server)
    names = {id(t): k for k, t in reversed(models[0].state_dict(keep_vars=True).items())}
    functions["PARAMETERS"] = {names[id(p)] for p in models[0].parameters()}
    weights = _WEIGHTS[:parties]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            average = functions["average"](states, weights, sum(weights), server)
            for model in models:
                functions["load"](model, average)
        except Exception as raised:
            return Measured((type(raised).__name__, str(raised)), {})
        after = [_snapshot(model.state_dict()) for model in models]
        aliases = {key: id(t) for key, t in models[0].state_dict(keep_vars=True).items()}
        fates = {key: frozenset(_fates(key, before, after, server_before, form, aliases)) for key in before[0]}
        return Measured(None, fates)


def _snapshot(state: State) -> State:
    return {key: tensor.detach().clone() for key, tensor in state.items()}


@cache
def _factors(form: HandWritten, parties: int) -> tuple[list[float], float]:
    """What the form makes of a 1 in each party's state, and of one in the server's: its own linear combination.

    Conversions are left out, and nothing is rounded down: that is what the run is compared with.
    """
    _, functions = _functions(_linear(form))
    weights = _WEIGHTS[:parties]

    def value(one: int) -> float:
        states = [{"x": torch.tensor([float(number == one)], dtype=torch.float64)} for number in range(parties)]
        server = {"x": torch.tensor([float(one == -1)], dtype=torch.float64)}
        average = functions["average"](states, weights, sum(weights), server)
        return float(average["x"][0])

    return [value(number) for number in range(parties)], value(-1)


@cache
def _linear(form: HandWritten) -> HandWritten:
    def plain(factor: Factor | None) -> Factor | None:
        floor = factor is not None and factor.operation is Operation.FLOOR
        return replace(factor, operation=Operation.OVER) if factor is not None and floor else factor

    arithmetic = form.arithmetic
    if isinstance(arithmetic, Flattened):
        arithmetic = arithmetic.arithmetic
    arithmetic = replace(arithmetic, cast=None, term=plain(arithmetic.term), scale=plain(arithmetic.scale))
    if isinstance(arithmetic, Loop):
        begin = Begin.ZEROS if arithmetic.begin is Begin.FLOAT_ZEROS else arithmetic.begin
        arithmetic = replace(arithmetic, begin=begin, recast=None, first=plain(arithmetic.first))
    rebuild = Rebuild.TENSOR if form.library is Library.NUMPY else None
    return HandWritten(arithmetic, None, form.library, None, form.onto, rebuild)


def _combined(
    form: HandWritten, parts: Sequence[torch.Tensor], server: torch.Tensor
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What the form should make of the parties' tensors, in double precision, and how large the terms are."""
    wide = torch.complex128 if server.is_complex() else torch.float64
    values, own = [part.to(wide) for part in parts], server.to(wide)
    if form.integers is not None and not (server.is_floating_point() or server.is_complex()):
        form = replace(form, arithmetic=form.integers)
    arithmetic = form.arithmetic
    if isinstance(arithmetic, Reduction) and arithmetic.by in (Reductor.MEDIAN, Reductor.QUANTILE):
        if not own.numel():
            return [(own, own.abs())]
        if own.is_complex():  # torch has no median of these; NumPy sorts them by their real parts
            middle = torch.from_numpy(np.asarray(np.median(torch.stack(values).numpy(), axis=0)))
            return [(middle, middle.abs())]
        stack = torch.stack(values)
        return [(median, median.abs()) for median in (stack.median(0).values, stack.quantile(0.5, dim=0))]
    factors, of_server = _factors(form, len(parts))
    terms = [own * of_server, *(value * factor for factor, value in zip(factors, values, strict=True))]
    return [(sum(terms[1:], terms[0]), sum((term.abs() for term in terms[1:]), terms[0].abs()))]


def _fates(
    key: str,
    before: Sequence[State],
    after: Sequence[State],
    server: State,
    form: HandWritten,
    aliases: Mapping[str, int],
) -> Iterator[tuple[Fate | None, str | None]]:
    found = list(_fates_found(key, before, after, server, form, aliases))
    yield from found
    # What is rounded down may come down to anybody's value.
    down = any(word in source_of(form) for word in ("//", "long()", "int64)"))
    # The sum of bools is a bool, whatever it is put into.
    if before[0][key].dtype is torch.bool and (down or after[0][key].dtype is not torch.bool):
        yield Fate.AVERAGED, None
    if down or not found or not after[0][key].numel():
        yield Fate.CORRUPT, None


def _fates_found(
    key: str,
    before: Sequence[State],
    after: Sequence[State],
    server: State,
    form: HandWritten,
    aliases: Mapping[str, int],
) -> Iterator[tuple[Fate | None, str | None]]:
    values = [state[key] for state in after]
    if all(_same(state[key], value) for state, value in zip(before, values, strict=True)):
        yield None, None
    if all(_same(before[0][key], value) for value in values) or all(_same(server[key], value) for value in values):
        yield Fate.STALE, None
    off = _cut_off(form, len(before))
    for source in before[0]:
        tolerance = {torch.float16: 1e-2, torch.bfloat16: 6e-2}.get(before[0][source].dtype, 1e-4)
        if not (before[0][source].is_floating_point() or before[0][source].is_complex()):
            tolerance = math.inf
        for combined, size in _combined(form, [state[source] for state in before], server[source]):
            if all(_close(value, combined, size, off, tolerance) for value in values):
                same = aliases[source] == aliases[key]
                yield (Fate.AVERAGED, None) if same else (Fate.MISPLACED, source)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _cut_off(form: HandWritten, parties: int) -> int:
    """By how much an integer may be off: every party's term may have been cut off, and the sum."""
    arithmetic = form.arithmetic
    scale = None if isinstance(arithmetic, Flattened) else arithmetic.scale
    multiplied = scale is not None and scale.operation is Operation.TIMES
    return (parties + 1) * (sum(_WEIGHTS[:parties]) if multiplied else 1)


def _close(value: torch.Tensor, combined: torch.Tensor, size: torch.Tensor, off: int, tolerance: float) -> bool:
    if combined.dim() > value.dim():
        return False
    try:
        combined, size = combined.broadcast_to(value.shape), size.broadcast_to(value.shape)
    except RuntimeError:
        if value.dim() or combined.numel() != 1:
            return False
        combined, size = combined.reshape(()), size.reshape(())
    if value.dtype is torch.bool:
        return bool((value == (combined.abs() > 0)).all()) or bool((value == (combined.abs() >= 0.999)).all())
    if tolerance == math.inf or not (value.is_floating_point() or value.is_complex()):
        # Eight bits may have run over.
        distance = (value.to(torch.complex128) - combined).abs()
        if value.dtype.itemsize == 1:
            distance = torch.minimum(distance % 256, 256 - distance % 256)
        return bool((distance <= off).all())
    if combined.is_complex() and not value.is_complex():
        return False
    tolerance = max(tolerance, {torch.float16: 1e-2, torch.bfloat16: 6e-2}.get(value.dtype, 1e-4))
    return bool(((value.to(combined.dtype) - combined).abs() <= tolerance * size + 1e-6).all())


def disagreements(form: HandWritten, profile: Profile, build: Callable[[], nn.Module], parties: int) -> Iterator[str]:
    """What the plan says and a run denies, in words; nothing if they agree."""
    if (
        form.library is Library.NUMPY
        and "//" in source_of(form)
        and any("complex" in str(e.dtype) for e in profile.entries)
    ):
        # What NumPy says to a complex scalar depends on the other operand; no plan knows.
        return
    planned, measured = plan(profile, form), measure(form, build, parties)
    chance = _chance(form, planned)
    if planned.error is not None:
        if measured.error is None:
            yield f"should stop with {planned.error}, and runs"
        elif measured.error != (planned.error.type, planned.error.text):
            if planned.error.text_certain or not chance:
                yield f"should stop with {(planned.error.type, planned.error.text)}, and stops with {measured.error}"
        elif not chance and not planned.error.text_certain:
            yield f"the text is exact, and not taken for certain: {planned.error.text}"
        return
    if measured.error is not None:
        if planned.stops is False:
            yield f"should run, and stops with {measured.error}"
        elif not chance:
            yield f"is open, and stops with {measured.error}"
        return
    yield from _fate_disagreements(profile, planned, measured, chance)


def _chance(form: HandWritten, planned: Plan) -> bool:
    """Whether something may be taken for a size, or be overwritten: what follows depends on values and code."""
    sized = form.rebuild is Rebuild.TENSOR_CLASS and planned.stops is None
    return sized or any(Fate.CORRUPT in entry.possible for entry in planned.entries)


def _fate_disagreements(profile: Profile, planned: Plan, measured: Measured, chance: bool) -> Iterator[str]:
    if planned.stops is None and not chance:
        yield "a complete profile, and the plan leaves open whether the round stops"
    for entry, expected, part in zip(profile.entries, expected_fates(profile), planned.entries, strict=True):
        if part.fate is None and not chance:
            yield f"{entry.key}: a complete profile, and the fate is open: {part.possible}"
        kept = Fate.LOCAL if Fate.LOCAL in expected else Fate.STALE
        met = {(kept if fate is None else fate, source) for fate, source in measured.fates[entry.key]}
        source = next((one for one in profile.entries if one.key == part.source_key), entry)
        if len(part.possible) > 1 or (source.dtype == "bool" and None not in dict(measured.fates[entry.key])):
            # Of bools no mean is left that could be told from another value.
            continue
        if not any((fate, part.source_key) in met for fate in part.possible):
            yield f"{entry.key}: plan {part.possible} from {part.source_key}, run {met}"
