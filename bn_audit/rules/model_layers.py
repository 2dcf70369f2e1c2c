"""Layers that a federation has trouble with, whatever exchanges them. A finding stands where the layer is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bn_audit.exchange.release import release
from bn_audit.finding import Evidence, Finding, Location, Severity
from bn_audit.profile import NormLayer
from bn_audit.rules.case import FLModelCase
from bn_audit.rules.examples import federation
from bn_audit.rules.rule import Rule
from bn_audit.rules.wording import listed, model_name
from bn_audit.site import FLModelCall

__all__ = ["RULES", "definition", "federated"]


@dataclass(frozen=True, slots=True)
class Layers:
    """Norm layers that one place in the source makes."""

    location: Location
    norms: tuple[NormLayer, ...]
    reading: FLModelCall

    @property
    def names(self) -> str:
        """Their paths, and whose they are: ```bn1` and `bn2` of `Net```."""
        return f"{listed(norm.path or 'the root' for norm in self.norms)} of {model_name(self.reading)}"

    @property
    def kind(self) -> str:
        """Their class: ``InstanceNorm2d``."""
        return self.norms[0].type


def _found(case: FLModelCase, wanted: Callable[[NormLayer], bool]) -> Iterator[Layers]:
    """The layers wanted, by the place that makes them; only those that every reading's model has."""
    if not case.models:
        return
    first = case.readings[0]
    places: dict[Location, list[NormLayer]] = {}
    for norm in case.models[0].norms:
        if wanted(norm) and all(_has(other.norms, norm, wanted) for other in case.models[1:]):
            places.setdefault(norm.location or definition(case, first), []).append(norm)
    for location, norms in places.items():
        yield Layers(location, tuple(norms), first)


def _has(norms: tuple[NormLayer, ...], norm: NormLayer, wanted: Callable[[NormLayer], bool]) -> bool:
    return any(wanted(other) and (other.path, other.location) == (norm.path, norm.location) for other in norms)


def definition(case: FLModelCase, reading: FLModelCall) -> Location:
    """Where a reading's model is defined, as far as the trail went; the call itself if there is no trail."""
    return reading.model_trail[-1].location if reading.model_trail else case.site.location


def federated(case: FLModelCase, reading: FLModelCall, location: Location) -> tuple[Evidence, ...]:
    """The evidence that what stands at ``location`` takes part in a federation."""
    call = Evidence(case.site.location, f"{model_name(reading)} is trained in the federation of this FLModel")
    return (call,) if call.location != location else ()


def _instance(case: FLModelCase) -> Iterator[Finding]:
    if any(reading.wrapped is not None for reading in case.readings):
        return  # `local_batchnorm` keeps whatever has running statistics with its party
    for layers in _found(case, lambda norm: norm.family == "instance" and norm.tracked is True):
        yield INSTANCE.finding(
            layers.location,
            f"{layers.kind} with running statistics, {layers.names}: no `skip_bn` looks for it, so its "
            "statistics are exchanged "
            "and its integer counter with them",
            evidence=federated(case, layers.reading, layers.location),
            help="build it without `track_running_stats=True`: each sample is then normalised by itself, "
            "as in training",
        )


def _sync(case: FLModelCase) -> Iterator[Finding]:
    for layers in _found(case, lambda norm: norm.family == "sync"):
        yield SYNC.finding(
            layers.location,
            f"{layers.kind}, {layers.names}: in a process group that spans the parties every forward pools "
            "their batch statistics; "
            "without one it is a plain BatchNorm",
            evidence=federated(case, layers.reading, layers.location),
            help="use the plain BatchNorm: FedBN wants each party's statistics to be its own, and a "
            "federation's parties share "
            "no process group",
        )


def _lazy(case: FLModelCase) -> Iterator[Finding]:
    for layers in _found(case, lambda norm: norm.lazy and not _may_be_skipped(case, norm)):
        yield LAZY.finding(
            layers.location,
            f"{layers.kind}, {layers.names}, has no parameters before its first forward, and the first "
            "exchange comes before any: "
            "its state cannot be sent",
            evidence=federated(case, layers.reading, layers.location),
            help="give the number of features (BatchNorm2d instead of LazyBatchNorm2d), or run a dummy "
            "batch through the model "
            "where it is built",
        )


def _may_be_skipped(case: FLModelCase, norm: NormLayer) -> bool:
    """Whether ``skip_bn`` may keep a layer out of the exchange, by its class and place: what it holds is not asked."""
    version = release(case.secretflow)
    if (version is not None and version < _SKIPS) or not norm.path or norm.nested or norm.batchnorm is False:
        return False
    return any(one.backend is not None and one.skip_bn is not False and one.wrapped is None for one in case.readings)


_SKIPS = (1, 7)
"""The first release that heeds ``skip_bn`` in every exchange."""


def _cumulative(case: FLModelCase) -> Iterator[Finding]:
    for layers in _found(case, lambda norm: norm.cumulative is True and norm.tracked is True):
        yield CUMULATIVE.finding(
            layers.location,
            f"{layers.kind} with `momentum=None`, {layers.names}: its statistics are the mean over all "
            "batches since the start, so "
            "those of rounds long past, made with other weights, never fade",
            evidence=federated(case, layers.reading, layers.location),
            help="leave `momentum` at its default of 0.1; or reset the statistics "
            "(`reset_running_stats()`) when a round begins",
        )


_SILENT = """\
- No call of FLModel is seen to train the model, or the trail to it breaks.
- The flag that makes the layer what it is, is not known."""
_FIX_SAFETY = "No edit is offered: what the layer is for is for its author to say."

INSTANCE = Rule(
    code="BNA401",
    name="instance-norm-statistics",
    severity=Severity.WARNING,
    summary="A federated model has InstanceNorm with running statistics",
    finds="An InstanceNorm built with `track_running_stats=True`, in a model that an FLModel trains.",
    why="""\
It holds the five entries of a BatchNorm and is none: `isinstance(module, _BatchNorm)` is false, and whatever keeps
BatchNorm local passes it by. Its statistics are averaged over parties whose data differ, and used instead of the
sample's own at evaluation; its integer counter stops rounds as BatchNorm's does.""",
    remedy="Leave `track_running_stats` at its default, False. The layer then has no statistics to exchange.",
    silent=_SILENT,
    fix_safety=_FIX_SAFETY,
    references=("torch.nn.InstanceNorm2d, `track_running_stats`",),
    bad=(
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.norm = nn.InstanceNorm2d(8, affine=True, track_running_stats=True)",
        ),
    ),
    good=(federation("self.conv = nn.Conv2d(1, 8, 3)", "self.norm = nn.InstanceNorm2d(8, affine=True)"),),
    judges=FLModelCase,
    check=_instance,
)

SYNC = Rule(
    code="BNA404",
    name="sync-batchnorm",
    severity=Severity.WARNING,
    summary="A federated model has a BatchNorm that synchronises its statistics",
    finds="A SyncBatchNorm (torch, timm, Keras) in a model that an FLModel trains.",
    why="""\
It pools batch statistics over the processes of its group at every forward. A group that spans the parties sends each
party's statistics to the others outside of the federation's exchange, whatever the aggregator protects, and undoes
FedBN. Without a group it is a BatchNorm by another name. Keras's is, in the releases that SecretFlow runs with, no
BatchNormalization to `isinstance`.""",
    remedy="Use the plain BatchNorm layer; keep `convert_sync_batchnorm` for training within one party.",
    silent=_SILENT,
    fix_safety=_FIX_SAFETY,
    references=("torch.nn.SyncBatchNorm",),
    bad=(federation("self.conv = nn.Conv2d(1, 8, 3)", "self.bn = nn.SyncBatchNorm(8)"),),
    good=(
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.bn = nn.BatchNorm2d(8)",
            settings=("skip_bn=True",),
        ),
    ),
    judges=FLModelCase,
    check=_sync,
)

LAZY = Rule(
    code="BNA405",
    name="lazy-norm-uninitialised",
    severity=Severity.ERROR,
    summary="A federated model has a lazy norm layer that no forward has initialised",
    finds="A LazyBatchNorm or LazyInstanceNorm in a model that an FLModel builds.",
    why="""\
A lazy layer learns its number of features from its first input; until then its entries have neither shape nor data.
`fit` begins with an exchange of weights, before any forward: the round stops there if the layer takes part.""",
    remedy="Give the number of features; or run a dummy batch through the model in the function that builds it.",
    silent=_SILENT
    + """
- The model is run once where it is built, as far as that is seen.
- It is a BatchNorm and an attribute of the model itself, and `skip_bn` may be True: such a layer is never sent, and the
  first batch initialises it.""",
    fix_safety=_FIX_SAFETY,
    references=("torch.nn.modules.lazy.LazyModuleMixin",),
    bad=(federation("self.conv = nn.Conv2d(1, 8, 3)", "self.bn = nn.LazyBatchNorm2d()"),),
    good=(
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.bn = nn.BatchNorm2d(8)",
            settings=("skip_bn=True",),
        ),
    ),
    judges=FLModelCase,
    check=_lazy,
)

CUMULATIVE = Rule(
    code="BNA408",
    name="cumulative-momentum",
    severity=Severity.WARNING,
    summary="A federated model's BatchNorm averages its statistics over all batches there ever were",
    finds="A norm layer with running statistics and `momentum=None`, in a model that an FLModel trains.",
    why="""\
With `momentum=None` the running statistics are the plain mean over every batch since the start, weighted by
`num_batches_tracked`. A federation changes the weights below the layer with every round, more than a step of training
does; the statistics of the first rounds weigh as much as the last ones'. Where the counter is exchanged and not
rebuilt as it was, the weighting is wrong besides.""",
    remedy="Leave `momentum` at 0.1, or call `reset_running_stats()` when a round begins.",
    silent=_SILENT,
    fix_safety=_FIX_SAFETY,
    references=("torch.nn.BatchNorm2d, `momentum`",),
    bad=(
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.bn = nn.BatchNorm2d(8, momentum=None)",
            settings=("skip_bn=True",),
        ),
    ),
    good=(
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.bn = nn.BatchNorm2d(8, momentum=0.01)",
            settings=("skip_bn=True",),
        ),
    ),
    judges=FLModelCase,
    check=_cumulative,
)

RULES = (INSTANCE, SYNC, LAZY, CUMULATIVE)
