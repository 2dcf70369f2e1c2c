"""The plan of a model made by ``local_batchnorm`` beside SecretFlow's own classes, in every cell.

A cell is a model, a strategy, an aggregator, ``skip_bn`` and what the wrapper does with integers. In each the wheel's
classes run a model that is wrapped; whose value every entry holds is read off the tensors after each exchange, and has
to be what was planned, as has the error, its text and the training it comes in.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
for _module in ("numpy", "pandas", "scipy", "sparse", "torchmetrics", "tqdm"):
    pytest.importorskip(_module)

from bn_audit.exchange.fedbn import expected_fates  # noqa: E402
from bn_audit.exchange.plan import Fate  # noqa: E402
from bn_audit.exchange.secretflow import plan  # noqa: E402
from bn_audit.live.errors import TargetError  # noqa: E402
from bn_audit.live.profile import profile  # noqa: E402
from bn_audit.live.secretflow_engine import run_classes  # noqa: E402
from bn_audit.live.verify import judge, run_contract, settings_here  # noqa: E402
from bn_audit.live.wheel import opened  # noqa: E402
from bn_audit.profile import Profile, StateEntry  # noqa: E402
from bn_audit.verification import Verdict  # noqa: E402
from bn_audit.wrapping import INTEGERS, Integers, Wrapping  # noqa: E402
from tests.secretflow.models import MODELS  # noqa: E402

pytestmark = [pytest.mark.secretflow, pytest.mark.filterwarnings("ignore")]

_SAME = ("fed_avg_w", "fed_stc", "fed_scr", "fed_gen")
_OTHER = ("fed_avg_g", "fed_avg_u", "fed_prox", "scaffold", "moon")
_AGGREGATORS = {"fed_gen": ("fedgen",), "fed_stc": ("sparse",), "fed_scr": ("sparse",)}
_PARTIES, _ROUNDS = 2, 1


@pytest.fixture(scope="module")
def runtime(secretflow_wheel: Path) -> Iterator[Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with opened(secretflow_wheel) as loaded:
        secure = loaded.SecureAggregator

        @cache
        def agreed(devices: tuple[Any, ...]) -> Any:
            return secure(devices[0], list(devices))

        # Agreeing on keys takes longer than all else. Copies, since a run that fails leaves the masks out of step.
        loaded.SecureAggregator = lambda device, devices: copy.deepcopy(agreed(tuple(devices)))
        yield loaded
    torch.set_num_threads(threads)


def _cells(state: Profile) -> Iterator[tuple[str, Integers, bool]]:
    """Where a part cannot make a difference, one of its values will do."""
    policies: tuple[Integers, ...] = INTEGERS if any(_is_integer(entry) for entry in state.entries) else ("refuse",)
    for strategy in (*_SAME, *_OTHER):
        for integers in policies:
            yield strategy, integers, True
    yield "fed_avg_w", "refuse", False


def _is_integer(entry: StateEntry) -> bool:
    return (entry.dtype or "").startswith(("int", "uint", "bool")) and entry.name != "num_batches_tracked"


@pytest.mark.parametrize("name", MODELS)
def test_every_cell(runtime: Any, name: str) -> None:
    model = MODELS[name].build()
    state = profile(model)
    complaints: list[str] = []
    right: set[str] = set()
    for strategy, integers, skip_bn in _cells(state):
        for aggregator in _AGGREGATORS.get(strategy, ("plain", "secure")):
            cell = f"{strategy}, {aggregator}, skip_bn={skip_bn}, integers={integers}"
            settings = replace(settings_here(strategy, aggregator, skip_bn), wrapped=Wrapping(None, integers))
            planned = plan(state, settings)
            if planned.stops is None and strategy not in ("fed_avg_g", "scaffold", "fed_gen"):
                complaints.append(f"{cell}: the plan leaves open whether the round stops")
            try:
                run = run_classes(runtime, model, state, settings, _PARTIES, _ROUNDS)
            except TargetError:
                continue  # The settings are not run in one process, or the model has no last layer for fed_gen.
            seen = judge(state, settings, planned, run, "wheel", _PARTIES, _ROUNDS, "model")
            complaints += [f"{cell}: {one}" for one in seen.disagreements]
            contract = judge(
                state,
                settings,
                planned,
                run_contract(state, settings, planned, _PARTIES, _ROUNDS),
                "contract",
                _PARTIES,
                _ROUNDS,
                "model",
            )
            if contract.verdict not in (seen.verdict, Verdict.OPEN):
                complaints.append(f"{cell}: the plan comes to {contract.verdict}, the wheel to {seen.verdict}")
            if seen.verdict is Verdict.RIGHT:
                right.add(strategy)
    assert not complaints, "\n".join(complaints)
    if _can_be_right(state):
        assert right >= {"fed_avg_w", "fed_stc", "fed_scr"}


def _can_be_right(state: Profile) -> bool:
    """Whether there is something to average, and nothing complex; integers may stay."""
    fates = expected_fates(state, integers_stay=True)
    shared = [entry.dtype or "" for entry, wanted in zip(state.entries, fates, strict=True) if Fate.AVERAGED in wanted]
    return bool(shared) and not any(dtype.startswith("complex") for dtype in shared)
