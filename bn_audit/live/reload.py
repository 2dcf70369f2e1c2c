"""Whether a model takes back what its state dict gives, tried on a copy of it where something says that it may not.

What makes a state dict and what loads one are two functions, and nothing makes sure that they fit: a hook that renames
the keys on the way out needs one on the way in, what is left out is missing, torch's norm layers look for a counter
that may have been taken from them, and ``load_state_dict`` cannot write where many elements are one (``expand``).
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator
from typing import Any

from bn_audit.federated.owners import Owned
from bn_audit.live.errors import require_torch
from bn_audit.live.tensors import is_dense
from bn_audit.profile import Reload

require_torch()

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensor  # noqa: E402
from torch.nn.modules.batchnorm import _NormBase  # noqa: E402
from torch.nn.parameter import is_lazy  # noqa: E402

from bn_audit.federated.state import merge_state  # noqa: E402

__all__ = ["tried"]

_MOST_BYTES = 1 << 30
"""Of state: of a larger model no copies are made."""


def tried(module: nn.Module, found: Owned) -> Reload | None:
    """Give a copy of a model its own state, as a plain dict of other values.

    Returns:
        None where loading is as torch has it: it was not tried.
    """
    own = _has_own_load(module) or bool(found.foreign)
    if not (own or any(map(_reads_by_itself, found.modules.values())) or _is_odd(found)):
        return None
    tensors = [value for value in found.state.values() if isinstance(value, Tensor)]
    # Without values it is seen what raises, and not what arrives.
    if any(is_lazy(value) or isinstance(value, FakeTensor) or (own and value.is_meta) for value in tensors):
        return Reload(known=False)
    if sum(value.nbytes for value in tensors if is_dense(value)) > _MOST_BYTES:
        return Reload(known=False)
    try:
        strict, deaf = _loaded(module, strict=True)
        lenient, deaf = (None, deaf) if strict is None else _loaded(module, strict=False)
        noted = strict is not None and _loaded(module, strict=True, noted=True)[0] is None
        forgiving = _has_own_load(module) and _forgives(module)
    except Exception:  # not every model can be copied, and what it runs is the user's
        return Reload(known=False)
    return Reload(strict=strict, lenient=lenient, noted=noted, forgiving=forgiving, deaf=deaf)


def _has_own_load(module: nn.Module) -> bool:
    return type(module).load_state_dict is not nn.Module.load_state_dict


def _forgives(module: nn.Module) -> bool:
    with _quiet():
        try:
            copy.deepcopy(module).load_state_dict({}, strict=True)
        except Exception:
            return False
    return True


def _reads_by_itself(module: nn.Module) -> bool:
    """Whether a module reads its part of a dict in a way of its own, which may ask for more than is in a plain one."""
    reads = type(module)._load_from_state_dict
    if reads is not nn.Module._load_from_state_dict and not reads.__module__.startswith("torch.nn."):
        return True
    hooks = (*module._load_state_dict_pre_hooks.values(), *module._load_state_dict_post_hooks.values())
    return any(not _module_of(hook).startswith("torch.nn.") for hook in hooks)


def _module_of(hook: object) -> str:
    hook = getattr(hook, "hook", hook)  # torch wraps those that are given the module
    return str(getattr(hook, "__module__", None) or type(hook).__module__)


def _is_odd(found: Owned) -> bool:
    for path, module in found.modules.items():
        start = f"{path}." if path else ""
        left_out = module._non_persistent_buffers_set
        kept = {name for name, value in (*module._parameters.items(), *module._buffers.items()) if value is not None}
        if any(start + name not in found.state for name in kept if name not in left_out):
            return True
        # It adds a counter to a plain dict that has none.
        counted = not isinstance(module, _NormBase) or not module.track_running_stats
        if not counted and "num_batches_tracked" not in kept - left_out:
            return True
    return any(_cannot_be_written(value) for value in found.state.values())


def _cannot_be_written(value: object) -> bool:
    if not is_dense(value) or is_lazy(value):
        return False
    if value.is_inference():
        return True
    return not value.is_contiguous() and any(
        size > 1 and not step for size, step in zip(value.shape, value.stride(), strict=True)
    )


def _loaded(module: nn.Module, strict: bool, noted: bool = False) -> tuple[tuple[str, str] | None, frozenset[str]]:
    """The error of a copy that is given its state with other values, and the keys of those that it does not take.

    Args:
        noted: with what torch notes in a state dict.
    """
    with _quiet():
        one = _twin(module)
        state = one.state_dict()
        before = {key: _copied(value) for key, value in state.items()}
        given: dict[str, Any] = {key: _moved(value) for key, value in before.items()}
        try:
            one.load_state_dict(merge_state(state, given) if noted else dict(given), strict=strict)
        except Exception as error:
            return (type(error).__name__, str(error)), frozenset()
        after = one.state_dict()
        return None, frozenset(
            key
            for key, value in given.items()
            if not _same(value, before[key]) and key in after and _same(after[key], before[key])
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings, gradients, or a step of the random numbers that the user's program draws."""
    with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        yield


def _twin(module: nn.Module) -> nn.Module:
    """A copy in which what cannot be written to cannot either, though ``deepcopy`` makes a parameter whole."""
    tensors = [*module.parameters(), *module.buffers()]
    with torch.inference_mode(any(tensor.is_inference() for tensor in tensors)):
        twin = copy.deepcopy(module)
    for tensor, own in zip([*twin.parameters(), *twin.buffers()], tensors, strict=True):
        if is_dense(own) and tensor.stride() != own.stride():
            reach = 1 + sum((size - 1) * step for size, step in zip(own.shape, own.stride(), strict=True))
            tensor.data = own.new_zeros(reach).as_strided(own.shape, own.stride())
    return twin


def _copied(value: object) -> object:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _moved(value: object) -> object:
    """Other values of the same kind; what has no arithmetic stays as it is."""
    if not is_dense(value):
        return value
    try:
        return ~value if value.dtype is torch.bool else value + 1
    except (RuntimeError, TypeError):  # quantised, or narrower than there are numbers for
        return value


def _same(one: object, other: object) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.is_meta:
        return True
    return one.shape == other.shape and torch.equal(one, other)
