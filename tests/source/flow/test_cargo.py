"""What a value carries of a model's state: arrays that are given keys by their place."""

from __future__ import annotations

from bn_audit.filters import EVERYTHING, All, Any, Contains, IsParameter, Starts, Unclear
from bn_audit.source.flow.cargo import UNKNOWN, Cargo, Part, by_position, taken

ARRAYS = Cargo("list", (Part("message"),))
BODY = Part("model", Starts(("body",)))
HEAD = Part("model", Starts(("head",)))
MAYBE = Part("model", All((Starts(("head",)), Unclear("?"))))


def _named(*parts: Part) -> Cargo:
    return by_position(Cargo("keys", parts), ARRAYS, EVERYTHING, None)


def test_keys_of_one_kind_pick_what_they_pick() -> None:
    found = _named(BODY)
    assert taken(found, "message") == BODY.covers
    assert found.parts[0].keys == BODY


def test_keys_in_a_row_pick_what_any_of_them_picks() -> None:
    assert taken(_named(BODY, HEAD), "message") == Any((BODY.covers, HEAD.covers))


def test_behind_keys_that_may_be_missing_nothing_is_known_of_places() -> None:
    unsure = All((BODY.covers, Unclear("?")))
    assert taken(_named(BODY, MAYBE), "message") == Any((BODY.covers, MAYBE.covers))
    assert taken(_named(MAYBE, BODY), "message") == Any((MAYBE.covers, unsure))


def test_a_condition_on_the_pairs_holds_for_all_keys() -> None:
    test = Contains("weight")
    found = by_position(Cargo("keys", (BODY, HEAD)), ARRAYS, test, None)
    assert taken(found, "message") == All((Any((BODY.covers, HEAD.covers)), test))


def test_keys_of_a_state_among_those_of_parameters_are_keys_of_a_state() -> None:
    parameters = Part("model", IsParameter(), "parameters")
    assert _named(parameters, BODY).parts[0].what == "state"
    assert _named(parameters, parameters).parts[0].what == "parameters"


def test_what_is_no_row_of_keys_of_one_model_is_not_known() -> None:
    assert _named() == UNKNOWN
    assert _named(BODY, Part("message")) == UNKNOWN
    assert _named(BODY, Part("model", models=(object(),))) == UNKNOWN  # type: ignore[arg-type]
    assert by_position(Cargo("keys", (BODY,)), Cargo("list", (BODY, HEAD)), EVERYTHING, None) == UNKNOWN
