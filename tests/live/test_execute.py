"""A plan executed on tensors, and its fates read off them again."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from bn_audit.exchange.plan import EntryPlan, Fate  # noqa: E402
from bn_audit.live.errors import TargetError  # noqa: E402
from bn_audit.live.execute import (  # noqa: E402
    Exchange,
    Rounding,
    _alike,
    _Nearby,
    execute,
    outcomes,
    party_states,
    training_steps,
    within,
)
from bn_audit.profile import Profile, StateEntry  # noqa: E402


def _entry(key: str, shape: tuple[int, ...] = (3,), dtype: str = "float32", **rest: object) -> StateEntry:
    return StateEntry(key, shape, dtype, "parameter", key.rpartition(".")[0], **rest)  # type: ignore[arg-type]


def _plan(key: str, *fates: Fate, source: str | None = None) -> EntryPlan:
    return EntryPlan(key, frozenset(fates), source)


FOUR = Profile(tuple(_entry(key) for key in "abcd"))
PLANS = (
    _plan("a", Fate.AVERAGED),
    _plan("b", Fate.LOCAL),
    _plan("c", Fate.MISPLACED, source="d"),
    _plan("d", Fate.CORRUPT),
)


def _exchange(profile: Profile, weights: tuple[float, ...] = (1.0, 2.0, 5.0)) -> Exchange:
    states = party_states(profile, len(weights))
    return Exchange(states, states, weights, states)


def test_every_fate_moves_its_tensor() -> None:
    exchange = _exchange(FOUR)
    after = execute(FOUR, PLANS, exchange)
    for party, state in enumerate(after):
        for key, source in (("a", "a"), ("c", "d")):
            mean = sum(s[source] * w for s, w in zip(exchange.before, (1, 2, 5), strict=True)) / 8
            torch.testing.assert_close(state[key], mean)
        assert torch.equal(state["b"], exchange.before[party]["b"])
        assert all(not torch.equal(state["d"], other["d"]) for other in exchange.before)


def test_the_fates_are_read_off_the_tensors() -> None:
    exchange = _exchange(FOUR)
    found = outcomes(FOUR, exchange, execute(FOUR, PLANS, exchange))
    assert found == {
        "a": {(Fate.AVERAGED, None)},
        "b": {(None, None)},
        "c": {(Fate.MISPLACED, "d")},
        "d": {(Fate.CORRUPT, None)},
    }


def test_one_party_that_got_something_else_is_nobodys_value() -> None:
    exchange = _exchange(FOUR)
    after = [dict(state) for state in execute(FOUR, PLANS, exchange)]
    after[2]["a"] = after[2]["a"] + 0.01
    assert outcomes(FOUR, exchange, after)["a"] == {(Fate.CORRUPT, None)}


def test_updates_land_on_what_a_party_began_with() -> None:
    states, steps = party_states(FOUR, 2), training_steps(FOUR, 2, 1)
    exchange = Exchange(states, steps, (1.0, 3.0), states, offset=states)
    after = execute(FOUR, (_plan("a", Fate.AVERAGED), *PLANS[1:]), exchange)
    for party in range(2):
        torch.testing.assert_close(
            after[party]["a"], states[party]["a"] + (steps[0]["a"] + 3 * steps[1]["a"]) / 4, rtol=1e-6, atol=1e-6
        )
    assert outcomes(FOUR, exchange, after)["c"] == {(Fate.MISPLACED, "d")}


def test_an_open_fate_keeps_the_value_and_a_failing_one_has_none() -> None:
    exchange = _exchange(FOUR)
    after = execute(FOUR, (_plan("a", Fate.AVERAGED, Fate.STALE), *PLANS[1:]), exchange)
    assert torch.equal(after[0]["a"], exchange.before[0]["a"])
    with pytest.raises(ValueError, match="stops at a"):
        execute(FOUR, (_plan("a", Fate.FAILS), *PLANS[1:]), exchange)


def test_keys_of_one_tensor_stay_one_tensor() -> None:
    profile = Profile((_entry("a"), _entry("b", alias_of="a")))
    exchange = _exchange(profile)
    assert exchange.before[0]["a"] is exchange.before[0]["b"]
    after = execute(profile, (_plan("a", Fate.AVERAGED), _plan("b", Fate.AVERAGED)), exchange)
    assert after[0]["a"] is after[0]["b"]
    assert outcomes(profile, exchange, after)["b"] == {(Fate.AVERAGED, None)}


def test_parties_differ_and_runs_do_not() -> None:
    first, second = party_states(FOUR, 2), party_states(FOUR, 2)
    assert all(torch.equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in a)
    assert not torch.equal(first[0]["a"], first[1]["a"])
    assert not torch.equal(first[0]["a"], first[0]["b"])
    assert not torch.equal(first[0]["a"], party_states(FOUR, 2, seed=1)[0]["a"])


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "float8_e4m3fn", "complex64"])
def test_dtypes_are_kept_and_recognised(dtype: str) -> None:
    profile = Profile((_entry("a", (40,), dtype), _entry("b", (40,), dtype)))
    exchange = _exchange(profile)
    after = execute(profile, (_plan("a", Fate.AVERAGED), _plan("b", Fate.MISPLACED, source="a")), exchange)
    assert after[0]["a"].dtype is getattr(torch, dtype)
    found = outcomes(profile, exchange, after)
    assert found["a"] == {(Fate.AVERAGED, None)}
    assert found["b"] == {(Fate.MISPLACED, "a")}


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_constants_are_the_same_in_all_parties(dtype: str) -> None:
    profile = Profile((_entry("a", (20,), dtype), _entry("n", (), "int64", value=7)))
    states = party_states(profile, 3)
    assert all(torch.equal(state["a"], states[0]["a"]) for state in states)
    assert int(states[0]["n"]) == 7
    exchange = Exchange(states, states, (1.0, 2.0, 5.0), states)
    after = execute(profile, (_plan("a", Fate.AVERAGED), _plan("n", Fate.LOCAL)), exchange)
    assert torch.equal(after[0]["a"], states[0]["a"])


@settings(max_examples=50, deadline=None)
@given(value=st.integers(-(10**9), 10**9), weights=st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_the_mean_of_an_integer_is_that_integer(value: int, weights: list[int]) -> None:
    states = [{"a": torch.tensor([value])} for _ in weights]
    exchange = Exchange(states, states, [float(weight) for weight in weights], states)
    profile = Profile((_entry("a", (1,), "int64"),))
    assert int(execute(profile, (_plan("a", Fate.AVERAGED),), exchange)[0]["a"]) == value


def test_a_vector_lands_in_a_scalar() -> None:
    profile = Profile((_entry("s", ()), _entry("v", (1,))))
    exchange = _exchange(profile)
    after = execute(profile, (_plan("s", Fate.MISPLACED, source="v"), _plan("v", Fate.STALE)), exchange)
    assert after[0]["s"].shape == ()
    assert outcomes(profile, exchange, after)["s"] == {(Fate.MISPLACED, "v")}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (StateEntry("lazy.weight", None, "float32", "parameter", "lazy"), "run one forward"),
        (StateEntry("q", (2,), "qint8", "buffer", ""), "cannot be averaged"),
        (StateEntry("q", (2,), "nonsense", "buffer", ""), "cannot be averaged"),
    ],
)
def test_state_without_values_is_refused(entry: StateEntry, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        party_states(Profile((entry,)), 2)


# What is rounding, and what is not.

_REAL = Rounding(operations=12, unit=2.0**-24)


def _given(parts: list[torch.Tensor], weights: list[float], rounding: Rounding) -> Exchange:
    states = [{"a": part} for part in parts]
    return Exchange(states, states, weights, states, rounding=rounding)


def _holds(value: torch.Tensor, exchange: Exchange) -> bool:
    return within(
        value,
        exchange.mean("a"),
        lambda size: exchange.magnitude(0, "a", exchange.payload[0]["a"].numel() if size is None else size),
        exchange,
    )


_NUMBERS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@given(st.lists(st.tuples(_NUMBERS, _NUMBERS, _NUMBERS), min_size=1, max_size=8), st.permutations([0, 1, 2]))
def test_a_mean_in_single_precision_is_rounding_in_any_order(rows: list[tuple[float, ...]], order: list[int]) -> None:
    parts, weights = list(torch.tensor(rows, dtype=torch.float32).T), [8.0, 12.0, 16.0]
    exchange = _given(parts, weights, _REAL)
    total = torch.zeros(len(rows))
    for party in order:
        total = total + parts[party] * torch.tensor(weights[party] / 36)
    assert _holds(total, exchange)
    # The same, a few bounds further off, is none: no drift hides behind what cancels out.
    bound = exchange.magnitude(0, "a") * _REAL.relative(torch.float32)
    drifted = (exchange.mean("a") + 3 * bound + 1e-40).float()
    assert not _holds(drifted, exchange) or bool((drifted.double() == exchange.mean("a")).all())


def test_one_element_that_is_off_is_enough() -> None:
    exchange = _exchange(Profile((StateEntry("a", (1000,), "float32", "parameter", ""),)))
    exact = exchange.mean("a").float()
    assert _holds(exact, exchange)
    exact[-1] += 2e-6
    assert not _holds(exact, replace(exchange, rounding=_REAL))


@given(st.lists(st.tuples(_NUMBERS, _NUMBERS), min_size=1, max_size=8))
def test_fixed_point_cuts_off_what_its_grid_allows(rows: list[tuple[float, ...]]) -> None:
    parts, weights = list(torch.tensor(rows, dtype=torch.float64).T), [2.0, 3.0]
    cut = [(part * weight * 2**18).to(torch.int64) for part, weight in zip(parts, weights, strict=True)]
    mean = (sum(cut) / 2**18 / 5).float()  # type: ignore[operator, union-attr]
    assert _holds(mean, _given(parts, weights, replace(_REAL, grid=2.0**-18)))


def test_fixed_point_is_not_rounding_where_there_is_none() -> None:
    parts = [torch.full((2,), 0.1), torch.full((2,), 0.7)]
    cut = sum((part.double() * 2**18).to(torch.int64) for part in parts)
    mean = (cut / 2**19).float()  # type: ignore[operator]
    assert _holds(mean, _given(parts, [1.0, 1.0], replace(_REAL, grid=2.0**-18)))
    assert not _holds(mean, _given(parts, [1.0, 1.0], _REAL))


@pytest.mark.parametrize(
    ("values", "held", "good"),
    [
        ((7, 7), 7, True),
        ((7, 7), 6, True),
        ((7, 7), 8, False),
        ((4, 5), 4, True),
        ((4, 5), 5, False),
        ((7, 7), 5, False),
    ],
)
def test_an_integer_is_what_is_left_of_a_number_on_either_side(values: tuple[int, int], held: int, good: bool) -> None:
    exchange = _given([torch.tensor([value]) for value in values], [1.0, 1.0], _REAL)
    assert _holds(torch.tensor([held]), exchange) is good


def test_nan_and_infinities_are_themselves_alone() -> None:
    *odd, one = (torch.tensor([float(word)]) for word in ("nan", "inf", "-inf", "1"))
    for part in odd:
        exchange = _given([part, one], [1.0, 1.0], _REAL)
        assert _holds(part, exchange)
        assert not any(_holds(other, exchange) for other in (*odd, one) if other is not part)
    finite = _given([one, one], [1.0, 1.0], _REAL)
    assert not any(_holds(value, finite) for value in odd)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.float64])
def test_every_dtype_is_judged_in_its_own_precision(dtype: torch.dtype) -> None:
    parts = [torch.linspace(0.3, 2, 64).to(dtype), torch.linspace(0.5, 1, 64).to(dtype)]
    exchange = _given(parts, [1.0, 3.0], Rounding())
    mean = exchange.mean("a")
    assert _holds(mean.to(dtype), exchange)
    step = 2 * max(torch.finfo(dtype).eps, 1e-15)
    assert not _holds((mean * (1 + step)).to(dtype), exchange)


_VALUES = st.sampled_from([0.0, 1.0, 1.0 + 2**-23, 2.0, -2.0, 3.5, 1e30, math.inf, -math.inf, math.nan])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(_VALUES, _VALUES), min_size=3, max_size=8),
    st.permutations(range(8)),
    st.sampled_from(["float32", "float16", "int64", "bool", "complex64"]),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([(), (1,), (2,)]),
)
def test_what_comes_near_is_all_that_may_be_alike(
    rows: list[tuple[float, float]], order: list[int], dtype: str, grid: float, shape: tuple[int, ...]
) -> None:
    """What is left out without being looked at is nothing that would have been found."""
    wanted = getattr(torch, dtype)
    if not (wanted.is_floating_point or wanted.is_complex):
        rows = [tuple(value if math.isfinite(value) and value < 1e9 else 7.0 for value in row) for row in rows]  # type: ignore[misc]
    profile = Profile(tuple(_entry(f"k{number}", shape, dtype) for number in range(len(rows))))
    states = [
        {f"k{number}": torch.full(shape, row[party]).to(wanted) for number, row in enumerate(rows)} for party in (0, 1)
    ]
    exchange = Exchange(states, states, (1.0, 3.0), states, rounding=Rounding(grid=grid))
    mixed = [index for index in order if index < len(rows)]
    plans = [
        _plan(f"k{number}", Fate.MISPLACED, source=f"k{source}")
        if source != number
        else _plan(f"k{number}", Fate.AVERAGED)
        for number, source in enumerate(mixed)
    ]
    after = execute(profile, plans, exchange)
    found = outcomes(profile, exchange, after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Nearby, "of", lambda self, *_: self._all)
        assert outcomes(profile, exchange, after) == found


def test_entries_of_one_shape_are_not_all_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    def count(*arguments: Any) -> bool:
        nonlocal compared
        compared += 1
        return _alike(*arguments)

    monkeypatch.setattr("bn_audit.live.execute._alike", count)
    profile = Profile(tuple(_entry(f"k{number}") for number in range(1000)))
    exchange = _exchange(profile)
    found = outcomes(
        profile, exchange, execute(profile, [_plan(e.key, Fate.AVERAGED) for e in profile.entries], exchange)
    )
    assert all((Fate.AVERAGED, None) in one for one in found.values())
    assert compared < 3000
