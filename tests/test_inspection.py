"""Inspections beside what FACTS about SecretFlow's exchange say of small models, and the Python API."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from bn_audit.exchange.flower import STRATEGIES, FlowerSettings
from bn_audit.exchange.plan import Fate
from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.health import NormHealth
from bn_audit.inspection import Inspection, Verdict, aggregators, inspect, judge, matrix
from bn_audit.profile import NormLayer, Profile
from tests.exchange.build import batchnorm, buffer, layer, parameter, profile

LAST = profile(layer("conv", (8, 1, 3, 3), (8,)), layer("fc", (10, 8), (10,)), batchnorm("bn", 8))
MIDDLE = profile(layer("conv", (8, 1, 3, 3), (8,)), batchnorm("bn", 8), layer("fc", (10, 8), (10,)))
NESTED = profile(layer("block.conv", (8, 1, 3, 3), (8,)), batchnorm("block.bn", 8))
PLAIN = profile(layer("conv", (8, 1, 3, 3), (8,)), layer("fc", (10, 8), (10,)))


def settings(**chosen: object) -> SecretFlowSettings:
    usual = SecretFlowSettings(backend="torch", aggregator="plain", torch_version="2.13.0", base_module=False)
    return replace(usual, **chosen)  # type: ignore[arg-type]


def look(model: Profile, **chosen: object) -> Inspection:
    return inspect(model, target="model.py:Net", settings=settings(**chosen))


@pytest.mark.parametrize(
    ("model", "aggregator", "skip_bn", "verdict"),
    [
        (PLAIN, "plain", False, Verdict.RIGHT),
        (PLAIN, "secure", True, Verdict.RIGHT),
        (LAST, "plain", False, Verdict.STOPS),
        (LAST, "secure", True, Verdict.RIGHT),
        (LAST, "spu", False, Verdict.SPOILS),
        (MIDDLE, "plain", True, Verdict.SPOILS),
        (NESTED, "secure", True, Verdict.STOPS),
        (NESTED, "spu", True, Verdict.SPOILS),
    ],
)
def test_verdicts(model: Profile, aggregator: str, skip_bn: bool, verdict: Verdict) -> None:
    judgement = judge(model, settings(aggregator=aggregator, skip_bn=skip_bn))
    assert judgement.verdict is verdict
    assert look(model, aggregator=aggregator, skip_bn=skip_bn).ok is (verdict is Verdict.RIGHT)


def test_every_entry_stands_beside_its_expectation() -> None:
    inspection = look(MIDDLE, skip_bn=True)
    fates = {one.entry.key: (one.expected, one.fate, one.wrong) for one in inspection.entries}
    assert list(fates) == [entry.key for entry in MIDDLE.entries]
    assert fates["conv.weight"] == (Fate.AVERAGED, Fate.AVERAGED, False)
    assert fates["bn.running_var"] == (Fate.LOCAL, Fate.LOCAL, False)
    assert fates["fc.bias"] == (Fate.AVERAGED, Fate.STALE, True)
    assert "`fc.weight` and `fc.bias` are never synchronised" in inspection.judgement.sentence  # type: ignore[union-attr]


def test_an_error_is_told_with_its_text() -> None:
    inspection = look(LAST, aggregator="secure")
    assert inspection.error is not None
    assert inspection.error.type == "AssertionError"
    assert inspection.error.text == "Data should have same dtypes but got int64 float32."
    assert inspection.error.text in inspection.judgement.sentence  # type: ignore[union-attr]


def test_parties_that_drift_apart_spoil_even_a_model_without_batchnorm() -> None:
    judgement = judge(PLAIN, settings(strategy="fed_avg_u"))
    assert judgement.verdict is Verdict.SPOILS
    assert "drift apart" in judgement.sentence


def test_averaging_a_frozen_batchnorm_is_no_defect() -> None:
    keys = ("weight", "bias", "running_mean", "running_var")
    norm = NormLayer("bn", "FrozenBatchNorm2d", batchnorm=False, features=8, family="other")
    frozen = profile(layer("conv", (8, 1, 3, 3), (8,)), [norm, *(buffer(f"bn.{key}", (8,)) for key in keys)])
    judgement = judge(frozen, settings(aggregator="secure"))
    assert judgement.verdict is Verdict.RIGHT


@pytest.mark.parametrize("skip_bn", [False, True])
def test_what_the_order_decides_is_not_known_without_it(skip_bn: bool) -> None:
    known, unknown = (judge(one, settings(skip_bn=skip_bn)) for one in (LAST, replace(LAST, ordered=False)))
    if skip_bn:
        assert (known.verdict, unknown.verdict) == (Verdict.RIGHT, Verdict.UNKNOWN)
        assert "order" in unknown.sentence
    else:
        assert known.verdict is unknown.verdict is Verdict.STOPS
        assert unknown.comparison.error is not None and not unknown.comparison.error.text_certain


def test_the_order_does_not_matter_where_nothing_is_skipped() -> None:
    for model in (PLAIN, NESTED):
        known, unknown = (
            judge(one, settings(aggregator="spu", skip_bn=True)) for one in (model, replace(model, ordered=False))
        )
        assert known.verdict is unknown.verdict
        assert known.plan.entries == unknown.plan.entries


def test_a_checkpoint_of_unknown_layers_is_not_condemned() -> None:
    norm = replace(LAST.norms[0], batchnorm=None)
    judgement = judge(replace(LAST, norms=(norm,)), settings(skip_bn=True))
    assert judgement.verdict is Verdict.UNKNOWN
    assert "class" in judgement.sentence


def test_the_matrix_says_what_each_combination_comes_to() -> None:
    cells = matrix(LAST, "2.13.0")
    keys = [(cell.strategy, cell.aggregator, cell.skip_bn) for cell in cells]
    assert len(set(keys)) == len(keys)
    for cell in cells:
        chosen = settings(strategy=cell.strategy, aggregator=cell.aggregator, skip_bn=cell.skip_bn, base_module=None)
        assert cell.verdict is judge(LAST, chosen).verdict
    found = {key: cell.verdict for key, cell in zip(keys, cells, strict=True)}
    assert found["fed_avg_w", "plain", True] is Verdict.RIGHT
    assert found["fed_prox", "plain", True] is Verdict.STOPS


def test_advice_is_given_only_where_nothing_is_right() -> None:
    assert inspect(LAST, target="t", torch_version="2.13.0").advice is None
    advice = inspect(MIDDLE, target="t", torch_version="2.13.0").advice
    assert advice is not None and "after all other layers" in advice


def test_strategies_come_with_the_aggregators_they_work_with() -> None:
    assert aggregators("fed_avg_w")[0] == "plain"
    assert aggregators("fed_stc") == ("sparse",)
    assert aggregators("mine") == ()


def test_summary_counts_each_tensor_once() -> None:
    tied = replace(parameter("head.weight", (10, 8)), alias_of="fc.weight")
    model = profile(layer("fc", (10, 8), (10,)), [tied], batchnorm("bn", 8))
    counts = {
        (one.dtype, one.kind, one.norm): (one.entries, one.elements) for one in inspect(model, target="t").summary
    }
    assert counts == {
        ("float32", "parameter", False): (3, 90),
        ("float32", "parameter", True): (2, 16),
        ("float32", "buffer", True): (2, 16),
        ("int64", "buffer", True): (1, 1),
    }


def test_health_finds_its_layer() -> None:
    sick = NormHealth("bn", counter=3, nan=2, untrained=False)
    (norm,) = inspect(MIDDLE, target="t", health=[sick]).norms
    assert norm.health == sick and norm.depth == 1


class TestApi:
    torch = pytest.importorskip("torch")

    def test_the_package_offers_functions_named_like_its_modules(self) -> None:
        code = """
import time, sys
import bn_audit, bn_audit.audit, bn_audit.profile
from bn_audit.profile import Profile
assert "torch" not in sys.modules
from torch import nn
found = bn_audit.profile(nn.BatchNorm1d(4))
assert isinstance(found, Profile) and len(found.entries) == 5
assert bn_audit.audit(nn.Linear(1, 1)) == []
"""
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_audit_judges_state_and_exchange(self) -> None:
        import bn_audit

        nn = self.torch.nn
        model = nn.Sequential(nn.Linear(4, 4), nn.SyncBatchNorm(4), nn.Linear(4, 2))
        assert [finding.code for finding in bn_audit.audit(model)] == ["BNA404"]
        found = bn_audit.audit(model, "secretflow", aggregator="plain", skip_bn=True)
        assert [finding.code for finding in found] == ["BNA104", "BNA404"]
        assert [finding.code for finding in bn_audit.audit(model, "secretflow")] == ["BNA101", "BNA404"]
        assert [finding.code for finding in bn_audit.audit(model, "secretflow", skip_bn=False)] == ["BNA102", "BNA404"]

    def test_audit_sees_values(self) -> None:
        import bn_audit

        norm = self.torch.nn.BatchNorm1d(4)
        norm.running_var[1] = -1.0
        (finding,) = bn_audit.audit(norm)
        assert finding.code == "BNA406" and "1 negative variance" in finding.message

    def test_what_numpy_cannot_hold_is_no_mixture(self) -> None:
        import bn_audit

        torch, nn = self.torch, self.torch.nn
        (finding,) = bn_audit.audit(nn.Linear(2, 2).bfloat16())
        assert finding.message == (
            "`Linear` holds `weight` and `bias` (bfloat16), of which NumPy has no array: SecretFlow cannot send them"
        )
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double(), nn.Linear(2, 2))
        model.register_buffer("scales", torch.zeros(2).to(torch.float8_e5m2))
        (finding,) = bn_audit.audit(model)
        assert "mixes floating point types, `1.weight` and `1.bias` (float64) beside the others" in finding.message
        assert "; it holds `scales` (float8_e5m2), of which NumPy has no array" in finding.message

    def test_audit_judges_a_client(self) -> None:
        import bn_audit

        nn = self.torch.nn
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))

        def codes(*arguments: Any, **options: Any) -> list[str]:
            return [finding.code for finding in bn_audit.audit(model, *arguments, **options)]

        assert codes("flower") == codes("nvflare", transfer="diff") == ["BNA206"]
        assert codes("flower", rebuild="torch.Tensor") == ["BNA205", "BNA206"]
        assert codes("flower", keep_norms=True) == codes("flower", keep_local="1.") == []
        # The names of a Sequential hold no "bn": the filter keeps nothing back.
        assert codes("nvflare", keep_local=["bn"]) == ["BNA203"]
        assert codes("nvflare", exclude_vars="^1") == []

    def test_verify_runs_the_rounds_of_a_framework(self) -> None:
        import bn_audit

        nn = self.torch.nn
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        assert not bn_audit.verify(model, "flower").ok
        assert bn_audit.verify(model, "flower", api="message", keep_norms=True).ok
        assert bn_audit.verify(model, "nvflare", transfer="diff", keep_norms=True, rounds=1).ok
        assert bn_audit.verify(nn.Sequential(nn.Linear(4, 4)), "secretflow").ok

    @pytest.mark.parametrize(
        ("framework", "options", "error", "message"),
        [
            ("flower", {"skip_bn": False}, ValueError, "skip_bn is for 'secretflow', and the framework is 'flower'"),
            ("flower", {"transfer": "diff"}, ValueError, "transfer is for 'nvflare'"),
            ("secretflow", {"keep_norms": True}, ValueError, "keep_norms is for 'flower' and 'nvflare'"),
            ("flower", {"api": "grpc"}, ValueError, "api is one of numpy, message, and not 'grpc'"),
            ("flower", {"keep_norm": True}, TypeError, "there is no option 'keep_norm'; did you mean 'keep_norms'"),
            ("flower", {"strategy": "fed_avg_w"}, ValueError, "of Flower's strategies"),
            ("nvflare", {"exclude_vars": "("}, ValueError, "is no regular expression"),
            ("nvflare", {"engine": "x.whl"}, ValueError, "the engine 'x.whl' runs another framework than 'nvflare'"),
            ("mine", {}, ValueError, "'mine' is not known; known are secretflow, flower, nvflare"),
        ],
    )
    def test_options_of_another_framework_are_refused(
        self, framework: Any, options: Any, error: type[Exception], message: str
    ) -> None:
        import bn_audit

        with pytest.raises(error, match=re.escape(message)):
            bn_audit.verify(self.torch.nn.Linear(1, 1), framework, **options)

    def test_what_is_no_model_is_told(self) -> None:
        import bn_audit
        from bn_audit.live.errors import TargetError

        for give in (bn_audit.verify, bn_audit.audit, bn_audit.profile):
            with pytest.raises(TargetError, match="this is the class Linear: make one"):
                give(self.torch.nn.Linear)  # type: ignore[operator]
            with pytest.raises(TargetError, match=r"a torch\.nn\.Module, and this is of type int"):
                give(3)  # type: ignore[operator]

    @pytest.mark.parametrize(
        "wrong", [{"framework": "mine"}, {"strategy": "mine"}, {"aggregator": "mine"}, {"secretflow_version": "new"}]
    )
    def test_what_is_not_known_is_refused(self, wrong: dict[str, str]) -> None:
        import bn_audit

        with pytest.raises(ValueError, match=next(iter(wrong.values()))):
            bn_audit.audit(self.torch.nn.Linear(1, 1), **{"framework": "secretflow", **wrong})  # type: ignore[arg-type]


def test_what_other_frameworks_come_to() -> None:
    model = profile(layer("conv", (3, 1, 3, 3), (3,)), batchnorm("bn", 3), layer("fc", (2, 3), (2,)))
    found = inspect(model, target="model.py:Net").choices
    assert {(one.framework, one.everything) for one in found} == {
        ("flower", Verdict.SPOILS),
        ("nvflare", Verdict.SPOILS),
    }
    kept = {name: one.keeping for one in found for name in one.strategies if ("api", "message") not in one.options}
    assert set(kept.values()) == {Verdict.RIGHT}
    for api in ("numpy", "message"):
        names = [name for one in found if ("api", api) in one.options for name in one.strategies]
        assert sorted(names) == sorted(STRATEGIES)
    assert inspect(model, target="model.py:Net", settings=FlowerSettings()).choices == ()


def test_what_zeros_are_is_not_told_as_memory() -> None:
    model = profile(layer("fc", (2, 3), (2,)), buffer("ids", (4,), "int64"))
    sentence = judge(model, FlowerSettings()).sentence
    assert sentence == "`ids` is left with a value that is no party's and no mean"


def test_a_state_without_entries_is_told() -> None:
    assert any("state dict is empty" in note for note in inspect(Profile(()), target="x").notes)
    assert not inspect(Profile((parameter("w", (2,)),)), target="x").notes
