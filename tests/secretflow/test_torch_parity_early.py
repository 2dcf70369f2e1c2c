"""SecretFlow 1.5 and 1.6 beside their plan, on the last of their releases.

Before 1.7 the ``train_step`` of fed_avg_w and fed_prox sent everything, whatever ``skip_bn``: only the exchange that
begins ``fit`` left BatchNorm out, and every load. So layers behind a BatchNorm were averaged after all, and
SecureAggregator met the integer counter one training later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
for _module in ("numpy", "pandas", "scipy", "sparse", "torchmetrics", "tqdm"):
    pytest.importorskip(_module)

from bn_audit.exchange.secretflow import plan  # noqa: E402
from bn_audit.live import secretflow_runtime as runtime  # noqa: E402
from bn_audit.live.secretflow_engine import Watch  # noqa: E402
from tests.secretflow.judge import disagreements_of, disagreements_of_verify, settings_of  # noqa: E402
from tests.secretflow.measure import RATE, measure  # noqa: E402
from tests.secretflow.models import MODELS  # noqa: E402
from tests.secretflow.profiles import profile_of  # noqa: E402

pytestmark = [pytest.mark.secretflow, pytest.mark.filterwarnings("ignore")]

_MODELS = (
    "no norm",
    "norm last",
    "norm in the middle",
    "conv and norm, thrice",
    "equal shapes around",
    "nested",
    "norm shared with a block",
    "norm without either",
    "trained norm, middle",
    "integers around a norm",
    "integer after a norm",
    "a bfloat16 norm",
    "a float64 norm last",
)


@pytest.fixture(scope="module")
def sf(early_secretflow_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Runtime]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with runtime.loaded(early_secretflow_wheel, tmp_path_factory.mktemp("wheel")) as loaded:
        yield loaded
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", _MODELS)
def test_plan_and_run_agree(sf: runtime.Runtime, name: str) -> None:
    model = MODELS[name]
    profile = profile_of(model.build())
    disagreements = []
    for strategy in ("fed_avg_w", "fed_prox"):
        for aggregator in ("plain", "secure", "sparse"):
            settings = replace(settings_of(strategy, aggregator, True), secretflow_version="1.6.1b0")
            planned = plan(profile, settings)
            watch = Watch.of(profile, settings, model.parties, RATE)
            measured = measure(sf, model, strategy, aggregator, True, beside=watch)
            for complaint in (
                *disagreements_of(profile, planned, measured, strategy, two_kinds=True),
                *disagreements_of_verify(profile, planned, settings, watch, measured),
            ):
                disagreements.append(f"{strategy}, {aggregator}: {complaint}")
    assert not disagreements, "\n".join(disagreements)
