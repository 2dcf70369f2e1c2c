"""Judging a round that really ran, in any framework, from the parties' state dicts right after it.

After a round of FedBN every entry that is not a norm layer's is the same in all parties, bit for bit: all load the same
mean. The norm layers' entries are each party's own. What contradicts that is told, with the party and the size of it.
Entries are read one by one, so that mapped checkpoints cost the memory of one entry per party.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bn_audit.exchange.fedbn import expected_fates
from bn_audit.exchange.plan import Fate
from bn_audit.live.bare import unwrapped_keys
from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.tensors import dtype_name
from bn_audit.parties import PartiesReport, PartyEntry, Standing
from bn_audit.profile import Profile, StateEntry

require_torch()

import torch  # noqa: E402

from bn_audit.federated.dtypes import AVERAGED, INTEGERS  # noqa: E402

__all__ = ["judge_parties", "unwrapped_state"]

State = Mapping[str, torch.Tensor]

_INITIAL = {"running_mean": 0.0, "running_var": 1.0, "weight": 1.0, "bias": 0.0}
"""What torch's norm layers hold before anything was trained or counted."""


@dataclass(frozen=True, slots=True)
class _Owner:
    """What a profile knows of a key's owner."""

    norm: str | None
    local: bool
    buffer: bool
    shifts_a_norm: bool = False
    """A bias of as many channels as the norm layer registered next, which subtracts their mean: its gradient is 0 but
    for rounding, so that training may well leave it as it was."""


def judge_parties(
    parties: Mapping[str, State],
    profile: Profile,
    *,
    previous: Sequence[State] = (),
    tolerance: float = 0.0,
    frozen: Sequence[str] = (),
) -> PartiesReport:
    """Judge the parties' state dicts.

    Args:
        parties: at least two state dicts by name, in the order to report them.
        profile: of the model, or by the structure of the keys. The latter does not show norm layers without running
            statistics.
        previous: the state dicts from before the round: one for all parties, or one for each in the same order.
        tolerance: the largest absolute difference between parties at which an entry still counts as equal; 0 is bit for
            bit.
        frozen: patterns (``*`` and ``?``) of keys that are not trained and may stay as they were.

    Raises:
        TargetError: for fewer than two parties, or another number of previous states than one or one for each.
    """
    if len(parties) < 2:
        raise TargetError("a round takes at least two parties: name a checkpoint for each")
    if len(previous) not in (0, 1, len(parties)):
        wanted = f"one checkpoint for all parties, or one for each of the {len(parties)}"
        raise TargetError(f"--previous takes {wanted}, not {len(previous)}")
    before = list(previous) * (len(parties) if len(previous) == 1 else 1)
    owners = _owners(profile)
    keys = list(dict.fromkeys(key for state in parties.values() for key in state))
    entries = tuple(_judge(key, parties, owners, before, tolerance, frozen) for key in keys)
    return PartiesReport(tuple(parties), bool(previous), entries, tuple(_notes(entries, profile, owners)))


def unwrapped_state(tensors: State) -> State:
    """A state by the keys of the model before it was wrapped; what is mapped stays so, and is read when asked for."""
    return _Renamed(tensors, unwrapped_keys(list(tensors)))


class _Renamed(Mapping[str, torch.Tensor]):
    """A state by other keys."""

    def __init__(self, state: State, keys: Mapping[str, str]) -> None:
        self._state = state
        self._keys = keys

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._state[self._keys[key]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _owners(profile: Profile) -> dict[str, _Owner]:
    norms = {norm.path: norm.type for norm in profile.norms}
    owners = {}
    for (entry, after), fates in zip(_with_next(profile.entries), expected_fates(profile), strict=True):
        shifts = entry.name == "bias" and after is not None and after.module in norms and after.shape == entry.shape
        owners[entry.key] = _Owner(norms.get(entry.module), fates == {Fate.LOCAL}, entry.kind == "buffer", shifts)
    return owners


def _with_next(entries: Sequence[StateEntry]) -> Iterator[tuple[StateEntry, StateEntry | None]]:
    """Each entry, and the first of the module registered after its own."""
    after: StateEntry | None = None
    pairs = []
    for number in range(len(entries) - 1, -1, -1):
        entry = entries[number]
        if number + 1 < len(entries) and entries[number + 1].module != entry.module:
            after = entries[number + 1]
        pairs.append((entry, after))
    return reversed(pairs)


def _judge(
    key: str,
    parties: Mapping[str, State],
    owners: Mapping[str, _Owner],
    before: Sequence[State],
    tolerance: float,
    frozen: Sequence[str],
) -> PartyEntry:
    owner = owners.get(key, _Owner(None, local=False, buffer=False))
    found = {name: _at_hand(name, key, state[key]) for name, state in parties.items() if key in state}
    first = next(iter(found.values()))

    def entry(standing: Standing, detail: str = "", difference: float | None = None) -> PartyEntry:
        return PartyEntry(key, tuple(first.shape), dtype_name(first), owner.norm, standing, difference, detail)

    mismatch = _mismatch(found, [name for name in parties if name not in found])
    if mismatch:
        return entry(Standing.MISMATCHED, mismatch)
    broken = _broken(key, found)
    if broken:
        return entry(Standing.NOT_FINITE, broken)
    tensors = list(found.values())
    difference, farthest = _spread(found)
    changed = any(
        key not in old or old[key].shape != new.shape or not _equal(_at_hand("--previous", key, old[key]), new)
        for old, new in zip(before, tensors, strict=False)
    )
    if owner.local:
        standing, detail = _norm_standing(key, tensors, difference, changed if before else None)
        return entry(standing, detail, difference)
    if difference > tolerance:
        return entry(Standing.NOT_SYNCHRONISED, farthest, difference)
    floating = first.is_floating_point() or first.is_complex()
    if before and not changed and floating and not owner.buffer:
        if any(fnmatchcase(key, pattern) for pattern in frozen):
            return entry(Standing.EQUAL, "frozen, as told", difference)
        if owner.shifts_a_norm:
            return entry(Standing.EQUAL, "as before: the norm layer after it takes a bias out again", difference)
        return entry(Standing.UNCHANGED, "frozen, or not trained in this round", difference)
    return entry(Standing.EQUAL, "", difference)


def _norm_standing(
    key: str, tensors: Sequence[torch.Tensor], difference: float, changed: bool | None
) -> tuple[Standing, str]:
    """How a norm layer's entry stands. ``changed`` is None if the state before the round is not at hand."""
    first = tensors[0]
    if not first.is_floating_point() and not first.is_complex():
        return Standing.LOCAL, "" if difference else "a counter: the parties saw as many batches"
    if difference:
        return Standing.LOCAL, ""
    if changed is False:
        return Standing.LOCAL, "the same in all parties and the same as before: frozen"
    initial = _INITIAL.get(key.rpartition(".")[2])
    if initial is not None and bool((first == initial).all()):
        return Standing.LOCAL, "the same in all parties: still at its initial value"
    reason = "averaged" if changed else "averaged, or frozen; --previous tells which"
    return Standing.SHARED, f"the same in all parties: {reason}"


def _mismatch(found: Mapping[str, torch.Tensor], missing: Sequence[str]) -> str:
    if missing:
        return f"missing in {', '.join(missing)}"
    (first, reference), *others = found.items()
    for name, tensor in others:
        if tensor.shape != reference.shape:
            return f"{list(reference.shape)} in {first}, {list(tensor.shape)} in {name}"
        if tensor.dtype != reference.dtype:
            return f"{dtype_name(reference)} in {first}, {dtype_name(tensor)} in {name}"
    return ""


def _broken(key: str, found: Mapping[str, torch.Tensor]) -> str:
    for name, tensor in found.items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        wide = tensor if tensor.dtype.itemsize > 1 else tensor.float()
        for what, count in (("NaN", int(wide.isnan().sum())), ("infinite", int(wide.isinf().sum()))):
            if count:
                return f"{count} of {tensor.numel()} values {what} in {name}"
        if key.rpartition(".")[2] == "running_var" and not tensor.is_complex() and bool((wide < 0).any()):
            return f"{int((wide < 0).sum())} of {tensor.numel()} variances below 0 in {name}"
    return ""


def _at_hand(name: str, key: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, which has to have values.

    Raises:
        TargetError: if it has none.
    """
    if tensor.is_meta:
        reason = "a large file of torch's old format, or saved from the meta device"
        raise TargetError(f"{name}: the values of {key} are not at hand ({reason})")
    return tensor


def _computable(tensor: torch.Tensor) -> torch.Tensor:
    """In a dtype that can be compared and computed with: quantised values as they count, packed ones as bytes."""
    if tensor.is_quantized:
        return tensor.dequantize()
    if tensor.dtype is torch.complex32:
        return tensor.to(torch.complex64)
    return tensor if tensor.dtype in AVERAGED or tensor.dtype in INTEGERS else tensor.contiguous().view(torch.uint8)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(_computable(one), _computable(other))


def _spread(found: Mapping[str, torch.Tensor]) -> tuple[float, str]:
    """The largest absolute difference of any party from the first, and between which two it is."""
    (first, reference), *others = found.items()
    largest, farthest = 0.0, ""
    for name, tensor in others:
        if _equal(reference, tensor):
            continue
        a, b = _computable(reference), _computable(tensor)
        wide = torch.complex128 if a.is_complex() else torch.float64
        difference = float((a.to(wide) - b.to(wide)).abs().max())
        if difference > largest:
            largest, farthest = difference, f"{name} differs from {first} by up to {difference:.3g}"
    return largest, farthest


def _notes(entries: Sequence[PartyEntry], profile: Profile, owners: Mapping[str, _Owner]) -> Iterator[str]:
    shared = [one for one in entries if one.standing in (Standing.EQUAL, Standing.NOT_SYNCHRONISED, Standing.UNCHANGED)]
    floating = [one for one in shared if one.dtype.startswith(("float", "bfloat", "complex"))]
    if len(floating) > 1 and all(one.standing is Standing.NOT_SYNCHRONISED for one in floating):
        yield (
            "no entry is the same in all parties: were the checkpoints saved after the aggregate was loaded and before "
            "the next training?"
        )
    # A bias that a norm layer takes out does not tell whether there was a round.
    telling = [one for one in floating if one.key not in owners or not owners[one.key].shifts_a_norm]
    if telling and all(one.standing is Standing.UNCHANGED for one in telling):
        yield "no shared entry changed: does a round lie between the previous checkpoints and these?"
    if not profile.type and not profile.norms:
        yield "no layer has running statistics, by the keys"
    suspects = _affine_pairs(entries, profile)
    if suspects and not profile.type:
        yield (
            f"{suspects[0]} may belong to a norm layer without running statistics, which a checkpoint does not show: "
            "name the model as TARGET"
        )


def _affine_pairs(entries: Sequence[PartyEntry], profile: Profile) -> list[str]:
    """Modules whose weight and bias, vectors of one size, are all they own and differ between parties."""
    owned: dict[str, list[StateEntry]] = {}
    for one in profile.entries:
        owned.setdefault(one.module, []).append(one)
    apart = {one.key for one in entries if one.standing is Standing.NOT_SYNCHRONISED}
    return [
        module
        for module, parts in owned.items()
        if {part.name for part in parts} == {"weight", "bias"}
        and all(part.key in apart and part.shape is not None and len(part.shape) == 1 for part in parts)
        and len({part.shape for part in parts}) == 1
    ]
