"""What FLModel is given to aggregate with, so that SecretFlow's own classes run in one process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from bn_audit.exchange.plan import Fate
from bn_audit.exchange.secretflow import SecretFlowSettings, plan
from bn_audit.live.errors import TargetError
from bn_audit.profile import Profile, StateEntry

__all__ = ["aggregation"]

_CLASSES = {"plain": "PlainAggregator", "secure": "SecureAggregator", "sparse": "SparsePlainAggregator"}
_FED_GEN = ("FedGenActor", "FedGenGeneratorModel", "StatefulFedGenAggregator")


def aggregation(
    platform: Any, profile: Profile, settings: SecretFlowSettings, devices: Sequence[Any]
) -> tuple[dict[str, Any], int]:
    """The arguments of FLModel that say how to aggregate, and the number of classes that a model has to tell apart.

    Args:
        platform: a :class:`~bn_audit.live.secretflow_engine.Platform`.

    Raises:
        TargetError: for what does not run in one process, or not with this model.
    """
    fed_gen = settings.strategy == "fed_gen"
    if not fed_gen and settings.aggregator != "fedgen":
        return _aggregator(platform, settings, devices), 2
    if any(not hasattr(platform, name) for name in _FED_GEN):
        raise TargetError("this release of SecretFlow has no fed_gen")
    classes, width = _head(_sent(profile, settings))
    generator = _generator(platform, classes, width)
    if settings.aggregator == "fedgen":
        actor = platform.FedGenActor(device=devices[0], generator=generator)
        options = {"aggregator": platform.StatefulFedGenAggregator(devices[0], list(devices), actor)}
    else:
        options = _aggregator(platform, settings, devices)
    return (options | {"generator": generator} if fed_gen else options), classes


def _aggregator(platform: Any, settings: SecretFlowSettings, devices: Sequence[Any]) -> dict[str, Any]:
    if settings.aggregator == "server_agg_method":
        return {"aggregator": None, "server_agg_method": _entry_by_entry}
    if settings.aggregator == "spu" and hasattr(platform, "spu_aggregator"):
        return {"aggregator": platform.spu_aggregator(devices)}
    factory = getattr(platform, _CLASSES.get(settings.aggregator or "", ""), None)
    if factory is None:
        usable = [*(name for name, kind in _CLASSES.items() if hasattr(platform, kind)), "server_agg_method"]
        more = "; --engine ray runs it" if settings.aggregator == "spu" else ""
        names = ", ".join(usable)
        raise TargetError(f"the aggregator {settings.aggregator} does not run in one process; {names} do{more}")
    placed = (devices[0], list(devices)) if settings.aggregator == "secure" else (devices[0],)
    return {"aggregator": factory(*placed)}


def _entry_by_entry(sent: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """The ``server_agg_method`` that the plan takes users to have: it is given no sample counts."""
    mean = [_mean([np.asarray(array) for array in arrays]) for arrays in zip(*sent, strict=True)]
    return [mean for _ in sent]


def _mean(arrays: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """In the arrays' dtype, or in double precision of integers; ``np.average`` would divide by an empty one's size."""
    own = arrays[0].dtype
    wide = np.result_type(own, np.float64)
    mean = np.sum([array.astype(wide) for array in arrays], axis=0) / len(arrays)
    return np.asarray(mean, own if np.issubdtype(own, np.inexact) else wide)


def _generator(platform: Any, classes: int, width: int) -> Any:
    """What fed_gen's server trains, of the width that the model's last layer takes."""
    return platform.FedGenGeneratorModel(
        hidden_dimension=4,
        latent_dimension=width,
        noise_dim=3,
        num_classes=classes,
        loss_fn=nn.CrossEntropyLoss,
        optim_fn=partial(torch.optim.SGD, lr=0.01),
        diversity_loss=_spread,
        epochs=1,
        batch_size=4,
    )


def _spread(noise: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    return output.var()


def _sent(profile: Profile, settings: SecretFlowSettings) -> list[StateEntry]:
    """What travels, in order."""
    if settings.wrapped is not None:
        planned = zip(profile.entries, plan(profile, settings).entries, strict=True)
        return [entry for entry, part in planned if part.fate is Fate.AVERAGED]
    paths = (norm.path for norm in profile.norms if norm.batchnorm and "." not in norm.path)
    left_out = set(paths) if settings.skip_bn else set()
    return [entry for entry in profile.entries if entry.key.partition(".")[0] not in left_out]


def _head(sent: Sequence[StateEntry]) -> tuple[int, int]:
    """Classes and inputs of the linear layer that fed_gen's server takes the last two arrays for.

    Raises:
        TargetError: if they cannot be one's weight and bias.
    """
    match [entry.shape for entry in sent[-2:]]:
        case [(int(classes), int(width)), (int(bias),)] if classes == bias >= 2 and width:
            return classes, width
    raise TargetError(
        "fed_gen's server takes the last two arrays that it is sent for weight and bias of a linear layer; "
        f"here they are {' and '.join(map(_shown, sent[-2:])) or 'none'}"
    )


def _shown(entry: StateEntry) -> str:
    return f"{entry.key} {list(entry.shape or ())}"
