"""The rules on FLModel calls, judged on models and settings made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bn_audit.audit import Selection, Versions, audit
from bn_audit.finding import Evidence, Location, Severity
from bn_audit.profile import NormLayer, Profile, StateEntry
from bn_audit.site import Aggregator, FLModelCall
from bn_audit.wrapping import Wrapping
from tests.rules.sites import CALL, ModelBuilder, codes, judge, only, reading, site

MASKING = "AssertionError: Data should have same dtypes but got int64 float32."


def last() -> ModelBuilder:
    return ModelBuilder().linear("conv", 3, 8).linear("fc", 8, 10).norm("bn")


def middle() -> ModelBuilder:
    return ModelBuilder().linear("conv", 3, 8).norm("bn").linear("fc", 8, 10)


def nested() -> ModelBuilder:
    return ModelBuilder().linear("conv", 3, 8).norm("layer1.0.bn1").norm("layer1.1.bn1").linear("fc", 8, 10)


def resnet() -> ModelBuilder:
    """A BatchNorm at the top, between other layers, and one in a block: the nested one stops the round by itself."""
    model = ModelBuilder().linear("conv1", 3, 8).norm("bn1").linear("layer1.0.conv1", 8, 8)
    return model.norm("layer1.0.bn1").linear("fc", 8, 10)


def instance() -> ModelBuilder:
    return ModelBuilder().linear("conv", 3, 8).norm("norm", type="InstanceNorm2d", batchnorm=False, family="instance")


def plain() -> ModelBuilder:
    return ModelBuilder().linear("conv", 3, 8).linear("fc", 8, 10)


Model = Callable[[], ModelBuilder]


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        # FACTS: the table of fed_avg_w, Plain and Secure, both values of skip_bn.
        (last, {}, ["BNA101"]),
        (last, {"aggregator": "plain"}, ["BNA101"]),
        (last, {"skip_bn": True}, []),
        (last, {"skip_bn": True, "aggregator": "plain"}, []),
        (last, {"skip_bn": False}, ["BNA102"]),
        (middle, {}, ["BNA101"]),
        (middle, {"skip_bn": True}, ["BNA104"]),
        (middle, {"skip_bn": True, "aggregator": "plain"}, ["BNA104"]),
        (nested, {}, ["BNA101"]),
        (nested, {"skip_bn": True}, ["BNA103"]),
        (nested, {"skip_bn": True, "aggregator": "spu"}, ["BNA103"]),
        (resnet, {"skip_bn": True}, ["BNA103"]),
        (resnet, {"skip_bn": True, "aggregator": "plain"}, ["BNA103"]),
        (instance, {}, ["BNA107"]),
        (instance, {"skip_bn": True}, ["BNA103"]),
        (plain, {}, []),
        (plain, {"skip_bn": True}, ["BNA106"]),
        # What is not known.
        (last, {"aggregator": None}, ["BNA101"]),
        (last, {"aggregator": None, "skip_bn": True}, []),
        (last, {"skip_bn": None, "skip_bn_passed": None}, []),
        (middle, {"skip_bn": None, "skip_bn_passed": None}, ["BNA104"]),
        (nested, {"skip_bn": None, "skip_bn_passed": None}, ["BNA103"]),
        (plain, {"skip_bn": None, "skip_bn_passed": None}, []),
        (nested, {"strategy": None}, []),
        (nested, {"strategy": "my_own"}, []),
        (nested, {"backend": None}, []),
        # No round runs.
        (nested, {"aggregator": "none"}, []),
        # The setting itself.
        (last, {"skip_bn": True, "strategy": "fed_prox", "aggregator": "plain"}, ["BNA105"]),
        (nested, {"skip_bn": True, "strategy": "fed_prox", "aggregator": "plain"}, ["BNA103"]),
        (last, {"skip_bn": True, "strategy": "fed_avg_g", "aggregator": None}, ["BNA105"]),
        (plain, {"strategy": "fed_avg_g"}, []),
        (last, {"skip_bn": True, "strategy": "fed_stc", "aggregator": None}, []),
    ],
)
def test_which_rule_speaks(model: Model, settings: dict[str, Any], expected: list[str]) -> None:
    assert codes(reading(model(), **settings)) == expected


def test_the_message_names_the_consequence() -> None:
    finding = only(judge(reading(last())))
    assert finding.severity is Severity.ERROR
    assert finding.message.endswith(f"training stops in round 1 with {MASKING}")
    assert only(judge(reading(middle(), skip_bn=True))).message.endswith(
        "`fc.weight` and `fc.bias` are never synchronised"
    )


def test_an_unknown_aggregator_is_judged_as_both() -> None:
    message = only(judge(reading(last(), aggregator=None))).message
    assert "with PlainAggregator, training stops in round 1 with RuntimeError" in message
    assert f"with SecureAggregator, training stops in round 1 with {MASKING}" in message


def test_where_nothing_stops_it_is_a_warning() -> None:
    finding = only(judge(reading(last(), aggregator="spu")))
    assert (finding.code, finding.severity) == ("BNA101", Severity.WARNING)
    assert "running statistics, weight and bias of `bn` are averaged over the parties" in finding.message


@pytest.mark.parametrize(
    ("model", "settings", "help"),
    [
        (last, {}, "pass `skip_bn=True`: every BatchNorm is an attribute"),
        (
            middle,
            {},
            "`skip_bn=True` alone is not enough: `fc.weight` and `fc.bias` are never synchronised. Instead, register",
        ),
        (nested, {}, f"`skip_bn=True` alone is not enough: training stops in round 1 with {MASKING} Instead, register"),
        (
            middle,
            {"skip_bn": True},
            "register every BatchNorm as an attribute of the model itself, after all other layers",
        ),
        (last, {"skip_bn": True, "strategy": "fed_prox", "aggregator": "plain"}, 'use `strategy="fed_avg_w"`'),
        (instance, {"skip_bn": True}, "build its InstanceNorms with `track_running_stats=False`"),
    ],
)
def test_help_is_what_the_plan_proves(model: Model, settings: dict[str, Any], help: str) -> None:
    found = only(tuple(finding for finding in judge(reading(model(), **settings)) if finding.location == CALL))
    assert found.help is not None
    assert found.help.startswith(help)


def test_help_names_all_that_is_needed_and_no_more() -> None:
    model = middle().buffer("position_ids", (4,), "int64")
    first, second = judge(reading(model))
    assert (first.code, second.code) == ("BNA101", "BNA107")
    assert first.help is not None
    assert "`position_ids` out of the state dict" in first.help
    assert "register every BatchNorm as an attribute" in first.help
    assert "fed_avg_w" not in first.help


def test_help_does_not_claim_for_a_model_that_is_partly_unknown() -> None:
    finding = only(judge(reading(nested().gap(), skip_bn=True)))
    assert finding.help is not None
    assert "only where" in finding.help


KERAS = ("gamma", "beta", "moving_mean", "moving_variance")


def keras(**settings: Any) -> FLModelCall:
    """A call on the TensorFlow backend: Dense, BatchNormalization, Dense."""
    norm = NormLayer("bn", "BatchNormalization", location=Location("models.py", 4, 1, 4, 9))
    dense = [
        StateEntry(f"{layer}.{name}", (8,), "float32", "parameter", layer)
        for layer in ("a", "b")
        for name in ("kernel", "bias")
    ]
    state = [
        StateEntry(f"bn.{name}", (8,), "float32", "buffer" if "moving" in name else "parameter", "bn") for name in KERAS
    ]
    model = Profile((*dense[:2], *state, *dense[2:]), (norm,), framework="keras", type="Sequential")
    return replace(reading(plain(), **{"backend": "tensorflow", **settings}), model=model)


def test_keras_averages_in_silence() -> None:
    finding = only(judge(keras()))
    assert (finding.code, finding.severity) == ("BNA101", Severity.WARNING)
    assert "running statistics, weight and bias of `bn` are averaged over the parties" in finding.message
    assert finding.help is not None
    assert finding.help.startswith("`skip_bn=True` alone is not enough: training stops in round")
    assert "register" not in finding.help
    assert finding.help.endswith("average BatchNormalization knowingly and ignore this rule here")


def test_a_frozen_keras_norm_is_averaged_in_vain() -> None:
    # trainable=False: inference mode, so every party's statistics stay what they were at the start.
    trained = keras()
    assert trained.model is not None
    entries = (replace(entry, kind="buffer") if entry.module == "bn" else entry for entry in trained.model.entries)
    model = replace(trained.model, entries=tuple(entries))
    assert {entry.kind for entry in model.entries} == {"parameter", "buffer"}
    assert judge(replace(trained, model=model)) == ()


def test_keras_breaks_with_skip_bn() -> None:
    finding = only(judge(keras(skip_bn=True)))
    assert finding.code == "BNA105"
    assert "with the strategy fed_avg_w on tensorflow, it loads with model.set_weights()" in finding.message


def test_old_releases_do_not_know_skip_bn() -> None:
    finding = only(judge(reading(last(), skip_bn=True), secretflow="1.4.0b0"))
    assert finding.code == "BNA105"
    assert "SecretFlow 1.4.0b0 does not know it" in finding.message
    assert finding.help == "upgrade SecretFlow to 1.7 or newer"
    finding = only(judge(reading(last(), skip_bn=True), secretflow="1.6.1b0"))
    assert finding.code == "BNA105"
    assert "SecretFlow 1.6.1b0 heeds it in the first exchange only" in finding.message
    assert codes(reading(last(), skip_bn=True), secretflow="1.7.0b0") == []


def test_every_reading_must_go_wrong() -> None:
    assert codes(reading(last()), reading(plain())) == []
    assert codes(reading(last()), reading(middle())) == ["BNA101"]
    assert codes(reading(last()), reading(None)) == []
    assert codes(reading(middle(), skip_bn=True), reading(last(), skip_bn=True)) == []
    assert codes(reading(nested(), skip_bn=True), reading(middle(), skip_bn=True)) == ["BNA103"]


def test_a_reading_in_which_no_round_runs_weighs_nothing() -> None:
    assert codes(reading(last()), reading(last(), aggregator="none")) == ["BNA101"]


def test_conditions_are_named() -> None:
    message = only(
        judge(
            reading(last(), conditions=("`args.secure` is true",)),
            reading(last(), aggregator="spu", conditions=("`args.secure` is false",)),
        )
    ).message
    assert f"if `args.secure` is true, training stops in round 1 with {MASKING.rstrip('.')}; " in message
    assert message.endswith(
        "if `args.secure` is false, running statistics, weight and bias of `bn` are averaged over the parties"
    )


def test_only_what_tells_the_possibilities_apart_is_named() -> None:
    message = only(judge(reading(last(), aggregator=None, conditions=("`args.bn` is true",)))).message
    assert "args.bn" not in message
    assert "passed: with PlainAggregator, training stops" in message
    message = only(judge(reading(last()), reading(last(), aggregator="spu"))).message
    assert f"passed: training stops in round 1 with {MASKING.rstrip('.')}; running statistics" in message


def test_evidence_names_the_layer_and_the_way_to_it() -> None:
    call = Location("helpers.py", 5, 1, 9, 2)
    through = Evidence(Location("train.py", 50, 1, 50, 9), "through `run`")
    settings = Evidence(Location("config.py", 2, 1, 2, 9), "`strategy` comes from here")
    one = site(reading(last(), settings_trail=(settings,)), call=call, through=(through,))
    finding = only(audit([one], [], Selection(), lambda path: Versions(torch="2.13.0")))
    places = [(step.location.path, step.message) for step in finding.evidence]
    assert places == [
        ("train.py", "through `run`"),
        ("helpers.py", "FLModel is called here"),
        ("models.py", "`Net` is defined here"),
        ("models.py", "this BatchNorm2d is `bn` of `Net`"),
        ("config.py", "`strategy` comes from here"),
    ]


def test_long_lists_are_cut() -> None:
    model = ModelBuilder().norm("bn", tracked=False)
    for number in range(10):
        model.linear(f"fc{number}", 2, 3)
    message = only(judge(reading(model, skip_bn=True))).message
    assert "`fc9.weight` and `fc9.bias` are never synchronised" in message
    assert "`fc0.weight`, `fc0.bias`, `fc1.weight` and 15 more get the tensor of another entry" in message
    assert "(`fc0.weight` the average of `fc1.weight`)" in message


def test_many_mismatches_are_cut() -> None:
    model = ModelBuilder()
    for number in range(30):
        model.norm(f"blocks.{number}.bn")
    message = only(judge(reading(model, skip_bn=True, aggregator="plain"))).message
    assert "(and 29 more lines)" in message
    assert "`blocks.0.bn`, `blocks.1.bn`, `blocks.2.bn` and 27 more" in message


@pytest.mark.parametrize("aggregator", ["plain", "secure", "spu"])
def test_frozen_batchnorm_is_constant(aggregator: Aggregator) -> None:
    """A frozen BatchNorm has no counter and never changes: the mean of equal constants is no harm."""
    model = plain()
    names = ("weight", "bias", "running_mean", "running_var")
    model.entries.extend(StateEntry(f"layer.{name}", (8,), "float32", "buffer", "layer") for name in names)
    model.norms.append(NormLayer("layer", "FrozenBatchNorm2d", batchnorm=False, affine=False, family="other"))
    assert codes(reading(model, aggregator=aggregator)) == []
    assert codes(reading(model, aggregator=aggregator, skip_bn=True)) == []


def test_a_batchnorm_without_state_is_none() -> None:
    assert codes(reading(plain().norm("bn", affine=False, tracked=False))) == []


@pytest.mark.parametrize(
    ("dtype", "aggregator", "code", "severity"),
    [
        ("int64", "secure", "BNA107", Severity.ERROR),
        ("int64", "plain", "BNA402", Severity.INFO),
        ("float64", "secure", "BNA107", Severity.ERROR),
        ("float64", "plain", "BNA403", Severity.WARNING),
        ("bfloat16", "plain", "BNA107", Severity.ERROR),
        ("bool", "plain", "BNA402", Severity.INFO),
    ],
)
def test_dtypes(dtype: str, aggregator: Aggregator, code: str, severity: Severity) -> None:
    finding = only(judge(reading(plain().buffer("extra", (4,), dtype), aggregator=aggregator)))
    assert (finding.code, finding.severity) == (code, severity)
    assert "`extra`" in finding.message


def test_state_findings_stand_at_the_definition() -> None:
    finding = only(judge(reading(plain().buffer("ids", (4,), "int64"), aggregator="plain")))
    assert finding.location.path == "models.py"
    assert [step.location for step in finding.evidence] == [CALL]


@pytest.mark.parametrize(
    ("traits", "code"),
    [
        ({"type": "SyncBatchNorm", "family": "sync"}, "BNA404"),
        ({"cumulative": True, "momentum": None}, "BNA408"),
        ({"type": "InstanceNorm2d", "family": "instance", "batchnorm": False}, "BNA401"),
    ],
)
def test_layers(traits: dict[str, Any], code: str) -> None:
    model = plain().norm("bn", **traits)
    found = [finding for finding in judge(reading(model, skip_bn=True)) if finding.location == model.norms[0].location]
    assert [finding.code for finding in found] == [code]


@pytest.mark.parametrize(
    ("path", "settings", "codes"),
    [
        ("bn", {"skip_bn": True}, []),
        ("bn", {"skip_bn": False}, ["BNA405"]),
        ("block.bn", {"skip_bn": True}, ["BNA405"]),
        ("bn", {"skip_bn": True, "wrapped": Wrapping()}, ["BNA405"]),
    ],
)
def test_a_lazy_layer_that_is_never_sent(path: str, settings: dict[str, Any], codes: list[str]) -> None:
    model = plain().norm(path, lazy=True)
    found = [finding for finding in judge(reading(model, **settings)) if finding.location == model.norms[0].location]
    assert [finding.code for finding in found] == codes


def test_layers_made_on_one_line_are_one_finding_and_two_calls_are_too() -> None:
    model = plain().norm("bn1", cumulative=True).norm("bn2", cumulative=True)
    location = model.norms[0].location
    model.norms[1] = type(model.norms[1])("bn2", "BatchNorm2d", cumulative=True, location=location)
    other = Location("other.py", 1, 1, 2, 2)
    sites = [site(reading(model, skip_bn=True)), site(reading(model, skip_bn=True), location=other, call=other)]
    findings = audit(sites, [], Selection(("BNA408",)), lambda path: Versions())
    assert "`bn1` and `bn2`" in only(findings).message


def test_unknown_flags_are_not_held_against_the_user() -> None:
    model = plain().norm("bn", type="SyncBatchNorm", cumulative=None)
    assert judge(reading(model, skip_bn=True)) == ()


MOMENT = Evidence(Location("train.py", 40, 1, 40, 40), "validated here")


@pytest.mark.parametrize(
    ("settings", "speaks"),
    [
        ({"strategy": "fed_stc", "trains_after_eval": (MOMENT,)}, True),
        ({"strategy": "fed_stc"}, False),
        ({"strategy": "fed_avg_w", "trains_after_eval": (MOMENT,)}, False),
        ({"strategy": "my_own", "trains_after_eval": (MOMENT,)}, False),
        ({"strategy": "fed_stc", "backend": "tensorflow", "trains_after_eval": (MOMENT,)}, False),
    ],
)
def test_eval_mode(settings: dict[str, Any], speaks: bool) -> None:
    findings = judge(reading(last(), skip_bn=True, **{"aggregator": "sparse", **settings}))
    assert [finding.code for finding in findings if finding.code == "BNA303"] == ["BNA303"] * speaks
    if speaks:
        assert MOMENT in only(findings).evidence


def test_eval_mode_needs_statistics() -> None:
    call = reading(plain(), aggregator="sparse", strategy="fed_stc", trains_after_eval=(MOMENT,))
    assert codes(call) == []


def test_unresolved_says_where_the_trail_ends() -> None:
    finding = only(judge(reading(None)))
    assert (finding.code, finding.severity) == ("BNA108", Severity.INFO)
    assert finding.message.endswith("`build` is not known")
    assert [step.location.line for step in finding.evidence] == [3]
    assert codes(reading(None, aggregator="none")) == []
