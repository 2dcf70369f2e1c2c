"""What the plan of a form says of half a profile holds for every model the profile may be of."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import HealthCheck, assume, event, given, settings

from bn_audit.exchange.fedbn import expectation
from bn_audit.exchange.handwritten import plan
from bn_audit.exchange.plan import Fate, Plan, compare
from bn_audit.handwritten import Add, Begin, HandWritten, Loop, Rest
from bn_audit.loading import Covers
from bn_audit.profile import Profile, StateEntry
from tests.exchange.handwritten.forms import drawn, pairwise
from tests.exchange.test_partial import abstractions, complete_profiles

_FORMS = [*drawn(400, seed=2), *pairwise()[::40]]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_what_is_certain_of_a_part_holds_for_the_whole(data: st.DataObject) -> None:
    whole = data.draw(complete_profiles())
    assume(whole.framework == "torch")
    part = data.draw(abstractions(whole))
    form = data.draw(st.sampled_from(_FORMS))
    assert_weaker(plan(part, form), plan(whole, form))
    of_part, of_whole = compare(expectation(part), plan(part, form)), compare(expectation(whole), plan(whole, form))
    if of_part.equal is not None:
        event(f"equal is known: {of_part.equal}")
        assert of_whole.equal is of_part.equal


def assert_weaker(vague: Plan, exact: Plan) -> None:
    """Everything the first plan states, the second states too."""
    if vague.stops is not None:
        assert exact.stops is vague.stops
    if vague.error is not None and vague.error.text_certain:
        event("the text is certain")
        assert exact.error == vague.error
    if exact.stops:
        return
    for entry in vague.entries:
        actual = exact.entry(entry.key)
        assert actual is not None
        assert actual.possible <= entry.possible, entry.key
        if entry.source_key is not None and actual.possible == {Fate.MISPLACED}:
            assert actual.source_key == entry.source_key


def test_an_entry_that_may_be_left_out_may_be_stale() -> None:
    """It shares its tensor with none but itself, so that no sum is made in it if it is left out."""
    entry = StateEntry("steps", None, None, "buffer", "")
    form = HandWritten(
        Loop(Begin.COPY, add=Add.IN_PLACE), onto=Add.IN_PLACE, covers=Covers(floating=True), rest=Rest.FIRST
    )
    (found,) = plan(Profile((entry,), (), framework="torch"), form).entries
    assert Fate.STALE in found.possible
    (exact,) = plan(Profile((StateEntry("steps", (), "int64", "buffer", ""),), (), framework="torch"), form).entries
    assert exact.possible == {Fate.STALE}
