"""What is read of the parties' checkpoints: the state of norm layers, and a sample of the rest.

Checkpoints are opened one after the other, mapped, and closed before the next; of each only the tensors that are
compared are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bn_audit.live.divergence.twins import Twins, twins_of
from bn_audit.live.errors import TargetError, require_torch
from bn_audit.profile import Profile, Shape, StateEntry
from bn_audit.running import Role, moments

require_torch()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

__all__ = ["Layer", "Parties", "Source", "place", "read"]

Array = NDArray[np.floating[Any]]

_SAMPLE = 4096
"""Elements that are read of a weight to tell where a model comes from."""
STATISTICS = ("running_mean", "running_var")
FOREIGN = 1.0
"""Difference of two weights, as a share of their size, from which on they are taken for independent.

Independent weights with mean 0 differ by the root of 2 of their size. 1 is what two vectors of one length at an angle
of 60 degrees differ by: a model that training has moved that far has little left in common with where it began."""


@dataclass(frozen=True, slots=True)
class Source:
    """One party.

    Attributes:
        name: what to call it.
        open: gives the profile, by keys as they are before a model is wrapped, and the tensors by these keys.
        path: of the file that it opens, where it is one file and all of it.
    """

    name: str
    open: Callable[[], tuple[Profile, Mapping[str, torch.Tensor]]]
    path: Path | None = None


@dataclass(slots=True)
class Layer:
    """One norm layer in all parties.

    Attributes:
        path: of the module.
        mean, var: shape (parties, channels), in the dtype of the file; rows of parties that lack the layer are NaN.
        weight, bias: likewise; None if some party has none, or they were not asked for.
        count: batches that the statistics have seen, by party; None where no counter says so.
        foreign: by party, the first weight before this layer that the first party's model has no part in; "".
        missing: parties that lack it, or have it in another size.
    """

    path: str
    mean: Array
    var: Array
    weight: Array | None
    bias: Array | None
    count: list[int | None]
    foreign: list[str]
    missing: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Parties:
    """What was read.

    Attributes:
        names: of the parties.
        first: path of the model's first norm layer, whether it is compared or not.
        layers: in the order of the model, as the first party's checkpoint has it.
        problems: why the parties cannot be compared, in sentences without a full stop.
        notes: what a reader should know.
        left_out: paths of norm layers that are not among ``layers``, and why.
        weights: by party, the largest difference of any weight from the first party's, as a share of its size.
    """

    names: tuple[str, ...]
    first: str = ""
    layers: list[Layer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    weights: list[float | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _One:
    """What is read of one party.

    Attributes:
        norms: by path, the tensors of a layer that are compared.
        order: of the norm layers, and by path how many weights stand before it; None where the file has no order.
        weights: leading elements by key, in order.
        shapes: of all entries but the norm layers', by key.
        keys: of the norm layers' tensors, by path and name.
    """

    norms: Mapping[str, Mapping[str, Array]]
    order: Mapping[str, int | None]
    weights: Mapping[str, Array]
    shapes: Mapping[str, Shape | None]
    keys: Mapping[tuple[str, str], str]


def read(sources: Sequence[Source], *, affine: bool = True) -> Parties:
    """Read the parties, and compare what has to be the same in all of them.

    Args:
        sources: at least two.
        affine: whether weight and bias of the norm layers are wanted.

    Raises:
        TargetError: a party that cannot be read, or holds no running statistics.
    """
    found = Parties(tuple(source.name for source in sources))
    reader = _Reader(affine)
    first: _One | None = None
    for number, source in enumerate(sources):
        one = reader.read(source)
        if first is None:
            first = one
            if any(place is None for place in one.order.values()):
                found.notes.append("the files do not keep the order of the layers; it is taken from their names")
            found.first = next(iter(one.norms))
            found.layers.extend(_layer(path, named, len(sources)) for path, named in one.norms.items())
            found.weights.append(0.0 if one.weights else None)
        else:
            _compare(found, number, first, one)
        _put(found, number, one)
    assert first is not None
    _drop_incomplete(found)
    return found


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A tensor to read: of a norm layer the ``module``, and the ``name`` that the entry has in torch's own layers,
    whatever it is called here; or a weight's sample (module None). ``root``: a standard deviation for a variance."""

    key: str
    module: str | None
    name: str
    root: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be read of a checkpoint, from its profile."""

    wanted: tuple[_Wanted, ...]
    paths: tuple[str, ...]
    order: Mapping[str, int | None]
    shapes: Mapping[str, Shape | None]


class _Reader:
    """Reads one party after the other, the quick way where a file is laid out as the one before it."""

    def __init__(self, affine: bool) -> None:
        self._affine = affine
        self._known: tuple[_Plan, Twins] | None = None

    def read(self, source: Source) -> _One:
        """What is compared of a party.

        Raises:
            TargetError: it cannot be read, or holds no running statistics.
        """
        if self._known is not None and source.path is not None:
            plan, layout = self._known
            values = layout.read(source.path)
            if values is not None:
                return _one(plan, values)
        profile, tensors = source.open()
        plan = _plan(source.name, profile, self._affine)
        # Views; what is read of a mapped file is a page or two.
        parts = [
            tensors[one.key].reshape(-1) if one.module is not None else tensors[one.key].reshape(-1)[:_SAMPLE]
            for one in plan.wanted
        ]
        if source.path is not None and self._known is None:
            layout_ = twins_of(source.path, parts)
            self._known = None if layout_ is None else (plan, layout_)
        return _one(plan, [_values(source.name, one.key, part) for one, part in zip(plan.wanted, parts, strict=True)])


def _plan(party: str, profile: Profile, affine: bool) -> _Plan:
    paths = _torch_names(profile, affine)
    wanted: list[_Wanted] = []
    order: dict[str, int | None] = {}
    shapes: dict[str, Shape | None] = {}
    weights = 0
    for entry in profile.entries:
        if entry.module in paths:
            order.setdefault(entry.module, weights if profile.ordered else None)
            name, root = paths[entry.module].get(entry.name, ("", False))
            if name and _is_vector(entry):
                wanted.append(_Wanted(entry.key, entry.module, name, root))
            continue
        shapes[entry.key] = entry.shape
        floating = entry.dtype is not None and entry.dtype.startswith(("float", "bfloat"))
        if floating and entry.alias_of is None and entry.shape is not None and len(entry.shape) > 1:
            weights += 1
            wanted.append(_Wanted(entry.key, None, ""))
    held = list(
        dict.fromkeys(
            entry.module for entry in profile.entries if entry.module in paths and entry.statistic is not None
        )
    )
    if not held:
        told, more = ("", "") if profile.type else (" that its keys would tell", " (--model names what knows more)")
        raise TargetError(f"{party} holds no running statistics{told}, so there is nothing to compare{more}")
    return _Plan(tuple(wanted), tuple(held if profile.ordered else sorted(held, key=_natural)), order, shapes)


_AFFINE = {"weight": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}


def _torch_names(profile: Profile, affine: bool) -> dict[str, dict[str, tuple[str, bool]]]:
    """By the path of each norm layer, what torch calls the entries that are compared, by what they are called; and
    whether it is a standard deviation that stands for a variance."""
    statistics: dict[str, dict[str, Role]] = {norm.path: {} for norm in profile.norms}
    for entry in profile.entries:
        if entry.module in statistics and entry.statistic is not None:
            statistics[entry.module][entry.name] = entry.statistic
    named: dict[str, dict[str, tuple[str, bool]]] = {}
    for path, roles in statistics.items():
        own = {"num_batches_tracked": ("num_batches_tracked", False)}
        if affine:
            own.update((name, (ours, False)) for name, ours in _AFFINE.items())
        pair = moments(roles)
        if pair is not None:
            mean, spread, root = pair
            own.update({mean: (STATISTICS[0], False), spread: (STATISTICS[1], root)})
        named[path] = own
    return named


def _is_vector(entry: StateEntry) -> bool:
    """Whether an entry has one real number for each channel, or is one number."""
    if entry.shape is None or (entry.dtype or "").startswith("complex"):
        return False
    return sum(size != 1 for size in entry.shape) < 2


def _one(plan: _Plan, values: Sequence[Array]) -> _One:
    norms: dict[str, dict[str, Array]] = {path: {} for path in plan.paths}
    weights: dict[str, Array] = {}
    for one, value in zip(plan.wanted, values, strict=True):
        if one.module is None:
            weights[one.key] = value
        elif one.module in norms:
            # A standard deviation below 0 is as broken as a variance.
            wide = value * abs(value) if one.root else value
            norms[one.module][one.name] = wide.reshape(()) if one.name == "num_batches_tracked" else wide
    keys = {(one.module, one.name): one.key for one in plan.wanted if one.module is not None}
    return _One(norms, plan.order, weights, plan.shapes, keys)


def _values(party: str, key: str, tensor: torch.Tensor) -> Array:
    if tensor.is_meta:
        reason = "a large file of torch's old format, or saved from the meta device"
        raise TargetError(f"{party}: the values of {key} are not at hand ({reason})")
    tensor = tensor.detach()
    if not tensor.dtype.is_floating_point or tensor.dtype.itemsize < 4:
        tensor = tensor.double()
    # A copy: a view would keep the whole file mapped.
    return np.array(tensor.cpu().numpy())


def place(path: str) -> str:
    """What to call a layer: its path, of which the model itself has none."""
    return path or "(root)"


def _natural(path: str) -> list[tuple[int, int, str]]:
    """Sorts ``features.2`` before ``features.10``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"\.|(?<=\D)(?=\d)", path)]


def _layer(path: str, named: Mapping[str, Array], parties: int) -> Layer:
    def room(name: str) -> Array | None:
        if name not in named or named[name].ndim != 1:
            return None
        return np.full((parties, len(named[name])), np.nan, dtype=named[name].dtype)

    mean, var = room("running_mean"), room("running_var")
    nothing = np.empty((parties, 0))
    return Layer(
        path,
        nothing if mean is None else mean,
        nothing if var is None else var,
        room("weight"),
        room("bias"),
        [None] * parties,
        [""] * parties,
    )


def _put(found: Parties, number: int, one: _One) -> None:
    for layer in found.layers:
        named = one.norms.get(layer.path, {})
        for target, name in ((layer.mean, "running_mean"), (layer.var, "running_var")):
            value = named.get(name)
            if value is not None and value.shape == target.shape[1:]:
                target[number] = value
        for name in ("weight", "bias"):
            room: Array | None = getattr(layer, name)
            value = named.get(name)
            if room is not None and value is not None and value.shape == room.shape[1:]:
                room[number] = value
            else:
                setattr(layer, name, None)
        counter = named.get("num_batches_tracked")
        layer.count[number] = None if counter is None or counter.ndim else int(counter)


def _compare(found: Parties, number: int, first: _One, one: _One) -> None:
    """Hold a party against the first: its architecture, and the weights that are no norm layer's."""
    names = found.names
    layers = {layer.path: layer for layer in found.layers}
    for path in first.norms:
        if path not in one.norms:
            layers[path].missing.append(names[number])
            found.problems.append(
                f"different architectures: {names[number]} has no layer {place(path)}, {names[0]} has"
            )
            continue
        for name in STATISTICS:
            here, there = (of.get(name) for of in (one.norms[path], first.norms[path]))
            if here is not None and there is not None and here.shape != there.shape:
                layers[path].missing.append(names[number])
                found.problems.append(
                    f"different architectures: {first.keys[path, name]} is {list(there.shape)} in {names[0]} and "
                    f"{list(here.shape)} in {names[number]}"
                )
                break
    more = [path for path in one.norms if path not in first.norms]
    if more:
        found.problems.append(
            f"different architectures: {names[0]} has no layer {_some([place(one) for one in more])}, "
            f"{names[number]} has"
        )
    differ = [key for key in {**first.shapes, **one.shapes} if first.shapes.get(key, ()) != one.shapes.get(key, ())]
    if differ:
        found.notes.append(f"{_some(differ)}: not in both {names[0]} and {names[number]}, or of other shapes")
    shares = {
        key: _share(weight, one.weights[key])
        for key, weight in first.weights.items()
        if key in one.weights and one.weights[key].shape == weight.shape
    }
    found.weights.append(max(shares.values()) if shares else None)
    _judge_origin(found, number, first, shares)


def _judge_origin(found: Parties, number: int, first: _One, shares: Mapping[str, float]) -> None:
    """Which layers stand behind weights that the party and the first one do not have in common."""
    foreign = [key for key, share in shares.items() if not share < FOREIGN]
    places = {key: place for place, key in enumerate(first.weights)}
    whole = len(foreign) * 2 > len(shares)
    for layer in found.layers:
        before = first.order.get(layer.path)
        if before is None:
            # Without an order, all that can be said is whether the models as a whole are strangers.
            layer.foreign[number] = foreign[0] if whole else ""
        else:
            layer.foreign[number] = next((key for key in foreign if places[key] < before), "")
    if found.layers and found.layers[0].foreign[number]:
        key = found.layers[0].foreign[number]
        found.problems.append(
            f"different origin: {found.names[number]} and {found.names[0]} have no weights in common: {key} differs by "
            f"{shares[key]:.2f} of its size, and independent weights by about 1.41; a channel of one means nothing in "
            "the other"
        )


def _share(one: Array, other: Array) -> float:
    """The distance of two weights over their size: 0 for equal ones, about the root of 2 for independent ones."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    size = float(np.sqrt((np.square(a).sum() + np.square(b).sum()) / 2))
    apart = float(np.sqrt(np.square(a - b).sum()))
    return apart / size if size else 0.0


def _drop_incomplete(found: Parties) -> None:
    """Take out layers that some party lacks."""
    kept = []
    for layer in found.layers:
        if not layer.mean.shape[1] or layer.mean.shape != layer.var.shape:
            found.left_out.append((layer.path, "it has no running mean and variance for each channel"))
        elif layer.missing:
            found.left_out.append((layer.path, f"not in {_some(layer.missing)}, or of another size"))
        else:
            kept.append(layer)
    found.layers = kept


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
