"""The flower engine: the Flower that is installed runs the rounds, in its simulation.

The simulation runs in a process of its own (:mod:`bn_audit.live.flower_app`), since Ray starts processes, logs to
whatever it finds, and is there once in a process. What it wrote is kept where it did not get to its end.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from bn_audit.exchange.flower import FlowerSettings
from bn_audit.exchange.release import release
from bn_audit.live.errors import MissingExtra, TargetError, require_torch
from bn_audit.live.execute import Exchange, Rounding, State
from bn_audit.profile import Profile
from bn_audit.verification import Stop

require_torch()

import torch  # noqa: E402
from torch import nn  # noqa: E402

__all__ = ["run_flower", "settings_of_installed"]

_TIMEOUT = 600.0
"""Seconds that a simulation may take: a minute is usual where others work as well."""
_MISSING = "pip install 'flwr[simulation]>=1.22,<2'"


def settings_of_installed(settings: FlowerSettings) -> FlowerSettings:
    """The settings with the release that is installed.

    Raises:
        MissingExtra: Flower, or Ray, is not installed.
        TargetError: another release was asked for, or a setting that a run needs is not known.
    """
    for name, title in (("flwr", "Flower"), ("ray", "Ray, which Flower's simulation runs in,")):
        if importlib.util.find_spec(name) is None:
            raise MissingExtra(f"{title} is not installed here: {_MISSING}")
    found = metadata.version("flwr")
    asked = settings.flwr_version
    if asked is not None and release(asked) != release(found):
        raise TargetError(f"what is installed is Flower {found}, and {asked} was asked for")
    return replace(settings, flwr_version=found)


def run_flower(
    model: nn.Module, profile: Profile, settings: FlowerSettings, parties: int, rounds: int
) -> tuple[list[Exchange], list[list[State]], Stop | None]:
    """Run the installed Flower's simulation.

    Args:
        model: is not changed. Its class has to be found by another process, or to be one that can be sent to it.
        settings: as :func:`settings_of_installed` gives them.

    Returns:
        The exchanges that every party went through, the states after each, and the error that ended the run.

    Raises:
        TargetError: the model cannot be sent to another process, a setting is not known, or the simulation failed in a
            way that is not the app's; the path of its log is in the message.
    """
    from bn_audit.live.flower_app import JOB, Job

    for name in ("load", "in_place"):
        if getattr(settings, name) is None:
            raise TargetError(f"a run needs to know {name} of the Flower app")
    folder = Path(tempfile.mkdtemp(prefix="bn-audit-flower-"))
    log = folder / "simulation.log"
    finished = False
    try:
        pickle: Any = importlib.import_module("ray.cloudpickle")
        try:
            job = pickle.dumps(Job(model, profile, settings, parties, rounds))
        except Exception as error:
            raise TargetError(f"the model cannot be sent to the simulation's processes: {error}") from error
        (folder / JOB).write_bytes(job)
        _simulate(folder, log)
        found = _found(folder, parties, rounds)
        finished = True
        return found
    except TargetError as error:
        if not log.exists():
            finished = True
            raise
        raise TargetError(f"{error}; what the simulation wrote is in {log}") from error
    finally:
        if finished:
            shutil.rmtree(folder, ignore_errors=True)


def _simulate(folder: Path, log: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "bn_audit.live.flower_app", str(folder)]
    with log.open("wb") as file:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                check=False,
                timeout=_TIMEOUT,
            )
        except subprocess.TimeoutExpired as error:
            raise TargetError(f"Flower's simulation did not end within {_TIMEOUT:.0f} seconds") from error


def _found(folder: Path, parties: int, rounds: int) -> tuple[list[Exchange], list[list[State]], Stop | None]:
    """What the parties took down."""
    from bn_audit.live.flower_app import ERROR, loaded_path, trained_path, weight

    stop = None
    if (folder / ERROR).exists():
        told = json.loads((folder / ERROR).read_text(encoding="utf-8"))
        stop = Stop(told["type"], told["text"], told["round"])
    # A product and a sum for every party, in the dtype of the arrays, and the shares.
    rounding = Rounding(2 * parties + 4, 2.0**-24)
    exchanges: list[Exchange] = []
    after: list[list[State]] = []
    for number in range(1, rounds + 1):
        pairs = [(trained_path(folder, p, number), loaded_path(folder, p, number)) for p in range(parties)]
        if not all(path.exists() for pair in pairs for path in pair):
            break
        trained = [torch.load(path, weights_only=True) for path, _ in pairs]
        weights = [float(weight(party)) for party in range(parties)]
        exchanges.append(Exchange(trained, trained, weights, trained, rounding=rounding))
        after.append([torch.load(path, weights_only=True) for _, path in pairs])
    if stop is None and len(exchanges) < rounds:
        raise TargetError("Flower's simulation failed")
    return exchanges, after, stop
