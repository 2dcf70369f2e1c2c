"""``bn-audit verify --train``: its flags, and the training between them and the report."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import PurePath
from typing import TYPE_CHECKING, TypedDict, TypeVar

import click

from bn_audit.cli.output import Failure, write_whole
from bn_audit.extras import install

if TYPE_CHECKING:
    from bn_audit.cli.progress import ProgressBar
    from bn_audit.exchange.frameworks import FrameworkSettings
    from bn_audit.live.target import Loaded
    from bn_audit.training import Training

__all__ = ["ROUNDS", "TrainingFlags", "check_training_flags", "load_seeded", "plot", "train", "training_options"]

ROUNDS = 30
SEEDS, EPOCHS, BATCH, RATE = 3, 1, 32, 0.1

Command = TypeVar("Command", bound=Callable[..., object])


class TrainingFlags(TypedDict):
    """What the flags say; None is what is not said."""

    train: bool
    data: str | None
    seeds: int | None
    epochs: int | None
    batch_size: int | None
    lr: float | None
    plot: str | None


def training_options(command: Command) -> Command:
    """Give a command the flags."""
    options = (
        click.option("--train", is_flag=True, help="Train the model for real, and compare what comes of it."),
        click.option(
            "--data",
            metavar="FACTORY",
            help="With --train: what gives the parties' data, module:function or file.py:function. "
            "[default: scikit-learn's digits, five sensors]",
        ),
        click.option(
            "--seeds", type=click.IntRange(min=1), help=f"With --train: how many times over.  [default: {SEEDS}]"
        ),
        click.option(
            "--epochs", type=click.IntRange(min=1), help=f"With --train: local epochs in a round.  [default: {EPOCHS}]"
        ),
        click.option(
            "--batch-size", type=click.IntRange(min=1), help=f"With --train: examples in a step.  [default: {BATCH}]"
        ),
        click.option(
            "--lr",
            type=click.FloatRange(min=0, min_open=True),
            help=f"With --train: the learning rate of SGD.  [default: {RATE}]",
        ),
        click.option(
            "--plot",
            type=click.Path(dir_okay=False),
            metavar="FILE",
            help="With --train: draw the curves, as .png or .svg.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def check_training_flags(flags: TrainingFlags) -> None:
    """Refuse what cannot work before anything takes time.

    Raises:
        click.UsageError: a flag that needs ``--train``; a plot in no format that is known.
        Failure: a plot that could not be written, for want of a folder or of matplotlib.
    """
    if not flags["train"]:
        for name in ("data", "seeds", "epochs", "batch_size", "lr", "plot"):
            if flags[name] is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} needs --train")
        return
    path = flags["plot"]
    if path is None:
        return
    from bn_audit.report.trainings.plot import SUFFIXES

    if PurePath(path).suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"--plot {path}: name a file that ends in {' or '.join(SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise Failure(f"--plot needs matplotlib, which is not installed: {install('train')}")
    folder = os.path.dirname(os.path.realpath(path))
    if not os.access(folder, os.W_OK):
        raise Failure(f"{path}: {'there is no folder' if not os.path.isdir(folder) else 'cannot write to'} {folder}")


def load_seeded(load: Callable[[], Loaded]) -> Loaded:
    """Load a TARGET that shall be trained: what its import draws is always the same."""
    from bn_audit.live.errors import require_torch

    require_torch()
    from bn_audit.live.training import seeded

    with seeded(0):
        return load()


def train(loaded: Loaded, settings: FrameworkSettings | None, flags: TrainingFlags, rounds: int) -> Training:
    """Train what a TARGET is.

    Raises:
        TargetError: see :func:`bn_audit.live.training.train`; the TARGET is a checkpoint or a state dict.
    """
    from bn_audit.live.errors import TargetError
    from bn_audit.live.training import Local, Options, digits_for, given_data, train

    module = loaded.module
    if module is None:
        raise TargetError(f"{loaded.target} is state without a model; --train needs the code: file.py:ATTRIBUTE")
    data = digits_for(module, loaded.target) if flags["data"] is None else given_data(flags["data"])
    options = Options(
        rounds=rounds,
        seeds=flags["seeds"] or SEEDS,
        local=Local(flags["epochs"] or EPOCHS, flags["batch_size"] or BATCH, flags["lr"] or RATE),
    )
    build = loaded.build if loaded.build is not None else lambda: module
    with _progress() as progress:
        return train(
            build,
            data,
            options,
            settings,
            target=loaded.target,
            notes=()
            if loaded.build is not None
            else (f"{loaded.target} is a model: every seed begins with its state",),
            progress=progress or (lambda done, total: None),
        )


def plot(training: Training, path: str) -> None:
    """Draw the curves into a file.

    Raises:
        Failure: it cannot be written.
    """
    from bn_audit.report.trainings.plot import picture

    write_whole(picture(training, path), path)


def _progress() -> ProgressBar | nullcontext[None]:
    """A progress bar, if anybody looks."""
    if not sys.stderr.isatty():
        return nullcontext()
    from bn_audit.cli.progress import ProgressBar

    return ProgressBar(label="training")
