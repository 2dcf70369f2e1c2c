"""What the norm layers get of the parties' data, for a calibration.

The user's model runs, in eval mode and without gradients: one example then has nothing to do with another, so that what
any batch would give is known from one pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bn_audit.live.divergence.calibration import Moments
from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.user_code import running

require_torch()

import torch  # noqa: E402
from torch import nn  # noqa: E402

__all__ = ["LARGEST", "moments_of"]

LARGEST = 1 << 28
"""Bytes that the moments of one party may take; of more data the first examples are used."""


def moments_of(
    model: nn.Module,
    state: Mapping[str, torch.Tensor],
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    paths: Sequence[str],
    who: str,
    others: Sequence[str] = (),
    channels: Mapping[str, int] | None = None,
) -> dict[str, Moments]:
    """The moments of the inputs of norm layers, by path.

    Args:
        model: is copied.
        state: the party's, loaded into the copy.
        batches: of inputs and targets; the targets are not used.
        paths: of the layers; those that get no tensor with channels second are left out, as are those that run several
            times for one input.
        who: the party's name, for errors.
        others: layers none of which may run before the first of ``paths``.
        channels: of the layers, where their ``running_mean`` does not tell.

    Raises:
        TargetError: the state does not fit the model, the model raises, there are fewer than 4 examples, or one of
            the others runs first.
    """
    with running("copying the model"):
        model = copy.deepcopy(model)
    with running(f"loading the state of {who} into the model"):
        model.load_state_dict(dict(state))
    model.eval()
    modules = dict(model.named_modules(remove_duplicate=False))
    missing = [path for path in paths if path not in modules]
    if missing:
        raise TargetError(f"the model has no module {missing[0]}, and the checkpoint of {who} has")
    recorder = _Recorder(channels or {})
    handles = [modules[path].register_forward_pre_hook(recorder.hook(path)) for path in paths]
    handles += [
        modules[path].register_forward_pre_hook(recorder.note(path))
        for path in others
        if path in modules and path not in paths
    ]
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    try:
        with torch.no_grad():
            for inputs, _ in batches:
                if parameter is not None:
                    inputs = inputs.to(parameter.device, parameter.dtype if inputs.is_floating_point() else None)
                recorder.begin(len(inputs))
                with running(f"running the model on the data of {who}"):
                    model(inputs)
                if recorder.first not in (None, paths[0]):
                    raise TargetError(
                        f"{recorder.first} runs before {paths[0]}, and what reaches {paths[0]} has passed it: chance "
                        f"can be told at {recorder.first} (--layer {recorder.first})"
                    )
                if recorder.bytes > LARGEST:
                    break
    finally:
        for handle in handles:
            handle.remove()
    if recorder.examples < 4:
        raise TargetError(f"{who} has {recorder.examples} examples, and a half of them is no sample; give at least 4")
    return recorder.moments()


class _Recorder:
    """Collects what goes into norm layers."""

    def __init__(self, channels: Mapping[str, int]) -> None:
        self._channels = channels
        self.examples = 0
        self.bytes = 0
        self.first: str | None = None
        self._batch = 0
        self._found: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
        self._values: dict[str, set[int]] = {}
        self._odd: set[str] = set()
        self._seen: set[str] = set()

    def begin(self, batch: int) -> None:
        """A batch of so many examples follows."""
        self.examples += batch
        self._batch = batch
        self._seen.clear()

    def hook(self, path: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        """What looks at the inputs of a layer."""

        def look(module: nn.Module, arguments: tuple[object, ...]) -> None:
            self.first = self.first or path
            tensor = arguments[0] if arguments else None
            if (
                not isinstance(tensor, torch.Tensor)
                or not tensor.is_floating_point()
                or tensor.dim() < 2
                or len(tensor) != self._batch
                or path in self._seen
                or tensor.shape[1] != self._width(path, module)
            ):
                self._odd.add(path)
                return
            self._seen.add(path)
            flat = tensor.detach().double().flatten(2) if tensor.dim() > 2 else tensor.detach().double()[..., None]
            mean, square = flat.mean(-1).cpu().numpy(), flat.square().mean(-1).cpu().numpy()
            self._found.setdefault(path, []).append((mean, square))
            self._values.setdefault(path, set()).add(flat.shape[-1])
            self.bytes += mean.nbytes + square.nbytes

        return look

    def _width(self, path: str, module: nn.Module) -> int:
        mean = getattr(module, "running_mean", None)
        return self._channels.get(path, mean.numel() if isinstance(mean, torch.Tensor) else -1)

    def note(self, path: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        """What remembers whether a layer is the first that runs."""

        def look(module: nn.Module, arguments: tuple[object, ...]) -> None:
            self.first = self.first or path

        return look

    def moments(self) -> dict[str, Moments]:
        """What was seen, of layers that got one tensor a batch, all of one size."""
        return {
            path: Moments(
                np.concatenate([mean for mean, _ in found]),
                np.concatenate([square for _, square in found]),
                next(iter(self._values[path])),
            )
            for path, found in self._found.items()
            if path not in self._odd and len(self._values[path]) == 1
        }
