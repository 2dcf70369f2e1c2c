"""Profiles written down: a few words for the entries the exchange tests need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bn_audit.profile import Gap, NormLayer, Profile, Shape, StateEntry

__all__ = ["batchnorm", "buffer", "gap", "layer", "parameter", "profile"]

Part = StateEntry | NormLayer | Gap


def parameter(key: str, shape: Shape | None, dtype: str | None = "float32") -> StateEntry:
    return StateEntry(key, shape, dtype, "parameter", key.rpartition(".")[0])


def buffer(key: str, shape: Shape | None, dtype: str | None = "float32", value: int | None = None) -> StateEntry:
    return StateEntry(key, shape, dtype, "buffer", key.rpartition(".")[0], value)


def layer(path: str, weight: Shape | None, bias: Shape | None) -> list[Part]:
    """A layer with weight and bias."""
    return [parameter(f"{path}.weight", weight), parameter(f"{path}.bias", bias)]


def batchnorm(path: str, features: int | None, counter: int | None = 0) -> list[Part]:
    """A BatchNorm with all five entries."""
    return [
        NormLayer(path, "BatchNorm2d", features=features),
        *layer(path, (features,), (features,)),
        buffer(f"{path}.running_mean", (features,)),
        buffer(f"{path}.running_var", (features,)),
        buffer(f"{path}.num_batches_tracked", (), "int64", counter),
    ]


def gap(path: str = "", may_hold_norm: bool = True) -> Gap:
    """A gap that stands where it is listed."""
    return Gap(0, path, "a call that could not be followed", may_hold_norm=may_hold_norm)


def profile(*parts: Part | Sequence[Part]) -> Profile:
    """A profile of parts in state order; gaps stand where they are listed."""
    flat: list[Part] = []
    for part in parts:
        flat.extend([part] if isinstance(part, (StateEntry, NormLayer, Gap)) else part)
    entries: list[StateEntry] = []
    gaps: list[Gap] = []
    for part in flat:
        if isinstance(part, StateEntry):
            entries.append(part)
        elif isinstance(part, Gap):
            gaps.append(replace(part, index=len(entries)))
    return Profile(tuple(entries), tuple(part for part in flat if isinstance(part, NormLayer)), tuple(gaps), type="Net")
