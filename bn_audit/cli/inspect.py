"""``bn-audit inspect``: what a model's state holds, and what a framework would do with it."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from bn_audit.cli.completion import targets
from bn_audit.cli.framework import FrameworkFlags, framework_options, secretflow_release, settings_of
from bn_audit.cli.output import Failure, check_page, emit, wants_color, write_whole

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bn_audit.exchange.frameworks import FrameworkSettings
    from bn_audit.health import NormHealth
    from bn_audit.inspection import Inspection
    from bn_audit.live.target import Loaded
    from bn_audit.report.inspections import Look
    from bn_audit.wrapping import Wrapping

__all__ = ["command"]

NARROWEST, WIDEST = 80, 120
"""Columns that the text takes at least, and at most."""


class Flags(FrameworkFlags):
    """What the command line says, in the words of its flags."""

    key: str | None
    arguments: tuple[str, ...]
    meta: bool
    tree: bool
    every: bool
    output_format: str
    output_file: str | None
    html: str | None
    color: str


@click.command("inspect", short_help="Show what a model's state holds, and what a framework would do with it.")
@click.argument("target", shell_complete=targets)
@framework_options
@click.option("--key", metavar="KEY", help="Where in a checkpoint the state dict lies.")
@click.option("--arg", "arguments", multiple=True, metavar="NAME=VALUE", help="A keyword argument for TARGET.")
@click.option("--meta", is_flag=True, help="Build the model on the meta device: shapes without memory.")
@click.option("--tree", is_flag=True, help="Show the modules as a tree, norm layers marked.")
@click.option("--all", "every", is_flag=True, help="A line for every entry and every norm layer.")
@click.option(
    "--output-format",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    help="How to write it.  [default: text]",
)
@click.option("--output-file", type=click.Path(dir_okay=False), help="Write the report to a file.")
@click.option(
    "--html", type=click.Path(dir_okay=False), metavar="FILE", help="Write a page as well, whole in one file."
)
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="When to use colour.")
@click.pass_context
def command(ctx: click.Context, /, target: str, **flags: Unpack[Flags]) -> None:
    """Show what a model's state holds: norm layers, their statistics, and the entries of the state dict.

    With --framework also the fate of every entry in a round, beside the one that FedBN expects; without it, which of
    the settings of SecretFlow, Flower and NVFlare are right for this model.

    TARGET is package.module:attribute or file.py:attribute (a class, a function without arguments, or an instance), or
    a checkpoint (.pt .pth .bin .ckpt .safetensors). Naming an attribute imports that code, AND SO RUNS IT; of a
    checkpoint nothing is executed.

    Exit status: 0 all is right; 1 a round does not do what FedBN expects, or a finding is a warning or an error; 2
    TARGET cannot be read.
    """
    ctx.exit(inspect(target, flags))


def inspect(target: str, flags: Flags) -> int:
    """Inspect and report; the exit status.

    Raises:
        click.ClickException: see the help of the command.
    """
    settings = settings_of(flags)
    if flags["html"] is not None:
        check_page(flags["html"])
    from bn_audit.live.user_code import stdout_to_stderr

    with stdout_to_stderr():
        loaded = _load(target, flags)
        # What torch and the model brought stays until the end; to walk over it again takes longer than all that
        # follows.
        gc.freeze()
        inspection = _inspection(loaded, settings, flags)
    from bn_audit.report.inspections import renderer

    if flags["html"] is not None:
        from bn_audit import __version__
        from bn_audit.report.inspections.html import render

        write_whole(render(inspection, __version__).encode("utf-8", "backslashreplace"), flags["html"])
    emit(renderer(flags["output_format"])(inspection, _look(flags)), flags["output_file"])
    return 0 if inspection.ok else 1


def _load(target: str, flags: Flags) -> Loaded:
    from bn_audit.live.arguments import parse_arguments
    from bn_audit.live.errors import TargetError
    from bn_audit.live.target import load_target

    try:
        return load_target(target, parse_arguments(flags["arguments"]), flags["key"], flags["meta"])
    except TargetError as error:
        if error.traceback:
            click.echo(error.traceback.rstrip("\n"), err=True)
        raise Failure(str(error)) from error


def _inspection(loaded: Loaded, settings: FrameworkSettings | None, flags: Flags) -> Inspection:
    from bn_audit.audit import audit_model
    from bn_audit.exchange.secretflow import SecretFlowSettings
    from bn_audit.finding import Location
    from bn_audit.inspection import inspect as inspect_profile
    from bn_audit.live.bare import unwrapped
    from bn_audit.live.classes import is_base_module
    from bn_audit.live.releases import torch_release
    from bn_audit.rules.live_model import LiveModel

    saved = loaded.checkpoint is not None
    # A checkpoint of a wrapped model is judged as the model, which is what a federation is given.
    profile = unwrapped(loaded.profile) if saved else loaded.profile
    health = _health(loaded)
    # No format shows places: what was loaded has none, and looking for the class's costs a parse of its file.
    model = LiveModel(profile, profile.type, Location(loaded.target, 1, 1, 1, 1), tuple(health), saved)
    own = settings if isinstance(settings, SecretFlowSettings) else None
    wrapped = _wrapping(loaded)
    if own is not None and loaded.module is not None:
        own = replace(own, base_module=is_base_module(type(loaded.module)), wrapped=own.wrapped or wrapped)
        settings = own
    return inspect_profile(
        profile,
        target=loaded.target,
        settings=settings,
        health=health,
        findings=audit_model(model, settings, passed=flags["skip_bn"] is not None),
        notes=loaded.notes,
        modules=_classes(loaded),
        torch_version=torch_release(),
        secretflow_version=secretflow_release(flags),
        wrapped=wrapped,
    )


def _wrapping(loaded: Loaded) -> Wrapping | None:
    """How `local_batchnorm` made a model, if it did."""
    if loaded.module is None:
        return None
    from bn_audit.federated.secretflow import wrapping_of

    return wrapping_of(loaded.module)


def _health(loaded: Loaded) -> Sequence[NormHealth]:
    """How the norm layers are; nothing where the values cannot be read for want of torch."""
    from bn_audit.live.errors import MissingExtra

    try:
        from bn_audit.live.health import health_of_entries

        return health_of_entries(loaded.profile, loaded.tensors)
    except MissingExtra:
        return ()


def _classes(loaded: Loaded) -> dict[str, str]:
    if loaded.module is None:
        return {}
    return {path: type(part).__name__ for path, part in loaded.module.named_modules(remove_duplicate=False)}


def _look(flags: Flags) -> Look:
    from bn_audit.report.inspections import Look

    to_file = flags["output_file"] is not None
    terminal = not to_file and sys.stdout.isatty()
    width = shutil.get_terminal_size((100, 24)).columns if terminal or "COLUMNS" in os.environ else 100
    encoding = "utf-8" if to_file else (sys.stdout.encoding or "ascii")
    return Look(
        color=wants_color(flags["color"], to_file=to_file),
        width=min(max(width, NARROWEST), WIDEST),
        every=flags["every"],
        tree=flags["tree"],
        ascii_only=not encoding.lower().replace("-", "").startswith("utf"),
    )
