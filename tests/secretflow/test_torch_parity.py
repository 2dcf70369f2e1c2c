"""The plan of SecretFlow's torch backend beside what its own classes do.

Each cell trains for real and is compared fate by fate, and error by error: type, text and the training in which it
comes; by a judgement of its own, and by that of ``verify`` on the same run. No cell is left out. Cells in which an
entry is rebuilt from uninitialised memory are compared up to there: what happens then, an error among it, is chance.
fed_gen runs on the models whose last layer is what its server takes it to be, moon and fed_gen on those with the
methods they ask for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
for _module in ("numpy", "pandas", "scipy", "sparse", "torchmetrics", "tqdm"):
    pytest.importorskip(_module)

from bn_audit.exchange.secretflow import SecretFlowSettings, plan  # noqa: E402
from bn_audit.live import secretflow_runtime as runtime  # noqa: E402
from bn_audit.live.secretflow_engine import Watch  # noqa: E402
from tests.secretflow.judge import disagreements_of, disagreements_of_verify, settings_of  # noqa: E402
from tests.secretflow.measure import RATE, measure  # noqa: E402
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


@pytest.mark.parametrize("name", MODELS)
def test_plan_and_run_agree(sf: runtime.Runtime, name: str) -> None:
    model = MODELS[name]
    profile = profile_of(model.build())
    disagreements = []
    for strategy_name, aggregator, skip_bn in _cells(model):
        settings = settings_of(strategy_name, aggregator, skip_bn)
        planned = plan(profile, settings)
        watch = Watch.of(profile, settings, model.parties, RATE)
        measured = measure(sf, model, strategy_name, aggregator, skip_bn, beside=watch)
        for complaint in (
            *disagreements_of(profile, planned, measured, strategy_name),
            *disagreements_of_verify(profile, planned, settings, watch, measured),
        ):
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
        planned = plan(profile_of(model.build()), settings_of("fed_gen", aggregator, False))
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
