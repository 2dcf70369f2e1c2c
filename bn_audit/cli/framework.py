"""The flags that name a framework and its settings, which ``inspect`` and ``verify`` share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict, TypeVar

import click

from bn_audit.cli.output import Failure
from bn_audit.settings.versions import parse_version

if TYPE_CHECKING:
    from bn_audit.exchange.secretflow import SecretFlowSettings

__all__ = ["FRAMEWORKS", "FrameworkFlags", "framework_options", "secretflow_release", "settings_of"]

FRAMEWORKS = ("secretflow",)
AGGREGATORS = ("plain", "secure", "spu", "sparse", "fedgen", "server_agg_method")

Command = TypeVar("Command", bound=Callable[..., object])


class FrameworkFlags(TypedDict):
    """What the flags say; None is what is not said."""

    framework: str | None
    backend: str | None
    strategy: str | None
    aggregator: str | None
    skip_bn: bool | None
    secretflow_version: str | None


def _version(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else parse_version(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def framework_options(command: Command) -> Command:
    """Give a command the flags."""
    options = (
        click.option("--framework", type=click.Choice(FRAMEWORKS), help="Whose exchange to lay beside FedBN's."),
        click.option(
            "--backend",
            type=click.Choice(["torch", "tensorflow"]),
            help="SecretFlow's backend.  [default: torch, which TARGETs are for]",
        ),
        click.option("--strategy", metavar="NAME", help="FLModel's strategy.  [default: fed_avg_w]"),
        click.option(
            "--aggregator",
            type=click.Choice(AGGREGATORS),
            help="What combines the parties' arrays.  [default: plain, or the only one the strategy works with]",
        ),
        click.option("--skip-bn/--no-skip-bn", default=None, help="FLModel's skip_bn.  [default: not passed, False]"),
        click.option(
            "--secretflow-version",
            callback=_version,
            metavar="VERSION",
            help="The release of SecretFlow; else the configuration's, else the pin of the project here, else 1.13.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def settings_of(flags: FrameworkFlags) -> SecretFlowSettings | None:
    """The settings that the flags name; None without ``--framework``.

    Raises:
        click.UsageError: a setting without a framework, a strategy that is not SecretFlow's, or the backend that
            trains Keras models.
    """
    if flags["framework"] is None:
        given = [name for name in ("backend", "strategy", "aggregator", "skip_bn") if flags[name] is not None]
        if given:
            raise click.UsageError(f"--{given[0].replace('_', '-')} needs --framework")
        return None
    from bn_audit.exchange.secretflow import SecretFlowSettings
    from bn_audit.exchange.secretflow.strategies import strategies
    from bn_audit.inspection import aggregators
    from bn_audit.live.releases import torch_release

    if flags["backend"] == "tensorflow":
        raise click.UsageError(
            "the TensorFlow backend trains Keras models, and a TARGET is a torch model; "
            "bn-audit scan reads Keras models from their source"
        )
    strategy = flags["strategy"] or "fed_avg_w"
    usual = aggregators(strategy)
    if not usual:
        names = ", ".join(one.name for one in strategies("torch"))
        raise click.UsageError(f"SecretFlow's torch backend has no strategy {strategy!r}; it has {names}")
    return SecretFlowSettings(
        backend="torch",
        strategy=strategy,
        aggregator=flags["aggregator"] or usual[0],
        skip_bn=bool(flags["skip_bn"]),
        secretflow_version=secretflow_release(flags),
        torch_version=torch_release(),
    )


def secretflow_release(flags: FrameworkFlags) -> str | None:
    """SecretFlow's release, from the flag, the configuration or the pins of the project in the working directory.

    Raises:
        Failure: the configuration cannot be used.
    """
    from bn_audit.pins import pinned
    from bn_audit.scanning import SECRETFLOW, resolver
    from bn_audit.settings.config import SHARED, ConfigError

    folder = os.getcwd()
    try:
        chosen = flags["secretflow_version"] or resolver().at(folder).get("secretflow_version")
    except ConfigError as error:
        raise Failure(str(error)) from error
    return chosen or pinned(os.path.join(folder, SHARED), SECRETFLOW)
