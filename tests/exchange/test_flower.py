"""What Flower does to a model with BatchNorm, in words; tests/flower lays the plan beside Flower's own classes."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, event, given, settings

from bn_audit.exchange.fedbn import expectation
from bn_audit.exchange.flower import ALIKE, STRATEGIES, FlowerSettings, named, plan
from bn_audit.exchange.keep import Keep
from bn_audit.exchange.plan import Fate, compare
from bn_audit.handwritten import Rebuild
from bn_audit.loading import Covers, How
from bn_audit.profile import Profile
from tests.exchange.build import batchnorm, buffer, gap, layer, parameter, profile
from tests.exchange.handwritten.test_partial import assert_weaker
from tests.exchange.test_partial import abstractions, complete_profiles

_NET = profile(layer("conv", (3, 1, 3, 3), (3,)), batchnorm("bn", 3), layer("fc", (2, 3), (2,)))
_BN = frozenset(entry.key for entry in _NET.entries if entry.module == "bn")


@pytest.mark.parametrize("api", ["numpy", "message"])
def test_fedavg_shares_batchnorm_and_says_nothing(api: str) -> None:
    made = plan(_NET, FlowerSettings("numpy" if api == "numpy" else "message"))
    assert made.stops is False
    shared = [one.key for one in compare(expectation(_NET), made).differences]
    assert shared == [entry.key for entry in _NET.entries if entry.module == "bn"]


def test_fedavg_in_place_makes_zeros_of_integers() -> None:
    model = profile(layer("fc", (2, 3), (2,)), buffer("position_ids", (4,), "int64"))
    made = plan(model, FlowerSettings())
    assert made.entry("position_ids").fate is Fate.CORRUPT  # type: ignore[union-attr]
    assert any("becomes 0" in note for note in made.notes)
    for other in (
        FlowerSettings(in_place=False),
        FlowerSettings("message"),
        FlowerSettings(flwr_version="1.11.1"),
        FlowerSettings(strategy="fedavgm"),
    ):
        assert plan(model, other).entry("position_ids").fate is Fate.AVERAGED  # type: ignore[union-attr]


def test_a_counter_is_a_size_to_torch_tensor() -> None:
    made = plan(_NET, FlowerSettings(rebuild=Rebuild.TENSOR_CLASS))
    assert made.error is not None
    assert made.error.text == (
        "Error(s) in loading state_dict for Net:\n\tsize mismatch for bn.num_batches_tracked: copying a param with "
        "shape torch.Size([0]) from checkpoint, the shape in current model is torch.Size([])."
    )
    assert (made.error.round, made.error.text_certain) == (0, True)
    one = profile(batchnorm("bn", 3, counter=1))
    assert plan(one, FlowerSettings(rebuild=Rebuild.TENSOR_CLASS)).stops is True
    assert plan(one, FlowerSettings(rebuild=Rebuild.TENSOR_CLASS, in_place=False)).stops is None


def test_fedbn_as_in_the_baseline() -> None:
    keeps = Covers(without=named(_NET, "bn"))
    made = plan(_NET, FlowerSettings(sends=keeps, load=How.LENIENT))
    assert compare(expectation(_NET), made).equal is True
    strict = plan(_NET, FlowerSettings(sends=keeps))
    assert strict.error is not None
    assert "Missing key(s)" in strict.error.text
    message = plan(_NET, FlowerSettings("message", sends=keeps, load=How.LENIENT))
    assert compare(expectation(_NET), message).equal is True


def test_a_name_that_misses_batchnorm() -> None:
    model = profile(layer("conv", (3, 1, 3, 3), (3,)), batchnorm("downsample.1", 3))
    keeps = Covers(without=named(model, "bn"))
    made = plan(model, FlowerSettings(sends=keeps, load=How.LENIENT))
    assert compare(expectation(model), made).equal is False


def test_a_filter_on_one_side_misaligns() -> None:
    model = profile(layer("a", (3,), (3,)), batchnorm("bn", 3), layer("b", (3,), (3,)))
    made = plan(model, FlowerSettings(sends=Covers(without=named(model, "bn")), takes=Covers(), load=How.LENIENT))
    met = {entry.key: (entry.fate, entry.source_key) for entry in made.entries}
    assert met["bn.weight"] == (Fate.MISPLACED, "b.weight")
    assert met["b.weight"] == (Fate.STALE, None)
    # By key nothing is misplaced.
    message = plan(
        model, FlowerSettings("message", sends=Covers(without=named(model, "bn")), takes=Covers(), load=How.LENIENT)
    )
    assert compare(expectation(model), message).equal is True


def test_bfloat16_is_refused() -> None:
    model = profile(parameter("w", (3,), "bfloat16"))
    for api in (FlowerSettings(), FlowerSettings("message")):
        error = plan(model, api).error
        assert error is not None
        assert (error.type, error.text, error.round) == ("TypeError", "Got unsupported ScalarType BFloat16", 0)


def test_adam_and_bools() -> None:
    model = profile(parameter("w", (3,)), buffer("mask", (3,), "bool"))
    error = plan(model, FlowerSettings(strategy="fedadam")).error
    assert error is not None
    assert error.text.startswith("numpy boolean subtract")
    assert plan(model, FlowerSettings("message", "fedadam")).stops is False


def test_a_server_step_moves_statistics() -> None:
    notes = plan(_NET, FlowerSettings(strategy="fedadam")).notes
    assert any("a variance may become negative" in note for note in notes)
    kept = FlowerSettings(strategy="fedadam", sends=Covers(without=_BN), load=How.LENIENT)
    assert not any("variance" in note for note in plan(_NET, kept).notes)


def test_a_strategy_that_is_not_known() -> None:
    made = plan(_NET, FlowerSettings(strategy="mine"))
    assert made.stops is None
    assert not made.certain


def test_settings_that_are_not_known() -> None:
    made = plan(_NET, FlowerSettings(in_place=None, load=None))
    assert made.stops is False
    assert made.entry("bn.num_batches_tracked").possible == {  # type: ignore[union-attr]
        Fate.AVERAGED,
        Fate.CORRUPT,
    }
    kept = FlowerSettings(sends=Covers(without=_BN), load=None)
    assert plan(_NET, kept).stops is None


def test_a_gap_leaves_certain_what_travels_by_key() -> None:
    part = profile(layer("stem", (3, 1, 3, 3), (3,)), gap("body"), batchnorm("bn", 3))
    made = plan(part, FlowerSettings("message"))
    assert made.entry("bn.running_mean").fate is Fate.AVERAGED  # type: ignore[union-attr]
    assert made.stops is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(complete_profiles(), st.booleans(), st.sampled_from([Keep(), Keep(norms=True)]))
def test_strategies_that_are_told_together_are_alike(whole: Profile, message: bool, keeps: Keep) -> None:
    assert sorted(name for group in ALIKE for name in group) == sorted(STRATEGIES)
    app = FlowerSettings("message" if message else "numpy", keeps=keeps, load=How.LENIENT)
    for first, *others in ALIKE:
        for other in others:
            one, two = (plan(whole, replace(app, strategy=name)) for name in (first, other))
            assert (one.entries, one.stops, one.error) == (two.entries, two.stops, two.error)


def _covers(whole: Profile) -> list[Covers]:
    return [
        Covers(),
        Covers(parameters=True),
        Covers(floating=True),
        Covers(without=named(whole, "m1")),
        Covers(without=named(whole, "num_batches", "extra")),
    ]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_what_is_certain_of_a_part_holds_for_the_whole(data: st.DataObject) -> None:
    whole = data.draw(complete_profiles())
    assume(whole.framework == "torch")
    part = data.draw(abstractions(whole))
    covers = _covers(whole)
    app = FlowerSettings(
        api=data.draw(st.sampled_from(["numpy", "message"])),
        strategy=data.draw(st.sampled_from(STRATEGIES)),
        sends=data.draw(st.sampled_from(covers)),
        takes=data.draw(st.sampled_from([None, *covers])),
        initial=data.draw(st.sampled_from([None, None, Covers()])),
        rebuild=data.draw(st.sampled_from(list(Rebuild))),
        load=data.draw(st.sampled_from(list(How))),
        in_place=data.draw(st.booleans()),
        server_step=data.draw(st.booleans()),
    )
    made = plan(part, app)
    event(f"stops: {made.stops}")
    assert_weaker(made, plan(whole, app))
    vague = replace(app, in_place=data.draw(st.sampled_from([None, app.in_place])), load=None)
    if app.load in (How.STATE_DICT, How.LENIENT):
        assert_weaker(plan(whole, vague), plan(whole, app))
    of_part, of_whole = compare(expectation(part), made), compare(expectation(whole), plan(whole, app))
    if of_part.equal is not None:
        assert of_whole.equal is of_part.equal
