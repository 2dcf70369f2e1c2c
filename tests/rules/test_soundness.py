"""Whatever the model and the settings: a rule speaks where BatchNorm certainly makes it go wrong, and only there."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bn_audit.rules.case import FLModelCase
from tests.rules.sites import ModelBuilder, codes, reading, site

HAZARDS = {"BNA101", "BNA102", "BNA103", "BNA104", "BNA105"}


@st.composite
def models(draw: st.DrawFn) -> ModelBuilder:
    """Linear and norm layers in any order, at the top and below, a buffer and a gap at times."""
    model = ModelBuilder()
    for number in range(draw(st.integers(1, 6))):
        path = draw(st.sampled_from(["layer", "block.0.layer"])) + str(number)
        kind = draw(st.sampled_from(["linear", "linear", "batch", "batch", "instance", "buffer", "gap"]))
        if kind == "linear":
            model.linear(path, 8, 8)
        elif kind == "batch":
            model.norm(path, tracked=draw(st.booleans()), affine=draw(st.booleans()))
        elif kind == "instance":
            model.norm(path, type="InstanceNorm2d", batchnorm=False, family="instance", tracked=draw(st.booleans()))
        elif kind == "buffer":
            model.buffer(
                f"buffer{number}", draw(st.sampled_from([(), (4,)])), draw(st.sampled_from(["int64", "float32"]))
            )
        elif draw(st.integers(0, 3)) == 0:
            model.gap(may_hold_norm=draw(st.booleans()))
    return model


calls = st.fixed_dictionaries(
    {
        "aggregator": st.sampled_from(["plain", "secure", "spu", "sparse", "server_agg_method", "none", None]),
        "skip_bn": st.sampled_from([False, True, None]),
        "strategy": st.sampled_from(
            ["fed_avg_w", "fed_prox", "fed_stc", "fed_avg_g", "scaffold", "moon", "mine", None]
        ),
    }
)


@settings(max_examples=250, deadline=None)
@given(models(), calls)
def test_rules_say_what_the_plan_says(model: ModelBuilder, call: dict[str, Any]) -> None:
    one = reading(model, **call)
    found = HAZARDS.intersection(codes(one))
    ways = FLModelCase(site(one), torch="2.13.0").possibilities
    wrong = bool(ways) and all(way.outcome.comparison.equal is False for way in ways)
    clean_without = bool(ways) and all(way.outcome.baseline.equal for way in ways)
    if found:
        assert wrong
    if wrong and clean_without and any(norm.batchnorm and (norm.tracked or norm.affine) for norm in model.norms):
        assert found
    # One hazard is one finding: two only where BatchNorm's entries and others go wrong, each in its way.
    assert len(found) <= 1 or found == {"BNA103", "BNA104"}
    # A rule about a value of skip_bn speaks only if the call may have it.
    if call["skip_bn"] is not True:
        assert not found or call["skip_bn"] is None or found <= {"BNA101", "BNA102"}
    else:
        assert found <= {"BNA103", "BNA104", "BNA105"}


@settings(max_examples=100, deadline=None)
@given(models(), calls)
def test_what_is_less_known_is_not_more_blamed(model: ModelBuilder, call: dict[str, Any]) -> None:
    """Not to know the aggregator or skip_bn never makes a rule speak that one of the possibilities refutes."""
    vague = {**call, "aggregator": None, "skip_bn": None}
    if HAZARDS.isdisjoint(codes(reading(model, **vague))):
        return
    for aggregator in ("plain", "secure"):
        for skip_bn in (False, True):
            exact = FLModelCase(site(reading(model, **{**call, "aggregator": aggregator, "skip_bn": skip_bn})))
            assert all(way.outcome.comparison.equal is not True for way in exact.possibilities)
