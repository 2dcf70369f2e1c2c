"""The forms in which averaging is written by hand, as a closed vocabulary of plain data.

A form says how one entry is averaged (:class:`Loop`, :class:`Reduction`, :class:`Flattened`), which entries are
(:class:`~bn_audit.loading.Covers`), and how the average gets back into the parties' models (:class:`Load`). The
commonest of all,

    w_avg = copy.deepcopy(w[0])
    for k in w_avg.keys():
        for i in range(1, len(w)):
            w_avg[k] += w[i][k]
        w_avg[k] = torch.div(w_avg[k], len(w))

is ``HandWritten(Loop(Begin.COPY, add=Add.IN_PLACE, scale=Factor(Operation.OVER, Number.INT)))``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from bn_audit.loading import EVERYTHING, Covers, How

__all__ = [
    "Add",
    "Arithmetic",
    "Begin",
    "Cast",
    "Factor",
    "Flattened",
    "HandWritten",
    "Library",
    "Load",
    "Loop",
    "Number",
    "Operation",
    "Order",
    "Rebuild",
    "Reduction",
    "Reductor",
    "Rest",
]


class Number(enum.Enum):
    """What a weight or a divisor is. ``len(w)``, a sample count, is INT; a share of samples is FLOAT."""

    INT = "int"
    FLOAT = "float"
    TENSOR = "float32 tensor"
    """A 0-d tensor: ``torch.tensor(0.5)``, an element of a tensor of weights."""
    DOUBLE_TENSOR = "float64 tensor"
    INT_TENSOR = "int64 tensor"
    NUMPY_FLOAT = "numpy.float64"
    """An element of an array of weights, or what ``np.mean`` and its like return."""
    NUMPY_FLOAT32 = "numpy.float32"
    NUMPY_INT = "numpy.int64"


class Operation(enum.Enum):
    """How a weight or divisor is applied."""

    TIMES = "*"
    """``v * w``, ``torch.mul(v, w)``; in place ``v *= w``, ``v.mul_(w)``."""
    OVER = "/"
    """``v / n``, ``torch.div(v, n)``, ``torch.true_divide``; in place ``v /= n``, ``v.div_(n)``."""
    FLOOR = "//"
    """``v // n``, ``torch.floor_divide``, ``rounding_mode="floor"``; in place ``v //= n``."""


@dataclass(frozen=True, slots=True)
class Factor:
    """A multiplication or division by a number.

    Attributes:
        operation: which.
        number: by what.
        in_place: whether it overwrites what it is applied to.
    """

    operation: Operation
    number: Number = Number.FLOAT
    in_place: bool = False


class Begin(enum.Enum):
    """What an accumulator is before anything is added.

    With FIRST, COPY and CLONE the first party's entry is in it, and the others' are added; with ZEROS, FLOAT_ZEROS,
    ZERO and FLOAT_ZERO all parties' are added; with NOTHING the first party's term is assigned.
    """

    FIRST = "first"
    """``w_avg = w[0]``: the first party's own tensors."""
    COPY = "copy"
    """``copy.deepcopy(w[0])``. What shared a tensor shares one still."""
    CLONE = "clone"
    """``w[0][k].clone()``, ``copy.deepcopy(w[0][k])`` or ``.copy()`` of an array, entry by entry."""
    ZEROS = "zeros"
    """``torch.zeros_like(v)``, ``np.zeros_like(v)``."""
    FLOAT_ZEROS = "float zeros"
    """``torch.zeros_like(v, dtype=torch.float32)``, ``torch.zeros(v.shape)``; in NumPy float64, ``np.zeros(v.shape)``.
    """
    ZERO = "0"
    """``acc = 0``, ``sum(...)``: a number of Python's, replaced by the first addition."""
    FLOAT_ZERO = "0.0"
    NOTHING = "nothing"
    """``acc = term if acc is None else acc + term``, an empty dict, ``functools.reduce(add, terms)``."""


class Add(enum.Enum):
    """How a party's term gets into the accumulator."""

    NEW = "acc + term"
    """``acc = acc + term``, ``torch.add(acc, term)``, ``sum(terms)``."""
    IN_PLACE = "acc += term"
    """``acc += term``, ``acc.add_(term)``, ``acc = acc.add_(term)``."""
    ALPHA = "torch.add(acc, v, alpha=w)"
    ALPHA_IN_PLACE = "acc.add_(v, alpha=w)"
    LERP = "torch.lerp(acc, v, w)"
    """The mean that is kept up to date: ``acc + w * (v - acc)``."""
    LERP_IN_PLACE = "acc.lerp_(v, w)"

    @property
    def in_place(self) -> bool:
        """Whether the accumulator itself is added to."""
        return self in (Add.IN_PLACE, Add.ALPHA_IN_PLACE, Add.LERP_IN_PLACE)


class Cast(enum.Enum):
    """A conversion: of an entry before it is used, of a term, or of the average."""

    FLOAT = "float32"
    """``.float()``, ``.to(torch.float32)``, ``.astype(np.float32)``, ``.type(torch.FloatTensor)``."""
    DOUBLE = "float64"
    LONG = "int64"
    OWN = "own"
    """The dtype of the entry itself: ``.type_as(v)``, ``.to(v.dtype)``, ``.astype(v.dtype)``."""


class Order(enum.Enum):
    """What is done first where several entries of several parties are added: it decides which error comes first."""

    KEYS = "keys"
    """All of one entry, then the next: ``for k in keys: for w in states``. Rebuilding is part of it, if there is any.
    """
    PARTIES = "parties"
    """All entries of one party, then the next: ``for w in states: for k in keys``. Scaling takes a pass of its own."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A sum that grows party by party.

    Attributes:
        begin: what the accumulator is at first.
        first: what becomes of the first party's entry, with FIRST, COPY and CLONE: ``w_avg[k] *= weights[0]``.
        term: what becomes of each party's entry on its way: ``v * w``. For ALPHA and LERP the weight is its number.
        cast: conversion of each party's entry before ``term``: ``v.float() * w``.
        recast: conversion of each term: ``(v * w).type_as(acc)``.
        fade: what becomes of the accumulator before each addition, in place: ``acc.mul_(c).add_(v)``.
        add: how it is added.
        scale: what becomes of the sum: ``torch.div(acc, n)``.
        difference: whether what is added is ``v - g``, the difference from the server's entry.
        order: see :class:`Order`.
    """

    begin: Begin = Begin.COPY
    first: Factor | None = None
    term: Factor | None = None
    cast: Cast | None = None
    recast: Cast | None = None
    fade: Factor | None = None
    add: Add = Add.IN_PLACE
    scale: Factor | None = None
    difference: bool = False
    order: Order = Order.KEYS


class Reductor(enum.Enum):
    """What reduces a stack of all parties' entries."""

    MEAN = "mean"
    """``torch.stack([...]).mean(0)``, ``torch.mean(torch.stack([...]), dim=0)``, ``np.mean([...], axis=0)``."""
    SUM = "sum"
    AVERAGE = "average"
    """``np.average([...], axis=0)``, with ``weights=`` if there is a term."""
    MEDIAN = "median"
    NAN_MEAN = "nanmean"
    """``torch.stack([...]).nanmean(0)``. With NumPy no plan knows."""
    QUANTILE = "quantile"
    """``torch.quantile(torch.stack([...]), 0.5, dim=0)``, likewise."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """All parties' entries in one array, reduced along the parties.

    Attributes:
        by: what reduces them.
        term: what becomes of each entry before; for AVERAGE, what the weights are.
        cast: conversion of each entry before ``term``: ``torch.stack([w[k].float() for w in states]).mean(0)``.
        scale: what becomes of the result: ``torch.stack([...]).sum(0) / n``.
        difference: whether what is stacked is ``v - g``, the difference from the server's entry.
    """

    by: Reductor = Reductor.MEAN
    term: Factor | None = None
    cast: Cast | None = None
    scale: Factor | None = None
    difference: bool = False


@dataclass(frozen=True, slots=True)
class Flattened:
    """All entries of a party in one vector, ``torch.cat([v.view(-1) for v in ...])`` or ``parameters_to_vector``.

    The vector has one dtype, that of its widest entry; it is averaged as ``arithmetic`` says, and cut up again.
    """

    arithmetic: Loop | Reduction = field(default_factory=Loop)


Arithmetic = Loop | Reduction | Flattened


class Library(enum.Enum):
    """What computes."""

    TORCH = "torch"
    NUMPY = "numpy"
    """What is averaged are arrays, which every party has made of the covered tensors: ``v.cpu().numpy()``."""


class Rebuild(enum.Enum):
    """How an array becomes a tensor again. ``load_state_dict`` refuses arrays; with torch there is nothing to do."""

    FROM_NUMPY = "torch.from_numpy(v)"
    TENSOR = "torch.tensor(v)"
    """``torch.as_tensor(v)`` too."""
    TENSOR_CLASS = "torch.Tensor(v)"
    """``torch.FloatTensor(v)`` too: a 0-d integer array is a size to it, a NumPy scalar is refused."""


class Rest(enum.Enum):
    """What the loaded dict holds for entries that were not averaged."""

    ABSENT = "absent"
    """Nothing: their keys are missing."""
    FIRST = "first"
    """The first party's: the dict began as ``w[0]`` or a copy of it."""
    SERVER = "server"
    """The server model's own: the dict began as ``global_model.state_dict()``."""
    OWN = "own"
    """The party's own: ``own = model.state_dict(); own.update(w_avg)``."""


@dataclass(frozen=True, slots=True)
class Load:
    """How the average gets back into the parties' models.

    Attributes:
        how: by what call.
        covers: what is loaded: a party that skips BatchNorm's keys when it takes over the server's.
        names: None if every value goes to the key it came from. Else keys and values are zipped by position, and these
            are the keys: ``zip(model.state_dict().keys(), averages)``.
    """

    how: How = How.STATE_DICT
    covers: Covers = EVERYTHING
    names: Covers | None = None


@dataclass(frozen=True, slots=True)
class HandWritten:
    """An averaging written by hand.

    Attributes:
        arithmetic: how an entry is averaged.
        integers: how an entry that is not floating point is, if otherwise: the branch of a dtype guard.
        library: what computes.
        result: conversion of the average: ``.type_as(v)``, ``.to(v.dtype)``, ``.long()``.
        onto: how the average is added to the server's entry, if it is one of differences: ``g[k] += delta``.
        rebuild: how arrays become tensors again; with torch, None.
        covers: which entries are averaged.
        rest: what becomes of the others; None is FIRST where the accumulator began as the first party's dict of tensors
            (FIRST, COPY), else ABSENT.
        load: how the average gets back.
    """

    arithmetic: Arithmetic = field(default_factory=Loop)
    integers: Arithmetic | None = None
    library: Library = Library.TORCH
    result: Cast | None = None
    onto: Add | None = None
    rebuild: Rebuild | None = None
    covers: Covers = EVERYTHING
    rest: Rest | None = None
    load: Load = field(default_factory=Load)

    @property
    def left(self) -> Rest:
        """What the loaded dict holds for entries that were not averaged."""
        if self.rest is not None:
            return self.rest
        whole = isinstance(self.arithmetic, Loop) and self.arithmetic.begin in (Begin.FIRST, Begin.COPY)
        return Rest.FIRST if whole and self.library is Library.TORCH else Rest.ABSENT
