"""The weighted mean in the entry's own precision: one pass, no overflow, exact on equal values.

Both forms below move a mean towards the next value by its share of the weight so far,

    mean <- mean + w_k / (w_1 + ... + w_k) * (x_k - mean),

which is the weighted mean after every step (West, Updating mean and variance estimates, CACM 1979). float16, bfloat16
and float8 are accumulated in float32 and rounded once at the end. The error of n values is at most n + 3 roundings of
the largest magnitude among them, and that of the last conversion.

Where a value is not finite, neither is the mean; equal infinities (attention masks) stay what they are. Finite values
beyond half of the dtype's largest may overflow; :mod:`~bn_audit.federated.exact` has no such limit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bn_audit.federated.layout import Read, as_it_is, each_piece

__all__ = ["RunningMean", "accumulation_dtype", "is_finite", "weighted_mean"]


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
            self._mean = value.to(wide, copy=True).resolve_conj()
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
        read: how a piece of a value comes into memory.

    Returns:
        A new tensor of that shape and dtype.
    """

    def kernel(out: Tensor, parts: list[Tensor]) -> None:
        wide = accumulation_dtype(out.dtype)
        parts = [part.to(wide) for part in parts]
        mean = out if out.dtype == wide else torch.empty_like(parts[0])
        _average_pairs(mean, parts, weights)
        if not torch.isfinite(mean.sum()):
            mean.copy_(parts[0])
            for number, part in enumerate(parts[1:], start=2):
                _step_with_infinities(mean, part, weights[number - 1] / sum(weights[:number]))
        if mean is not out:
            out.copy_(mean)

    return each_piece(values, kernel, read)


def _average_pairs(mean: Tensor, parts: Sequence[Tensor], weights: Sequence[float]) -> None:
    """The mean of the parts, two at a time: two streams from memory at once are faster than one after the other."""
    mean.copy_(parts[0])
    total = weights[0]
    first = len(parts) % 2
    if first == 0:
        total += weights[1]
        torch.lerp(parts[0], parts[1], weights[1] / total, out=mean)
        first = 2
    pair = torch.empty_like(mean)
    for left in range(first, len(parts), 2):
        weight = weights[left] + weights[left + 1]
        total += weight
        torch.lerp(parts[left], parts[left + 1], weights[left + 1] / weight, out=pair)
        mean.lerp_(pair, weight / total)


def _step_with_infinities(mean: Tensor, value: Tensor, share: float) -> None:
    """One step towards ``value``; where either is not finite, their sum says what the mean is."""
    finite = torch.isfinite(mean) & torch.isfinite(value)
    mean.copy_(torch.where(finite, torch.lerp(mean, value, share), mean + value))
