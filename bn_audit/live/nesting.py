"""Where in a checkpoint the state dict lies: found by structure, a mapping of strings to tensors, at any depth.

Training scripts put it beside an epoch, an optimiser and a copy that is averaged over time, under names of their own
choosing. The largest mapping is taken; of several that are not much smaller (twins, a generator and its discriminator)
the one whose name is that of the model itself. Optimisers' states are mappings of tensors too, and are passed by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from bn_audit.live.errors import TargetError

__all__ = ["Found", "choose", "find"]

_DEEPEST = 8
_USUAL = ("", "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "module")
_TWINS = ("ema", "avg", "average", "averaged", "swa", "teacher", "momentum", "best")


@dataclass(frozen=True, slots=True)
class Found:
    """A state dict in a checkpoint: the keys that lead to it, joined by dots ("" is the whole file)."""

    path: str
    state: Mapping[str, object]
    tensors: int


def find(root: object, is_tensor: Callable[[object], bool]) -> list[Found]:
    """Every mapping of strings to at least one tensor, in the order in which they stand."""
    return list(_walk(root, "", is_tensor, set(), 0))


def choose(path: Path, root: object, key: str | None, is_tensor: Callable[[object], bool]) -> tuple[Found, list[Found]]:
    """The state dict of a checkpoint, and the others it holds.

    Args:
        path: of the file, for messages.
        key: the one to take, by its path; None takes the most likely.

    Raises:
        TargetError: if there is none, or none of that name.
    """
    found = find(root, is_tensor)
    if not found:
        raise TargetError(
            f"{path} holds no state dict: there is no mapping of names to tensors in {_described(root)}; save the "
            "model's with torch.save(model.state_dict(), ...)"
        )
    if key is not None:
        chosen = next((item for item in found if item.path == key), None)
        if chosen is None:
            raise TargetError(_unknown(path, key, [item.path for item in found]))
    else:
        most = max(item.tensors for item in found)
        likely = [item for item in found if 2 * item.tensors >= most]
        chosen = min(likely, key=lambda item: (_rank(item.path), -item.tensors))
    return chosen, [item for item in found if item is not chosen]


def _walk(value: object, path: str, is_tensor: Callable[[object], bool], seen: set[int], depth: int) -> Iterator[Found]:
    # A pickle may hold one object in many places, and an object in itself.
    if id(value) in seen or depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        if "state" in value and "param_groups" in value:
            return
        tensors = sum(is_tensor(item) for item in value.values())
        if tensors and all(isinstance(name, str) for name in value):
            yield Found(path, value, tensors)
        children: Iterator[tuple[object, object]] = iter(value.items())
    elif isinstance(value, (list, tuple)):
        children = iter(enumerate(value))
    else:
        return
    seen.add(id(value))
    for name, item in children:
        yield from _walk(item, f"{path}.{name}" if path else str(name), is_tensor, seen, depth + 1)


def _rank(path: str) -> int:
    """How likely a name is that of the model's own state: the usual ones, then unknown ones, then twins'."""
    parts = path.lower().split(".")
    if any(word in part.split("_") for part in parts for word in _TWINS):
        return len(_USUAL) + 1
    return _USUAL.index(parts[-1]) if parts[-1] in _USUAL else len(_USUAL)


def _unknown(path: Path, key: str, known: list[str]) -> str:
    names = [name for name in known if name]
    if not names:
        return f"{path} has no state dict at {key!r}: the file itself is one; leave --key away"
    close = get_close_matches(key, names, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return f"{path} has no state dict at {key!r}; there are: {', '.join(names)}{meant}"


def _described(root: object) -> str:
    if isinstance(root, Mapping):
        names = [str(name) for name in root]
        if not names:
            return "an empty mapping"
        return f"a mapping with {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
    if root is None:
        return "None"
    name = type(root).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
