"""Verifications: the plan executed, the wheel's own classes run, and both beside FedBN."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bn_audit.exchange.fedbn import constants  # noqa: E402
from bn_audit.exchange.flower import FlowerSettings  # noqa: E402
from bn_audit.exchange.nvflare import NVFlareSettings  # noqa: E402
from bn_audit.exchange.plan import Fate  # noqa: E402
from bn_audit.exchange.secretflow import plan  # noqa: E402
from bn_audit.live.errors import TargetError  # noqa: E402
from bn_audit.live.execute import party_states  # noqa: E402
from bn_audit.live.profile import profile  # noqa: E402
from bn_audit.live.verify import judge, run_contract, settings_here, verify, verify_exchange  # noqa: E402
from bn_audit.verification import Verdict, Verification  # noqa: E402
from bn_audit.wrapping import Wrapping  # noqa: E402
from tests.secretflow.models import MODELS  # noqa: E402


class Net(nn.Module):
    """Conv, BatchNorm, head: the head is stale with skip_bn."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)


class Last(nn.Module):
    """BatchNorm registered last: skip_bn is right."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4, 2)
        self.bn = nn.BatchNorm2d(4)


def _fates(verification: Verification) -> dict[str, tuple[Fate, ...]]:
    return {one.entry.key: one.measured for one in verification.entries}


def test_the_right_setting_is_proven() -> None:
    verification = verify(Last(), skip_bn=True, aggregator="secure")
    assert verification.verdict is Verdict.RIGHT
    assert verification.ok
    fates = _fates(verification)
    assert fates["fc.weight"] == (Fate.AVERAGED,)
    assert fates["bn.running_mean"] == (Fate.LOCAL,)
    assert all(one.right and one.deviation == pytest.approx(0, abs=1e-5) for one in verification.entries)


def test_a_stale_head_is_measured_and_is_off() -> None:
    verification = verify(Net(), skip_bn=True)
    assert verification.verdict is Verdict.WRONG
    assert [one.entry.key for one in verification.wrong] == ["fc.weight", "fc.bias"]
    assert all(one.measured == (Fate.STALE,) and (one.deviation or 0) > 0.01 for one in verification.wrong)


@pytest.mark.parametrize(("aggregator", "text"), [("plain", "size mismatch"), ("secure", "got int64 float32")])
def test_the_error_is_the_plans(aggregator: str, text: str) -> None:
    verification = verify(Net(), aggregator=aggregator)
    assert verification.verdict is Verdict.STOPS
    assert verification.stop is not None
    assert text in verification.stop.text
    assert verification.stop.round == 0
    assert not any(one.measured for one in verification.entries)


def test_shared_batchnorm_is_wrong() -> None:
    verification = verify(Net(), aggregator="server_agg_method")
    assert verification.verdict is Verdict.WRONG
    assert {one.entry.key for one in verification.wrong} >= {"bn.weight", "bn.running_mean", "bn.running_var"}


def test_parties_that_drift_are_wrong() -> None:
    model = nn.Sequential(nn.Linear(2, 3))
    assert verify(model).ok
    verification = verify(model, strategy="fed_avg_u")
    assert verification.verdict is Verdict.WRONG
    assert verification.drifts


def test_what_the_plan_leaves_open_is_not_proven() -> None:
    verification = verify(nn.Sequential(nn.Linear(2, 3)), strategy="fed_avg_g")
    assert verification.verdict is Verdict.OPEN
    assert not verification.ok


def test_an_error_in_a_later_round_lets_the_earlier_ones_run() -> None:
    verification = verify(Last(), strategy="fed_prox", skip_bn=True)
    assert verification.stop is not None
    assert verification.stop.round == 2
    assert _fates(verification)["conv.weight"] == (Fate.AVERAGED,)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("skip_bn", [False, True])
def test_what_is_measured_is_what_was_planned(name: str, skip_bn: bool) -> None:
    model = MODELS[name].build()
    settings = settings_here("fed_avg_w", "plain", skip_bn)
    planned = plan(profile(model), settings)
    verification = verify(model, skip_bn=skip_bn, parties=2, rounds=1)
    if planned.error is not None:
        assert verification.stop is not None
        assert (verification.stop.type, verification.stop.text) == (planned.error.type, planned.error.text)
        return
    for one, part in zip(verification.entries, planned.entries, strict=True):
        if part.fate is Fate.MISPLACED and part.source_key is None:
            assert one.measured == ()  # with releases of torch of which it is not known what a scalar takes
        else:
            assert part.fate in one.measured
        constant = one.entry.key in constants(profile(model)) and part.fate is Fate.AVERAGED
        assert one.right is (constant or part.fate in one.expected)


def test_a_misplaced_entry_of_unknown_source_is_not_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    # It is not known whether a release between 2.7 and 2.13 takes a vector's first element for a scalar, or stops.
    monkeypatch.setattr("bn_audit.live.verify.torch_release", lambda: "2.11.0")
    monkeypatch.setattr("bn_audit.live.execute._TAKES_THE_FIRST", True)
    verification = verify(MODELS["integer shifted on a vector"].build(), skip_bn=True, parties=2, rounds=1)
    step = next(one for one in verification.entries if one.entry.key == "b.step")
    assert (step.planned, step.source_key) == (frozenset({Fate.MISPLACED}), None)
    assert (step.measured, step.right) == ((), False)
    assert verification.verdict is Verdict.WRONG


def test_the_module_is_not_changed() -> None:
    model = Net()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    verify(model, skip_bn=True)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_a_model_on_the_meta_device_and_a_profile_will_do() -> None:
    with torch.device("meta"):
        model = Last()
    assert verify(model, skip_bn=True).ok
    assert verify(profile(Last()), skip_bn=True).ok


def test_two_runs_are_one() -> None:
    assert verify(Net(), skip_bn=True) == verify(Net(), skip_bn=True)


def test_an_unordered_file_proves_nothing_of_skip_bn() -> None:
    from dataclasses import replace

    shuffled = replace(profile(Last()), ordered=False)
    assert verify(shuffled, skip_bn=True).verdict is Verdict.OPEN


def test_uninitialised_lazy_modules_are_refused() -> None:
    with pytest.raises(TargetError, match="run one forward"):
        verify(nn.Sequential(nn.LazyLinear(3)))
    for settings in (FlowerSettings(), NVFlareSettings()):
        with pytest.raises(TargetError, match=r"^0.weight has no shape yet: run one forward"):
            verify_exchange(nn.Sequential(nn.LazyLinear(3)), settings)


def test_too_few_parties_and_rounds() -> None:
    for arguments in ({"parties": 1}, {"rounds": 0}):
        with pytest.raises(ValueError, match="at least"):
            verify(Net(), **arguments)


# The wheel's own classes.

_NAMES = (
    "no norm",
    "norm last",
    "norm in the middle",
    "conv and norm, thrice",
    "equal shapes around",
    "nested",
    "nested without statistics",
    "tied weights at both ends",
    "norm without either",
    "instance norm with statistics",
    "frozen norm and a norm",
    "parametrized norm",
    "trained norm, middle",
    "integers around a norm",
    "a scalar parameter after a norm",
    "all float64",
)


@pytest.fixture(scope="module")
def runtime(secretflow_wheel: Path) -> Iterator[Any]:
    for module in ("numpy", "pandas", "scipy", "sparse", "torchmetrics", "tqdm"):
        pytest.importorskip(module)
    from bn_audit.live.wheel import opened

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with opened(secretflow_wheel) as loaded:
        yield loaded
    torch.set_num_threads(threads)


def _both(runtime: Any, model: nn.Module, strategy: str, aggregator: str, skip_bn: bool) -> tuple[Verification, ...]:
    from bn_audit.live.secretflow_engine import run_classes

    whole = profile(model)
    settings = settings_here(strategy, aggregator, skip_bn)
    planned = plan(whole, settings)
    contract = run_contract(whole, settings, planned, 3, 2)
    wheel = run_classes(runtime, model, whole, settings, 3, 2)
    return (
        judge(whole, settings, planned, contract, "contract", 3, 2, "model"),
        judge(whole, settings, planned, wheel, "wheel", 3, 2, "model"),
    )


@pytest.mark.secretflow
@pytest.mark.parametrize("name", _NAMES)
def test_both_engines_see_the_same(runtime: Any, name: str) -> None:
    complaints = []
    for strategy, aggregator in (("fed_avg_w", "plain"), ("fed_avg_w", "secure"), ("fed_avg_u", "plain")):
        for skip_bn in (False, True):
            contract, wheel = _both(runtime, MODELS[name].build(), strategy, aggregator, skip_bn)
            where = f"{strategy}, {aggregator}, skip_bn={skip_bn}"
            complaints += [f"{where}: {complaint}" for complaint in wheel.disagreements]
            chance = any(Fate.CORRUPT in one.planned for one in contract.entries)
            if not chance and contract.verdict is not wheel.verdict:
                complaints.append(f"{where}: {contract.verdict} and {wheel.verdict}")
            if contract.stop is None and wheel.stop is None:
                # Value by value: both are as far from FedBN as the other, where they are not at all.
                complaints += [
                    f"{where}: {a.entry.key} {a.right} and {b.right}"
                    for a, b in zip(contract.entries, wheel.entries, strict=True)
                    if a.right is not b.right
                ]
    assert not complaints, "\n".join(complaints)


@pytest.mark.secretflow
@pytest.mark.parametrize("strategy", ["fed_avg_g", "fed_prox", "fed_stc", "fed_scr", "scaffold", "moon"])
@pytest.mark.parametrize("name", ["no norm", "norm last", "norm in the middle"])
def test_other_strategies_do_as_planned(runtime: Any, strategy: str, name: str) -> None:
    aggregator = "sparse" if strategy in ("fed_stc", "fed_scr") else "plain"
    for skip_bn in (False, True):
        _, wheel = _both(runtime, MODELS[name].build(), strategy, aggregator, skip_bn)
        assert not wheel.disagreements


@pytest.mark.secretflow
def test_the_wheel_settles_what_the_plan_leaves_open(runtime: Any) -> None:
    contract, wheel = _both(runtime, nn.Sequential(nn.Linear(4, 3)), "fed_avg_g", "plain", False)
    assert contract.verdict is Verdict.OPEN
    assert wheel.verdict is Verdict.RIGHT


@pytest.mark.secretflow
def test_a_plan_that_is_wrong_is_told(runtime: Any) -> None:
    from bn_audit.live.secretflow_engine import run_classes

    model = Net()
    whole, settings = profile(model), settings_here("fed_avg_w", "plain", True)
    wrong = plan(profile(Last()), settings)
    entries = tuple(next(part for part in wrong.entries if part.key == entry.key) for entry in whole.entries)
    from dataclasses import replace

    run = run_classes(runtime, model, whole, settings, 2, 1)
    verification = judge(whole, settings, replace(wrong, entries=entries), run, "wheel", 2, 1, "Net")
    assert verification.verdict is Verdict.DISAGREES
    assert any(complaint.startswith("fc.weight: the plan says averaged") for complaint in verification.disagreements)


@pytest.mark.secretflow
def test_the_wheel_leaves_nothing_behind(secretflow_wheel: Path) -> None:
    import sys

    modules = set(sys.modules)
    model = Last()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    assert verify(model, skip_bn=True, engine=secretflow_wheel).ok
    left = {name.partition(".")[0] for name in set(sys.modules) - modules}
    assert not left & {"secretflow", "secretflow_fl", "jax"}
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert type(model) is Last


@pytest.mark.secretflow
def test_what_the_wheel_cannot_run_is_refused(secretflow_wheel: Path) -> None:
    for arguments, message in (
        ({"aggregator": "spu"}, "does not run in one process"),
        ({"strategy": "fed_gen", "aggregator": "fedgen"}, "last two arrays"),
        ({"secretflow_version": "1.5.0"}, "was asked for"),
    ):
        with pytest.raises(TargetError, match=message):
            verify(Last(), engine=secretflow_wheel, **arguments)
    with pytest.raises(TargetError, match="need a module"):
        verify(profile(Last()), engine=secretflow_wheel)


def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "secretflow-1.13.0b0-py3-none-any.whl"
    broken.write_bytes(b"no zip")
    with pytest.raises(TargetError, match="cannot be read as a wheel"):
        verify(Last(), engine=broken)
    with pytest.raises(TargetError, match="no such file; an engine is contract, secretflow"):
        verify(Last(), engine=tmp_path / "none.whl")


def test_what_cannot_be_imported_of_a_wheel_is_told(tmp_path: Path) -> None:
    import zipfile

    wheel = tmp_path / "secretflow-1.13.0b0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "secretflow/security/aggregation/aggregator.py", "raise RuntimeError('built for another torch')"
        )
    with pytest.raises(
        TargetError, match=r"none-any\.whl: cannot be imported here: RuntimeError: built for another torch"
    ):
        verify(Last(), engine=wheel)


def _with(name: str, tensor: Any) -> nn.Module:
    model = Last()
    model.register_buffer(name, tensor)
    return model


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"])
def test_dtypes_that_cannot_add_go_through_rounds(dtype: str, secretflow_wheel: Path) -> None:
    from bn_audit.clients import flower_settings
    from bn_audit.live.verify import verify_exchange

    model = _with("odd", torch.ones(3).to(getattr(torch, dtype)))
    settings = flower_settings(None, {"keep_norms": True})
    assert verify_exchange(model, settings).verdict in (Verdict.OPEN, Verdict.STOPS)
    real = verify(model, skip_bn=True, engine=secretflow_wheel, parties=2, rounds=1)
    assert real.verdict is verify(model, skip_bn=True, parties=2, rounds=1).verdict


@pytest.mark.parametrize("dtype", ["float8_e8m0fnu", "float4_e2m1fn_x2", "bits8", "int4", "complex32"])
def test_dtypes_that_have_no_mean_are_refused_in_words(dtype: str) -> None:
    with pytest.raises(TargetError, match=f"odd has the dtype {dtype}, which cannot be averaged"):
        party_states(profile(_with("odd", torch.empty(3, dtype=getattr(torch, dtype)))), 2)


@pytest.mark.filterwarnings("ignore:.*[Ss]parse")
def test_a_sparse_entry_proves_nothing() -> None:
    model = _with("adjacency", torch.eye(3).to_sparse())
    assert verify(Last(), skip_bn=True).ok
    assert verify(model, skip_bn=True).verdict is Verdict.OPEN


def test_extra_state_of_the_root_proves_nothing_of_skip_bn(secretflow_wheel: Path) -> None:
    class Counting(Last):
        def get_extra_state(self) -> object:
            return torch.zeros(2)

        def set_extra_state(self, state: object) -> None:
            pass

    found = verify(Counting(), skip_bn=True)
    assert found.verdict is Verdict.OPEN
    assert "the keys of the state dict are not those that torch would give" in found.notes[0]
    real = verify(Counting(), skip_bn=True, engine=secretflow_wheel, parties=2, rounds=1)
    assert real.stop is not None and "no attribute '_extra_state'" in real.stop.text


def test_a_wrapped_model_keeps_what_has_a_local_name_and_another(secretflow_wheel: Path) -> None:
    model = Net()
    model.fc.bias = nn.Parameter(torch.zeros(2))
    model.scale = nn.LayerNorm(4)
    model.scale.weight = model.bn.weight
    for engine in ("contract", secretflow_wheel):
        found = verify(model, skip_bn=True, wrapped=Wrapping(), engine=engine, parties=2, rounds=1)
        assert found.verdict is Verdict.RIGHT
        assert _fates(found)["scale.weight"] == (Fate.LOCAL,)


def test_extra_state_beside_a_wrapped_model_is_no_error_of_the_frameworks(secretflow_wheel: Path) -> None:
    class Noted(Last):
        def get_extra_state(self) -> object:
            return {"epoch": 1}

        def set_extra_state(self, state: object) -> None:
            pass

    found = verify(nn.Sequential(Noted()), skip_bn=True, wrapped=Wrapping(), engine=secretflow_wheel, rounds=1)
    assert found.stop is None


@pytest.fixture(params=["meta", "half", "no gradients"])
def unusual(request: pytest.FixtureRequest) -> Iterator[None]:
    """Torch as the program of a model may set it."""
    device, dtype, gradients = torch.get_default_device(), torch.get_default_dtype(), torch.is_grad_enabled()
    try:
        if request.param == "meta":
            torch.set_default_device("meta")
        elif request.param == "half":
            torch.set_default_dtype(torch.float16)
        else:
            torch.set_grad_enabled(False)
        yield
    finally:
        torch.set_default_device(None if device.type == "cpu" else device)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)


def test_what_a_program_sets_of_torch_matters_to_no_round(unusual: None, secretflow_wheel: Path) -> None:
    with torch.device("cpu"):
        model = Last().float()
    before = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    for engine in ("contract", secretflow_wheel):
        assert verify(model, skip_bn=True, engine=engine, parties=2, rounds=1).verdict is Verdict.RIGHT
    assert (torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()) == before


class _Frozen(nn.Module):
    """Torchvision's FrozenBatchNorm2d: four buffers."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(4))


@pytest.mark.parametrize("skip_bn", [False, True])
def test_the_mean_of_frozen_layers_is_what_they_hold(skip_bn: bool, secretflow_wheel: Path) -> None:
    from bn_audit.inspection import judge as inspected

    model = nn.ModuleDict({"conv": nn.Conv2d(1, 4, 3), "frozen": _Frozen(), "fc": nn.Linear(4, 2)})
    settings = settings_here("fed_avg_w", "plain", skip_bn)
    assert inspected(profile(model), settings).verdict.value == "right"
    for engine in ("contract", secretflow_wheel):
        found = verify(model, skip_bn=skip_bn, engine=engine, parties=2, rounds=1)
        assert found.verdict is Verdict.RIGHT
        assert Fate.AVERAGED in _fates(found)["frozen.running_mean"]
    misplaced = nn.ModuleDict({"bn": nn.BatchNorm2d(4), "frozen": _Frozen(), "fc": nn.Linear(4, 2)})
    wrong = verify(misplaced, skip_bn=True, parties=2, rounds=1).wrong
    assert "frozen.weight" in [one.entry.key for one in wrong]
