"""FedBN's expectation: BatchNorm stays with its party, everything else is averaged.

Li et al., FedBN: Federated Learning on Non-IID Features via Local Batch Normalization, ICLR 2021. The paper keeps the
parameters and statistics of every BatchNorm local. We read that as: every entry of a ``_BatchNorm``, with running
statistics or without, and every entry of any other layer that owns running statistics. A tensor that has another name
beside that of a local entry is local under both: a party holds it once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from bn_audit.exchange.plan import EntryPlan, Fate, Plan
from bn_audit.profile import NormLayer, Profile, StateEntry, tensor_groups
from bn_audit.running import Role

__all__ = [
    "constants",
    "evidence",
    "expectation",
    "expected_fates",
    "fates_by_module",
    "frozen",
    "is_integer",
    "owners",
]

_LOCAL = frozenset({Fate.LOCAL})
_AVERAGED = frozenset({Fate.AVERAGED})
_EITHER = _LOCAL | _AVERAGED


def expectation(profile: Profile, *, integers_stay: bool = False) -> Plan:
    """FedBN's plan for a profile; ``integers_stay`` as for :func:`expected_fates`."""
    fates = expected_fates(profile, integers_stay=integers_stay)
    entries = tuple(EntryPlan(entry.key, fate) for entry, fate in zip(profile.entries, fates, strict=True))
    return Plan(entries, complete=profile.complete, settings=(("framework", "fedbn"),))


def expected_fates(profile: Profile, *, integers_stay: bool = False) -> tuple[frozenset[Fate], ...]:
    """What FedBN wants for each entry; local and averaged where it is not known whether the owner is such a layer.

    Args:
        integers_stay: whether integers and bools, which have no mean, are meant to stay with each party.
    """
    fates = fates_by_module(profile)
    if any(entry.alias_of is not None for entry in profile.entries):
        fates = _alike_under_all_names(profile, fates)
    if integers_stay:
        return tuple(_LOCAL if is_integer(entry) else own for entry, own in zip(profile.entries, fates, strict=True))
    return fates


@functools.lru_cache(maxsize=8)
def fates_by_module(profile: Profile) -> tuple[frozenset[Fate], ...]:
    """What the module that owns it says of each entry, whatever other names its tensor has."""
    norms = {norm.path: norm for norm in profile.norms}
    modules = {module: _module_fates(norms, module) for module in dict.fromkeys(e.module for e in profile.entries)}
    return tuple(modules[entry.module] for entry in profile.entries)


def _alike_under_all_names(profile: Profile, fates: tuple[frozenset[Fate], ...]) -> tuple[frozenset[Fate], ...]:
    groups = tensor_groups(profile)
    common: dict[int, frozenset[Fate]] = {}
    for group, own in zip(groups, fates, strict=True):
        before = common.get(group, own)
        common[group] = _LOCAL if _LOCAL in (own, before) else own | before
    return tuple(common[group] for group in groups)


_FOLLOWED = {"mean": "the mean", "var": "the variance", "std": "the standard deviation", "": "something else"}


def evidence(profile: Profile) -> Iterator[str]:
    """Why layers that no name and no class shows are norm layers, in sentences without a full stop."""
    saved = {(entry.module, entry.name) for entry in profile.entries}
    alike: dict[tuple[str, tuple[tuple[str, Role], ...], bool], list[str]] = {}
    for norm in profile.norms:
        if norm.seen:
            gone = not any((norm.path, name) in saved for name, _ in norm.seen)
            alike.setdefault((norm.type, norm.seen, gone), []).append(norm.path or "the root")
    for (type_, seen, gone), paths in alike.items():
        followed = ", ".join(f"{name} follows {_FOLLOWED[role]}" for name, role in seen)
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        are = "is a norm layer" if len(paths) == 1 else "are norm layers"
        where = "; no state dict has it" if gone else ""
        yield (
            f"{', '.join(paths[:3])}{more} ({type_}) {are}, as a copy run with random inputs shows: in training "
            f"{followed} of what it is given, and nothing of it moves under eval(){where}"
        )


def is_integer(entry: StateEntry) -> bool:
    """Whether an entry certainly holds integers or bools."""
    return entry.dtype is not None and (entry.dtype == "bool" or entry.dtype.startswith(("int", "uint")))


def _module_fates(norms: dict[str, NormLayer], module: str) -> frozenset[Fate]:
    norm = norms.get(module)
    if norm is not None:
        return _own_fates(norm)
    # A module below a _BatchNorm is part of it (torch's parametrizations, timm's activation). Below any other layer
    # with running statistics only parametrizations are: a network that normalises its input is no norm layer as a
    # whole.
    parts = module.split(".") if module else []
    for depth in range(len(parts) - 1, -1, -1):
        norm = norms.get(".".join(parts[:depth]))
        if norm is None:
            continue
        if parts[depth] == "parametrizations":
            return _own_fates(norm)
        if depth == 0 or norm.batchnorm is False:
            continue
        return _LOCAL if norm.batchnorm else _EITHER
    return _AVERAGED


def _own_fates(norm: NormLayer) -> frozenset[Fate]:
    # A scripted or exported BatchNorm is of that class no more, but of its family: what it was written as.
    if norm.batchnorm or norm.tracked or (norm.batchnorm is False and norm.family == "batch"):
        return _LOCAL
    return _AVERAGED if norm.batchnorm is False and norm.tracked is False else _EITHER


@functools.lru_cache(maxsize=256)
def owners(profile: Profile) -> dict[str, NormLayer]:
    """The norm layer of each entry that FedBN keeps local, or may, by the entry's key and in the entries' order."""
    norms = {norm.path: norm for norm in profile.norms}
    rows = zip(profile.entries, tensor_groups(profile), expected_fates(profile), strict=True)
    local = [(entry, group, _norm_above(norms, entry.module)) for entry, group, own in rows if Fate.LOCAL in own]
    named: dict[int, NormLayer] = {}
    for _, group, norm in local:
        if norm is not None:
            named.setdefault(group, norm)
    # What is no norm layer's is another name of what is.
    return {entry.key: norm or named[group] for entry, group, norm in local}


def _norm_above(norms: dict[str, NormLayer], path: str) -> NormLayer | None:
    while path and path not in norms:
        path = path.rpartition(".")[0]
    return norms.get(path)


def frozen(profile: Profile, norm: NormLayer) -> bool:
    """Whether nothing trains or updates a norm layer: its weight is a buffer, as its statistics are.

    A Keras BatchNormalization with ``trainable = False`` runs in inference mode and keeps its statistics as they are;
    one without gamma and beta has nothing by which that could be told.
    """
    if profile.framework != "keras" and norm.batchnorm is not False:
        return False
    own = [entry for entry in profile.entries if entry.module == norm.path]
    if any(entry.kind != "buffer" for entry in own):
        return False
    if profile.framework == "keras":
        return any(entry.name in ("gamma", "beta") for entry in own)
    return any(entry.name == "weight" for entry in own)


@functools.lru_cache(maxsize=8)
def constants(profile: Profile) -> frozenset[str]:
    """The keys of frozen norm layers: the same in every party, and so is their mean."""
    still = {norm.path for norm in profile.norms if frozen(profile, norm)}
    return frozenset(key for key, norm in owners(profile).items() if norm.path in still)
