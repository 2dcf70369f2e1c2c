"""Parties to compare: checkpoints, state dicts and modules."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bn_audit.live.bare import unwrapped
from bn_audit.live.checkpoint import is_index, open_checkpoint
from bn_audit.live.divergence.statistics import Source
from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.parties import unwrapped_state
from bn_audit.live.profile import profile, profile_of_state
from bn_audit.profile import Profile

require_torch()

import torch  # noqa: E402
from torch import nn  # noqa: E402

from bn_audit.federated.owners import state_of  # noqa: E402

__all__ = ["Party", "of_file", "source_of"]

Party = str | os.PathLike[str] | nn.Module | Mapping[str, torch.Tensor]
"""The path of a checkpoint, a module, or a state dict."""


def of_file(name: str, path: str | os.PathLike[str], key: str | None = None, model: Profile | None = None) -> Source:
    """A checkpoint, opened when it is asked for.

    Args:
        name: of the party.
        path: of the file.
        key: where in it the state dict lies.
        model: whose state it is, where that is known: which of its entries are statistics, and in which order its
            layers stand, need not be told from the keys then.
    """

    def opened() -> tuple[Profile, Mapping[str, torch.Tensor]]:
        checkpoint = open_checkpoint(Path(path), key)
        found = unwrapped(checkpoint.profile)
        return found if model is None else _as_in(model, found, name), unwrapped_state(checkpoint.tensors)

    file = Path(path)
    # Of shards the index is laid out alike, whatever they hold; of a nested state dict the prefix is as well.
    return Source(name, opened, file if key is None and not is_index(file) else None)


def source_of(name: str, party: Party, model: Profile | None = None) -> Source:
    """A party in any form; ``model`` as for :func:`of_file`, and a module's own profile counts in any case.

    Raises:
        TargetError: when it is opened, and is none.
    """
    if isinstance(party, (str, os.PathLike)):
        return of_file(name, party, model=model)

    def opened() -> tuple[Profile, Mapping[str, torch.Tensor]]:
        if isinstance(party, nn.Module):
            own = unwrapped(profile(party))
            return own, unwrapped_state(state_of(party))
        if not isinstance(party, Mapping):
            raise TargetError(f"{name} is of type {type(party).__name__}: give a path, a module or a state dict")
        tensors = {key: value for key, value in party.items() if isinstance(value, torch.Tensor)}
        found = unwrapped(profile_of_state(tensors))
        return found if model is None else _as_in(model, found, name), unwrapped_state(tensors)

    return Source(name, opened)


def _as_in(model: Profile, found: Profile, name: str) -> Profile:
    """A bare profile with what the model says of its entries.

    Raises:
        TargetError: it has no entry of the model's.
    """
    model = unwrapped(model)
    here = {entry.key: entry for entry in found.entries}
    known = {entry.key for entry in model.entries}
    if not known & here.keys():
        raise TargetError(
            f"{name} holds no entry of the model's: it has {', '.join(list(here)[:3])}, and the model "
            f"{', '.join([entry.key for entry in model.entries][:3])}"
        )
    entries = [
        replace(entry, shape=here[entry.key].shape, dtype=here[entry.key].dtype, value=here[entry.key].value)
        for entry in model.entries
        if entry.key in here
    ]
    more = [entry for entry in found.entries if entry.key not in known]
    return replace(model, entries=(*entries, *more), gaps=found.gaps, reload=None)
