"""The load: received arrays are paired with keys by position, rebuilt as tensors, and loaded.

Without ``skip_bn`` all keys meet all arrays and the pairing is the identity. With it the arrays of top-level BatchNorms
are missing from the list, but not from the keys: ``zip(state_dict().keys(), arrays)`` shifts after the first of them,
pairs whose key belongs to a top-level BatchNorm are dropped, and the last keys meet nothing.

Every array is rebuilt with ``torch.Tensor(np.copy(v))``, to which a 0-d integer is a size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bn_audit.exchange.load import error_text, fits, mismatch, missing
from bn_audit.exchange.plan import Fate, PlanError
from bn_audit.exchange.secretflow.aggregate import COMPLEX, INTEGERS
from bn_audit.exchange.secretflow.sequence import Item
from bn_audit.exchange.steps import Effect, Phase
from bn_audit.profile import Shape, StateEntry

__all__ = ["Load", "Loader"]

_LARGE = 1 << 28
"""Elements above which allocating a tensor may fail with a text of the machine's own."""


_NOTHING = Effect(frozenset({None}))
_ANYTHING = frozenset({None, Fate.AVERAGED, Fate.MISPLACED, Fate.CORRUPT})


@dataclass(frozen=True, slots=True)
class Load:
    """A load's outcome: whether it stops the round, and its effect on every entry in order."""

    phase: Phase
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class _Value:
    """A rebuilt array: its shape (None: not known), whether its content is uninitialised (None: it may be)."""

    shape: Shape | None
    garbage: bool | None
    negative: int | None = None


@dataclass(slots=True)
class Loader:
    """Loads under fixed circumstances.

    Attributes:
        items: the model's sequence.
        groups: for each entry the index of the first that is the same tensor.
        first_of_many: whether ``load_state_dict`` takes the first element of any 1-d tensor for a 0-d one (torch up to
            2.7), or only that of a tensor with one element.
        model: the class name in the errors of ``load_state_dict``, and whether it is certain.
        scalars_load: whether a NumPy scalar is rebuilt (``np.copy``, since 1.5) or is refused by ``torch.Tensor``.
        whole: whether every array was sent, left-out keys being dropped at the load alone: then nothing shifts.
    """

    items: Sequence[Item]
    groups: Sequence[int]
    first_of_many: bool
    model: tuple[str, bool]
    scalars_load: bool = True
    whole: bool = False
    _entries: list[StateEntry] = field(init=False)
    _group_of: dict[str, int] = field(init=False)
    _shared: frozenset[int] = field(init=False)
    _sources: list[tuple[bool, StateEntry | None]] = field(init=False)

    def __post_init__(self) -> None:
        self._entries = [item.entry for item in self.items if item.entry is not None]
        self._group_of = {entry.key: group for entry, group in zip(self._entries, self.groups, strict=True)}
        self._shared = frozenset(group for group, count in Counter(self.groups).items() if count > 1)
        self._sources = list(self._pair())

    def load(self, integers: bool, round_: int = 0) -> Load:
        """``update_weights`` or ``update_weights_not_bn`` with the average of what was uploaded.

        Args:
            integers: whether integer arrays arrive as integers.
        """
        effects: list[Effect] = []
        sizes: list[str] = []
        early: list[tuple[str, str, str]] = []
        negative: list[tuple[str, str, str]] = []
        at_fault: str | None = None
        exact, chance = True, False
        for position, item in enumerate(self.items):
            if item.entry is None:
                exact = False
                continue
            entry = item.entry
            known, source = self._sources[position]
            if not known:
                exact = False
                effects.append(self._open(position, entry))
                continue
            if source is None:
                effects.append(_NOTHING)
                continue
            value = self._rebuild(source, integers)
            same = source is entry
            if value.negative is not None:
                negative.append(
                    (
                        "RuntimeError",
                        f"Trying to create tensor with negative dimension {value.negative}: [{value.negative}]",
                        entry.key,
                    )
                )
                effects.append(Effect(frozenset({Fate.FAILS})))
                continue
            taken = True if same and value.garbage is False else fits(entry.shape, value.shape, self.first_of_many)
            if value.shape is not None and value.garbage and any((size or 0) > _LARGE for size in value.shape):
                exact = False
            if taken is None:
                exact = False
            elif taken is False:
                at_fault = at_fault or entry.key
                exact = exact and None not in (*(entry.shape or ()), *(value.shape or ()))
                if self.first_of_many and entry.shape == () and value.shape == (0,):
                    early.append(("IndexError", "index 0 is out of bounds for dimension 0 with size 0", entry.key))
                else:
                    sizes.append(mismatch(entry, value.shape))
                effects.append(Effect(frozenset({Fate.FAILS})))
                continue
            effects.append(self._written(entry, source, value))
            chance = chance or value.garbage is not False
        stops = negative[:1] or early[:1]
        if stops:
            type_, text, key = stops[0]
            phase = Phase(True, PlanError(type_, text, exact, key, round_))
        elif sizes:
            phase = Phase(
                True,
                PlanError("RuntimeError", error_text(self.model[0], sizes), exact and self.model[1], at_fault, round_),
            )
        else:
            # What uninitialised memory does to the next round, nobody knows.
            phase = Phase(False if exact and not chance else None)
        return Load(phase, tuple(effects))

    def strict(self, integers: bool, round_: int) -> Phase:
        """``update_weights`` of a model that is given too few arrays (moon's global model): all keys, strictly.

        Only an exact sequence is judged.
        """
        sent = [item.entry for item in self.items if item.entry is not None and item.skipped is False]
        if any(item.entry is None or item.skipped is None for item in self.items):
            return Phase(None)
        if len(sent) == len(self._entries):
            return Phase(False)
        absent = [
            entry for entry in self._entries[len(sent) :] if entry.key.rpartition(".")[2] != "num_batches_tracked"
        ]
        lines = []
        exact = True
        if absent:
            lines.append(missing([entry.key for entry in absent]))
        for entry, source in zip(self._entries, sent, strict=False):
            value = self._rebuild(source, integers)
            taken = fits(entry.shape, value.shape, self.first_of_many)
            if value.negative is not None or taken is None:
                exact = False
            elif not taken:
                if self.first_of_many and entry.shape == () and value.shape == (0,):
                    exact = False
                lines.append(mismatch(entry, value.shape))
        if not lines:
            return Phase(False if exact else None)
        at_fault = absent[0].key if absent else None
        return Phase(
            True, PlanError("RuntimeError", error_text(self.model[0], lines), exact and self.model[1], at_fault, round_)
        )

    def _pair(self) -> Iterator[tuple[bool, StateEntry | None]]:
        """For each item whether it is certain whose array meets its key, and that entry (None: nothing is loaded).

        A key behind b left-out entries meets the array of the b-th sent entry after its own.
        """
        sent = [index for index, item in enumerate(self.items) if item.skipped is False and item.entry is not None]
        rank = {index: number for number, index in enumerate(sent)}
        opaque = [index for index, item in enumerate(self.items) if item.entry is None or item.skipped is None]
        last_gap = max((index for index, item in enumerate(self.items) if item.entry is None), default=-1)
        left_out = 0
        doubtful = False
        may_follow = sum(item.skipped is not True for item in self.items)
        for index, item in enumerate(self.items):
            may_follow -= item.skipped is not True
            if item.skipped is not False:
                yield item.skipped is True, None
            elif self.whole or not (left_out or doubtful):
                yield True, item.entry
            elif doubtful:
                # At least as many are left out before as are seen; if fewer follow, none is left for this key.
                yield may_follow < left_out and index > last_gap, None
            elif item.entry is not None:
                clear = next((other for other in opaque if other > index), len(self.items))
                target = rank[index] + left_out
                if target < len(sent) and sent[target] < clear:
                    yield True, self.items[sent[target]].entry
                else:
                    yield clear == len(self.items), None
            else:
                yield False, None
            left_out += item.skipped is True
            doubtful = doubtful or item.skipped is None

    def _open(self, position: int, entry: StateEntry) -> Effect:
        """A key whose source is not certain. It is never its own if a BatchNorm certainly was left out before it."""
        shifted = any(other.skipped is True for other in self.items[:position])
        if self.items[position].skipped is False and shifted and self._group_of[entry.key] not in self._shared:
            return Effect(_ANYTHING - {Fate.AVERAGED})
        return Effect(_ANYTHING)

    def _rebuild(self, source: StateEntry, integers: bool) -> _Value:
        scalar = None if source.shape is None else source.shape == ()
        integer = False if not integers else None if source.dtype is None else source.dtype in INTEGERS
        if scalar is not False and integer is not False:
            if scalar is None or integer is None:
                return _Value(None, None)
            if source.value is None:
                return _Value((None,), True)
            return _Value(None, None, source.value) if source.value < 0 else _Value((source.value,), True)
        if scalar is not False and not self.scalars_load:
            return _Value(None, None)
        # A complex array loses its imaginary part here.
        return _Value(source.shape, None if source.dtype is None or source.dtype in COMPLEX else False)

    def _written(self, entry: StateEntry, source: StateEntry, value: _Value) -> Effect:
        if value.garbage:
            return Effect(frozenset({Fate.CORRUPT}))
        own = self._group_of[entry.key] == self._group_of[source.key]
        possible: frozenset[Fate | None] = frozenset({Fate.AVERAGED if own else Fate.MISPLACED})
        if value.garbage is None:
            possible |= {Fate.CORRUPT}
        return Effect(possible, None if own else source)
