"""A plan executed on tensors, and its fates read off them again."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from bn_audit.exchange.plan import EntryPlan, Fate  # noqa: E402
from bn_audit.live.errors import TargetError  # noqa: E402
from bn_audit.live.execute import Exchange, close, execute, outcomes, party_states, training_steps  # noqa: E402
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


def test_nan_is_close_to_nan_alone() -> None:
    nan, one = torch.tensor([float("nan")]), torch.tensor([1.0])
    assert close(nan, nan, torch.float32)
    assert not close(nan, one, torch.float32)
