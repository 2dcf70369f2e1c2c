"""What ``import bn_audit`` offers: a model's profile, and what there is to say about it.

>>> import bn_audit
>>> bn_audit.profile(model).norms
>>> bn_audit.audit(model, framework="secretflow", aggregator="plain", skip_bn=True)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Unpack

    from bn_audit.clients import ClientOptions
    from bn_audit.comparison import Comparison
    from bn_audit.exchange.frameworks import FrameworkSettings
    from bn_audit.exchange.secretflow import SecretFlowSettings
    from bn_audit.finding import Finding
    from bn_audit.live.divergence.sources import Party
    from bn_audit.profile import Profile
    from bn_audit.verification import Verification

__all__ = ["audit", "compare", "profile", "verify"]

_FRAMEWORKS = ("secretflow", "flower", "nvflare")
_AGGREGATORS = ("plain", "secure", "spu", "sparse", "fedgen", "server_agg_method")


def profile(model: nn.Module) -> Profile:
    """The exact profile of a model: the entries of its state dict in order, and its norm layers.

    Args:
        model: on any device, the meta device among them.

    Raises:
        ImportError: torch is not installed (the extra ``torch``).
    """
    from bn_audit.live.profile import profile

    return profile(model)


def audit(
    model: nn.Module,
    framework: Literal["secretflow", "flower", "nvflare"] | None = None,
    *,
    strategy: str | None = None,
    aggregator: Literal["plain", "secure", "spu", "sparse", "fedgen", "server_agg_method"] | None = None,
    skip_bn: bool | None = None,
    local_batchnorm: bool | None = None,
    secretflow_version: str | None = None,
    **options: Unpack[ClientOptions],
) -> list[Finding]:
    """What there is to say about a model, sorted by code. A finding stands where the model's class is defined.

    Of Flower and NVFlare the client is judged: what it sends and what it loads. Whether a round with all of its
    settings does what FedBN wants, :func:`verify` proves.

    Args:
        model: on any device; of the meta device no values are judged.
        framework: whose exchange the model shall go through; None judges its state alone.
        strategy: the framework's; by default fed_avg_w with SecretFlow, fedavg with the others.
        aggregator: of SecretFlow; None is judged as PlainAggregator and as SecureAggregator: a finding needs both to go
            wrong.
        skip_bn: as FLModel takes it; None is not passed.
        local_batchnorm: of SecretFlow: whether the model goes through
            :func:`bn_audit.federated.secretflow.local_batchnorm`; None is as the model was made.
        secretflow_version: SecretFlow's release; None is 1.13.
        options: of Flower and NVFlare, see :class:`bn_audit.clients.ClientOptions`.

    Raises:
        ImportError: torch is not installed (the extra ``torch``).
        ValueError: a framework, strategy, aggregator or release that is not known; an option of another framework.
    """
    from bn_audit.audit import audit_model
    from bn_audit.live.classes import defined_at, is_base_module
    from bn_audit.live.health import health
    from bn_audit.rules.live_model import LiveModel

    own = _Own(aggregator, skip_bn, local_batchnorm, secretflow_version)
    settings = _settings_of(framework, strategy, own, options, is_base_module(type(model)))
    settings = _as_made(settings, model)
    whole = profile(model)
    live = LiveModel(whole, whole.type, defined_at(type(model)), tuple(health(model)))
    return list(audit_model(live, settings, passed=skip_bn is not None))


def verify(
    model: nn.Module,
    framework: Literal["secretflow", "flower", "nvflare"] = "secretflow",
    *,
    strategy: str | None = None,
    aggregator: str | None = None,
    skip_bn: bool | None = None,
    local_batchnorm: bool | None = None,
    secretflow_version: str | None = None,
    parties: int = 3,
    rounds: int = 2,
    engine: str | os.PathLike[str] = "contract",
    **options: Unpack[ClientOptions],
) -> Verification:
    """Run rounds on tensors and hold the state after them against FedBN's; ``.ok`` says whether they are equal.

    Args:
        model: a built module, whose values are not used and not changed; on the meta device it will do as well.
        framework: whose exchange to run.
        strategy: the framework's; by default fed_avg_w with SecretFlow, fedavg with the others.
        aggregator, skip_bn, secretflow_version: of SecretFlow, as FLModel takes them; ``plain`` and False by default.
        local_batchnorm: as for :func:`audit`.
        parties: how many train; at least 2.
        rounds: how many trainings and exchanges follow the first exchange; at least 1.
        engine: what runs the rounds: ``contract`` is our plan of the framework; ``secretflow`` the classes of the
            SecretFlow that is installed; ``flower`` the Flower that is installed, in its simulation; else the path of a
            SecretFlow wheel, whose classes are run. This executes the framework's code; what it does has to be what
            the plan says.
        options: of Flower and NVFlare, see :class:`bn_audit.clients.ClientOptions`.

    Raises:
        ImportError: torch is not installed (the extra ``torch``), or what the engine needs.
        ValueError: a framework, strategy, aggregator or number that is not known or too small; an option of another
            framework.
        bn_audit.live.errors.TargetError: a model that no round can be run on, a strategy that hands out something else
            than the weighted mean, or an engine that cannot be used.
    """
    from bn_audit.exchange.secretflow import SecretFlowSettings
    from bn_audit.live.verify import verify, verify_exchange

    own = _Own(aggregator, skip_bn, local_batchnorm, secretflow_version)
    settings = _settings_of(framework, strategy, own, options, False)
    if settings is None:
        raise ValueError(f"name whose exchange to verify: {', '.join(_FRAMEWORKS)}")
    if not isinstance(settings, SecretFlowSettings):
        if os.fspath(engine) not in ("contract", *(["flower"] if framework == "flower" else [])):
            raise ValueError(f"the engine {os.fspath(engine)!r} runs another framework than {framework!r}")
        return verify_exchange(model, settings, parties=parties, rounds=rounds, engine=os.fspath(engine))
    return verify(
        model,
        strategy=settings.strategy or "fed_avg_w",
        aggregator=aggregator or "plain",
        skip_bn=bool(skip_bn),
        secretflow_version=secretflow_version,
        wrapped=settings.wrapped,
        parties=parties,
        rounds=rounds,
        engine=os.fspath(engine),
    )


def compare(
    parties: Mapping[str, Party] | Sequence[Party],
    *,
    metrics: Sequence[Literal["nw2", "hellinger", "jeffreys", "w2"]] = ("nw2",),
    layers: Sequence[str] = (),
    channels: bool = False,
    momentum: float | None = 0.1,
    batch_size: int | None = None,
    samples: int | Mapping[str, int] | None = None,
    model: nn.Module | None = None,
    data: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Comparison:
    """How far apart the parties' data is, read from the running statistics of their norm layers.

    Args:
        parties: by name, or in order; each the path of a checkpoint, a state dict, or a module.
        metrics: the distances, see :mod:`bn_audit.federated.distances`; the levels rest on nW2, which is computed
            in any case.
        layers: patterns (``*`` and ``?``) of the norm layers' paths; none is all.
        channels: whether the first layer's distances are wanted channel by channel.
        momentum: of the norm layers, which a state dict does not tell; None is the mean over all batches.
        batch_size: of the local training; needed where chance is to be told from what is none.
        samples: how many examples each party trained on, for a bound on what chance gives.
        model: the parties': it knows statistics that the keys of a file or a state dict do not tell, and the order of
            the layers. With ``data`` their states go into a copy, to measure on their data what chance gives.
        data: by party, each a Dataset, a pair (inputs, targets), or batches of such pairs.
        force: whether to compare what cannot be compared with good reason.

    Raises:
        ImportError: torch is not installed (the extra ``torch``).
        ValueError: a metric that is not known, or arguments that do not go together.
        bn_audit.live.errors.TargetError: parties that cannot be read or compared, with the reason.
    """
    from bn_audit.comparison import METRICS
    from bn_audit.live.divergence import Options, compare
    from bn_audit.live.divergence.calibrate import Own, Training, by_bound, by_data, with_groups
    from bn_audit.live.divergence.sources import source_of
    from bn_audit.live.profile import profile as profile_of
    from bn_audit.live.training.data import parties_of

    for metric in metrics:
        if metric not in METRICS:
            raise ValueError(f"the metric {metric!r} is not known; known are {', '.join(METRICS)}")
    named = parties if isinstance(parties, Mapping) else {f"party {n}": one for n, one in enumerate(parties, start=1)}
    if data is not None and model is None:
        raise ValueError("data needs the model, which is run on it")
    if (samples is not None or data is not None) and batch_size is None:
        raise ValueError("how much statistics vary depends on the batches of the training: give batch_size")
    options = Options(tuple(metrics) or ("nw2",), tuple(layers), channels, force, momentum)
    known = None if model is None else profile_of(model)
    sources = [source_of(name, party, known) for name, party in named.items()]
    comparison, found = compare(sources, options)
    training = Training(batch_size or 1, momentum)
    if model is not None and data is not None:
        given = {one.name: one for one in parties_of("data", {name: (own, own) for name, own in data.items()})}
        comparison = by_data(comparison, found, sources, Own(model, given), training)
    elif samples is not None:
        counts = dict.fromkeys(named, samples) if isinstance(samples, int) else samples
        if any(counts.get(name, 0) < 1 for name in named):
            raise ValueError("samples is a number above 0, or one for each party")
        comparison = by_bound(comparison, found, [counts[name] for name in named], training)
    return with_groups(comparison)


@dataclass(frozen=True, slots=True)
class _Own:
    """What is said of SecretFlow's FLModel."""

    aggregator: str | None
    skip_bn: bool | None
    local_batchnorm: bool | None
    secretflow_version: str | None


def _settings_of(
    framework: str | None, strategy: str | None, own: _Own, options: ClientOptions, base_module: bool
) -> FrameworkSettings | None:
    from bn_audit.clients import checked, flower_settings, nvflare_settings

    if framework is not None and framework not in _FRAMEWORKS:
        raise ValueError(f"the framework {framework!r} is not known; known are {', '.join(_FRAMEWORKS)}")
    checked(framework, options)
    if framework == "secretflow":
        return _settings(strategy or "fed_avg_w", own, base_module)
    if framework is None:
        return None
    for field in fields(own):
        if getattr(own, field.name) is not None:
            raise ValueError(f"{field.name} is for 'secretflow', and the framework is {framework!r}")
    return flower_settings(strategy, options) if framework == "flower" else nvflare_settings(strategy, options)


def _as_made(settings: FrameworkSettings | None, model: nn.Module) -> FrameworkSettings | None:
    """The settings, with how the model was wrapped when it was made."""
    from bn_audit.exchange.secretflow import SecretFlowSettings
    from bn_audit.federated.secretflow import wrapping_of

    if isinstance(settings, SecretFlowSettings) and settings.wrapped is None:
        return replace(settings, wrapped=wrapping_of(model))
    return settings


def _settings(strategy: str, own: _Own, base_module: bool) -> SecretFlowSettings:
    from bn_audit.exchange.secretflow import SecretFlowSettings
    from bn_audit.exchange.secretflow.strategies import strategies
    from bn_audit.live.releases import torch_release
    from bn_audit.settings.versions import parse_version
    from bn_audit.wrapping import Wrapping

    aggregator, version = own.aggregator, own.secretflow_version
    known = [one.name for one in strategies("torch")]
    if strategy not in known:
        raise ValueError(f"SecretFlow's torch backend has no strategy {strategy!r}; it has {', '.join(known)}")
    if aggregator is not None and aggregator not in _AGGREGATORS:
        raise ValueError(f"the aggregator {aggregator!r} is not known; known are {', '.join(_AGGREGATORS)}")
    return SecretFlowSettings(
        backend="torch",
        strategy=strategy,
        aggregator=aggregator,
        skip_bn=bool(own.skip_bn),
        secretflow_version=None if version is None else parse_version(version),
        torch_version=torch_release(),
        base_module=base_module,
        wrapped=Wrapping() if own.local_batchnorm else None,
    )
