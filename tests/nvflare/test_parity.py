"""The plan beside NVFlare's own classes: what is handed out, sent, averaged and loaded, and the errors.

``BN_AUDIT_JOBS=2000`` draws so many jobs; the default is a sample.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("numpy")

from bn_audit.exchange.nvflare import STRATEGIES, NVFlareSettings  # noqa: E402
from bn_audit.loading import Covers, How  # noqa: E402
from bn_audit.profile import Profile  # noqa: E402
from tests.exchange.handwritten.models import COMPOSED, MODELS, SINGLE  # noqa: E402
from tests.nvflare.run import disagreements  # noqa: E402
from tests.nvflare.runtime import loaded  # noqa: E402
from tests.secretflow.profiles import profile_of  # noqa: E402

_JOBS = int(os.environ.get("BN_AUDIT_JOBS", "320"))
_CHUNKS = 4
_PROFILES = {name: profile_of(build()) for name, build in MODELS.items()}

pytestmark = [
    pytest.mark.nvflare,
    pytest.mark.skipif(
        tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13), reason="the texts are those of torch 2.13"
    ),
]


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    torch.set_num_threads(1)
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(level)


@pytest.fixture(scope="module")
def nvflare(nvflare_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with loaded(nvflare_wheel, tmp_path_factory.mktemp("nvflare")) as modules:
        yield modules


@pytest.mark.parametrize("weighed", [True, False])
@pytest.mark.parametrize("transfer", ["full", "diff"])
@pytest.mark.parametrize("exchange", ["numpy", "pytorch"])
@pytest.mark.parametrize("strategy", ["fedavg", "scatter_and_gather"])
def test_whole_state_dicts(nvflare: Any, strategy: str, exchange: Any, transfer: Any, weighed: bool) -> None:
    settings = NVFlareSettings(strategy, exchange, transfer, weigh_by_local_iter=weighed)
    models = [*COMPOSED, *random.Random(f"{settings}").sample(sorted(SINGLE), 20)]
    _assert_agreement(nvflare, [(settings, name) for name in models])


@pytest.mark.parametrize("chunk", range(_CHUNKS))
def test_jobs_drawn(nvflare: Any, chunk: int) -> None:
    rng = random.Random(chunk)
    names = [rng.choice([*COMPOSED] * 3 + [*SINGLE]) for _ in range(_JOBS // _CHUNKS)]
    _assert_agreement(nvflare, [(_job(rng, _PROFILES[name]), name) for name in names])


def _job(rng: random.Random, profile: Profile) -> NVFlareSettings:
    """A job that may leave something out at any of the places where it can be."""
    covers = [
        Covers(),
        Covers(),
        Covers(parameters=True),
        Covers(floating=True),
        Covers(without=frozenset(e.key for e in profile.entries if "bn" in e.key or "1." in e.key)),
        Covers(without=frozenset(e.key for e in profile.entries if "num_batches" in e.key)),
    ]
    return NVFlareSettings(
        strategy=rng.choice(STRATEGIES),
        exchange=rng.choice(["numpy", "pytorch"]),
        transfer=rng.choice(["full", "diff"]),
        exclude_vars=rng.choice([None, None, r"bn|1\.", "num_batches", "running"]),
        hold_back=rng.choice([None, None, None, "num_batches", r"1\."]),
        sends=rng.choice(covers),
        takes=rng.choice([None, None, *covers]),
        load=rng.choice([How.STATE_DICT, How.LENIENT, How.LENIENT, How.COPY]),
        weigh_by_local_iter=rng.random() < 0.8,
    )


def _assert_agreement(nvflare: Any, cells: list[tuple[NVFlareSettings, str]]) -> None:
    found = []
    for settings, name in cells:
        for complaint in disagreements(nvflare, settings, _PROFILES[name], MODELS[name]):
            found.append(f"{name}, {settings}: {complaint}")
    assert not found, "\n".join(found)
