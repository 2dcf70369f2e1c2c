"""Parties to compare: checkpoints, state dicts and modules."""

from __future__ import annotations

import os
from collections.abc import Mapping
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

__all__ = ["Party", "of_file", "source_of"]

Party = str | os.PathLike[str] | nn.Module | Mapping[str, torch.Tensor]
"""The path of a checkpoint, a module, or a state dict."""


def of_file(name: str, path: str | os.PathLike[str], key: str | None = None) -> Source:
    """A checkpoint, opened when it is asked for.

    Args:
        name: of the party.
        path: of the file.
        key: where in it the state dict lies.
    """

    def opened() -> tuple[Profile, Mapping[str, torch.Tensor]]:
        checkpoint = open_checkpoint(Path(path), key)
        return unwrapped(checkpoint.profile), unwrapped_state(checkpoint)

    file = Path(path)
    # Of shards the index is laid out alike, whatever they hold; of a nested state dict the prefix is as well.
    return Source(name, opened, file if key is None and not is_index(file) else None)


def source_of(name: str, party: Party) -> Source:
    """A party in any form.

    Raises:
        TargetError: when it is opened, and is none.
    """
    if isinstance(party, (str, os.PathLike)):
        return of_file(name, party)

    def opened() -> tuple[Profile, Mapping[str, torch.Tensor]]:
        if isinstance(party, nn.Module):
            return profile(party), party.state_dict(keep_vars=True)
        if not isinstance(party, Mapping):
            raise TargetError(f"{name} is of type {type(party).__name__}: give a path, a module or a state dict")
        tensors = {key: value for key, value in party.items() if isinstance(value, torch.Tensor)}
        return profile_of_state(tensors), tensors

    return Source(name, opened)
