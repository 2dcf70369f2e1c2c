"""Running statistics that go by no name that is known for one: found by running a copy of the layer.

People who write a BatchNorm themselves call its statistics what they like, ``mean_ema`` and ``var_ema``, or keep them
as plain attributes that are in no state dict. What they are shows in a forward: in training they follow the mean and
the variance of what the layer is given, under ``eval()`` they stay, and the output depends on them. Nothing less
counts: constants that an input is normalised by do not move, the vectors of a spectral norm move with no data, averages
of weights neither, a code book follows data and not their mean, and an observer goes on in ``eval()``.

Tried are layers that look like one: all their own tensors have one number for each channel, and no other module with
state lies below. What cannot be copied, or run with one input, shows nothing.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import warnings
import weakref
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from bn_audit.running import Role

__all__ = ["seen_statistics"]

_MOST_CHANNELS = 1 << 16
_NEAR = 1e-3
"""Relative: float32 sums of some hundred numbers, and the eps under a root."""
_NOTHING: Mapping[str, Role] = {}

_known: dict[int, tuple[weakref.ref[nn.Module], Mapping[str, Role]]] = {}
"""By identity: what a module of the user's is equal to, or hashes to, is for the user to say."""


def seen_statistics(module: nn.Module) -> Mapping[str, Role]:
    """The running statistics of a module that were seen to be ones, by the names of its own tensors.

    A copy of the module runs, on the CPU and with random numbers in place of its values. It is run once for a module.

    Returns:
        By name, what it follows: ``mean``, ``var`` or ``std`` of a channel, "" for something else that goes with them.
        Empty where nothing was seen. Names of tensors that are neither parameters nor buffers are among them.
    """
    own = id(module)
    kept = _known.get(own)
    if kept is None or kept[0]() is not module:
        channels = _channels(module)
        found = _NOTHING if channels is None else _tried(module, channels)
        kept = _known[own] = weakref.ref(module, lambda gone: _forget(own, gone)), found
    return kept[1]


def _forget(own: int, gone: weakref.ref[nn.Module]) -> None:
    # Another module may have its identity by now.
    if own in _known and _known[own][0] is gone:
        del _known[own]


def _channels(module: nn.Module) -> int | None:
    """The number of channels of a module that may be a norm layer, and need not go by names; None if it is none."""
    if type(module).__module__.startswith("torch."):
        return None
    own = _own(module)
    # What is trained is no statistic.
    if not any(not (isinstance(value, nn.Parameter) and value.requires_grad) for value in own.values()):
        return None
    if any(_is_odd(value) for value in own.values()):
        return None
    sizes = {value.numel() for value in own.values() if value.is_floating_point() and value.dim()}
    channels = max(sizes, default=0)
    if not 0 < channels <= _MOST_CHANNELS or not sizes <= {1, channels}:
        return None
    if any(max(value.shape) != value.numel() for value in own.values() if value.dim()):
        return None
    below = (part for part in module.modules() if part is not module)
    return None if any(part._parameters or part._buffers for part in below) else channels


def _own(module: nn.Module) -> dict[str, Tensor]:
    """A module's own tensors: parameters, buffers and plain attributes."""
    named = (*module._parameters.items(), *module._buffers.items(), *vars(module).items())
    return {name: value for name, value in named if isinstance(value, Tensor)}


def _is_odd(value: Tensor) -> bool:
    return (
        nn.parameter.is_lazy(value)
        or isinstance(value, FakeTensor)
        or value.layout is not torch.strided
        or value.is_nested
        or value.is_quantized
        or value.is_complex()
    )


def _tried(module: nn.Module, channels: int) -> Mapping[str, Role]:
    # A forward that talks to other processes would wait for them.
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return _NOTHING
    try:
        with _alone():
            trial = _Trial(module, channels)
            for shape, axis in _layouts(channels):
                with contextlib.suppress(Exception):  # what runs is the user's, and may want another shape
                    found = _judged(trial, torch.randn(shape), axis)
                    if found:
                        return found
    except Exception:  # not every module can be copied
        return _NOTHING
    return _NOTHING


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Without gradients, output, warnings, another default dtype or device, or a step of the user's random numbers."""
    dtype = torch.get_default_dtype()
    with (
        torch.no_grad(),
        torch.device("cpu"),
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def _layouts(channels: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Shapes of inputs, with the place of the channels; no other size is theirs, and the batch can be halved."""
    batch = 8 if channels != 8 else 12
    a, b, c = [size for size in (5, 3, 2, 7) if size != channels][:3]
    yield (batch, channels, a, b), 1
    yield (batch, channels, a), 1
    yield (batch, channels), 1
    yield (batch, channels, c, a, b), 1
    yield (batch, a, channels), 2
    yield (batch, a, b, channels), 3


@dataclass(frozen=True, slots=True)
class _Seen:
    """What came of a forward: the output, and the module's tensors after it."""

    output: Any
    after: Mapping[str, Tensor]


class _Trial:
    """A copy of a module that begins each forward as it was."""

    def __init__(self, module: nn.Module, channels: int) -> None:
        self._part = copy.deepcopy(module)
        if any(value.is_meta for value in _own(module).values()):
            self._part.to_empty(device="cpu")
        self._part.to("cpu", torch.float32)
        self._rest = dict(vars(self._part))
        self._before: dict[str, Tensor] = {}
        for name, value in _own(self._part).items():
            value = torch.zeros_like(value, device="cpu") if value.is_meta else value.detach().cpu()
            if value.is_floating_point() and value.numel() == channels and value.dim():
                # Positive, so that a root can be drawn of it, and of no value that would hide a part.
                value = torch.rand(value.shape) + 0.5
            elif value.is_floating_point():
                value = value.float()
            self._before[name] = value.clone()

    @property
    def before(self) -> Mapping[str, Tensor]:
        """The module's tensors before any forward."""
        return self._before

    def run(self, *inputs: Tensor, training: bool, moved: Collection[str] = ()) -> _Seen:
        """Forward after forward.

        Args:
            inputs: of each.
            training: the mode.
            moved: tensors that get other values before.
        """
        part = self._part
        vars(part).update(self._rest)
        part.train(training)
        for name, value in self._before.items():
            value = value + 1 if name in moved else value.clone()
            registered = part._parameters.get(name)
            if registered is not None:
                registered.data = value
            elif name in part._buffers:
                part._buffers[name] = value
            else:
                vars(part)[name] = value
        output: Any = None
        # There are layers that go by whether there are gradients.
        with torch.set_grad_enabled(training):
            for given in inputs:
                output = part.forward(given.clone())
        return _Seen(output, {name: value.detach().clone() for name, value in _own(part).items()})


def _judged(trial: _Trial, x: Tensor, axis: int) -> Mapping[str, Role]:
    """What the tensors of a module follow, if it normalises by them.

    Args:
        x: an input.
        axis: the place of its channels.
    """
    others = [place for place in range(x.dim()) if place != axis]
    mean = x.mean(others, keepdim=True)
    shift = torch.rand(mean.shape) + 1
    once = trial.run(x, training=True)
    if not isinstance(once.output, Tensor) or once.output.shape != x.shape:
        return _NOTHING
    shifted = trial.run(x + shift, training=True).after
    wider = [trial.run(mean + by * (x - mean), training=True).after for by in (2, 4)]
    found: dict[str, Role] = {}
    for name, before in trial.before.items():
        values = [one.get(name) for one in (once.after, shifted, *wider)]
        if before.numel() == shift.numel() and before.is_floating_point():
            role = _role(before, values, shift)
            if role is not None:
                found[name] = role
    return found if any(found.values()) and _is_used(trial, x, x + shift, found) else _NOTHING


def _role(before: Tensor, values: list[Tensor | None], shift: Tensor) -> Role | None:
    """What a tensor follows: of the input as it was, shifted, twice and four times as wide; None if it stayed."""
    flat = [value.double().reshape(-1) for value in values if value is not None and value.numel() == shift.numel()]
    if len(flat) != len(values) or not all(bool(value.isfinite().all()) for value in flat):
        return None
    once, shifted, twice, four = flat
    by_shift, by_two, by_four = shifted - once, twice - once, four - twice
    if not any(bool((move.abs() > _NEAR).all()) for move in (by_shift, by_two)):
        return None
    if bool((once == before.double().reshape(-1)).all()):
        return None
    shares = by_shift / shift.double().reshape(-1)
    if bool((shares > 0).all()) and _alike(shares) and _far_below(by_two, by_shift) and _far_below(by_four, by_shift):
        return "mean"
    if not _far_below(by_shift, by_two) or not bool((by_two > 0).all()):
        return ""
    # Of one, two and four times the width the squares lie 3 and 12 apart, the widths themselves 1 and 2.
    power = math.log2(float((by_four / by_two).mean()))
    if not _alike(by_four / by_two):
        return ""
    return "var" if abs(power - 2) < 0.05 else "std" if abs(power - 1) < 0.05 else ""


def _alike(values: Tensor) -> bool:
    return float(values.max() - values.min()) <= 10 * _NEAR * float(values.abs().max())


def _far_below(small: Tensor, large: Tensor) -> bool:
    return float(small.abs().max()) <= 10 * _NEAR * float(large.abs().min())


def _is_used(trial: _Trial, x: Tensor, other: Tensor, found: Collection[str]) -> bool:
    """Whether tensors go on moving under ``train()``, stay under ``eval()``, and the output depends on them there."""
    once, again = (trial.run(*inputs, training=True).after for inputs in ((x,), (x, other)))
    if any(torch.equal(once[name], again[name]) for name in found):
        return False
    still = trial.run(x, training=False)
    if any(not torch.equal(still.after[name], trial.before[name]) for name in found):
        return False
    moved = trial.run(x, training=False, moved=found)
    return bool((still.output - moved.output).abs().max() > _NEAR)
