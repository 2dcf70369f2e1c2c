"""What NVFlare does to a model with BatchNorm, in words; tests/nvflare lays the plan beside NVFlare's own classes."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, event, given, settings

from bn_audit.exchange.fedbn import expectation
from bn_audit.exchange.nvflare import STRATEGIES, NVFlareSettings, plan
from bn_audit.exchange.plan import Fate, compare
from bn_audit.loading import Covers, How
from tests.exchange.build import batchnorm, buffer, layer, parameter, profile
from tests.exchange.handwritten.test_partial import assert_weaker
from tests.exchange.test_partial import abstractions, complete_profiles

_NET = profile(layer("conv", (3, 1, 3, 3), (3,)), batchnorm("bn", 3), layer("fc", (2, 3), (2,)))
_BN = frozenset(entry.key for entry in _NET.entries if entry.module == "bn")


@pytest.mark.parametrize("transfer", ["full", "diff"])
@pytest.mark.parametrize("exchange", ["numpy", "pytorch"])
def test_batchnorm_is_shared_and_nothing_said(exchange: str, transfer: str) -> None:
    made = plan(_NET, NVFlareSettings(exchange=exchange, transfer=transfer))  # type: ignore[arg-type]
    assert made.stops is False
    assert {one.key for one in compare(expectation(_NET), made).differences} == _BN


def test_what_is_excluded_is_missing_from_the_second_round_on() -> None:
    made = plan(_NET, NVFlareSettings(exclude_vars=r"^bn\."))
    assert made.error is not None
    assert (made.error.type, made.error.round) == ("RuntimeError", 1)
    assert made.error.text == (
        'Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: "bn.weight", "bn.bias", '
        '"bn.running_mean", "bn.running_var". '
    )
    lenient = plan(_NET, NVFlareSettings(exclude_vars=r"^bn\.", load=How.LENIENT))
    assert compare(expectation(_NET), lenient).equal is True


def test_of_differences_what_is_excluded_is_handed_out_as_it_was() -> None:
    made = plan(_NET, NVFlareSettings(exclude_vars=r"^bn\.", transfer="diff"))
    assert made.stops is False
    assert {made.entry(key).fate for key in _BN} == {Fate.STALE}  # type: ignore[union-attr]
    assert any("handed out all the same" in note for note in made.notes)
    kept = replace(NVFlareSettings(exclude_vars=r"^bn\.", transfer="diff", load=How.LENIENT), takes=Covers(without=_BN))
    assert compare(expectation(_NET), plan(_NET, kept)).equal is True


def test_bfloat16() -> None:
    model = profile(parameter("w", (3,), "bfloat16"))
    error = plan(model, NVFlareSettings()).error
    assert error is not None
    assert error.type == "ValueError"
    assert error.text.endswith("native PyTorch server exchange format: Got unsupported ScalarType BFloat16")
    assert plan(model, NVFlareSettings(exchange="pytorch")).stops is False
    # The difference from the float32 that was handed out is float32.
    assert plan(model, NVFlareSettings(transfer="diff")).stops is False


def test_the_difference_of_bools() -> None:
    model = profile(parameter("w", (3,)), buffer("mask", (3,), "bool"))
    error = plan(model, NVFlareSettings(transfer="diff")).error
    assert error is not None
    assert error.text.startswith("params diff function failed: Subtraction")
    assert plan(model, NVFlareSettings()).stops is False


def test_unweighed_tensors_divide_integers_in_place() -> None:
    unweighed = NVFlareSettings(exchange="pytorch", weigh_by_local_iter=False)
    error = plan(_NET, unweighed).error
    assert error is not None
    assert error.text == "result type Float can't be cast to the desired output type Long"
    assert plan(_NET, replace(unweighed, nvflare_version="2.7.1")).stops is False
    assert plan(_NET, replace(unweighed, exchange="numpy")).stops is False


def test_a_strategy_that_is_not_known() -> None:
    assert plan(_NET, NVFlareSettings(strategy="cyclic")).stops is None


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_what_is_certain_of_a_part_holds_for_the_whole(data: st.DataObject) -> None:
    whole = data.draw(complete_profiles())
    assume(whole.framework == "torch")
    part = data.draw(abstractions(whole))
    m1 = Covers(without=frozenset(entry.key for entry in whole.entries if "m1" in entry.key))
    covers = [Covers(), Covers(parameters=True), Covers(floating=True), m1]
    job = NVFlareSettings(
        strategy=data.draw(st.sampled_from(STRATEGIES)),
        exchange=data.draw(st.sampled_from(["numpy", "pytorch"])),
        transfer=data.draw(st.sampled_from(["full", "diff"])),
        exclude_vars=data.draw(st.sampled_from([None, "m1", "running"])),
        hold_back=data.draw(st.sampled_from([None, None, "num_batches"])),
        sends=data.draw(st.sampled_from(covers)),
        takes=data.draw(st.sampled_from([None, *covers])),
        load=data.draw(st.sampled_from(list(How))),
        weigh_by_local_iter=data.draw(st.booleans()),
    )
    made, exact = plan(part, job), plan(whole, job)
    event(f"stops: {made.stops}")
    assert_weaker(made, exact)
    if job.load in (How.STATE_DICT, How.LENIENT):
        assert_weaker(plan(whole, replace(job, load=None)), exact)
    of_part, of_whole = compare(expectation(part), made), compare(expectation(whole), exact)
    if of_part.equal is not None:
        assert of_whole.equal is of_part.equal
