"""The weighted mean in the entry's own precision: one pass, no overflow, nothing done to equal values.

:func:`weighted_mean` has all parties' values at hand and is the textbook's sum, the lightest party first,

    w_1 / W * x_1 + ... + w_n / W * x_n,    W = w_1 + ... + w_n,

its error at most (n + 3) / 2 roundings of the largest magnitude among them: one of the shares, one of the last sum,
half of one on average of the sums before. Where all values of a piece are the same it is those values. An infinity or
NaN gives what their sum gives; finite values overflow only within the error of the dtype's largest.

:class:`RunningMean` meets one value after the other and moves towards each by its share of the weight so far,

    mean <- mean + w_k / (w_1 + ... + w_k) * (x_k - mean),

which is the weighted mean after every step (West, Updating mean and variance estimates, CACM 1979), exact on equal
numbers but for the sign of a zero. Its error is at most n + 3 roundings. Where a value is not finite, neither is the
mean; equal infinities (attention masks) stay what they are. Finite values beyond half of the dtype's largest may
overflow.

float16, bfloat16 and float8 are accumulated in float32 and rounded once more at the end.
:mod:`~bn_audit.federated.exact` has none of these limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bn_audit.federated.layout import Read, as_it_is, each_piece
from bn_audit.federated.memory import empty_like

__all__ = ["RunningMean", "accumulation_dtype", "is_finite", "weighted_mean"]

_PIECE = 1 << 17
"""Elements of the mean that a core's second-level cache holds while the parties' stream past."""


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 for floating dtypes of fewer bits, else the dtype itself."""
    return torch.float32 if dtype.is_floating_point and dtype.itemsize < 4 else dtype


def is_finite(value: Tensor) -> bool:
    """Whether no element of a floating or complex tensor is NaN or infinite."""
    if value.dtype.itemsize == 1:  # float8 has no arithmetic of its own
        value = value.float()
    # One pass without a mask of the tensor's size; only a sum that overflows needs the second.
    return bool(torch.isfinite(value.sum())) or bool(torch.isfinite(value).all())


class RunningMean:
    """The mean of the values added so far. It keeps one tensor, of the first value's device and memory format."""

    def __init__(self) -> None:
        self._mean: Tensor | None = None
        self._dtype = torch.float32
        self._finite = True
        self._lent = False

    def add(self, value: Tensor, share: float, weight: float = 1.0) -> None:
        """Take in a value whose weight is ``share`` of the weight so far. The weight itself is not needed."""
        wide = accumulation_dtype(value.dtype)
        if self._mean is None:
            self._mean = empty_like(value, wide).copy_(value)
            self._dtype = value.dtype
            self._finite = is_finite(self._mean)
            return
        if self._lent:
            self._mean, self._lent = self._mean.clone(), False
        value = value.to(device=self._mean.device, dtype=wide)
        if self._finite:
            self._mean.lerp_(value, share)
        else:
            _step_with_infinities(self._mean, value, share)

    def fork(self) -> RunningMean:
        """A mean of the same values that goes its own way."""
        twin = RunningMean()
        twin._mean = None if self._mean is None else self._mean.clone()
        twin._dtype, twin._finite = self._dtype, self._finite
        return twin

    def result(self) -> Tensor:
        """The mean in the values' dtype. No copy is made until another value is added."""
        assert self._mean is not None
        self._lent = True
        return self._mean.to(self._dtype)


def weighted_mean(values: Sequence[Tensor], weights: Sequence[float], read: Read = as_it_is) -> Tensor:
    """The mean of one entry over all parties at once, in pieces: the parties' memory is read once.

    Args:
        values: floating or complex tensors of one shape and dtype, at least one.
        weights: one a value, positive and finite, and so is their sum.
        read: how a piece of a value comes into memory; no more than two are held at a time.

    Returns:
        A new tensor of that shape and dtype.
    """
    total = math.fsum(weights)
    least = torch.finfo(accumulation_dtype(values[0].dtype)).tiny  # an infinity's share must not vanish
    # The sums stay small for longest, and so do their roundings.
    lightest, *heavier = sorted(range(len(values)), key=weights.__getitem__)
    shares = [max(weight / total, least) for weight in weights]

    def kernel(out: Tensor, parts: list[Tensor]) -> None:
        wide = accumulation_dtype(out.dtype)
        narrow = out.dtype != wide
        mean = torch.empty_like(out, dtype=wide) if narrow else out
        first = read(parts[lightest])
        first = first.to(wide) if narrow else first
        torch.mul(first, shares[lightest], out=mean)
        same, scratch = True, torch.empty_like(first)
        for party in heavier:
            value = read(parts[party])
            value = value.to(wide) if narrow else value
            same = same and _are_equal(first, value, scratch)
            mean.add_(value, alpha=shares[party])
        if same:
            mean.copy_(first)
        if narrow:
            out.copy_(mean)

    return each_piece(values, kernel, _PIECE)


def _are_equal(a: Tensor, b: Tensor, scratch: Tensor) -> bool:
    # The first numbers tell nearly all apart. Of those that are equal torch.equal takes ten times as long as this.
    return torch.equal(a[:64], b[:64]) and int(torch.eq(a, b, out=scratch).sum()) == a.numel()


def _step_with_infinities(mean: Tensor, value: Tensor, share: float) -> None:
    """One step towards ``value``; where either is not finite, their sum says what the mean is."""
    finite = torch.isfinite(mean) & torch.isfinite(value)
    mean.copy_(torch.where(finite, torch.lerp(mean, value, share), mean + value))
