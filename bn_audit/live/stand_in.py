"""What the parties train when SecretFlow's own classes run: a model's state, with another forward.

What a model computes is of no interest there, and what it takes as input is not known. So each party trains a copy
whose forward is a stand-in: logits in which every trained parameter has a share, so that each gets a gradient of its
own, and a step of the buffers as a batch would make it. State dict, classes of submodules and shapes are the model's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.execute import party_states
from bn_audit.profile import Profile

require_torch()

import torch  # noqa: E402
from torch import nn  # noqa: E402

__all__ = ["builder"]


def builder(
    model: nn.Module, profile: Profile, parties: int, classes: int, number: Callable[[], int] | None = None
) -> Callable[[], nn.Module]:
    """A function that gives, at each call, the next party's copy of the model.

    Args:
        classes: how many logits it gives; at least 2.
        number: tells which party's copy is wanted; by default the next one's.

    Raises:
        TargetError: for a scripted module. The function raises it for a model that cannot be copied.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise TargetError("a scripted module keeps its forward; SecretFlow's classes are not run on it")
    states = party_states(profile, parties)
    following = number or _Counter()
    pulls = _Pulls()

    def build() -> nn.Module:
        try:
            module = copy.deepcopy(model)
            kind = type(module)
            extra = {name: member for name, member in _MEMBERS.items() if not hasattr(module, name)}
            module.__class__ = type(
                kind.__name__, (kind,), {**extra, "forward": _forward, "__module__": kind.__module__}
            )
        except (RuntimeError, TypeError, AttributeError) as error:
            raise TargetError(f"the model cannot be copied for every party: {error}") from error
        # Attributes that no submodule, parameter or buffer hides. fed_gen draws labels from the first; it is not the
        # model's own number, if that has one.
        module.__dict__.update(num_classes=classes, _bn_audit_pulls=pulls)
        with torch.no_grad():
            state = states[following()]
            for key, tensor in module.state_dict().items():
                if key in state:
                    tensor.copy_(state[key])
        return module

    return build


class _Counter:
    """0, 1, 2, and so on."""

    def __init__(self) -> None:
        self._next = -1

    def __call__(self) -> int:
        self._next += 1
        return self._next


# What moon and fed_gen ask of a model.
_MEMBERS: Mapping[str, Any] = {
    "temperature": 0.5,
    "mu": 0.1,
    "cosine_similarity_fn": staticmethod(partial(nn.functional.cosine_similarity, dim=-1)),
    "kl_div_loss": staticmethod(partial(nn.functional.kl_div, reduction="batchmean")),
}


class _Pulls:
    """How much of the gradient each element of each parameter gets: from [0.5, 1.5), the same in all parties.

    Without it an update of one entry would be as good as that of another, and no exchange of them could be told from a
    wrong one.
    """

    def __init__(self) -> None:
        self._drawn: dict[int, torch.Tensor] = {}

    def of(self, number: int, parameter: torch.Tensor) -> torch.Tensor:
        """Those of a parameter, by its place among all."""
        if number not in self._drawn:
            generator = torch.Generator().manual_seed(number)
            self._drawn[number] = torch.rand(parameter.shape, generator=generator) + 0.5
        return self._drawn[number]

    def __deepcopy__(self, memo: Any) -> _Pulls:
        return self


def _forward(self: nn.Module, x: torch.Tensor, return_all: bool = False, start_layer_idx: int = 0) -> Any:
    """Logits that every trained parameter has a share in. In training, buffers take a step."""
    if self.training:
        for module in self.modules():
            _track(module, float(x.mean()))
    share = torch.zeros(())
    pulls: _Pulls = self.__dict__["_bn_audit_pulls"]
    for number, parameter in enumerate(self.parameters()):
        if parameter.requires_grad:
            # Of value zero, so that the gradient's size does not depend on how many elements there are.
            size = parameter.abs().float()
            share = share + ((size - size.detach()) * pulls.of(number, parameter)).sum()
    classes: int = self.__dict__["num_classes"]
    given = x.float().flatten(1)[:, :classes]
    logits = nn.functional.pad(given, (0, classes - given.shape[1]))
    second = torch.zeros(classes)
    second[1] = 1
    logits = logits + share * second
    return (logits, logits, logits) if return_all else logits


@torch.no_grad()
def _track(module: nn.Module, value: float) -> None:
    """What a batch does to buffers: those in floating point move, as running averages do, and counters count it. Not to
    those of a frozen layer, whose weight is one of them."""
    if module._buffers.get("weight") is not None:
        return  # frozen
    for buffer in module._buffers.values():
        if buffer is not None and buffer.is_floating_point():
            buffer.mul_(0.9).add_(0.1 * abs(value))
    counter = module._buffers.get("num_batches_tracked")
    if counter is not None and any(module._buffers.get(name) is not None for name in ("running_mean", "running_var")):
        counter.add_(1)
