"""``bn-audit verify``: the proof, on tensors, that a framework's exchange does what FedBN wants."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bn_audit.cli import training
from bn_audit.cli.framework import FrameworkFlags, framework_options, settings_of
from bn_audit.cli.output import Failure, check_page, emit, wants_color, write_whole

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bn_audit.live.target import Loaded
    from bn_audit.parties import PartiesReport
    from bn_audit.report.verifications import Look, Subject
    from bn_audit.training import Trained
    from bn_audit.verification import Contrast, Verification

__all__ = ["command"]

NARROWEST, WIDEST = 60, 120
"""Columns that the text takes at least, and at most."""
ROUNDS = 2


class Flags(FrameworkFlags, training.TrainingFlags):
    """What the command line says, in the words of its flags."""

    parties: tuple[str, ...]
    previous: tuple[str, ...]
    frozen: tuple[str, ...]
    tolerance: float
    parties_count: int
    rounds: int | None
    engine: str
    before: str | None
    after: str | None
    key: str | None
    arguments: tuple[str, ...]
    meta: bool
    every: bool
    output_format: str
    output_file: str | None
    html: str | None
    color: str


class _ManyValues(click.Command):
    """A command some of whose options take all values up to the next option: ``--parties A.pt B.pt``."""

    MANY = ("--parties", "--previous", "--frozen")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._spread(args))

    def _spread(self, args: Sequence[str]) -> list[str]:
        spread: list[str] = []
        option: str | None = None
        fresh = False
        for number, arg in enumerate(args):
            if arg == "--":
                return [*spread, *args[number:]]
            if arg in self.MANY:
                option, fresh = arg, True
                spread.append(arg)
            elif arg.startswith("-") and arg != "-":
                option = None
                spread.append(arg)
            elif option is not None and not fresh:
                spread += [option, arg]
            else:
                fresh = False
                spread.append(arg)
        return spread


@click.command("verify", cls=_ManyValues, short_help="Run rounds on tensors, and prove or refute a setting.")
@click.argument("target", required=False)
@framework_options
@click.option("--parties-count", type=click.IntRange(min=2), default=3, show_default=True, help="How many train.")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    help=f"How many rounds follow.  [default: {ROUNDS}; of --train: {training.ROUNDS}]",
)
@click.option(
    "--engine",
    metavar="contract|secretflow|ray|flower|WHEEL",
    default="contract",
    show_default=True,
    help="What runs the rounds: our plan of the framework, or the framework's own classes, from the SecretFlow that is "
    "installed (in one process, or in its Ray simulation, which starts slowly) or out of a wheel, or from the Flower "
    "that is installed, in its simulation, WHICH RUNS ITS CODE. All must do as the plan says.",
)
@click.option("--before", metavar="SETTINGS", help='Settings to compare with, as flags: "--no-skip-bn".')
@click.option(
    "--after", metavar="SETTINGS", help='The fix, as flags, with a TARGET of its own if need be: "--skip-bn".'
)
@click.option(
    "--parties",
    multiple=True,
    metavar="FILE...",
    help="Judge a round that ran, from the parties' checkpoints after it.",
)
@click.option(
    "--previous", multiple=True, metavar="FILE...", help="The checkpoints before that round: one, or one for each."
)
@click.option(
    "--frozen", multiple=True, metavar="PATTERN...", help="Keys that are not trained and may stay as they were."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Difference between parties at which an entry still counts as equal.  [default: 0, bit for bit]",
)
@training.training_options
@click.option("--key", metavar="KEY", help="Where in a checkpoint the state dict lies.")
@click.option("--arg", "arguments", multiple=True, metavar="NAME=VALUE", help="A keyword argument for TARGET.")
@click.option("--meta", is_flag=True, help="Build the model on the meta device: shapes without memory.")
@click.option("--all", "every", is_flag=True, help="A line for every entry.")
@click.option(
    "--output-format", type=click.Choice(["text", "json", "markdown"]), default="text", help="How to write it."
)
@click.option("--output-file", type=click.Path(dir_okay=False), help="Write the report to a file.")
@click.option(
    "--html", type=click.Path(dir_okay=False), metavar="FILE", help="Write a page as well, whole in one file."
)
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="When to use colour.")
@click.pass_context
def command(ctx: click.Context, /, target: str | None, **flags: Unpack[Flags]) -> None:
    """Run rounds on tensors: a framework's exchange beside the reference FedBN.

    Every party begins with a state of its own. TARGET is package.module:attribute or file.py:attribute (a class, a
    function without arguments, or an instance), or a checkpoint. Naming an attribute imports that code, AND SO RUNS IT.
    What the model computes is not asked for: a stand-in trains, so that no data is needed.

    With --train the model is trained as well: by FedAvg, by FedBN, by each party alone, and by the setting where its
    plan can be run. What it computes is asked for then, on data that it takes. The exit status is that of the proof.

    With --parties instead, a round that really ran is judged, in any framework: FedBN leaves every entry equal in all
    parties but those of norm layers. TARGET is optional then, and shows norm layers without running statistics.

    Exit status: 0 the state after the rounds equals FedBN's; 1 it does not, a round stops, or it is not proven; 2
    TARGET cannot be read.
    """
    ctx.exit(verify(target, flags))


def verify(target: str | None, flags: Flags) -> int:
    """Verify and report; the exit status.

    Raises:
        click.ClickException: see the help of the command.
    """
    from bn_audit.live.errors import TargetError
    from bn_audit.live.user_code import stdout_to_stderr
    from bn_audit.training import Trained

    training.check_training_flags(flags)
    if flags["html"] is not None:
        if flags["train"]:
            raise click.UsageError("--html shows the fates of entries; of --train there is --plot")
        check_page(flags["html"])
    try:
        with stdout_to_stderr():
            subject = _trained(target, flags) if flags["train"] else _subject(target, flags)
    except TargetError as error:
        if error.traceback:
            click.echo(error.traceback.rstrip("\n"), err=True)
        raise Failure(str(error)) from error
    if flags["html"] is not None and not isinstance(subject, Trained):
        from bn_audit import __version__
        from bn_audit.report.verifications.html import render

        write_whole(render(subject, __version__).encode("utf-8", "backslashreplace"), flags["html"])
    emit(_lines(subject, flags), flags["output_file"])
    return 0 if subject.ok else 1


def _lines(subject: Subject | Trained, flags: Flags) -> Iterator[str]:
    from bn_audit.training import Trained

    if isinstance(subject, Trained):
        from bn_audit.report.trainings import renderer as of_trainings

        return of_trainings(flags["output_format"])(subject, _look(flags))
    from bn_audit.report.verifications import renderer

    return renderer(flags["output_format"])(subject, _look(flags))


def _trained(target: str | None, flags: Flags) -> Trained:
    from bn_audit.training import Trained

    for name, said in (("parties", bool(flags["parties"])), ("before", flags["before"] is not None)):
        if said:
            raise click.UsageError(f"--train trains one TARGET by one setting; --{name} compares others")
    if target is None:
        raise click.UsageError("name a TARGET to train")
    if flags["meta"]:
        raise click.UsageError("on the meta device nothing can be trained; leave out --meta")
    settings = settings_of(flags)
    loaded = training.load_seeded(lambda: _load(target, flags))
    # What is proven of the setting takes two rounds; --rounds is for the training.
    proven = None if settings is None else _verification(target, loaded, {**flags, "rounds": None})
    trained = training.train(loaded, settings, flags, flags["rounds"] or training.ROUNDS)
    if flags["plot"] is not None:
        training.plot(trained, flags["plot"])
    return Trained(trained, proven)


def _subject(target: str | None, flags: Flags) -> Subject:
    if flags["parties"]:
        return _parties(target, flags)
    for name in ("previous", "frozen"):
        if flags[name]:
            raise click.UsageError(f"--{name} needs --parties")
    if target is None:
        raise click.UsageError("name a TARGET, or the parties' checkpoints with --parties")
    if (flags["before"] is None) != (flags["after"] is None):
        raise click.UsageError("--before and --after go together")
    if flags["before"] is not None and flags["after"] is not None:
        return _contrast(target, flags, flags["before"], flags["after"])
    return _verification(target, _load(target, flags), flags)


def _verification(target: str, loaded: Loaded, flags: Flags) -> Verification:
    from bn_audit.exchange.secretflow import SecretFlowSettings
    from bn_audit.live.bare import unwrapped
    from bn_audit.live.verify import verify as verify_model
    from bn_audit.live.verify import verify_exchange

    settings = settings_of(flags)
    if settings is None:
        raise click.UsageError("name whose exchange to verify: --framework secretflow, flower or nvflare")
    # A checkpoint of a wrapped model is judged as the model, which is what a federation is given.
    model = loaded.module if loaded.module is not None else unwrapped(loaded.profile)
    if not isinstance(settings, SecretFlowSettings):
        if flags["engine"] not in ("contract", *(["flower"] if flags["framework"] == "flower" else [])):
            raise click.UsageError(f"--engine {flags['engine']} runs another framework than {flags['framework']}")
        if flags["engine"] == "flower":
            click.echo("Starting Flower's simulation in Ray. This takes up to a minute.", err=True)
        return verify_exchange(
            model,
            settings,
            parties=flags["parties_count"],
            rounds=flags["rounds"] or ROUNDS,
            engine=flags["engine"],
            target=target,
            notes=loaded.notes,
        )
    if flags["engine"] == "flower":
        raise click.UsageError("--engine flower runs Flower, and --framework is secretflow")
    if flags["engine"] == "ray":
        click.echo("Starting SecretFlow's simulation in Ray, a process for each party. This takes a minute.", err=True)
    return verify_model(
        model,
        strategy=settings.strategy or "fed_avg_w",
        aggregator=settings.aggregator or "plain",
        skip_bn=bool(settings.skip_bn),
        secretflow_version=settings.secretflow_version,
        wrapped=settings.wrapped,
        parties=flags["parties_count"],
        rounds=flags["rounds"] or ROUNDS,
        engine=flags["engine"],
        target=target,
        notes=loaded.notes,
    )


def _contrast(target: str, flags: Flags, before: str, after: str) -> Contrast:
    from bn_audit.verification import Contrast

    loaded: dict[str, Loaded] = {}
    found = []
    for name, text in (("--before", before), ("--after", after)):
        own, changed = _variant(name, text, flags)
        which = own or target
        if which not in loaded:
            loaded[which] = _load(which, flags)
        found.append(_verification(which, loaded[which], changed))
    return Contrast(*found)


@click.command("settings", add_help_option=False)
@click.argument("target", required=False)
@framework_options
def _settings(**_: Any) -> None:
    """What --before and --after take."""


def _variant(name: str, text: str, flags: Flags) -> tuple[str | None, Flags]:
    """The TARGET of a variant, if it has one, and the flags with what the variant says."""
    try:
        with _settings.make_context(name, shlex.split(text)) as context:
            said = dict(context.params)
    except ValueError as error:
        raise click.UsageError(f"{name} {text!r}: {error}") from error
    except click.ClickException as error:
        raise click.UsageError(f"{name} {text!r}: {error.format_message()}") from error
    own = said.pop("target")
    changed: Any = {**flags, **{key: value for key, value in said.items() if value not in (None, ())}}
    return own, changed


def _parties(target: str | None, flags: Flags) -> PartiesReport:
    from bn_audit.live.checkpoint import open_checkpoint
    from bn_audit.live.parties import judge_parties, unwrapped_state

    given = [name for name in ("framework", "before", "after") if flags[name] is not None]
    if given:
        raise click.UsageError(f"--{given[0]} says what to run, and --parties judges what ran")
    names = _names(flags["parties"])
    opened = [open_checkpoint(Path(path), flags["key"]) for path in flags["parties"]]
    previous = [open_checkpoint(Path(path), flags["key"]) for path in flags["previous"]]
    if target is not None:
        profile = _load(target, flags).profile
    else:
        from bn_audit.live.bare import unwrapped

        profile = unwrapped(opened[0].profile)
    return judge_parties(
        {name: unwrapped_state(checkpoint.tensors) for name, checkpoint in zip(names, opened, strict=True)},
        profile,
        previous=[unwrapped_state(checkpoint.tensors) for checkpoint in previous],
        tolerance=flags["tolerance"],
        frozen=flags["frozen"],
    )


def _names(paths: Sequence[str]) -> list[str]:
    """What to call the parties: the files' names, or the whole paths where those are not distinct.

    Raises:
        click.UsageError: a path given twice.
    """
    if len(set(paths)) < len(paths):
        raise click.UsageError("--parties names a checkpoint twice")
    short = [os.path.basename(path) for path in paths]
    return short if len(set(short)) == len(short) else list(paths)


def _load(target: str, flags: Flags) -> Loaded:
    from bn_audit.live.arguments import parse_arguments
    from bn_audit.live.target import load_target

    return load_target(target, parse_arguments(flags["arguments"]), flags["key"], flags["meta"])


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
