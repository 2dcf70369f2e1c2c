"""The SecretFlow that is installed, as engine.

What is refused is tried with small packages put in its place. What is run needs SecretFlow itself, device layer and Ray
included, and is run where this interpreter has it; CONTRIBUTING.md says how to come by one.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import bn_audit  # noqa: E402
from bn_audit.cli.verify import command  # noqa: E402
from bn_audit.federated.secretflow import local_batchnorm  # noqa: E402
from bn_audit.live import installed  # noqa: E402
from bn_audit.live.errors import MissingExtra, TargetError  # noqa: E402
from bn_audit.live.verify import verify  # noqa: E402
from bn_audit.verification import Verdict, Verification  # noqa: E402
from tests.secretflow.models import MODELS  # noqa: E402


class Last(nn.Module):
    """BatchNorm registered last: skip_bn is right."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4, 2)
        self.bn = nn.BatchNorm2d(4)


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package ``secretflow`` of the given files, in front of whatever is installed."""

    def known() -> dict[str, Any]:
        return {name: sys.modules[name] for name in sys.modules if name.startswith("secretflow")}

    real = known()
    for name in real:
        del sys.modules[name]

    def put(version: str, **files: str) -> None:
        (tmp_path / "secretflow").mkdir()
        for name, text in files.items():
            (tmp_path / "secretflow" / f"{name}.py").write_text(text)
        info = tmp_path / f"secretflow-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: secretflow\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path)

    yield put
    for name in known():
        del sys.modules[name]
    sys.modules.update(real)


_MODES = """
def get_current_cluster_idx(): return {active}
def get_distribution_mode(): return "production"
def set_distribution_mode(mode): assert mode == "production"
"""
_INIT = """
def init(parties, debug_mode): {init}
def shutdown(): pass
"""


def test_none_is_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "DISTRIBUTIONS", ())
    monkeypatch.setitem(sys.modules, "secretflow", None)
    with pytest.raises(MissingExtra, match=r"not installed here.*pip download --no-deps secretflow==1\.13"):
        verify(Last(), engine="secretflow")
    (tmp_path / "model.py").write_text("from torch import nn\n\nmodel = nn.Sequential(nn.Linear(2, 2))\n")
    arguments = [f"{tmp_path / 'model.py'}:model", "--framework", "secretflow", "--engine", "secretflow"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert "SecretFlow is not installed here" in result.output


def test_one_that_cannot_be_imported(install: Install) -> None:
    install("1.13.0b0", __init__="import no_such_device_layer")
    with pytest.raises(TargetError, match="cannot be imported: ModuleNotFoundError: No module named 'no_such_device"):
        verify(Last(), engine="secretflow")


def test_one_whose_import_raises(install: Install) -> None:
    install("1.13.0b0", __init__="raise RuntimeError('this chip is too old')")
    with pytest.raises(TargetError, match="cannot be imported: RuntimeError: this chip is too old"):
        verify(Last(), engine="secretflow")


def test_one_without_flmodel(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "secretflow_fl", None)
    install("1.14.0b0", __init__=_INIT.format(init="raise AssertionError"), distributed=_MODES.format(active=-1))
    with pytest.raises(TargetError, match=r"has no FLModel for torch; its last release with one is 1\.13"):
        verify(Last(), engine="secretflow")


def test_one_in_use_keeps_its_parties(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "_PLACES", dict.fromkeys(installed._PLACES, ("secretflow",)))
    classes = "FLModel = TorchModel = PlainAggregator = FedNdarray = object\n"
    install(
        "1.13.0b0", __init__=classes + _INIT.format(init="raise AssertionError"), distributed=_MODES.format(active=0)
    )
    with pytest.raises(TargetError, match=r"in use in this process: call secretflow\.shutdown"):
        verify(Last(), engine="secretflow")


def test_another_release_than_was_asked_for(install: Install) -> None:
    install("1.10.0b1", __init__="raise AssertionError")
    with pytest.raises(TargetError, match=r"is SecretFlow 1\.10\.0b1, and --secretflow-version 1\.6\.1 was asked for"):
        verify(Last(), engine="secretflow", secretflow_version="1.6.1")


def test_a_checkpoint_cannot_be_run(install: Install) -> None:
    install("1.13.0b0", __init__="raise AssertionError")
    with pytest.raises(TargetError, match="need a module"):
        verify(bn_audit.profile(Last()), engine="secretflow")


# The real one.

_HERE = importlib.util.find_spec("secretflow") is not None
_needed = pytest.mark.skipif(not _HERE, reason="SecretFlow is not installed here")

_RUN = ("no norm", "norm last", "norm in the middle", "conv and norm, thrice", "equal shapes around", "nested")
_CELLS = [
    *(("fed_avg_w", aggregator) for aggregator in ("plain", "secure", "sparse")),
    *((strategy, "plain") for strategy in ("fed_avg_g", "fed_avg_u", "fed_prox", "scaffold", "moon")),
    *((strategy, "sparse") for strategy in ("fed_stc", "fed_scr")),
    ("fed_avg_w", "server_agg_method"),
    ("fed_gen", "fedgen"),
]


def _told(verification: Verification) -> Any:
    """What a verification says, whatever the engine."""
    stop = verification.stop
    fates = [(one.entry.key, one.measured, one.right) for one in verification.entries]
    return (
        verification.verdict,
        None if stop is None else (stop.type, stop.round, stop.text),
        verification.drifts,
        fates,
    )


@pytest.mark.parametrize("name", _RUN)
@pytest.mark.parametrize("skip_bn", [False, True])
@pytest.mark.filterwarnings("ignore")
@pytest.mark.secretflow
@_needed
def test_it_does_as_the_wheels_classes_do(name: str, skip_bn: bool, secretflow_wheel: Path) -> None:
    for strategy, aggregator in _CELLS:
        told = []
        for engine in ("secretflow", secretflow_wheel):
            try:
                one = verify(
                    MODELS[name].build(), strategy=strategy, aggregator=aggregator, skip_bn=skip_bn, engine=engine
                )
            except TargetError as error:
                # fed_gen's server wants a linear layer last.
                assert strategy == "fed_gen"
                told.append(str(error))
                continue
            assert not one.disagreements, f"{strategy}, {aggregator}"
            told.append(_told(one))
        assert told[0] == told[1], f"{strategy}, {aggregator}"


class TestInstalled:
    """What else is true of the engine where SecretFlow is installed."""

    pytestmark = [pytest.mark.secretflow, pytest.mark.filterwarnings("ignore"), _needed]  # noqa: RUF012

    def test_right_is_right(self) -> None:
        verification = bn_audit.verify(Last(), skip_bn=True, aggregator="secure", engine="secretflow")
        assert (verification.verdict, verification.engine) == (Verdict.RIGHT, "secretflow")
        assert dict(verification.settings)["secretflow_version"] == installed.version_of_installed()

    @pytest.mark.parametrize("aggregator", ["plain", "secure"])
    def test_what_local_batchnorm_makes_is_right(self, aggregator: str) -> None:
        model = local_batchnorm(MODELS["nested"].build)()
        verification = verify(model, skip_bn=True, aggregator=aggregator, engine="secretflow")
        assert verification.verdict is Verdict.RIGHT
        refused = verify(model, skip_bn=True, aggregator=aggregator, strategy="moon", engine="secretflow")
        assert refused.verdict is Verdict.STOPS
        assert "moon cannot keep BatchNorm with the parties" in str(refused.stop)

    def test_it_leaves_nothing_behind(self) -> None:
        from secretflow.distributed import get_current_cluster_idx, get_distribution_mode

        model = Last()
        weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        logger = logging.getLogger()
        before = get_distribution_mode(), logger.level, logger.handlers[:], logger.manager.disable
        randomness = torch.get_rng_state()
        assert verify(model, skip_bn=True, engine="secretflow").ok
        assert (get_distribution_mode(), logger.level, logger.handlers[:], logger.manager.disable) == before
        assert get_current_cluster_idx() == -1
        assert torch.equal(torch.get_rng_state(), randomness)
        assert type(model) is Last
        assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())

    def test_one_in_use_is_left_alone(self) -> None:
        import secretflow
        from secretflow.distributed import get_current_cluster_idx

        secretflow.init(["alice", "bob"], debug_mode=True)
        try:
            with pytest.raises(TargetError, match=r"call secretflow\.shutdown"):
                verify(Last(), engine="secretflow")
            assert get_current_cluster_idx() >= 0
        finally:
            secretflow.shutdown()

    def test_five_parties_and_the_fixture(self, assert_federated_safe: Any) -> None:
        verification = assert_federated_safe(Last(), skip_bn=True, parties=5, rounds=1, engine="secretflow")
        assert verification.parties == 5

    def test_what_it_cannot_run_is_refused(self) -> None:
        with pytest.raises(TargetError, match="does not run in one process"):
            verify(Last(), aggregator="spu", engine="secretflow")
