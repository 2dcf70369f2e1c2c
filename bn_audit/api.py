"""What ``import bn_audit`` offers: a model's profile, and what there is to say about it.

>>> import bn_audit
>>> bn_audit.profile(model).norms
>>> bn_audit.audit(model, framework="secretflow", aggregator="plain", skip_bn=True)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

    from bn_audit.exchange.secretflow import SecretFlowSettings
    from bn_audit.finding import Finding
    from bn_audit.profile import Profile
    from bn_audit.verification import Verification

__all__ = ["audit", "profile", "verify"]

_AGGREGATORS = ("plain", "secure", "spu", "sparse", "fedgen", "server_agg_method")


def profile(model: nn.Module) -> Profile:
    """The exact profile of a model: the entries of its state dict in order, and its norm layers.

    Args:
        model: on any device, the meta device among them.

    Raises:
        ImportError: torch is not installed (``pip install 'bn-audit[torch]'``).
    """
    from bn_audit.live.profile import profile

    return profile(model)


def audit(
    model: nn.Module,
    framework: Literal["secretflow"] | None = None,
    *,
    strategy: str = "fed_avg_w",
    aggregator: Literal["plain", "secure", "spu", "sparse", "fedgen", "server_agg_method"] | None = None,
    skip_bn: bool | None = None,
    secretflow_version: str | None = None,
) -> list[Finding]:
    """What there is to say about a model, sorted by code. A finding stands where the model's class is defined.

    Args:
        model: on any device; of the meta device no values are judged.
        framework: whose exchange the model shall go through; None judges its state alone.
        strategy: as FLModel takes it.
        aggregator: None is judged as PlainAggregator and as SecureAggregator: a finding needs both to go wrong.
        skip_bn: as FLModel takes it; None is not passed.
        secretflow_version: SecretFlow's release; None is 1.13.

    Raises:
        ImportError: torch is not installed (``pip install 'bn-audit[torch]'``).
        ValueError: a framework, strategy, aggregator or release that is not known.
    """
    from bn_audit.audit import audit_model
    from bn_audit.live.classes import defined_at, is_base_module
    from bn_audit.live.health import health
    from bn_audit.rules.live_model import LiveModel

    if framework not in (None, "secretflow"):
        raise ValueError(f"the framework {framework!r} is not known; known is 'secretflow'")
    settings = None
    if framework is not None:
        settings = _settings(strategy, aggregator, skip_bn, secretflow_version, is_base_module(type(model)))
    whole = profile(model)
    live = LiveModel(whole, whole.type, defined_at(type(model)), tuple(health(model)))
    return list(audit_model(live, settings, passed=skip_bn is not None))


def verify(
    model: nn.Module,
    framework: Literal["secretflow"] = "secretflow",
    *,
    strategy: str = "fed_avg_w",
    aggregator: str = "plain",
    skip_bn: bool = False,
    secretflow_version: str | None = None,
    parties: int = 3,
    rounds: int = 2,
    engine: str | os.PathLike[str] = "contract",
) -> Verification:
    """Run rounds on tensors and hold the state after them against FedBN's; ``.ok`` says whether they are equal.

    Args:
        model: a built module, whose values are not used and not changed; on the meta device it will do as well.
        framework: whose exchange to run.
        strategy, aggregator, skip_bn, secretflow_version: as FLModel takes them.
        parties: how many train; at least 2.
        rounds: how many trainings and exchanges follow the first exchange; at least 1.
        engine: what runs the rounds: ``contract`` is our plan of the framework; ``secretflow`` the classes of the
            SecretFlow that is installed; else the path of a SecretFlow wheel, whose classes are run. This executes
            SecretFlow's code; what it does has to be what the plan says.

    Raises:
        ImportError: torch is not installed (``pip install 'bn-audit[torch]'``), or what the engine needs.
        ValueError: a framework, strategy, aggregator or number that is not known or too small.
        bn_audit.live.errors.TargetError: a model that no round can be run on, or an engine that cannot be used.
    """
    from bn_audit.live.verify import verify

    if framework != "secretflow":
        raise ValueError(f"the framework {framework!r} is not known; known is 'secretflow'")
    _settings(strategy, aggregator, skip_bn, secretflow_version, False)
    return verify(
        model,
        strategy=strategy,
        aggregator=aggregator,
        skip_bn=skip_bn,
        secretflow_version=secretflow_version,
        parties=parties,
        rounds=rounds,
        engine=os.fspath(engine),
    )


def _settings(
    strategy: str, aggregator: str | None, skip_bn: bool | None, secretflow_version: str | None, base_module: bool
) -> SecretFlowSettings:
    from bn_audit.exchange.secretflow import SecretFlowSettings
    from bn_audit.exchange.secretflow.strategies import strategies
    from bn_audit.live.releases import torch_release
    from bn_audit.settings.versions import parse_version

    known = [one.name for one in strategies("torch")]
    if strategy not in known:
        raise ValueError(f"SecretFlow's torch backend has no strategy {strategy!r}; it has {', '.join(known)}")
    if aggregator is not None and aggregator not in _AGGREGATORS:
        raise ValueError(f"the aggregator {aggregator!r} is not known; known are {', '.join(_AGGREGATORS)}")
    return SecretFlowSettings(
        backend="torch",
        strategy=strategy,
        aggregator=aggregator,
        skip_bn=bool(skip_bn),
        secretflow_version=None if secretflow_version is None else parse_version(secretflow_version),
        torch_version=torch_release(),
        base_module=base_module,
    )
