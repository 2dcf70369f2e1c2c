"""The plan of SecretFlow's torch backend beside what its own classes do.

Each cell trains for real and is compared fate by fate, and error by error: type, text and the training in which it
comes. No cell is left out. Cells in which an entry is rebuilt from uninitialised memory are compared up to there: what
happens then, an error among it, is chance. fed_gen runs on the models whose last layer is what its server takes it to
be, moon and fed_gen on those with the methods they ask for.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")
for _module in ("pandas", "scipy", "sparse", "torchmetrics", "tqdm"):
    pytest.importorskip(_module)

from bn_audit.exchange.fedbn import expected_fates  # noqa: E402
from bn_audit.exchange.plan import EntryPlan, Fate, Plan  # noqa: E402
from bn_audit.exchange.secretflow import SecretFlowSettings, plan, strategy  # noqa: E402
from bn_audit.profile import Profile, StateEntry  # noqa: E402
from tests.secretflow import runtime  # noqa: E402
from tests.secretflow.measure import Measured, Outcome, measure  # noqa: E402
from tests.secretflow.models import MODELS, Model  # noqa: E402
from tests.secretflow.profiles import profile_of  # noqa: E402

pytestmark = [
    pytest.mark.secretflow,
    pytest.mark.filterwarnings("ignore"),  # What the wheel and NumPy say of overflows and of printed logs.
]

_STRATEGIES = ("fed_avg_w", "fed_avg_g", "fed_avg_u", "fed_prox", "fed_stc", "fed_scr", "scaffold", "moon", "fed_gen")
_AGGREGATORS = ("plain", "secure", "sparse")


@pytest.fixture(scope="module")
def sf(secretflow_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Runtime]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with runtime.loaded(secretflow_wheel, tmp_path_factory.mktemp("wheel")) as loaded:
        yield loaded
    torch.set_num_threads(threads)


def _cells(model: Model) -> Iterator[tuple[str, str, bool]]:
    for name in _STRATEGIES:
        if name in ("moon", "fed_gen") and not model.net:
            continue
        if name == "fed_gen" and model.latent is None:
            continue
        for aggregator in ("fedgen",) if name == "fed_gen" else _AGGREGATORS:
            for skip_bn in (False, True):
                yield name, aggregator, skip_bn


def _settings(name: str, aggregator: str, skip_bn: bool) -> SecretFlowSettings:
    return SecretFlowSettings(
        backend="torch",
        strategy=name,
        aggregator=aggregator,
        skip_bn=skip_bn,
        torch_version=torch.__version__,
        numpy_version=np.__version__,
        base_module=False,
    )


@pytest.mark.parametrize("name", MODELS)
def test_plan_and_run_agree(sf: runtime.Runtime, name: str) -> None:
    model = MODELS[name]
    profile = profile_of(model.build())
    disagreements = []
    for strategy_name, aggregator, skip_bn in _cells(model):
        planned = plan(profile, _settings(strategy_name, aggregator, skip_bn))
        measured = measure(sf, model, strategy_name, aggregator, skip_bn)
        for complaint in _disagreements(profile, planned, measured, strategy_name):
            disagreements.append(f"{strategy_name}, {aggregator}, skip_bn={skip_bn}: {complaint}")
    assert not disagreements, "\n".join(disagreements)


def test_enough_models_are_tried() -> None:
    assert len(MODELS) >= 35


def test_fed_stc_needs_a_server(sf: runtime.Runtime) -> None:
    model = MODELS["no norm"]
    measured = measure(sf, model, "fed_stc", "sparse", False, server=False)
    settings = SecretFlowSettings("torch", "fed_stc", "sparse", torch_version=torch.__version__, server=False)
    planned = plan(profile_of(model.build()), settings)
    assert planned.error is not None
    assert measured.error == (planned.error.type, planned.error.text, planned.error.round)


def test_fed_gen_needs_its_own_aggregator(sf: runtime.Runtime) -> None:
    model = MODELS["no norm"]
    for aggregator in _AGGREGATORS:
        measured = measure(sf, model, "fed_gen", aggregator, False)
        planned = plan(profile_of(model.build()), _settings("fed_gen", aggregator, False))
        assert planned.error is not None
        assert measured.error is not None
        assert (planned.error.type, planned.error.round) == (measured.error[0], measured.error[2])


def test_a_base_module_gives_its_own_name(sf: runtime.Runtime) -> None:
    class Named(sf.BaseModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))

        def forward(self, x: Any) -> Any:
            return self.body(x).mean((2, 3))

    measured = measure(sf, Model(Named), "fed_avg_w", "plain", False)
    settings = SecretFlowSettings("torch", "fed_avg_w", "plain", torch_version=torch.__version__, base_module=True)
    planned = plan(profile_of(Named()), settings)
    assert planned.error is not None
    assert planned.error.text_certain
    assert measured.error == (planned.error.type, planned.error.text, planned.error.round)


def _disagreements(profile: Profile, planned: Plan, measured: Measured, name: str) -> Iterator[str]:
    chance = any(Fate.CORRUPT in entry.possible for entry in planned.entries)
    known = strategy("torch", name)
    assert known is not None
    if planned.error is not None:
        error = planned.error
        if measured.error is None:
            yield f"should stop with {error.type}, and runs"
        elif chance and measured.error[0] == "RuntimeError":
            return
        elif measured.error != (error.type, error.text, error.round):
            yield f"should stop with {(error.type, error.text, error.round)}, and stops with {measured.error}"
        elif not (error.text_certain or chance or "sparse." in error.text):
            yield f"the text is exact, and not taken for certain: {error.text}"
        return
    if measured.error is not None and not (chance and measured.error[0] == "RuntimeError"):
        yield f"should run, and stops with {measured.error}"
        return
    if planned.stops is None and not (chance or known.trusting):
        yield "a complete profile, and the plan leaves open whether the round stops"
    if not measured.exchanges and not chance:
        yield "nothing was exchanged"
    averaged = any(entry.fate is Fate.AVERAGED for entry in planned.entries)
    if averaged and not chance and planned.drifts not in (None, measured.drifted):
        yield f"drifts: plan {planned.drifts}, run {measured.drifted}"
    rows = zip(profile.entries, expected_fates(profile), planned.entries, strict=True)
    for entry, expected, part in rows:
        if Fate.CORRUPT not in part.possible:
            yield from _entry_disagreements(entry, expected, part, measured, name, chance)


def _entry_disagreements(
    entry: StateEntry, expected: Set[Fate], part: EntryPlan, measured: Measured, name: str, chance: bool
) -> Iterator[str]:
    if part.fate is None:
        yield f"{entry.key}: a complete profile, and the fate is open: {part.possible}"
        return
    kept = Fate.LOCAL if Fate.LOCAL in expected else Fate.STALE
    outcome: Outcome = (None if part.fate is kept else part.fate, part.source_key)
    exchanges = measured.exchanges[:1] if chance else measured.exchanges
    if name == "fed_avg_g" and exchanges:
        # Weights first, which lasts where it puts a tensor in the wrong place; then gradients.
        exchanges = exchanges[:1] if part.fate is Fate.MISPLACED else exchanges[1:]
    for number, exchange in enumerate(exchanges):
        if outcome not in exchange[entry.key]:
            yield f"{entry.key}: plan {outcome}, exchange {number} {set(exchange[entry.key])}"
            return
    told_apart = entry.shape and 0 not in entry.shape and entry.dtype in ("float16", "float32", "float64")
    if told_apart and exchanges and name != "fed_avg_g":
        left = frozenset.intersection(*(exchange[entry.key] for exchange in exchanges))
        if len(left) != 1:
            yield f"{entry.key}: the run does not tell {left} apart"
