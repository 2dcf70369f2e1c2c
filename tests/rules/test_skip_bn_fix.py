"""When ``skip_bn=True`` is a safe fix, when an unsafe one and when none: on models and settings made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from bn_audit.audit import Selection, Versions, audit
from bn_audit.finding import Applicability, Edit, Evidence, Finding, Fix, Location
from bn_audit.rules.case import FLModelCase, judge
from bn_audit.rules.skip_bn_fix import skip_bn_fix
from bn_audit.site import FLModelSite, SkipBnEdit
from tests.rules.sites import CALL, ModelBuilder, reading, site
from tests.rules.test_soundness import calls, models

EDIT = SkipBnEdit((Edit(25, 5, 25, 5, " skip_bn=True,"),))


def last() -> ModelBuilder:
    return ModelBuilder().linear("conv", 3, 8).linear("fc", 8, 10).norm("bn")


def middle() -> ModelBuilder:
    return ModelBuilder().linear("conv", 3, 8).norm("bn").linear("fc", 8, 10)


def nested() -> ModelBuilder:
    return ModelBuilder().linear("conv", 3, 8).norm("layer1.0.bn1").linear("fc", 8, 10)


def nested_and_last() -> ModelBuilder:
    return ModelBuilder().linear("conv", 3, 8).norm("layer1.0.bn1").linear("fc", 8, 10).norm("bn")


def open_end() -> ModelBuilder:
    return last().gap()


def plain() -> ModelBuilder:
    return ModelBuilder().linear("conv", 3, 8).linear("fc", 8, 10)


def findings(*sites: FLModelSite) -> tuple[Finding, ...]:
    found = audit(sites, [], Selection(("BNA101", "BNA102")), lambda path: Versions(torch="2.13.0"))
    return tuple(finding for finding in found if finding.location == CALL)


def fix(*sites: FLModelSite) -> Fix | None:
    """The fix of the one finding at the call."""
    (finding,) = findings(*sites)
    return finding.fix


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        (last, {}, "safe"),
        (last, {"aggregator": "plain"}, "safe"),
        (last, {"aggregator": None}, "safe"),
        (last, {"aggregator": "spu"}, "safe"),
        (last, {"skip_bn": False}, "safe"),
        # fc would never be synchronised, where training stops now, or where it is averaged now.
        (middle, {}, None),
        (middle, {"aggregator": "plain"}, None),
        (middle, {"aggregator": "spu"}, None),
        # It stops all the same.
        (nested, {}, None),
        (nested, {"aggregator": "plain"}, None),
        # All BatchNorms are averaged in silence, then one of them less.
        (nested_and_last, {"aggregator": "spu"}, "unsafe"),
        (nested_and_last, {"aggregator": "secure"}, None),
        # What is not known of the model may come after the BatchNorm.
        (open_end, {}, "unsafe"),
        # The strategy breaks with it.
        (last, {"strategy": "fed_prox", "aggregator": "plain"}, None),
        (last, {"strategy": "fed_avg_g", "aggregator": "plain"}, None),
    ],
)
def test_what_the_plan_allows(model: Any, given: dict[str, Any], expected: str | None) -> None:
    found = fix(site(reading(model(), **given), skip_bn_edit=EDIT))
    assert (None if found is None else found.applicability.value) == expected
    if found is not None:
        assert found.edits == EDIT.edits


def test_the_message_says_what_is_passed_and_why_it_is_unsafe() -> None:
    safe = fix(site(reading(last()), skip_bn_edit=EDIT))
    assert safe is not None and safe.message == "pass `skip_bn=True`"
    named = fix(site(reading(last()), skip_bn_edit=replace(EDIT, argument="fedbn=True")))
    assert named is not None and named.message == "pass `fedbn=True`"
    partly = fix(site(reading(nested_and_last(), aggregator="spu"), skip_bn_edit=EDIT))
    assert partly is not None
    assert partly.message == (
        "pass `skip_bn=True`, although even with it, running statistics, weight and bias of `layer1.0.bn1` "
        "are averaged over the parties"
    )
    unknown = fix(site(reading(open_end()), skip_bn_edit=EDIT))
    assert unknown is not None and "not all of the model is known" in unknown.message
    held = fix(site(reading(last(), skip_bn=False), skip_bn_edit=replace(EDIT, holder="options")))
    assert held is not None and held.message == "pass `skip_bn=True` by way of `options`"
    shared = fix(site(reading(last(), skip_bn=False), skip_bn_edit=replace(EDIT, holder="options", shared=True)))
    assert shared is not None and shared.applicability is Applicability.UNSAFE
    assert shared.message.endswith("although other files may read `options`")


def test_no_fix_without_an_edit() -> None:
    assert fix(site(reading(last()))) is None


def test_every_reading_must_be_right() -> None:
    both = site(reading(last()), reading(middle()), skip_bn_edit=EDIT)
    assert fix(both) is None
    right = site(reading(last()), reading(last(), aggregator="plain"), skip_bn_edit=EDIT)
    found = fix(right)
    assert found is not None and found.applicability is Applicability.SAFE


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (last, "safe"),
        (plain, "safe"),  # nothing to skip, nothing changes
        (nested, "unsafe"),  # it stops before and after
        (middle, None),
        (open_end, "unsafe"),
        (None, "unsafe"),  # a model that is not known
    ],
)
def test_all_that_a_helper_makes_is_judged(other: Any, expected: str | None) -> None:
    """An edit at the call of a helper reaches a second FLModel that the helper makes."""
    inner = Location("helpers.py", 3, 5, 3, 40)
    mine = site(reading(last()), call=inner, skip_bn_edit=EDIT)
    model = None if other is None else other()
    theirs = site(reading(model), call=replace(inner, line=4, end_line=4))
    # Two findings with one code and place are told as one, so that a scan shows one of these fixes.
    found = skip_bn_fix(FLModelCase(mine, fellows=(FLModelCase(theirs),)))
    assert (None if found is None else found.applicability.value) == expected


def test_a_call_on_the_way_counts_as_well() -> None:
    """The helper whose call is edited is called by another one, with a model that comes off badly."""
    theirs = site(
        reading(middle()),
        location=Location("other.py", 1, 1, 1, 9),
        call=Location("helpers.py", 3, 5, 3, 40),
        through=(Evidence(CALL, "called here"),),
    )
    assert fix(site(reading(last()), skip_bn_edit=EDIT), theirs) is None
    unknown = replace(theirs, readings=(reading(open_end()),))
    assert fix(site(reading(last()), skip_bn_edit=EDIT), unknown) is None
    elsewhere = replace(theirs, through=())
    assert fix(site(reading(last()), skip_bn_edit=EDIT), elsewhere) is not None


@settings(max_examples=200, deadline=None)
@given(models(), calls)
def test_a_safe_fix_is_one_after_which_the_plan_is_fedbns(model: ModelBuilder, call: dict[str, Any]) -> None:
    one = site(reading(model, **call), skip_bn_edit=EDIT)
    for finding in findings(one):
        passing = FLModelCase(one, torch="2.13.0").passing
        outcomes = [judge(way.profile, way.outcome.settings).comparison for way in passing]
        if finding.fix is None:
            assert not all(outcome.equal for outcome in outcomes)
        elif finding.fix.applicability is Applicability.SAFE:
            assert outcomes and all(outcome.equal for outcome in outcomes)
        else:
            # It is no step back: what goes wrong in silence afterwards went wrong in silence before.
            assert not all(outcome.equal for outcome in outcomes)
            before = FLModelCase(one, torch="2.13.0").possibilities
            for old, new in zip(before, outcomes, strict=True):
                stopped = old.outcome.comparison.stops
                assert new.stops or {d.key for d in new.differences} <= (
                    set() if stopped else {d.key for d in old.outcome.comparison.differences}
                )
