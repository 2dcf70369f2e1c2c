"""Profiles of bare state: keys, shapes and dtypes without the modules they came from.

A norm layer is a prefix below which running statistics stand (:mod:`bn_audit.running`). Its class is not in the file,
and a BatchNorm, an InstanceNorm with running statistics and a frozen BatchNorm may look alike: ``batchnorm`` is None. A
layer without running statistics cannot be told from any other with a weight and a bias, and is not listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bn_audit.live.safetensors import Header, read_integer
from bn_audit.profile import Gap, NormLayer, Profile, Shape, StateEntry
from bn_audit.running import is_statistic

__all__ = [
    "BATCHNORM_LIKE",
    "BareEntry",
    "profile_of_bare",
    "profile_of_header",
    "unwrapped",
    "unwrapped_keys",
    "wrapping",
]

BATCHNORM_LIKE = "BatchNorm-like"
"""What stands for the class of a norm layer where only its keys are known."""

_WRAPPERS = ("module.", "_orig_mod.")
# The counter that torch.optim.swa_utils.AveragedModel keeps beside the model it wraps.
_AVERAGED = "n_averaged"


@dataclass(frozen=True, slots=True)
class BareEntry:
    """What a file says of one entry. ``shape`` and ``dtype`` None are unknown; ``tensor`` False says that it is none
    that can be exchanged as it is (``kind`` says so in words); ``parameter`` True that the file marks it as one."""

    key: str
    shape: Shape | None
    dtype: str | None
    value: int | None = None
    alias_of: str | None = None
    parameter: bool = False
    tensor: bool = True
    kind: str = ""


def profile_of_bare(items: Iterable[BareEntry], ordered: bool = True) -> Profile:
    """The profile of a state dict that came without its model.

    ``module`` and the norm layers' paths are those below what wraps the model (:func:`wrapping`); keys stay as they
    are. Statistics, counters and whatever is not floating point are buffers, the rest is taken for parameters. What is
    no tensor leaves a gap.

    Args:
        items: in the file's order.
        ordered: whether that is a state dict's order.
    """
    listed = list(items)
    prefix = wrapping([item.key for item in listed])
    entries: list[StateEntry] = []
    gaps: list[Gap] = []
    for item in listed:
        module = _below(item.key, prefix).rpartition(".")[0]
        if item.tensor:
            entries.append(StateEntry(item.key, item.shape, item.dtype, _kind(item), module, item.value, item.alias_of))
        else:
            gaps.append(Gap(len(entries), module, f"{item.key} is {item.kind}", may_hold_norm=False))
    return Profile(tuple(entries), _norms(entries), tuple(gaps), ordered=ordered)


def profile_of_header(header: Header) -> Profile:
    """The profile of a safetensors file, from its header and the values of its 0-d integers; torch is not needed.

    Raises:
        OSError: if the file cannot be read.
    """
    return profile_of_bare(bare_of_header(header), ordered=False)


def bare_of_header(header: Header) -> Iterable[BareEntry]:
    """The entries of a safetensors file, in the order in which they stand in its header."""
    for key, stored in header.tensors.items():
        yield BareEntry(key, stored.shape, stored.dtype, read_integer(header.path, stored))


def wrapping(keys: Sequence[str]) -> str:
    """The prefix that wrappers put before every key: ``module.`` (DataParallel, AveragedModel), ``_orig_mod.``
    (torch.compile), in any nesting; "" if there is none."""
    prefix = ""
    inner = list(keys)
    while True:
        inner = [key for key in inner if key != prefix + _AVERAGED]
        for wrapper in _WRAPPERS:
            if inner and all(key.startswith(prefix + wrapper) for key in inner):
                prefix += wrapper
                break
        else:
            return prefix


def unwrapped(profile: Profile) -> Profile:
    """A profile as that of the model before it was wrapped: keys, and paths of modules, without the wrappers' part,
    AveragedModel's own counter left out."""
    prefix = wrapping([entry.key for entry in profile.entries])

    def path_below(path: str) -> str:
        # Those of a bare profile are below it already.
        return _below(f"{path}.", prefix).removesuffix(".") if profile.type else path

    places = [number for number, entry in enumerate(profile.entries) if _counts_averages(entry.key, prefix)]
    entries = tuple(
        replace(
            entry,
            key=_below(entry.key, prefix),
            module=path_below(entry.module),
            alias_of=None if entry.alias_of is None else _below(entry.alias_of, prefix),
        )
        for number, entry in enumerate(profile.entries)
        if number not in places
    )
    gaps = tuple(replace(gap, index=gap.index - sum(place < gap.index for place in places)) for gap in profile.gaps)
    norms = tuple(replace(norm, path=path_below(norm.path)) for norm in profile.norms)
    return replace(profile, entries=entries, norms=norms, gaps=gaps)


def unwrapped_keys(keys: Sequence[str]) -> dict[str, str]:
    """What :func:`unwrapped` calls the entries of a file, and what they are called there."""
    prefix = wrapping(keys)
    return {_below(key, prefix): key for key in keys if not _counts_averages(key, prefix)}


def _counts_averages(key: str, prefix: str) -> bool:
    return key.rpartition(".")[2] == _AVERAGED and prefix.startswith(key.removesuffix(_AVERAGED) + "module.")


def _below(key: str, prefix: str) -> str:
    """A key without what wrappers add: the prefix, and the part of a submodule that was compiled by itself."""
    return ".".join(part for part in key.removeprefix(prefix).split(".") if part != "_orig_mod")


def _kind(item: BareEntry) -> Literal["parameter", "buffer"]:
    if item.parameter:
        return "parameter"
    name = item.key.rpartition(".")[2]
    if name == "num_batches_tracked" or is_statistic(name):
        return "buffer"
    floating = item.dtype is None or item.dtype.startswith(("float", "bfloat", "complex"))
    return "parameter" if floating else "buffer"


def _norms(entries: Sequence[StateEntry]) -> tuple[NormLayer, ...]:
    own: dict[str, dict[str, StateEntry]] = {}
    for entry in entries:
        own.setdefault(entry.module, {})[entry.name] = entry
    norms = []
    for path, named in own.items():
        statistics = next((one for name, one in named.items() if is_statistic(name)), None)
        if statistics is None:
            continue
        below = f"{path}.parametrizations." if path else "parametrizations."
        trained = any(one.kind == "parameter" and not is_statistic(name) for name, one in named.items())
        affine = trained or "weight" in named or any(f"{below}{name}" in own for name in ("weight", "bias"))
        norms.append(
            NormLayer(
                path=path,
                type=BATCHNORM_LIKE,
                batchnorm=None,
                affine=affine,
                features=statistics.shape[0] if statistics.shape is not None and len(statistics.shape) == 1 else None,
                momentum=None,
                cumulative=None,
                eps=None,
                family="other",
            )
        )
    return tuple(norms)
