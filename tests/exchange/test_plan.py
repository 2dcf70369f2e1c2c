"""Comparing and merging plans, on plans written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bn_audit.exchange.plan import ANY, EntryPlan, Fate, Plan, PlanError, compare, merge
from bn_audit.profile import NormLayer, Profile, StateEntry


def entry(key: str, *fates: Fate, source: str | None = None) -> EntryPlan:
    return EntryPlan(key, frozenset(fates), source)


EXPECTATION = Plan((entry("bn.weight", Fate.LOCAL), entry("fc.weight", Fate.AVERAGED)))


def test_a_plan_that_does_all_that_is_expected_is_equal() -> None:
    made = compare(EXPECTATION, EXPECTATION)
    assert made.equal is True
    assert made.differences == ()
    assert made.open == ()


def test_a_fate_that_cannot_be_the_expected_one_differs_whichever_it_is() -> None:
    plan = Plan((entry("bn.weight", Fate.LOCAL), entry("fc.weight", Fate.STALE, Fate.MISPLACED)))
    made = compare(EXPECTATION, plan)
    assert made.equal is False
    (difference,) = made.differences
    assert (difference.key, difference.expected, difference.fate) == ("fc.weight", Fate.AVERAGED, None)
    assert made.by_fate(Fate.STALE) == ()


def test_a_fate_that_may_be_the_expected_one_is_left_open() -> None:
    made = compare(
        EXPECTATION, Plan((entry("bn.weight", Fate.LOCAL, Fate.AVERAGED), entry("fc.weight", Fate.AVERAGED)))
    )
    assert made.equal is None
    assert made.open == ("bn.weight",)


@pytest.mark.parametrize(
    "plan",
    [
        Plan(EXPECTATION.entries, stops=True, error=PlanError("ValueError", "no")),
        Plan(EXPECTATION.entries, drifts=True),
    ],
)
def test_a_stop_and_a_drift_are_differences_of_the_whole(plan: Plan) -> None:
    assert compare(EXPECTATION, plan).equal is False
    assert compare(EXPECTATION, plan).differences == ()


@pytest.mark.parametrize(
    "plan",
    [
        Plan(EXPECTATION.entries, stops=None),
        Plan(EXPECTATION.entries, drifts=None),
        Plan(EXPECTATION.entries, complete=False),
    ],
)
def test_what_may_stop_drift_or_hold_more_is_never_called_equal(plan: Plan) -> None:
    assert compare(EXPECTATION, plan).equal is None


def test_plans_of_different_profiles_are_refused() -> None:
    with pytest.raises(ValueError, match="different profiles"):
        compare(EXPECTATION, Plan(EXPECTATION.entries[:1]))


def test_merging_keeps_what_all_alternatives_say() -> None:
    error = PlanError("AssertionError", "got int64 float32", key="bn.weight")
    stopping = Plan((entry("bn.weight", Fate.FAILS), entry("fc.weight", Fate.AVERAGED)), True, error)
    running = Plan((entry("bn.weight", Fate.LOCAL), entry("fc.weight", Fate.AVERAGED)), notes=("slow",))
    made = merge([stopping, running])
    assert made.stops is None
    assert made.error is None
    assert [part.fate for part in made.entries] == [Fate.LOCAL, Fate.AVERAGED]
    assert made.notes == ("slow",)


def test_merging_two_stops_with_different_texts_leaves_the_text_open() -> None:
    plans = [
        Plan((), True, PlanError("IndexError", text), settings=(("torch", text), ("backend", "torch"))) for text in "ab"
    ]
    made = merge(plans)
    assert made.error == PlanError("IndexError", "a", text_certain=False)
    assert made.settings == (("backend", "torch"),)


def test_merging_sources_that_differ_names_none() -> None:
    made = merge(Plan((entry("a", Fate.MISPLACED, source=source),)) for source in ("b", "c"))
    assert made.entries == (entry("a", Fate.MISPLACED),)


def test_merging_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        merge([])


def test_a_plan_is_certain_only_without_a_doubt() -> None:
    assert EXPECTATION.certain
    assert not Plan((EntryPlan("a", ANY),)).certain
    assert not Plan((), stops=None).certain
    assert not Plan((), True, PlanError("E", "t", text_certain=False)).certain
    assert Plan((), True, PlanError("E", "t")).certain


def test_equal_profiles_have_one_hash() -> None:
    """It does not go through the entries, so it has to be seen that it agrees with what is equal."""
    entries = [StateEntry(f"{number}.weight", (2,), "float32", "parameter", str(number)) for number in range(3)]
    norms = (NormLayer("1", "BatchNorm1d"),)
    profile = Profile(tuple(entries), norms, type="Net")
    assert hash(profile) == hash(Profile((*entries,), (NormLayer("1", "BatchNorm1d"),), type="Net"))
    others = [Profile(tuple(entries[:2]), norms, type="Net"), Profile(tuple(entries), norms, type="Other"), Profile(())]
    assert len({profile, *others}) == 4
    # Those that differ in the middle alone share a hash, and are told apart all the same.
    middle = Profile((entries[0], replace(entries[1], dtype="float16"), entries[2]), norms, type="Net")
    assert len({profile, middle}) == 2
