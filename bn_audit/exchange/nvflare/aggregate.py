"""One entry on its way through NVFlare: to the client, back, and through ``WeightedAggregationHelper``.

Read from 2.9, and run. Up to 2.7 tensors were not averaged in place. A model that is exchanged as arrays is handed out
as such, bfloat16 as float32; a client trains tensors, and makes arrays of them again when it sends. Differences are
taken between tensors.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from bn_audit.exchange.arithmetic import KNOWN, Kind, Refused, Value, numpy, torch
from bn_audit.exchange.nvflare.settings import NVFlareSettings
from bn_audit.exchange.plan import Fate
from bn_audit.exchange.release import release

__all__ = ["Aggregate", "aggregate"]

_FLOAT = Value("float64", Kind.NUMBER, scalar=True)
_DIFFERENCE, _CONVERSION, _SUM, _QUOTIENT = range(4)
_AVERAGED = frozenset({Fate.AVERAGED})


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What becomes of an entry in two rounds.

    Attributes:
        dtype: of what is handed out in the end; None if something raises.
        error: type and text of what is raised.
        step: of the round, in which it is.
        text_certain: whether the release raises this very text.
        possible: what the entry is then.
    """

    dtype: str | None
    error: tuple[str, str] | None = None
    step: int = 0
    text_certain: bool = True
    possible: frozenset[Fate] = _AVERAGED


@functools.lru_cache(maxsize=1024)
def aggregate(settings: NVFlareSettings, tensor: Value) -> Aggregate | None:
    """What becomes of an entry of the given dtype; None if that is not known."""
    if tensor.dtype not in KNOWN:
        return None
    return _Course(settings, tensor).run()


@dataclass(slots=True)
class _Course:
    settings: NVFlareSettings
    tensor: Value
    step: int = _DIFFERENCE
    possible: frozenset[Fate] = _AVERAGED
    text_certain: bool = True

    def run(self) -> Aggregate:
        try:
            held = self._handed_out()
            for _ in range(2):
                held = self._round(held)
        except Refused as refused:
            return Aggregate(None, (refused.type, refused.text), self.step, self.text_certain, self.possible)
        return Aggregate(held.dtype, possible=self.possible)

    def _handed_out(self) -> Value:
        """``PTFileModelPersistor``: what the server begins with."""
        if self.settings.exchange == "pytorch":
            return self.tensor
        if self.tensor.dtype == "bfloat16" and self._since(2, 8):
            return numpy.array(torch.cast(self.tensor, "float32"))
        # Of an early release it is not said that it stops before the first round.
        self.text_certain = self.tensor.dtype != "bfloat16"
        return numpy.array(self.tensor)

    def _round(self, held: Value) -> Value:
        arrays = self.settings.exchange == "numpy"
        differences = self.settings.transfer == "diff"
        sent = self._difference(numpy.tensor(held) if arrays else held) if differences else self.tensor
        if arrays:
            sent = self._converted(sent)
        mean = self._mean_of_arrays(sent) if arrays else self._mean_of_tensors(sent)
        if not differences:
            return mean
        return _saved(numpy.add(held, mean)) if arrays else torch.add(held, mean)

    def _difference(self, received: Value) -> Value:
        self.step = _DIFFERENCE
        try:
            difference = torch.subtract(self.tensor, received)
        except Refused as refused:
            raise Refused("RuntimeError", f"params diff function failed: {refused.text}") from None
        if difference.dtype == "uint8":
            # What is below zero has run over.
            self.possible |= {Fate.CORRUPT}
        return difference

    def _converted(self, tensor: Value) -> Value:
        self.step = _CONVERSION
        try:
            return numpy.array(tensor)
        except Refused as refused:
            # Earlier releases passed torch's own error on.
            self.text_certain = self._since(2, 9)
            text = (
                "failed to convert a PyTorch tensor to NumPy; use a NumPy-supported dtype or declare a native PyTorch "
                f"server exchange format: {refused.text}"
            )
            raise Refused("ValueError", text) from None

    def _mean_of_arrays(self, sent: Value) -> Value:
        self.step = _SUM
        weighed = self.settings.weigh_by_local_iter
        term = numpy.multiply(sent, _FLOAT) if weighed else sent
        total = numpy.add(term, term)
        if not weighed and sent.dtype in ("uint8", "int8", "int16"):
            self.possible |= {Fate.CORRUPT}
        self.step = _QUOTIENT
        return _saved(numpy.multiply(total, _FLOAT))

    def _mean_of_tensors(self, sent: Value) -> Value:
        self.step = _SUM
        weighed = self.settings.weigh_by_local_iter
        if not weighed and sent.dtype in ("uint8", "int8", "int16"):
            self.possible |= {Fate.CORRUPT}
        total = torch.multiply(sent, _FLOAT) if weighed else sent
        if not self._since(2, 8):
            total = torch.add(total, total)
            self.step = _QUOTIENT
            return torch.multiply(total, _FLOAT)
        added = torch.add_scaled(total, sent, _FLOAT) if weighed else torch.add(total, sent)
        total = torch.in_place(total, added)
        self.step = _QUOTIENT
        return torch.in_place(total, torch.divide(total, _FLOAT))

    def _since(self, *version: int) -> bool:
        known = release(self.settings.nvflare_version)
        return known is None or known >= version


def _saved(value: Value) -> Value:
    """What went over the wire: a scalar becomes a 0-d array, by its shape or as a tensor."""
    return Value(value.dtype, Kind.ARRAY, value.scalar, value.empty)
