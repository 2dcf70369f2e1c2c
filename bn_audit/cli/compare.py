"""``bn-audit compare``: how far the parties' data lies apart, as their BatchNorms tell it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TypedDict

import click

from bn_audit.cli.output import Failure, check_extra, check_page, check_place, emit, wants_color, write_whole
from bn_audit.comparison import METRICS, NW2

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bn_audit.comparison import Comparison
    from bn_audit.live.target import Loaded
    from bn_audit.report.verifications import Look

__all__ = ["command"]

NARROWEST, WIDEST = 60, 140
"""Columns that the text takes at least, and at most."""


class Flags(TypedDict):
    """What the command line says, in the words of its flags."""

    names: str | None
    metrics: tuple[str, ...]
    layers: tuple[str, ...]
    channels: bool
    momentum: str
    data: str | None
    model: str | None
    arguments: tuple[str, ...]
    batch_size: int | None
    samples: tuple[str, ...]
    splits: int | None
    history: str | None
    html: str | None
    plot: str | None
    force: bool
    key: str | None
    every: bool
    output_format: str
    output_file: str | None
    color: str


@click.command("compare", short_help="Measure how far the parties' data is apart, from their BatchNorms.")
@click.argument("checkpoints", nargs=-1, metavar="FILE...")
@click.option("--names", metavar="NAME,...", help="What to call the parties.  [default: the files' names]")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    type=click.Choice(METRICS),
    help=f"The distance; may be repeated, the first is shown first.  [default: {NW2}]",
)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="PATTERN",
    help="Compare only norm layers whose path fits; the first of them is the headline.",
)
@click.option("--channels", is_flag=True, help="Show the first layer channel by channel.")
@click.option(
    "--momentum",
    metavar="NUMBER|none",
    default="0.1",
    show_default=True,
    help="Of the norm layers, which a checkpoint does not tell.",
)
@click.option(
    "--data",
    metavar="FACTORY",
    help="What gives the parties' data, as for verify --train: chance is then measured on it. WHICH RUNS ITS CODE.",
)
@click.option(
    "--model",
    metavar="TARGET",
    help="The parties' model, as file.py:attribute, which knows statistics that the keys do not tell, and the order of "
    "the layers; with --data it is run. WHICH RUNS ITS CODE.",
)
@click.option("--arg", "arguments", multiple=True, metavar="NAME=VALUE", help="A keyword argument for --model.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Of the parties' training.")
@click.option(
    "--samples",
    multiple=True,
    metavar="[NAME=]NUMBER",
    help="Examples that a party trained on, for a bound on chance without their data.",
)
@click.option(
    "--splits", type=click.IntRange(min=20), help="With --data: random splits of each party's data.  [default: 200]"
)
@click.option(
    "--history",
    metavar="FILE",
    help="What happened in each round, as lines of JSON; without checkpoints its last round is compared.",
)
@click.option(
    "--html", type=click.Path(dir_okay=False), metavar="FILE", help="Write a page as well, whole in one file."
)
@click.option(
    "--plot", type=click.Path(dir_okay=False), metavar="FILE", help="Draw a picture as well, as .png or .svg."
)
@click.option("--force", is_flag=True, help="Compare what cannot be compared with good reason.")
@click.option("--key", metavar="KEY", help="Where in a checkpoint the state dict lies.")
@click.option("--all", "every", is_flag=True, help="A line for every pair and channel.")
@click.option("--output-format", type=click.Choice(["text", "json"]), default="text", help="How to write it.")
@click.option("--output-file", type=click.Path(dir_okay=False), help="Write the report to a file.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="When to use colour.")
@click.pass_context
def command(ctx: click.Context, /, checkpoints: tuple[str, ...], **flags: Unpack[Flags]) -> None:
    """Measure how far the parties' data is apart, from the running statistics of their norm layers.

    Each FILE is a party's checkpoint (.pt .pth .bin .ckpt .safetensors), taken after its local training, with BatchNorm
    kept local. Nothing in it is executed, and only the tensors that are compared are read.

    The headline is the first norm layer: it sees the data through one layer of weights, which the parties have in
    common; deeper layers can be blind to a shift. A comparison that would mean nothing is refused with the reason:
    other architectures, models that did not grow from one another, statistics that are broken or have seen no data.

    What chance alone would give is measured with --data and --model, on random halves of each party's own examples;
    with --samples there is a bound. Each pair is then told to be indistinguishable, mild, moderate or strong.

    Exit status: 0 compared; 2 not, or a checkpoint cannot be read.
    """
    _check_pictures(flags)
    from bn_audit.live.user_code import stdout_to_stderr

    with stdout_to_stderr():
        comparison = _compared(checkpoints, flags)
    from bn_audit.report.comparisons import renderer

    _write_pictures(comparison, flags)
    if not flags["channels"]:
        # Those of the page are for the page.
        first, *rest = comparison.layers
        comparison = replace(comparison, layers=(replace(first, channels=()), *rest))
    emit(renderer(flags["output_format"])(comparison, _look(flags)), flags["output_file"])
    ctx.exit(0)


def _compared(checkpoints: Sequence[str], flags: Flags) -> Comparison:
    from bn_audit.live.errors import TargetError

    alone = flags["history"] is not None and not checkpoints
    if alone and (flags["names"] is not None or flags["data"] is not None or flags["model"] is not None):
        raise click.UsageError("a history has names of its own, and no weights to run on --data: name the checkpoints")
    names = [] if alone else _names(checkpoints, flags["names"])
    try:
        from bn_audit.live.divergence import Options, compare
        from bn_audit.live.divergence.history import read_history, with_history
        from bn_audit.live.divergence.sources import of_file

        options = Options(
            metrics=flags["metrics"] or (NW2,),
            layers=flags["layers"],
            channels=flags["channels"] or flags["html"] is not None,
            force=flags["force"],
            momentum=_momentum(flags["momentum"]),
        )
        model = None if flags["model"] is None else _load(flags["model"], flags)
        history = None if flags["history"] is None else read_history(Path(flags["history"]))
        sources = (
            history.last()
            if history is not None and alone
            else [
                of_file(name, path, flags["key"], None if model is None else model.profile)
                for name, path in zip(names, checkpoints, strict=True)
            ]
        )
        samples = _samples(flags, [source.name for source in sources])
        comparison, found = compare(sources, options)
        from bn_audit.live.divergence.calibrate import (
            SPLITS,
            Training,
            by_bound,
            by_data,
            own_of,
            with_groups,
        )

        training = Training(flags["batch_size"] or 1, options.momentum)
        if samples:
            comparison = by_bound(comparison, found, samples, training)
        elif flags["data"] is not None and model is not None and model.module is not None:
            own = own_of(model.module, flags["data"])
            comparison = by_data(comparison, found, sources, own, training, flags["splits"] or SPLITS)
        comparison = with_groups(comparison)
        return comparison if history is None else with_history(comparison, history)
    except TargetError as error:
        if error.traceback:
            click.echo(error.traceback.rstrip("\n"), err=True)
        raise Failure(str(error)) from error


def _load(target: str, flags: Flags) -> Loaded:
    """The parties' model.

    Raises:
        TargetError: it is none, or state without one.
    """
    from bn_audit.live.arguments import parse_arguments
    from bn_audit.live.errors import TargetError
    from bn_audit.live.target import load_target
    from bn_audit.live.training import seeded

    with seeded(0):
        loaded = load_target(target, parse_arguments(flags["arguments"]), None, False)
    if loaded.module is None:
        raise TargetError(f"{target} is state without a model; --model needs the code: file.py:ATTRIBUTE")
    return loaded


def _check_pictures(flags: Flags) -> None:
    """Refuse pages and pictures that could not be written before anything takes time."""
    from bn_audit.report.comparisons.plot import SUFFIXES

    plot, html = flags["plot"], flags["html"]
    if plot is not None and PurePath(plot).suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"--plot {plot}: name a file that ends in {' or '.join(SUFFIXES)}")
    if html is not None:
        check_page(html)
    if plot is not None:
        check_extra("--plot", "matplotlib")
        check_place(plot)


def _write_pictures(comparison: Comparison, flags: Flags) -> None:
    if flags["html"] is not None:
        from bn_audit import __version__
        from bn_audit.report.comparisons.html import render

        write_whole(render(comparison, __version__).encode("utf-8", "backslashreplace"), flags["html"])
    if flags["plot"] is not None:
        from bn_audit.report.comparisons.plot import picture

        write_whole(picture(comparison, flags["plot"]), flags["plot"])


def _samples(flags: Flags, names: Sequence[str]) -> list[int]:
    """How many examples each party trained on; empty if nobody says.

    Raises:
        click.UsageError: flags that do not go together, or no number for some party.
    """
    if flags["data"] is not None and flags["model"] is None:
        raise click.UsageError("--data needs --model: the model is run on the data")
    for name, said, needed in (("splits", flags["splits"], "data"), ("arg", flags["arguments"], "model")):
        if said and flags[needed] is None:  # type: ignore[literal-required]
            raise click.UsageError(f"--{name} needs --{needed}")
    given = flags["samples"]
    if given and flags["data"] is not None:
        raise click.UsageError("--samples gives a bound where there is no data; with --data leave it out")
    if (given or flags["data"] is not None) and flags["batch_size"] is None:
        raise click.UsageError("how much statistics vary depends on the batches of the training: give --batch-size")
    if flags["batch_size"] is not None and not given and flags["data"] is None:
        raise click.UsageError("--batch-size needs --samples or --data")
    if not given:
        return []
    found: dict[str, int] = {}
    every = None
    for text in given:
        name, _, number = text.rpartition("=")
        if not number.isdecimal() or not int(number):
            raise click.UsageError(f"--samples {text}: a number above 0, or NAME=NUMBER")
        if not name:
            every = int(number)
        elif name in names:
            found[name] = int(number)
        else:
            raise click.UsageError(f"--samples {text}: no party is called {name!r}; there are {', '.join(names[:8])}")
    missing = [name for name in names if name not in found]
    if missing and every is None:
        raise click.UsageError(f"--samples says nothing of {missing[0]}: give a number for all, or NAME=NUMBER")
    return [found.get(name, every or 0) for name in names]


def _momentum(text: str) -> float | None:
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise click.UsageError(
            f"--momentum {text}: a number above 0 and up to 1, or none for the mean over all batches"
        )
    return value


def _names(paths: Sequence[str], given: str | None) -> list[str]:
    """What to call the parties: as told, else by the files' names, as much of them as it takes.

    Raises:
        click.UsageError: fewer than two parties, a file named twice, or names that do not fit.
    """
    if len(paths) < 2:
        what = "one party alone cannot be compared" if paths else "name the parties' checkpoints"
        raise click.UsageError(f"{what}: a comparison takes at least two files")
    seen: dict[str, str] = {}
    for path in paths:
        real = os.path.realpath(path)
        if real in seen:
            raise click.UsageError(f"{path} and {seen[real]} are the same file: each party has one of its own")
        seen[real] = path
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        if len(names) != len(paths) or len(set(names)) < len(names) or not all(names):
            raise click.UsageError(
                f"--names takes {len(paths)} different names, one for each file, with commas between"
            )
        return names
    for short in (_stem, os.path.basename):
        names = [short(path) for path in paths]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _look(flags: Flags) -> Look:
    from bn_audit.report.verifications import Look

    to_file = flags["output_file"] is not None
    terminal = not to_file and sys.stdout.isatty()
    width = shutil.get_terminal_size((100, 24)).columns if terminal or "COLUMNS" in os.environ else 100
    encoding = "utf-8" if to_file else (sys.stdout.encoding or "ascii")
    return Look(
        color=wants_color(flags["color"], to_file=to_file),
        width=min(max(width, NARROWEST), WIDEST),
        every=flags["every"],
        ascii_only=not encoding.lower().replace("-", "").startswith("utf"),
    )
