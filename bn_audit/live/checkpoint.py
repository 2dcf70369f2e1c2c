"""Checkpoints: what a file, or the shards that an index names, hold as a state dict.

Only names, shapes, dtypes and 0-d integers are read. The tensors themselves are mapped, so that a file of 10 GB costs
what its header costs, and their pages are read when they are asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bn_audit.live.bare import BareEntry, bare_of_header, profile_of_bare, wrapping
from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.mapped import SafeTensors
from bn_audit.live.safetensors import Header, read_header
from bn_audit.profile import Gap, Profile

if TYPE_CHECKING:
    import torch

__all__ = ["SUFFIXES", "Checkpoint", "is_index", "open_checkpoint"]

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
"""What checkpoints are called. Which format a file has is told by its content, but for safetensors."""

_SHARD = re.compile(r"-\d{5}-of-(\d{5})\.\w+$")
_LARGEST_INDEX = 100_000_000


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state dict in a file.

    Attributes:
        path: of the file, or of the index of its shards.
        format: of the file or its shards.
        profile: by the structure of the keys; its ``module`` and norm paths are those below ``prefix``.
        tensors: by key as it stands in the file, on the CPU, mapped where the format allows. Of a large file of the old
            format they are on the meta device. Those of a safetensors file need torch when they are read.
        taken: where in the file the state dict lies, keys joined by dots; "" is the whole file.
        others: where other state dicts lie, which ``key`` would have taken.
        prefix: what wrappers (DataParallel, torch.compile, AveragedModel) put before every key; "" if nothing.
        notes: what a reader should know besides, in words.
    """

    path: Path
    format: Literal["zip", "legacy", "safetensors"]
    profile: Profile
    tensors: Mapping[str, torch.Tensor]
    taken: str = ""
    others: tuple[str, ...] = ()
    prefix: str = ""
    notes: tuple[str, ...] = ()


def open_checkpoint(path: Path, key: str | None = None) -> Checkpoint:
    """Open a checkpoint, without executing anything in it.

    Args:
        path: a file, or a ``*.index.json`` beside its shards.
        key: where in the file the state dict lies, keys joined by dots; None takes the most likely.

    Raises:
        TargetError: if the file is missing, damaged, holds no state dict, none at ``key``, or more than weights.
        MissingExtra: if torch is needed and not installed; a safetensors file does not need it.
    """
    try:
        if is_index(path):
            return _open_shards(path, key)
        if path.suffix == ".safetensors":
            return _open_headers(path, [read_header(path)], key)
        return _open_pickled(path, key)
    except IsADirectoryError as error:
        raise TargetError(f"{path} is a directory, no checkpoint") from error
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror or error}") from error


def is_index(path: Path) -> bool:
    """Whether a path is named as the index of a checkpoint in shards is."""
    return path.name.endswith(".index.json")


def _open_pickled(path: Path, key: str | None) -> Checkpoint:
    require_torch()
    import torch

    from bn_audit.live.nesting import choose
    from bn_audit.live.pickled import load, load_format
    from bn_audit.live.profile import bare_of_state
    from bn_audit.live.tensors import is_dense

    root, valued = load(path)
    chosen, others = choose(path, root, key, lambda value: isinstance(value, torch.Tensor))
    notes = []
    if not valued:
        notes.append("a large file of torch's old format: names and shapes were read, values were not")
    return _checkpoint(
        path,
        load_format(path),
        bare_of_state(chosen.state),
        {name: value for name, value in chosen.state.items() if is_dense(value)},
        notes,
        taken=chosen.path,
        others=tuple(other.path for other in others),
    )


def _open_headers(path: Path, headers: Iterable[Header], key: str | None) -> Checkpoint:
    if key is not None:
        raise TargetError(f"{path} has no state dict at {key!r}: safetensors hold one as a whole; leave --key away")
    places = {name: header for header in headers for name in header.tensors}
    if not places:
        raise TargetError(f"{path} holds no tensors")
    entries = (entry for header in dict.fromkeys(places.values()) for entry in bare_of_header(header))
    notes = ["safetensors files do not keep the order of the state dict"]
    return _checkpoint(path, "safetensors", entries, SafeTensors(places), notes, ordered=False)


def _checkpoint(
    path: Path,
    format_: Literal["zip", "legacy", "safetensors"],
    entries: Iterable[BareEntry],
    tensors: Mapping[str, torch.Tensor],
    notes: Iterable[str],
    taken: str = "",
    others: tuple[str, ...] = (),
    ordered: bool = True,
) -> Checkpoint:
    listed = list(entries)
    prefix = wrapping([entry.key for entry in listed])
    told = list(notes)
    if taken or others:
        where = f"the state dict at {taken!r} was taken" if taken else "the file itself was taken as the state dict"
        also = f"; also there: {', '.join(repr(other) for other in others)} (--key chooses)" if others else ""
        told.insert(0, where + also)
    if prefix:
        told.append(f"every key begins with {prefix!r}, which a wrapper put there; module paths are shown without it")
    told += [f"{entry.key} is {entry.kind}, and is passed by" for entry in listed if not entry.tensor]
    profile = profile_of_bare(listed, ordered)
    shards = _shards_of(path)
    if shards > 1:
        told.append(f"this is one of {shards} shards; name the index to read them all")
        gap = Gap(len(profile.entries), "", "the other shards are not read")
        profile = replace(profile, gaps=(*profile.gaps, gap))
    return Checkpoint(path, format_, profile, tensors, taken, others, prefix, tuple(told))


def _open_shards(path: Path, key: str | None) -> Checkpoint:
    """A checkpoint in shards. The index's ``weight_map`` names the file of each key; the files lie beside it."""
    places = _weight_map(path)
    shards: dict[str, set[str]] = {}
    for name, file in places.items():
        if Path(file).name != file or file in (".", ".."):
            raise TargetError(f"{path} names the shard {file!r}, which does not lie beside it")
        shards.setdefault(file, set()).add(name)
    missing = [file for file in shards if not (path.parent / file).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise TargetError(f"{path}: the shard {missing[0]}{more} is missing")
    if all(file.endswith(".safetensors") for file in shards):
        headers = [read_header(path.parent / file) for file in sorted(shards)]
        for header in headers:
            _check_shard(path, header.path, shards[header.path.name], set(header.tensors))
        return replace(_open_headers(path, headers, key), notes=_sharded(len(shards)))
    if key is not None:
        raise TargetError(f"{path} has no state dict at {key!r}: its shards are one as a whole; leave --key away")
    parts = [_open_pickled(path.parent / file, None) for file in sorted(shards)]
    for part in parts:
        _check_shard(path, part.path, shards[part.path.name], set(part.tensors))
    from bn_audit.live.profile import bare_of_state

    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    return _checkpoint(path, parts[0].format, bare_of_state(tensors), tensors, _sharded(len(parts)), ordered=False)


def _sharded(count: int) -> tuple[str, ...]:
    return (f"{count} shard{'s' if count > 1 else ''}, which do not keep the order of the state dict",)


def _shards_of(path: Path) -> int:
    """Of how many shards a file is one, by its name; 1 if it is whole."""
    shard = _SHARD.search(path.name)
    return int(shard[1]) if shard else 1


def _check_shard(index: Path, shard: Path, named: set[str], held: set[str]) -> None:
    if named != held:
        key = min(named ^ held)
        where = "is not in it" if key in named else "is in it and not in the index"
        raise TargetError(f"{index} does not fit the shard {shard.name}: {key!r} {where}")


def _weight_map(path: Path) -> Mapping[str, str]:
    if path.stat().st_size > _LARGEST_INDEX:
        raise TargetError(f"{path} is too large for an index")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise TargetError(f"{path} is no JSON: {error}") from error
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise TargetError(f"{path} is no index of shards: it has no weight_map of keys to file names")
    return places
