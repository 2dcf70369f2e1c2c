"""SecretFlow's simulation in Ray, as engine.

How it starts and fails is tried with small packages put in place of SecretFlow and Ray. What it runs needs both, and is
run where this interpreter has them (``benchmarks/secretflow_ray.sh`` makes such a place): each case with the engine in
debug mode beside it, which has to come to the same.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bn_audit.cli.verify import command  # noqa: E402
from bn_audit.live import ray_simulation  # noqa: E402
from bn_audit.live.errors import MissingExtra, TargetError  # noqa: E402
from bn_audit.live.verify import verify  # noqa: E402
from bn_audit.verification import Verdict  # noqa: E402
from bn_audit.wrapping import Wrapping  # noqa: E402
from tests.live.test_installed import Install, Last, _told, install  # noqa: E402, F401

_CLASSES = "FLModel = TorchModel = PlainAggregator = FedNdarray = object\n"
_MODES = """
def get_current_cluster_idx(): return -1
def get_distribution_mode(): return "production"
def set_distribution_mode(mode): assert mode == "production"
"""


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A Ray that does nothing."""
    module = types.ModuleType("ray")
    module.is_initialized = lambda: False  # type: ignore[attr-defined]
    module.__spec__ = importlib.util.spec_from_loader("ray", None)
    pickles = types.ModuleType("ray.cloudpickle")
    pickles.register_pickle_by_value = lambda module: None  # type: ignore[attr-defined]
    pickles.unregister_pickle_by_value = lambda module: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", module)
    monkeypatch.setitem(sys.modules, "ray.cloudpickle", pickles)
    return module


@pytest.fixture
def put(install: Install, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """Installs a SecretFlow whose ``init`` runs some code."""

    def put(init: str) -> None:
        from bn_audit.live import installed

        monkeypatch.setattr(installed, "_PLACES", dict.fromkeys(installed._PLACES, ("secretflow",)))
        text = f"{_CLASSES}\ndef shutdown(): pass\ndef init(parties, _temp_dir, **rest):\n    {init}\n"
        install("1.13.0b0", __init__=text, distributed=_MODES)

    return put


def test_without_ray(put: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put("raise AssertionError")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else found(name, *more))
    with pytest.raises(MissingExtra, match=r"Ray is not installed here.*--engine secretflow runs the same classes"):
        verify(Last(), engine="ray")
    (tmp_path / "model.py").write_text("from torch import nn\n\nmodel = nn.Sequential(nn.Linear(2, 2))\n")
    arguments = [f"{tmp_path / 'model.py'}:model", "--framework", "secretflow", "--engine", "ray"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert "Starting SecretFlow's simulation in Ray" in result.output
    assert "Ray is not installed here" in result.output


def test_without_secretflow(monkeypatch: pytest.MonkeyPatch) -> None:
    from bn_audit.live import installed

    monkeypatch.setattr(installed, "DISTRIBUTIONS", ())
    monkeypatch.setitem(sys.modules, "secretflow", None)
    with pytest.raises(MissingExtra, match="SecretFlow is not installed here"):
        verify(Last(), engine="ray")


def test_what_ray_wrote_down_is_kept_when_it_does_not_start(put: Any, ray: types.ModuleType) -> None:
    put(
        "import pathlib; logs = pathlib.Path(_temp_dir, 'session_2026', 'logs'); logs.mkdir(parents=True); "
        "(logs / 'raylet.err').write_text('no memory is left\\n'); (logs / 'other.log').write_text('of no interest'); "
        "raise RuntimeError('no port is free')"
    )
    with pytest.raises(TargetError, match="simulation failed: RuntimeError: no port is free; what Ray wrote") as raised:
        verify(Last(), engine="ray")
    match = re.search(r"is in (\S+\.log)$", str(raised.value))
    assert match is not None
    kept = Path(match[1])
    assert kept.read_text() == "==> raylet.err <==\nno memory is left\n\n"
    kept.unlink()


def test_one_in_use_is_left_alone(put: Any, ray: types.ModuleType) -> None:
    put("raise AssertionError")
    ray.is_initialized = lambda: True  # type: ignore[attr-defined]
    with pytest.raises(TargetError, match=r"Ray is in use in this process: call ray\.shutdown\(\) before"):
        verify(Last(), engine="ray")


def test_what_is_sent_by_value() -> None:
    """The user's own modules; what is installed, and ours, every process has."""
    assert ray_simulation._is_users(sys.modules[__name__])
    assert not ray_simulation._is_users(sys.modules["torch.nn.modules.linear"])
    assert not ray_simulation._is_users(sys.modules["bn_audit.live.stand_in"])
    assert not ray_simulation._is_users(re)


def test_the_error_of_a_process_that_could_not_be_made() -> None:
    text = """The actor died because of an error raised in its creation task, ray::Actor.__init__() (pid=1)
  File "fl_base.py", line 57, in __init__
    self.model = module.build(builder_base, self.exe_device)
                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
package.errors.OwnError: it does not fit: 3 of 4
and that is all"""
    error = ray_simulation._told(text)
    assert (type(error).__name__, str(error)) == ("OwnError", "it does not fit: 3 of 4\nand that is all")
    assert ray_simulation._told("The actor died unexpectedly.") is None


# The real one.

_HERE = all(importlib.util.find_spec(name) is not None for name in ("secretflow", "ray"))


class Block(nn.Module):
    """BatchNorm in a block."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.fc = nn.Linear(16, 2)


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not _HERE, reason="SecretFlow and Ray are not installed here")
@pytest.mark.parametrize(("wrapped", "verdict"), [(True, Verdict.RIGHT), (False, Verdict.WRONG)])
def test_secure_computation(wrapped: bool, verdict: Verdict) -> None:
    """SPUAggregator needs processes. Nothing stops there, and nested BatchNorm is averaged, unless it is kept out."""
    one = verify(
        Block(),
        aggregator="spu",
        skip_bn=True,
        wrapped=Wrapping() if wrapped else None,
        parties=2,
        engine="ray",
    )
    assert not one.disagreements
    assert one.verdict is verdict


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not _HERE, reason="SecretFlow and Ray are not installed here")
@pytest.mark.parametrize(
    ("strategy", "aggregator", "skip_bn", "wrapped", "verdict"),
    [
        ("fed_avg_w", "plain", True, True, Verdict.RIGHT),
        ("fed_avg_w", "secure", True, True, Verdict.RIGHT),
        ("fed_stc", "sparse", True, True, Verdict.RIGHT),
        ("fed_avg_w", "plain", True, False, Verdict.STOPS),
        ("fed_prox", "plain", True, True, Verdict.STOPS),
        ("fed_avg_w", "plain", False, True, Verdict.STOPS),
    ],
)
def test_it_comes_to_what_debug_mode_does(
    strategy: str, aggregator: str, skip_bn: bool, wrapped: bool, verdict: Verdict
) -> None:
    told = []
    for engine in ("ray", "secretflow"):
        one = verify(
            Block(),
            strategy=strategy,
            aggregator=aggregator,
            skip_bn=skip_bn,
            wrapped=Wrapping() if wrapped else None,
            parties=2,
            engine=engine,
        )
        assert not one.disagreements
        told.append(_told(one))
    assert told[0] == told[1]
    assert told[0][0] is verdict
