"""``verify`` beside SecretFlow's own classes: the same states, value by value, in every cell.

A cell is a model, a strategy, an aggregator and ``skip_bn``. In each, the rounds are run by the plan and by the wheel's
classes. Whose value every entry holds is read off the tensors after each exchange, with no tolerance but the rounding
of the arithmetic, and has to be what was planned; so have the error, its text and the training it comes in, and the
verdict. What does not run in one process has to be refused, in these very words.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
for _module in ("numpy", "pandas", "scipy", "sparse", "torchmetrics", "tqdm"):
    pytest.importorskip(_module)

from torch import nn  # noqa: E402
from torch.nn.modules.batchnorm import _BatchNorm  # noqa: E402

from bn_audit.exchange.plan import Fate  # noqa: E402
from bn_audit.exchange.secretflow import plan  # noqa: E402
from bn_audit.live.errors import TargetError  # noqa: E402
from bn_audit.live.profile import profile  # noqa: E402
from bn_audit.live.secretflow_engine import run_classes  # noqa: E402
from bn_audit.live.verify import judge, run_contract, settings_here  # noqa: E402
from bn_audit.live.wheel import opened  # noqa: E402
from bn_audit.verification import Verdict, Verification  # noqa: E402
from tests.secretflow.models import MODELS  # noqa: E402

pytestmark = [pytest.mark.secretflow, pytest.mark.filterwarnings("ignore")]

_STRATEGIES = ("fed_avg_w", "fed_avg_g", "fed_avg_u", "fed_prox", "fed_stc", "fed_scr", "scaffold", "moon", "fed_gen")
_AGGREGATORS = ("plain", "secure", "sparse", "server_agg_method", "fedgen", "spu")
_PARTIES, _ROUNDS = 3, 2


@pytest.fixture(scope="module")
def runtime(secretflow_wheel: Path) -> Iterator[Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with opened(secretflow_wheel) as loaded:
        secure, of_fed_gen = loaded.SecureAggregator, loaded.StatefulFedGenAggregator

        @cache
        def agreed(kind: Any, devices: tuple[Any, ...], *more: Any) -> Any:
            return kind(devices[0], list(devices), *more)

        def of_generator(device: Any, devices: Any, actor: Any) -> Any:
            aggregator = copy.deepcopy(agreed(of_fed_gen, tuple(devices), None))
            aggregator.server_actor = actor
            return aggregator

        # Agreeing on keys takes longer than all else. Copies, since a run that fails leaves the masks out of step.
        loaded.SecureAggregator = lambda device, devices: copy.deepcopy(agreed(secure, tuple(devices)))
        loaded.StatefulFedGenAggregator = of_generator
        yield loaded
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", MODELS)
def test_every_cell(runtime: Any, name: str) -> None:
    complaints = []
    for strategy, aggregator, skip_bn in product(_STRATEGIES, _AGGREGATORS, (False, True)):
        model = MODELS[name].build()
        refused = _refusal(model, strategy, aggregator, skip_bn)
        try:
            contract, wheel = _both(runtime, model, strategy, aggregator, skip_bn)
            found = list(_differences(contract, wheel)) if refused is None else [f"it runs, and should not: {refused}"]
        except TargetError as error:
            found = [] if str(error) == refused else [f"it is refused: {error}"]
        complaints += [f"{strategy}, {aggregator}, skip_bn={skip_bn}: {complaint}" for complaint in found]
    assert not complaints, "\n".join(complaints)


def _both(runtime: Any, model: nn.Module, strategy: str, aggregator: str, skip_bn: bool) -> tuple[Verification, ...]:
    whole, settings = profile(model), settings_here(strategy, aggregator, skip_bn)
    planned = plan(whole, settings)
    runs = {
        "wheel": run_classes(runtime, model, whole, settings, _PARTIES, _ROUNDS),
        "contract": run_contract(whole, settings, planned, _PARTIES, _ROUNDS),
    }
    wheel, contract = (
        judge(whole, settings, planned, run, engine, _PARTIES, _ROUNDS, "model") for engine, run in runs.items()
    )
    return contract, wheel


def _differences(contract: Verification, wheel: Verification) -> Iterator[str]:
    yield from wheel.disagreements
    if any(Fate.CORRUPT in one.planned for one in contract.entries):
        # What follows from uninitialised memory is chance.
        return
    if contract.verdict is Verdict.OPEN:
        # What the plan leaves open is whether the round stops; of what it says it is certain.
        if wheel.verdict not in (Verdict.RIGHT, Verdict.STOPS):
            yield f"open, and {wheel.verdict}"
    elif contract.verdict is not wheel.verdict:
        yield f"{contract.verdict} by the plan, {wheel.verdict} by the classes"
    if wheel.stop is not None:
        return
    for ours, theirs in zip(contract.entries, wheel.entries, strict=True):
        if ours.right is not theirs.right:
            yield f"{ours.entry.key}: right is {ours.right} by the plan, {theirs.right} by the classes"
        if contract.stop is None and not set(ours.measured) & set(theirs.measured):
            yield f"{ours.entry.key}: {ours.measured} by the plan, {theirs.measured} by the classes"


def _refusal(model: nn.Module, strategy: str, aggregator: str, skip_bn: bool) -> str | None:
    """The words in which a cell is refused; None if it runs."""
    if strategy == "fed_gen" or aggregator == "fedgen":
        tops = {key for key, module in model.named_children() if isinstance(module, _BatchNorm)} if skip_bn else set()
        sent = [item for item in model.state_dict().items() if item[0].partition(".")[0] not in tops][-2:]
        shapes = [tuple(tensor.shape) for _, tensor in sent]
        if [len(shape) for shape in shapes] != [2, 1] or shapes[0][0] != shapes[1][0] or shapes[0][0] < 2:
            here = " and ".join(f"{key} {list(tensor.shape)}" for key, tensor in sent)
            return (
                "fed_gen's server takes the last two arrays that it is sent for weight and bias of a linear layer; "
                f"here they are {here or 'none'}"
            )
    if aggregator == "spu":
        spu = "the aggregator spu does not run in one process; plain, secure, sparse, server_agg_method do"
        return f"{spu}; --engine ray runs it"
    return None


def test_enough_runs(runtime: Any) -> None:
    """Most cells are compared, not refused: of every strategy and aggregator but SPU some cell ends well."""
    assert (
        sum(_refusal(MODELS["no norm"].build(), *cell, True) is None for cell in product(_STRATEGIES, _AGGREGATORS))
        == 45
    )
    ends = {
        (strategy, aggregator): _both(runtime, MODELS["no norm"].build(), strategy, aggregator, True)[1].stop is None
        for strategy, aggregator in product(_STRATEGIES, _AGGREGATORS)
        if aggregator != "spu"
    }
    assert {strategy for (strategy, _), well in ends.items() if well} == set(_STRATEGIES)
    assert {aggregator for (_, aggregator), well in ends.items() if well} == set(_AGGREGATORS) - {"spu"}
