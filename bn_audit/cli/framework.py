"""The flags that name a framework and its settings, which ``inspect`` and ``verify`` share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict, TypeVar, cast

import click

from bn_audit import clients
from bn_audit.cli.output import Failure
from bn_audit.clients import REBUILDS, flower_settings, nvflare_settings
from bn_audit.settings.versions import parse_version
from bn_audit.wrapping import Wrapping

if TYPE_CHECKING:
    from bn_audit.clients import ClientOptions
    from bn_audit.exchange.frameworks import FrameworkSettings
    from bn_audit.exchange.secretflow import SecretFlowSettings

__all__ = ["FRAMEWORKS", "FrameworkFlags", "framework_options", "secretflow_release", "settings_of"]

FRAMEWORKS = ("secretflow", "flower", "nvflare")
AGGREGATORS = ("plain", "secure", "spu", "sparse", "fedgen", "server_agg_method")
NAMES = {"secretflow": "SecretFlow", "flower": "Flower", "nvflare": "NVFlare"}
OWN = {
    "secretflow": ("backend", "aggregator", "skip_bn", "local_batchnorm", "secretflow_version"),
    **clients.OWN,
}
"""The flags that mean something to a framework, besides ``strategy``."""

Command = TypeVar("Command", bound=Callable[..., object])


class FrameworkFlags(TypedDict):
    """What the flags say; None is what is not said."""

    framework: str | None
    backend: str | None
    strategy: str | None
    aggregator: str | None
    skip_bn: bool | None
    local_batchnorm: bool | None
    secretflow_version: str | None
    api: str | None
    rebuild: str | None
    flwr_version: str | None
    exchange: str | None
    transfer: str | None
    exclude_vars: str | None
    nvflare_version: str | None
    keep_norms: bool | None
    keep_local: tuple[str, ...]
    strict: bool | None


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
        click.option(
            "--strategy", metavar="NAME", help="The framework's strategy.  [default: fed_avg_w with SecretFlow, fedavg]"
        ),
        click.option(
            "--aggregator",
            type=click.Choice(AGGREGATORS),
            help="SecretFlow: what combines the parties' arrays.  [default: plain, or the only one the strategy works "
            "with]",
        ),
        click.option("--skip-bn/--no-skip-bn", default=None, help="SecretFlow: skip_bn.  [default: not passed, False]"),
        click.option(
            "--local-batchnorm/--no-local-batchnorm",
            default=None,
            help="SecretFlow: the model goes through local_batchnorm of bn_audit.federated.secretflow.  [default: as "
            "TARGET makes it]",
        ),
        click.option(
            "--secretflow-version",
            callback=_version,
            metavar="VERSION",
            help="The release of SecretFlow; else the configuration's, else the pin of the project here, else 1.13.",
        ),
        click.option(
            "--api",
            type=click.Choice(["numpy", "message"]),
            help="Flower: lists of arrays (NumPyClient), or records of arrays by key.  [default: numpy]",
        ),
        click.option(
            "--rebuild",
            type=click.Choice(REBUILDS),
            help="Flower: how a NumPyClient makes tensors of arrays.  [default: torch.tensor]",
        ),
        click.option(
            "--flwr-version", callback=_version, metavar="VERSION", help="The release of Flower.  [default: the newest]"
        ),
        click.option(
            "--exchange",
            type=click.Choice(["numpy", "pytorch"]),
            help="NVFlare: the format that the server expects.  [default: numpy]",
        ),
        click.option(
            "--transfer",
            type=click.Choice(["full", "diff"]),
            help="NVFlare: whole parameters, or the difference from what was received.  [default: full]",
        ),
        click.option(
            "--exclude-vars", metavar="REGEX", help="NVFlare: exclude_vars of the aggregator: keys it does not average."
        ),
        click.option(
            "--nvflare-version",
            callback=_version,
            metavar="VERSION",
            help="The release of NVFlare.  [default: the newest]",
        ),
        click.option(
            "--keep-norms/--no-keep-norms",
            default=None,
            help="Flower, NVFlare: every client keeps its norm layers to itself, picked by module.",
        ),
        click.option(
            "--keep-local",
            multiple=True,
            metavar="WORD",
            help="Flower, NVFlare: every client keeps what has WORD in its key.",
        ),
        click.option(
            "--strict/--no-strict",
            default=None,
            help="Flower, NVFlare: strict of load_state_dict.  [default: strict, unless something is kept]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def settings_of(flags: FrameworkFlags) -> FrameworkSettings | None:
    """The settings that the flags name; None without ``--framework``.

    Raises:
        click.UsageError: a setting without a framework, or of another one, a strategy that is not the framework's, the
            backend that trains Keras models, or a regular expression that is none.
    """
    chosen = flags["framework"]
    if chosen is None:
        given = [name for name in _given(flags) if not name.endswith("_version")]
        if given:
            raise click.UsageError(f"{_flag(given[0])} needs --framework")
        return None
    foreign = [name for name in _given(flags) if name != "strategy" and name not in OWN[chosen]]
    if foreign:
        whose = " and ".join(NAMES[other] for other, own in OWN.items() if foreign[0] in own)
        raise click.UsageError(f"{_flag(foreign[0])} is for {whose}, and --framework is {chosen}")
    if chosen == "secretflow":
        return _secretflow(flags)
    options = cast("ClientOptions", {name: value for name, value in flags.items() if name in OWN[chosen]})
    try:
        made = flower_settings if chosen == "flower" else nvflare_settings
        return made(flags["strategy"], options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _given(flags: FrameworkFlags) -> list[str]:
    """The names of the flags that were given, in the order of the options."""
    names = ["strategy", *dict.fromkeys(name for own in OWN.values() for name in own)]
    values: dict[str, object] = {**flags}
    return [name for name in names if values[name] not in (None, ())]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _secretflow(flags: FrameworkFlags) -> SecretFlowSettings:
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
        wrapped=Wrapping() if flags["local_batchnorm"] else None,
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
