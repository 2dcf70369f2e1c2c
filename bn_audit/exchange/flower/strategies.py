"""Flower's strategies: what each makes of an array that all clients sent.

Read from ``flwr.server.strategy`` (arrays by position) and ``flwr.serverapp.strategy`` (arrays by key) of 1.42, and
run; what differed before is said where it does.

- FedAvg of the older API computes in place since 1.7. Since 1.12 it casts a client's share of the examples to the dtype
  of the array where floating point does not fit: a share below 1 is 0 as an integer, and every integer becomes 0.
- Otherwise integers and bools come back as float64. Bytes and shorts are multiplied by the number of examples first,
  which does not fit into them.
- FedAdam and its like take a step from the previous arrays; their ``tau`` is 0 in half precision, and they are not made
  for complex numbers.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from bn_audit.exchange.arithmetic import KNOWN, Kind, Refused, Value, numpy
from bn_audit.exchange.arithmetic.dtypes import category
from bn_audit.exchange.flower.settings import FlowerSettings
from bn_audit.exchange.plan import Fate
from bn_audit.exchange.release import release

__all__ = ["ALIKE", "MEANS", "SERVER_STEPS", "STRATEGIES", "Aggregate", "aggregate", "steps"]

STRATEGIES = (
    "fedavg",
    "fedprox",
    "fedavgm",
    "fedadam",
    "fedyogi",
    "fedadagrad",
    "fedmedian",
    "fedtrimmedavg",
)

ADAPTIVE = frozenset({"fedadam", "fedyogi", "fedadagrad"})
SERVER_STEPS = ADAPTIVE | {"fedavgm"}
"""Strategies that move the previous arrays by a step of their own."""

ALIKE = (
    ("fedavg", "fedprox"),
    ("fedavgm",),
    ("fedadam", "fedyogi", "fedadagrad"),
    ("fedmedian",),
    ("fedtrimmedavg",),
)
"""All strategies, those together whose plans are the same but for notes."""

MEANS = ("fedavg", "fedprox")
"""Strategies that hand out the weighted mean."""

_INT = Value("int64", Kind.NUMBER, scalar=True)
_FLOAT = Value("float64", Kind.NUMBER, scalar=True)
_DOUBLE = Value("float64", Kind.SCALAR, scalar=True)
_NARROW = frozenset({"int8", "uint8", "int16"})
_AVERAGED = frozenset({Fate.AVERAGED})


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What a strategy makes of an array.

    Attributes:
        value: what it hands out; None if it raises.
        error: type and text of what it raises.
        possible: what the array is then, as a fate of its entry.
        zero: whether it certainly is zero.
        doubtful: whether it may raise, depending on the values.
    """

    value: Value | None
    error: tuple[str, str] | None = None
    possible: frozenset[Fate] = _AVERAGED
    zero: bool = False
    doubtful: bool = False


def steps(settings: FlowerSettings) -> bool:
    """Whether the strategy moves the previous arrays by a step of its own, instead of handing out an average."""
    return settings.strategy in ADAPTIVE or (settings.strategy == "fedavgm" and settings.server_step)


@functools.lru_cache(maxsize=1024)
def aggregate(settings: FlowerSettings, tensor: Value) -> Aggregate | None:
    """What becomes of an array of the given dtype in two rounds; None if that is not known."""
    if tensor.dtype not in KNOWN or settings.strategy not in STRATEGIES:
        return None
    try:
        sent = numpy.array(tensor)
        average = _average(settings, sent)
        if average.value is None or not steps(settings):
            return average
        return _stepped(settings, sent, average)
    except Refused as refused:
        return Aggregate(None, (refused.type, refused.text))


def _average(settings: FlowerSettings, sent: Value) -> Aggregate:
    if settings.strategy == "fedmedian":
        return Aggregate(_saved(numpy.median(sent)))
    if settings.strategy == "fedtrimmedavg":
        return Aggregate(_saved(numpy.mean(sent)))
    if settings.api == "message":
        term = numpy.multiply(sent, _FLOAT)
        return Aggregate(_saved(numpy.in_place(term, term, numpy.add)))
    version = release(settings.flwr_version)
    in_place = settings.in_place and settings.strategy != "fedavgm" and (version is None or version >= (1, 7))
    if not in_place:
        total = numpy.multiply(sent, _INT)
        mean = _saved(numpy.divide(numpy.add(total, total), _INT))
        if sent.dtype in _NARROW:
            return Aggregate(mean, possible=_AVERAGED | {Fate.CORRUPT}, doubtful=True)
        return Aggregate(mean)
    if version is not None and version < (1, 12):
        term = numpy.multiply(_FLOAT, sent)
        return Aggregate(_saved(numpy.add(term, term)))
    if category(sent.dtype) == 1:
        return Aggregate(sent, possible=frozenset({Fate.CORRUPT}), zero=True)
    return Aggregate(sent)


def _stepped(settings: FlowerSettings, sent: Value, average: Aggregate) -> Aggregate:
    """The previous array, moved: first the one that clients were given at the start, then the strategy's own."""
    possible, previous = average.possible, sent
    for _ in range(2):
        assert average.value is not None
        if settings.strategy == "fedavgm":
            gradient = numpy.subtract(previous, average.value)
            previous = _saved(numpy.subtract(previous, numpy.multiply(_FLOAT, gradient)))
            continue
        delta = numpy.subtract(average.value, previous)
        moment = numpy.add(numpy.multiply(_FLOAT, delta), numpy.multiply(_FLOAT, delta))
        scale = numpy.add(moment, _FLOAT)
        eta = _DOUBLE if settings.strategy == "fedadam" and _bias_corrected(settings) else _FLOAT
        previous = _saved(numpy.add(previous, numpy.divide(numpy.multiply(eta, moment), scale)))
        if sent.dtype == "float16" or category(sent.dtype) == 3:
            possible = possible | {Fate.CORRUPT}
    return Aggregate(previous, None, possible, False, average.doubtful)


def _bias_corrected(settings: FlowerSettings) -> bool:
    version = release(settings.flwr_version)
    return version is None or version >= (1, 13)


def _saved(value: Value) -> Value:
    """What was saved and is loaded again: a scalar has become a 0-d array."""
    return Value(value.dtype, Kind.ARRAY, value.scalar, value.empty)
