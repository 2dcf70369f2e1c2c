"""SecretFlow's plans where its wheel need not run: settings, versions, texts, and what the strategies' table says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bn_audit.exchange.fedbn import expectation
from bn_audit.exchange.plan import Fate, compare
from bn_audit.exchange.secretflow import SecretFlowSettings, plan, strategy
from bn_audit.profile import Profile
from tests.exchange.build import batchnorm, layer, profile

MIDDLE = profile(layer("conv", (3, 1, 3, 3), (3,)), batchnorm("bn", 3), layer("fc", (2, 12), (2,)))
LAST = profile(layer("conv", (3, 1, 3, 3), (3,)), layer("fc", (2, 12), (2,)), batchnorm("bn", 2))
NESTED = profile(layer("conv", (3, 1, 3, 3), (3,)), batchnorm("body.bn", 3))
SECURE = SecretFlowSettings("torch", "fed_avg_w", "secure", True, torch_version="2.7.0", base_module=False)
PLAIN = replace(SECURE, aggregator="plain")


def equal(model: Profile, settings: SecretFlowSettings) -> bool | None:
    return compare(expectation(model), plan(model, settings)).equal


@pytest.mark.parametrize("settings", [PLAIN, SECURE])
def test_skip_bn_is_right_only_where_every_batchnorm_comes_last(settings: SecretFlowSettings) -> None:
    assert equal(LAST, settings) is True
    assert equal(MIDDLE, settings) is False
    assert equal(NESTED, settings) is False


def test_each_release_of_torch_has_its_own_error() -> None:
    old = plan(NESTED, PLAIN).error
    new = plan(NESTED, replace(PLAIN, torch_version="2.13.0+cpu")).error
    unknown = plan(NESTED, replace(PLAIN, torch_version=None))
    assert old is not None
    assert (old.type, old.text) == ("IndexError", "index 0 is out of bounds for dimension 0 with size 0")
    assert new is not None
    assert new.text == (
        "Error(s) in loading state_dict for GeneratedTorchModule:\n\tsize mismatch for body.bn.num_batches_tracked: "
        "copying a param with shape torch.Size([0]) from checkpoint, the shape in current model is torch.Size([])."
    )
    assert unknown.stops is True
    assert unknown.error is not None
    assert not unknown.error.text_certain


@pytest.mark.parametrize(
    ("value", "torch", "fate"), [(1, "2.13", Fate.CORRUPT), (4, "2.7", Fate.CORRUPT), (4, "2.13", None)]
)
def test_a_counter_that_is_not_zero_is_a_size_of_garbage(value: int, torch: str, fate: Fate | None) -> None:
    made = plan(profile(batchnorm("body.bn", 3, value)), replace(PLAIN, torch_version=torch))
    counter = made.entries[-1]
    if fate is None:
        assert made.error is not None
        assert f"shape torch.Size([{value}])" in made.error.text
    else:
        assert (counter.fate, made.stops) == (fate, None)


def test_skip_bn_is_ignored_before_1_5() -> None:
    made = plan(MIDDLE, replace(SECURE, secretflow_version="1.4.0"))
    assert made.error == plan(MIDDLE, replace(SECURE, skip_bn=False)).error
    assert made.notes == ("SecretFlow before 1.5.0 ignores skip_bn",)


def test_1_5_and_1_6_leave_batchnorm_out_of_the_first_exchange_alone() -> None:
    # PlainAggregator then pairs everything rightly; SecureAggregator meets the counter.
    early = replace(PLAIN, secretflow_version="1.6.1b0")
    assert equal(MIDDLE, early) is True
    assert equal(MIDDLE, replace(early, secretflow_version="1.7.0b0")) is False
    error = plan(LAST, replace(early, aggregator="secure")).error
    assert error is not None
    assert (error.text, error.round) == ("Data should have same dtypes but got int64 float32.", 1)


def test_the_aggregator_of_fed_gen_is_none_for_other_strategies() -> None:
    for name in ("fed_avg_w", "fed_avg_u", "fed_prox", "moon"):
        error = plan(LAST, replace(SECURE, strategy=name, aggregator="fedgen")).error
        assert error is not None
        assert (error.type, error.text, error.round) == ("TypeError", "'int' object is not subscriptable", 1)
    # What goes wrong before does so all the same.
    assert plan(NESTED, replace(SECURE, aggregator="fedgen")).error == plan(NESTED, SECURE).error


def test_fed_stc_and_fed_scr_take_no_function_on_the_server() -> None:
    for name, kind in (("fed_stc", "FedSTC"), ("fed_scr", "FedSCR")):
        error = plan(LAST, replace(PLAIN, strategy=name, aggregator="server_agg_method")).error
        assert error is not None
        assert error.text == f"{kind}.__init__() got an unexpected keyword argument 'server_agg_method'"
        assert error.round == 0


def test_fed_gen_loads_nothing_of_a_function_on_the_server() -> None:
    made = plan(LAST, replace(PLAIN, strategy="fed_gen", aggregator="server_agg_method"))
    fates = {part.key: part.fate for part in made.entries}
    assert fates["fc.weight"] is Fate.STALE
    assert fates["bn.weight"] is Fate.LOCAL


@pytest.mark.parametrize(
    "unknown",
    [
        {"strategy": "my_strategy"},
        {"strategy": None},
        {"aggregator": None},
        {"aggregator": "my_aggregator"},
        {"backend": None},
        {"secretflow_version": "2.0"},
        {"backend": "tensorflow"},  # and a torch profile
    ],
)
def test_nothing_is_said_under_settings_that_are_not_known(unknown: dict[str, str | None]) -> None:
    made = plan(MIDDLE, replace(PLAIN, **unknown))  # type: ignore[arg-type]
    assert made.stops is made.drifts is None
    assert compare(expectation(MIDDLE), made).differences == ()
    assert equal(MIDDLE, replace(PLAIN, **unknown)) is None  # type: ignore[arg-type]


def test_unknown_skip_bn_is_judged_as_both() -> None:
    assert plan(NESTED, replace(SECURE, skip_bn=None)).stops is True
    assert plan(LAST, replace(SECURE, skip_bn=None)).stops is None
    assert dict(plan(LAST, replace(SECURE, skip_bn=None)).settings).keys() == {
        "framework",
        "backend",
        "strategy",
        "aggregator",
        "torch_version",
    }


def test_the_framework_refuses_what_it_does_not_know() -> None:
    backend = plan(MIDDLE, replace(PLAIN, backend="jax")).error
    neither = plan(MIDDLE, replace(PLAIN, aggregator="none")).error
    assert backend is not None
    assert backend.text == "Invalid backend = jax"
    assert neither is not None
    assert neither.text.startswith("When aggregator is none")


@pytest.mark.parametrize("aggregator", ["spu", "server_agg_method"])
def test_a_nested_batchnorm_is_averaged_silently_in_spite_of_skip_bn(aggregator: str) -> None:
    made = plan(NESTED, replace(PLAIN, aggregator=aggregator))
    assert made.stops is False
    assert {entry.fate for entry in made.entries} == {Fate.AVERAGED}


def test_sfl_exchanges_as_1_13_does() -> None:
    known = plan(MIDDLE, replace(PLAIN, secretflow_version="1.13.0b0"))
    for version in ("sfl", "1.14.0b0", None):
        made = plan(MIDDLE, replace(PLAIN, secretflow_version=version))
        assert (made.entries, made.stops) == (known.entries, known.stops)


@pytest.mark.parametrize("name", ["fed_avg_g", "fed_prox", "scaffold", "moon"])
@pytest.mark.parametrize("aggregator", ["plain", "secure"])
def test_strategies_that_break_skip_bn_break_it_where_fed_avg_w_is_right(name: str, aggregator: str) -> None:
    known = strategy("torch", name)
    assert known is not None
    assert known.skip_bn_breaks
    assert equal(LAST, replace(PLAIN, strategy=name, aggregator=aggregator)) is False


def test_the_other_strategies_leave_it_to_the_model() -> None:
    for name in ("fed_avg_w", "fed_avg_u", "fed_stc", "fed_scr"):
        known = strategy("torch", name)
        assert known is not None
        assert not known.skip_bn_breaks
        aggregator = next(iter(known.aggregators), "plain")
        made = compare(expectation(LAST), plan(LAST, replace(PLAIN, strategy=name, aggregator=aggregator)))
        assert made.differences == ()
        assert made.stops is False
        assert made.drifts is (name == "fed_avg_u")


def test_a_strategy_of_the_users_is_not_known() -> None:
    assert strategy("torch", "mine") is None
    assert strategy("tensorflow", "moon") is None


def test_a_plan_of_a_large_model_is_made_in_a_moment() -> None:
    """Both loads and pairings walk the entries once or twice; a ResNet has some thousand."""
    parts = [part for number in range(600) for part in batchnorm(f"bn{number}", 8)]
    large = profile(parts, layer("fc", (2, 12), (2,)))
    made = plan(large, PLAIN)
    assert [entry.fate for entry in made.entries[-2:]] == [Fate.STALE, Fate.STALE]
