"""The plan beside Flower's own classes: clients and strategies of both APIs, fates, errors and their texts.

``BN_AUDIT_APPS=2000`` draws so many apps; the default is a sample.
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
np = pytest.importorskip("numpy")

from bn_audit.exchange.flower import STRATEGIES, FlowerSettings, named  # noqa: E402
from bn_audit.handwritten import Rebuild  # noqa: E402
from bn_audit.loading import Covers, How  # noqa: E402
from bn_audit.profile import Profile  # noqa: E402
from tests.exchange.handwritten.models import COMPOSED, MODELS, SINGLE  # noqa: E402
from tests.flower.run import disagreements  # noqa: E402
from tests.flower.runtime import loaded  # noqa: E402
from tests.secretflow.profiles import profile_of  # noqa: E402

_APPS = int(os.environ.get("BN_AUDIT_APPS", "320"))
_CHUNKS = 4
_PROFILES = {name: profile_of(build()) for name, build in MODELS.items()}

pytestmark = [
    pytest.mark.flower,
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
def flower(flower_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with loaded(flower_wheel, tmp_path_factory.mktemp("flower")) as modules:
        yield modules


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("api", ["numpy", "in place", "torch.Tensor", "message"])
def test_whole_state_dicts(flower: Any, api: str, strategy: str) -> None:
    settings = {
        "numpy": FlowerSettings(strategy=strategy, in_place=False),
        "in place": FlowerSettings(strategy=strategy, rebuild=Rebuild.FROM_NUMPY),
        "torch.Tensor": FlowerSettings(strategy=strategy, rebuild=Rebuild.TENSOR_CLASS),
        "message": FlowerSettings("message", strategy),
    }[api]
    models = [*COMPOSED, *random.Random(f"{api} {strategy}").sample(sorted(SINGLE), 16)]
    _assert_agreement(flower, [(settings, name) for name in models])


@pytest.mark.parametrize("chunk", range(_CHUNKS))
def test_apps_drawn(flower: Any, chunk: int) -> None:
    rng = random.Random(chunk)
    names = [rng.choice([*COMPOSED] * 3 + [*SINGLE]) for _ in range(_APPS // _CHUNKS)]
    _assert_agreement(flower, [(_app(rng, _PROFILES[name]), name) for name in names])


def test_an_early_release(early_flower_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It was written for NumPy 1, which had this name.
    monkeypatch.setattr(np, "float_", np.float64, raising=False)
    with loaded(early_flower_wheel, tmp_path) as modules:
        for strategy in STRATEGIES:
            settings = FlowerSettings(strategy=strategy, flwr_version="1.11.1")
            _assert_agreement(modules, [(settings, name) for name in COMPOSED])


def _app(rng: random.Random, profile: Profile) -> FlowerSettings:
    """An app that may filter on either side, or on both, and not alike."""
    covers = [
        Covers(),
        Covers(parameters=True),
        Covers(floating=True),
        Covers(without=named(profile, "bn", "1.")),
        Covers(without=named(profile, "running", "num_batches")),
        Covers(without=named(profile, "num_batches")),
        Covers(keys=named(profile, "weight", "bias")),
    ]
    return FlowerSettings(
        api=rng.choice(["numpy", "message"]),
        strategy=rng.choice(STRATEGIES),
        sends=rng.choice(covers),
        takes=rng.choice([None, None, *covers]),
        initial=rng.choice([None, None, Covers()]),
        rebuild=rng.choice(list(Rebuild)),
        load=rng.choice([How.STATE_DICT, How.LENIENT, How.LENIENT, How.COPY]),
        in_place=rng.random() < 0.7,
        server_step=rng.random() < 0.7,
    )


def _assert_agreement(flower: Any, cells: list[tuple[FlowerSettings, str]]) -> None:
    found = []
    for settings, name in cells:
        for complaint in disagreements(flower, settings, _PROFILES[name], MODELS[name]):
            found.append(f"{name}, {settings}: {complaint}")
    assert not found, "\n".join(found)
