"""The weighted mean as the real numbers have it, rounded once to the entry's dtype.

A correctly rounded result depends on nothing but the values and the ratios of their weights. So it is the same, to the
bit, in whatever order the parties come and on whatever device; it does not change when all weights are multiplied by
one number; and the mean of equal values is that value.

It is found in up to three steps, each for the elements that the one before could not decide:

1. accumulate in float64 with an error bound: first a bound for a whole piece of the tensor, then each element's own.
   Where its two ends round to the same number, that is the result (Ziv, Fast evaluation of elementary mathematical
   functions with correctly rounded last bit, TOMS 1991). This decides nearly all of float32 and narrower;
2. the same sum without error: products of numbers short enough to be exact, added with the two-term sum of Knuth
   (TAOCP 2, 4.2.2, theorem B), the quotient by long division. This decides exact ties, zeros, cancellation, float64;
3. rational numbers, one element at a time.

The sum's second component has 53 bits as well, so step 3 is met only by values that lie some 100 bits apart.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from bn_audit.federated.layout import Read, as_it_is, each_piece

__all__ = ["exact_mean"]

_PIECE = 1 << 16
"""Elements whose float64 mean, and a party's values in float64, a core's second-level cache holds."""

_LIMB_BITS = 26
_MAX_WEIGHT_BITS = 300
_ROUNDING = 2.0**-53


def exact_mean(values: Sequence[Tensor], weights: Sequence[float], read: Read = as_it_is) -> Tensor:
    """The correctly rounded weighted mean of one entry over all parties.

    Args:
        values: floating or complex tensors of one shape and dtype, at least one. On a device with float64.
        weights: one a value, positive and finite.
        read: how a piece of a value comes into memory.

    Returns:
        A new tensor of that shape, dtype and memory format, nearest to the true mean, ties to even. NaN where a value
        is NaN or infinities of both signs meet; zero is negative only where all values are negative zeros.
    """
    ratio = _Weights.of(weights)
    undecided = _Undecided(ratio, read)
    result = each_piece(values, lambda out, parts: _mean_piece(out, parts, ratio, undecided), _PIECE)
    undecided.decide()
    return result


@dataclass(frozen=True, slots=True)
class _Weights:
    """The weights as coprime integers, their total, the quotients, and both as sums of floats of 26 bits."""

    integers: tuple[int, ...]
    total: int
    shares: tuple[float, ...]
    limbs: tuple[tuple[float, ...], ...]
    total_limbs: tuple[float, ...]

    @classmethod
    def of(cls, weights: Sequence[float]) -> _Weights:
        ratios = [Fraction(weight) for weight in weights]
        scale = math.lcm(*(ratio.denominator for ratio in ratios))
        integers = [int(ratio * scale) for ratio in ratios]
        divisor = math.gcd(*integers)
        integers = [integer // divisor for integer in integers]
        total = sum(integers)
        # At least the smallest normal number, so that an infinity still counts.
        shares = tuple(max(integer / total, sys.float_info.min) for integer in integers)
        if total.bit_length() > _MAX_WEIGHT_BITS:
            return cls(tuple(integers), total, shares, (), ())
        return cls(tuple(integers), total, shares, tuple(map(_limbs, integers)), _limbs(total))


def _limbs(integer: int) -> tuple[float, ...]:
    """The integer as a sum of floats, each an integer of at most 26 bits times a power of two."""
    mask = (1 << _LIMB_BITS) - 1
    parts = (integer & mask << shift for shift in range(0, integer.bit_length(), _LIMB_BITS))
    return tuple(float(part) for part in parts if part)


class _Undecided:
    """Elements that wait for the later steps, which cost the same for one of them as for thousands.

    They wait in one buffer, of one size for any number of parties: many small tensors would scatter over the heap, and
    it would grow.
    """

    _NUMBERS = 1 << 18

    def __init__(self, weights: _Weights, read: Read) -> None:
        self._weights = weights
        self.read = read
        self._capacity = max(1, self._NUMBERS // len(weights.integers))
        self._values: Tensor | None = None
        self._index = torch.empty(0, dtype=torch.int64)
        self._places: list[tuple[Tensor, slice]] = []
        self._count = 0

    def add(self, out: Tensor, parts: list[Tensor], index: Tensor) -> None:
        """Let the elements of ``out`` at ``index`` wait."""
        for some in torch.split(index, self._capacity):
            if self._values is None:
                self._values = torch.empty(len(parts), self._capacity, dtype=torch.float64, device=out.device)
                self._index = torch.empty(self._capacity, dtype=torch.int64, device=out.device)
            if self._count + some.numel() > self._capacity:
                self.decide()
            place = slice(self._count, self._count + some.numel())
            self._values[:, place] = torch.stack([self._taken(part, some) for part in parts])
            self._index[place] = some
            self._places.append((out, place))
            self._count = place.stop

    def _taken(self, part: Tensor, index: Tensor) -> Tensor:
        taken = part.index_select(0, index)
        self.read(part[:1])  # so that a file's pages are given back
        return taken

    def decide(self) -> None:
        """Fill in what waits."""
        if self._values is None or not self._places:
            return
        means = _exact(list(self._values[:, : self._count]), self._weights, self._places[0][0].dtype)
        for out, place in self._places:
            out[self._index[place]] = means[place]
        self._places, self._count = [], 0


def _mean_piece(out: Tensor, parts: list[Tensor], weights: _Weights, waiting: _Undecided) -> None:
    if out.dtype == torch.float64:
        waiting.add(out, parts, torch.arange(out.numel(), device=out.device))
        return
    squares: list[float] = []

    def measured(part: Tensor) -> Tensor:
        value = waiting.read(part)
        value = value.float() if value.dtype.itemsize < 4 else value
        squares.append(float(torch.dot(value, value)))
        return value

    mean = _rounded_mean(map(measured, parts), weights)
    # No value is larger than the root of the sum of squares: too large a bound for some, but cheap. Not where squares
    # overflow, underflow, or come from NaN.
    if not all(1e-30 < square < math.inf for square in squares):
        waiting.add(out, parts, torch.arange(out.numel(), device=out.device))
        return
    size = torch.full((), 2 * math.sqrt(max(squares)), dtype=torch.float64, device="cpu")
    index = _where_not_zero(_round(out, mean, size, len(parts)))
    if index.numel():
        waiting.add(out, parts, index)


def _rounded_mean(values: Iterable[Tensor], weights: _Weights) -> Tensor:
    """The mean in float64, within n + 2 roundings of the largest value."""
    terms = zip(values, weights.shares, strict=True)
    first, share = next(terms)
    mean = first.double() * share
    for value, share in terms:
        mean.add_(value, alpha=share)
    return mean


def _where_not_zero(integers: Tensor) -> Tensor:
    """The indices of those that are not 0, a few. ``nonzero`` alone takes as long for it as all the rest."""
    width = 64
    rows = integers[: integers.numel() // width * width].view(-1, width)
    some = (rows.amax(1) | rows.amin(1)).nonzero().squeeze(1)
    row, column = rows[some].nonzero().unbind(1)
    rest = integers[rows.numel() :].nonzero().squeeze(1) + rows.numel()
    return torch.cat((some[row] * width + column, rest))


def _round(out: Tensor, mean: Tensor, size: Tensor, count: int) -> Tensor:
    """Round a mean of values no larger than ``size`` into ``out``; not 0 where that may be wrong. Not for float64."""
    # A rounding of the shares, of the products, of every sum, and of the bound's two ends.
    bound = _ROUNDING * (count + 8)
    low = torch.sub(mean, size, alpha=bound)
    out.copy_(low if out.dtype == torch.float32 else _narrow(low, out.dtype))
    high = _narrow(torch.add(mean, size, alpha=bound, out=low), out.dtype)
    return _bits(out) ^ _bits(high)


def _exact(values: list[Tensor], weights: _Weights, dtype: torch.dtype) -> Tensor:
    """The mean of values that are each ``(k,)`` float64: step 1 with each element's own bound, then steps 2 and 3."""
    size = values[0].abs()
    for value in values[1:]:
        size = torch.maximum(size, value.abs())
    mean = _rounded_mean(values, weights)
    result = torch.empty_like(mean, dtype=dtype)
    if dtype == torch.float64:
        undecided = torch.ones_like(mean, dtype=torch.bool)
    else:
        undecided = _round(result, mean, size, len(values)) != 0
    # A sum's NaN has the sign and payload that the processor and the order give it; zeros give theirs its sign.
    special = (size == 0) | ~torch.isfinite(size)
    result = torch.where(special, torch.where(torch.isnan(mean), math.nan, mean).to(dtype), result)
    index = (undecided & ~special).nonzero().squeeze(1)
    if index.numel():
        result[index] = _decided([value[index] for value in values], weights, dtype)
    return result


def _decided(values: list[Tensor], weights: _Weights, dtype: torch.dtype) -> Tensor:
    """The mean of finite values, not all of them 0, each ``(k,)`` float64: steps 2 and 3."""
    if weights.limbs:
        near, rest, sure = _divide(values, weights)
    else:
        near, rest = torch.zeros_like(values[0]), torch.zeros_like(values[0])
        sure = torch.zeros_like(near, dtype=torch.bool)
    for place in (~sure).nonzero().flatten().tolist():
        terms = zip(weights.integers, values, strict=True)
        mean = sum((integer * Fraction(value[place].item()) for integer, value in terms), Fraction()) / weights.total
        near[place] = float(mean)
        difference = mean - Fraction(float(mean))
        rest[place] = (difference > 0) - (difference < 0)
    return near if dtype == torch.float64 else _narrow(_to_odd(near, rest), dtype)


def _divide(values: list[Tensor], weights: _Weights) -> tuple[Tensor, Tensor, Tensor]:
    """The mean to the nearest float64, what is left (its sign is right), and where both are certain."""
    terms = zip(values, weights.limbs, strict=True)
    high, low, lost = _sum(part * limb for value, limbs in terms for part in _halves(value) for limb in limbs)
    divisor = float(weights.total)

    quotient = (high + low) / divisor
    high, low, more = _remainder(high, low, quotient, weights)
    lost += more
    second = (high + low) / divisor
    high, low, more = _remainder(high, low, second, weights)
    lost += more
    third = (high + low) / divisor

    second, tail = _two_sum(second, third)
    exact = third == 0
    sure = (lost <= (high + low).abs() * _ROUNDING) & (exact | (tail.abs() > third.abs() * 2.0**-50))
    # Beyond these, a product above may have been rounded.
    size = torch.stack(values).abs().amax(0)
    sure &= (size < 2.0**500) & ((quotient == 0) | (quotient.abs() > 2.0**-600))

    second = _to_odd(second, tail)
    near = quotient + second
    return near, second - (near - quotient), sure


def _remainder(high: Tensor, low: Tensor, quotient: Tensor, weights: _Weights) -> tuple[Tensor, Tensor, Tensor]:
    """What a quotient leaves of the dividend ``high + low``, as :func:`_sum` gives it."""
    products = (-part * limb for part in _halves(quotient) for limb in weights.total_limbs)
    return _sum(itertools.chain((high, low), products))


def _sum(terms: Iterable[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of float64 tensors as two components, and a bound on what those leave out: 0 where they are all of it."""
    rest = iter(terms)
    high = next(rest)
    low, lost = torch.zeros_like(high), torch.zeros_like(high)
    for term in rest:
        high, error = _two_sum(high, term)
        low, error = _two_sum(low, error)
        lost += error.abs()
    return high, low, lost * 2


def _two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The rounded sum and its error, which is exact. Three operations each: nothing here may be fused."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def _halves(value: Tensor) -> tuple[Tensor, Tensor]:
    """A float64 tensor as a sum of two, of 26 and 27 bits, whose products with 26 bits are exact."""
    high = (value.view(torch.int64) & -(1 << 27)).view(torch.float64)
    return high, value - high


def _narrow(value: Tensor, dtype: torch.dtype) -> Tensor:
    """float64 rounded once to a narrower dtype."""
    narrow = value.float()
    if dtype == torch.float32:
        return narrow
    # torch converts by way of float32. Rounded to odd there, the second rounding is as good as the only one
    # (Boldo and Melquiond, When double rounding is odd, 2005).
    return _to_odd(narrow, value - narrow).to(dtype)


def _to_odd(value: Tensor, rest: Tensor) -> Tensor:
    """``value + rest`` rounded to odd. ``rest`` is less than the last digit of ``value``: only its sign counts."""
    even = (_bits(value) & 1) == 0
    toward = torch.copysign(torch.full_like(value, math.inf), rest.sign().to(value.dtype))
    return torch.where(even & (rest != 0), torch.nextafter(value, toward), value)


_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _bits(value: Tensor) -> Tensor:
    """The bits of floats, as integers: unlike the floats, zeros of different sign differ."""
    return value.view(_INTEGERS[value.dtype.itemsize])
