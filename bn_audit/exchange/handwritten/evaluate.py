"""One entry through the arithmetic of a form: what arrives, or the error and when it is raised."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType

from bn_audit.exchange.arithmetic import KNOWN, Kind, Refused, Unsettled, Value, numpy, torch
from bn_audit.exchange.arithmetic.dtypes import category
from bn_audit.exchange.rebuild import rebuilt
from bn_audit.handwritten import (
    Add,
    Arithmetic,
    Begin,
    Cast,
    Factor,
    Flattened,
    HandWritten,
    Library,
    Loop,
    Number,
    Operation,
    Rebuild,
    Reduction,
    Reductor,
)

__all__ = ["GATHERING", "LAST", "Outcome", "outcome"]

GATHERING = -1
"""The pass in which every party makes arrays of its tensors, before anything is averaged."""

LAST = 3
"""The pass in which sums are scaled, converted and rebuilt. Before it come the accumulator, and one pass a party: two
parties tell all there is to tell, since no dtype changes after the second."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one entry before it is loaded.

    Attributes:
        arrived: what is handed to the load; None if an operation raises.
        error: type and text of what is raised.
        step: the pass in which it is.
        lossy: whether what arrived is not the mean at all: complex numbers without their imaginary part, floating point
            numbers cut off to integers. None if that depends on the values: unsigned bytes, of which the difference is
            taken.
        sized: whether a value was taken for a size, and what arrived is uninitialised memory.
        negative: whether that size may be negative, which raises.
    """

    arrived: Value | None
    error: tuple[str, str] | None = None
    step: int = 0
    lossy: bool | None = False
    sized: bool = False
    negative: bool = False


_TENSORS = {
    Number.TENSOR: Value("float32", scalar=True),
    Number.DOUBLE_TENSOR: Value("float64", scalar=True),
    Number.INT_TENSOR: Value("int64", scalar=True),
}
_NUMBERS = {
    Number.INT: Value("int64", Kind.NUMBER, scalar=True),
    Number.FLOAT: Value("float64", Kind.NUMBER, scalar=True),
    Number.NUMPY_FLOAT: Value("float64", Kind.SCALAR, scalar=True),
    Number.NUMPY_FLOAT32: Value("float32", Kind.SCALAR, scalar=True),
    Number.NUMPY_INT: Value("int64", Kind.SCALAR, scalar=True),
}
_OPERATIONS = {Operation.TIMES: "multiply", Operation.OVER: "divide", Operation.FLOOR: "floor_divide"}
_REDUCTIONS = {
    Reductor.MEAN: "mean",
    Reductor.SUM: "summed",
    Reductor.MEDIAN: "median",
    Reductor.NAN_MEAN: "nan_mean",
    Reductor.QUANTILE: "quantile",
}
_DTYPES = {Cast.FLOAT: "float32", Cast.DOUBLE: "float64", Cast.LONG: "int64"}


@functools.lru_cache(maxsize=4096)
def outcome(form: HandWritten, entry: Value, vector: str | None = None) -> Outcome | None:
    """What becomes of a covered entry; None if that is not known.

    Args:
        entry: a tensor with the entry's dtype.
        vector: the dtype of the vector that all entries are flattened into, if they are.
    """
    if entry.dtype not in KNOWN:
        return None
    course = _Course(form, entry)
    try:
        return course.run(vector)
    except Refused as refused:
        return Outcome(None, (refused.type, refused.text), course.step)
    except Unsettled:
        return None


@dataclass(slots=True)
class _Course:
    form: HandWritten
    entry: Value
    step: int = GATHERING
    lossy: bool | None = False
    differs: bool = False

    def run(self, vector: str | None) -> Outcome:
        arithmetic: Arithmetic = self.form.arithmetic
        if self.form.integers is not None and category(self.entry.dtype) < 2:
            arithmetic = self.form.integers
        value = self._begin()
        self.step = 0
        if isinstance(arithmetic, Flattened):
            value = self._cast(replace(value, scalar=False, empty=False), vector)
            average = self._average(arithmetic.arithmetic, value)
            average = replace(average, scalar=self.entry.scalar, empty=self.entry.empty)
        else:
            average = self._average(arithmetic, value)
        self.step = LAST
        if self.form.result is not None:
            average = self._convert(average, self.form.result)
        if self.form.onto is not None:
            add = self.form.onto
            average = self._in_place(value, average, "add") if add is Add.IN_PLACE else self._do("add", value, average)
        sized = False
        if self.form.rebuild is not None:
            # torch.Tensor leaves the imaginary part out.
            real = self.form.rebuild is Rebuild.TENSOR_CLASS and category(average.dtype) == 3
            self.lossy = True if real else self.lossy
            average, sized = rebuilt(average, self.form.rebuild)
        return Outcome(average, lossy=self.lossy, sized=sized, negative=sized and self.differs)

    @property
    def _library(self) -> ModuleType:
        return numpy if self.form.library is Library.NUMPY else torch

    def _do(self, operation: str, *values: Value) -> Value:
        function: Callable[..., Value] = getattr(self._library, operation)
        return function(*values)

    def _begin(self) -> Value:
        return numpy.array(self.entry) if self.form.library is Library.NUMPY else self.entry

    def _cast(self, value: Value, dtype: str | None) -> Value:
        if dtype is None:
            raise Unsettled
        own, to = category(self.entry.dtype), category(dtype)
        self.lossy = True if (own == 3 and to < 3) or (own >= 2 and to < 2) else self.lossy
        return self._do_cast(value, dtype)

    def _do_cast(self, value: Value, dtype: str) -> Value:
        cast: Callable[[Value, str], Value] = self._library.cast
        return cast(value, dtype)

    def _convert(self, value: Value, how: Cast) -> Value:
        return self._cast(value, self.entry.dtype if how is Cast.OWN else _DTYPES[how])

    def _number(self, number: Number) -> Value:
        if self.form.library is Library.NUMPY:
            if number in _TENSORS:
                raise Unsettled
            return _NUMBERS[number]
        if number in _TENSORS:
            return _TENSORS[number]
        # torch takes NumPy's scalars for numbers.
        return replace(_NUMBERS[number], kind=Kind.NUMBER)

    def _in_place(self, target: Value, other: Value, operation: str) -> Value:
        if self.form.library is Library.NUMPY:
            return numpy.in_place(target, other, getattr(numpy, operation))
        if target.kind is Kind.NUMBER:
            return self._do(operation, target, other)
        return torch.in_place(target, self._do(operation, target, other))

    def _apply(self, value: Value, factor: Factor | None) -> Value:
        if factor is None:
            return value
        operation, number = _OPERATIONS[factor.operation], self._number(factor.number)
        # What is rounded down party by party, or at the end, is no mean of numbers with a fraction.
        self.lossy = True if (factor.operation is Operation.FLOOR and category(self.entry.dtype) >= 2) else self.lossy
        return self._in_place(value, number, operation) if factor.in_place else self._do(operation, value, number)

    def _average(self, arithmetic: Loop | Reduction, value: Value) -> Value:
        return self._loop(arithmetic, value) if isinstance(arithmetic, Loop) else self._reduced(arithmetic, value)

    def _prepared(self, arithmetic: Loop | Reduction, value: Value) -> Value:
        if arithmetic.cast is not None:
            value = self._convert(value, arithmetic.cast)
        if not arithmetic.difference:
            return value
        self.differs = True
        if value.dtype == "uint8" and not self.lossy:
            self.lossy = None
        return self._do("subtract", value, value)

    def _loop(self, loop: Loop, value: Value) -> Value:
        first = loop.begin in (Begin.FIRST, Begin.COPY, Begin.CLONE)
        accumulator = self._accumulator(loop, value)
        for party in range(2):
            self.step = 1 + party
            if first and party == 0:
                continue
            accumulator = self._added(loop, accumulator, value)
        assert accumulator is not None
        self.step = LAST
        return self._apply(accumulator, loop.scale)

    def _accumulator(self, loop: Loop, value: Value) -> Value | None:
        match loop.begin:
            case Begin.FIRST | Begin.COPY | Begin.CLONE:
                return self._apply(value, loop.first)
            case Begin.ZEROS:
                return self._do("zeros", value)
            case Begin.FLOAT_ZEROS:
                zeros: Callable[[Value, str], Value] = self._library.zeros
                return zeros(value, "float64" if self.form.library is Library.NUMPY else "float32")
            case Begin.ZERO:
                return _NUMBERS[Number.INT]
            case Begin.FLOAT_ZERO:
                return _NUMBERS[Number.FLOAT]
            case Begin.NOTHING:
                return None

    def _added(self, loop: Loop, accumulator: Value | None, value: Value) -> Value:
        if loop.fade is not None:
            if accumulator is None or accumulator.kind is Kind.NUMBER or not loop.fade.in_place:
                raise Unsettled
            accumulator = self._apply(accumulator, loop.fade)
        prepared = self._prepared(loop, value)
        if loop.add not in (Add.NEW, Add.IN_PLACE):
            return self._added_scaled(loop, accumulator, prepared)
        term = self._apply(prepared, loop.term)
        if loop.recast is not None:
            term = self._convert(term, loop.recast)
        if accumulator is None:
            return term
        if loop.add is Add.IN_PLACE:
            return self._in_place(accumulator, term, "add")
        return self._do("add", accumulator, term)

    def _added_scaled(self, loop: Loop, accumulator: Value | None, value: Value) -> Value:
        if self.form.library is Library.NUMPY or accumulator is None or loop.term is None:
            raise Unsettled
        if accumulator.kind is Kind.NUMBER:
            raise Unsettled
        weight = self._number(loop.term.number)
        if loop.add in (Add.LERP, Add.LERP_IN_PLACE):
            return torch.lerp(accumulator, value, weight, in_place=loop.add is Add.LERP_IN_PLACE)
        sum_ = torch.add_scaled(accumulator, value, weight)
        return torch.in_place(accumulator, sum_) if loop.add is Add.ALPHA_IN_PLACE else sum_

    def _reduced(self, reduction: Reduction, value: Value) -> Value:
        prepared = self._prepared(reduction, value)
        if reduction.by is Reductor.AVERAGE:
            if self.form.library is not Library.NUMPY:
                raise Unsettled
            weights = None if reduction.term is None else self._number(reduction.term.number)
            return self._apply(numpy.average(prepared, weights), reduction.scale)
        term = self._apply(prepared, reduction.term)
        if self.form.library is Library.NUMPY and reduction.by in (Reductor.NAN_MEAN, Reductor.QUANTILE):
            raise Unsettled
        return self._apply(self._do(_REDUCTIONS[reduction.by], term), reduction.scale)
