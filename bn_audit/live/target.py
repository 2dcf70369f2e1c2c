"""TARGETs: what ``inspect`` and ``verify`` are given, and what they find there.

``package.module:attribute`` and ``file.py:attribute`` name a module, a class or function that makes one, an instance of
SecretFlow's TorchModel, an exported program or a state dict; naming one imports the user's code, which may do anything.
Any other path is a checkpoint, of which nothing is executed.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from bn_audit.live.checkpoint import SUFFIXES, Checkpoint, is_index, open_checkpoint
from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.user_code import import_file, import_name, running, staying
from bn_audit.profile import Profile

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["CheckpointTarget", "CodeTarget", "Loaded", "load_attribute", "load_target", "parse_target"]

# A TorchModel of a factory that gives a class: three steps. More is a function that returns itself.
_MOST_STEPS = 5
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True)
class CodeTarget:
    """An attribute of a module: ``source`` is a file, or a module's dotted name; ``attribute`` may be dotted."""

    source: Path | str
    attribute: str


@dataclass(frozen=True, slots=True)
class CheckpointTarget:
    """A checkpoint, or the index of one in shards."""

    path: Path


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a TARGET turned out to be.

    Attributes:
        target: as it was given.
        profile: exact for a module, by key structure for a state dict or checkpoint.
        module: the model; None for a state dict or checkpoint.
        checkpoint: the checkpoint; None for what came from code.
        notes: what a reader should know besides, in words.
        tensors: the state dict, tensors only; those of a checkpoint are mapped, and read when they are asked for.
        build: makes the module once more, where the TARGET names what makes one; it raises as loading does.
    """

    target: str
    profile: Profile
    tensors: Mapping[str, torch.Tensor]
    module: nn.Module | None = None
    checkpoint: Checkpoint | None = None
    notes: tuple[str, ...] = ()
    build: Callable[[], nn.Module] | None = None


def parse_target(text: str) -> CodeTarget | CheckpointTarget:
    """What kind of TARGET a text is. Files are looked for, none is opened.

    Raises:
        TargetError: if it is of no kind, with what is missing.
    """
    path = Path(text)
    source, colon, attribute = text.rpartition(":")
    if not text.strip():
        raise TargetError("the TARGET is empty")
    if path.is_file():
        if path.suffix == ".py":
            raise TargetError(f"{text} is source: name what makes the model in it, {text}:ATTRIBUTE")
        return CheckpointTarget(path)
    if path.is_dir():
        raise TargetError(f"{text} is a directory: name a checkpoint in it, or its *.index.json")
    if colon and source.endswith(".py"):
        if not Path(source).is_file():
            raise TargetError(f"there is no file {source}")
        return CodeTarget(Path(source), _dotted(text, attribute))
    if colon and _DOTTED.fullmatch(source):
        return CodeTarget(source, _dotted(text, attribute))
    if path.suffix in (*SUFFIXES, ".py") or is_index(path):
        raise TargetError(f"there is no file {text}")
    if not colon and _DOTTED.fullmatch(text):
        raise TargetError(f"{text} names a module: name what makes the model in it, {text}:ATTRIBUTE")
    raise TargetError(
        f"{text} is no TARGET: write package.module:attribute, file.py:attribute, or the path of a checkpoint"
    )


def load_target(
    text: str, args: Mapping[str, object] | None = None, key: str | None = None, meta: bool = False
) -> Loaded:
    """Load what a TARGET names. For one that names code this runs the user's code.

    Args:
        text: the TARGET.
        args: keyword arguments for the class or function it names.
        key: where in a checkpoint (or a mapping that code gives) the state dict lies.
        meta: build the model on the meta device, where it has shapes and no memory.

    Raises:
        TargetError: if there is nothing to load, with the user's traceback where it was the user's code that raised.
        MissingExtra: if torch is needed and not installed.
    """
    target = parse_target(text)
    if isinstance(target, CheckpointTarget):
        if args:
            raise TargetError(f"{text} is a checkpoint, which takes no arguments ({', '.join(args)})")
        checkpoint = open_checkpoint(target.path, key)
        return Loaded(text, checkpoint.profile, checkpoint.tensors, checkpoint=checkpoint, notes=checkpoint.notes)
    require_torch()
    with staying():
        value = _attribute(target)
        return _settle(text, value, dict(args or {}), key, meta)


def load_attribute(text: str) -> object:
    """What ``package.module:attribute`` or ``file.py:attribute`` names, as it is; nothing is called.

    Raises:
        TargetError: if there is no such thing, or importing it raises.
    """
    target = parse_target(text)
    if isinstance(target, CheckpointTarget):
        raise TargetError(f"{text} is a file; write package.module:attribute or file.py:attribute")
    return _attribute(target)


def _dotted(text: str, attribute: str) -> str:
    if not _DOTTED.fullmatch(attribute):
        raise TargetError(f"{text}: {attribute!r} is no name of an attribute")
    return attribute


def _attribute(target: CodeTarget) -> object:
    module = import_file(target.source) if isinstance(target.source, Path) else import_name(target.source)
    value: object = module
    reached = str(target.source)
    for depth, name in enumerate(target.attribute.split(".")):
        with running(f"reading {name} of {reached}"):
            try:
                value = getattr(value, name)
            except AttributeError as error:
                # Of a property that raises one, the traceback says more than we could.
                if inspect.getattr_static(value, name, None) is not None:
                    raise
                raise TargetError(f"{reached} has no attribute {name!r}{_nearest(name, value)}") from error
        reached += f".{name}" if depth else f":{name}"
    return value


def _nearest(name: str, value: object) -> str:
    close = get_close_matches(name, [known for known in dir(value) if not known.startswith("__")], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _settle(text: str, value: object, args: dict[str, object], key: str | None, meta: bool) -> Loaded:
    """Call what has to be called until there is a model or a state dict."""
    from torch import nn

    notes: list[str] = []
    called = False
    named, given = value, dict(args)
    for _ in range(_MOST_STEPS):
        if isinstance(value, nn.Module):
            break
        if _exported(value):
            with running(f"unlifting the exported program {text}"):
                value = value.module()
            break
        if isinstance(value, Mapping):
            break
        with running(f"looking at {text}"):
            maker, kwargs = _maker(text if not called else f"what {text} gives", value, args)
        args = {}
        value = _call(text, maker, kwargs, meta)
        called = True
    if args:
        raise TargetError(f"{text} is {_a(value)} and takes no arguments ({', '.join(args)})")
    if meta and not called:
        notes.append("--meta has no effect on what was built when its module was imported")
    if isinstance(value, nn.Module):
        from bn_audit.federated.owners import state_of
        from bn_audit.live.profile import profile
        from bn_audit.live.tensors import is_dense

        if key is not None:
            raise TargetError(f"{text} gives a model, which has no state dict at {key!r}; --key is for checkpoints")
        with running(f"taking the state dict of {text}"):
            whole = profile(value)
            state = state_of(value)
        tensors = {name: tensor for name, tensor in state.items() if is_dense(tensor)}
        notes += [f"{gap.reason}, and is passed by" for gap in whole.gaps]

        there = os.getcwd()

        def build() -> nn.Module:
            with staying():
                os.chdir(there)
                again = _settle(text, named, dict(given), key, meta).module
            assert again is not None
            return again

        return Loaded(text, whole, tensors, module=value, notes=tuple(notes), build=build if called else None)
    if isinstance(value, Mapping):
        return _loaded_state(text, value, key, notes)
    raise TargetError(f"{text} gives {_a(value)} however often it is called, no torch.nn.Module")


def _exported(value: object) -> TypeGuard[torch.export.ExportedProgram]:
    # Older releases import it with the first export; where it is not imported nothing is an exported program.
    export = sys.modules.get("torch.export")
    return export is not None and isinstance(value, export.ExportedProgram)


def _loaded_state(text: str, value: Mapping[Any, object], key: str | None, notes: list[str]) -> Loaded:
    import torch

    from bn_audit.live.nesting import choose
    from bn_audit.live.profile import profile_of_state
    from bn_audit.live.tensors import is_dense

    chosen, _ = choose(Path(text), value, key, lambda item: isinstance(item, torch.Tensor))
    if chosen.path:
        notes.append(f"the state dict at {chosen.path!r} was taken")
    whole = profile_of_state(chosen.state)
    notes += [f"{gap.reason}, and is passed by" for gap in whole.gaps]
    tensors = {name: tensor for name, tensor in chosen.state.items() if is_dense(tensor)}
    return Loaded(text, whole, tensors, notes=tuple(notes))


def _maker(text: str, value: object, args: dict[str, object]) -> tuple[Callable[..., object], dict[str, object]]:
    """What makes the model, and its keyword arguments."""
    # SecretFlow's TorchModel, told by what it has: it holds a function and the arguments it will be called with.
    model_fn, kwargs = getattr(value, "model_fn", None), getattr(value, "kwargs", None)
    if not isinstance(value, type) and callable(model_fn) and isinstance(kwargs, Mapping):
        return model_fn, {**kwargs, **args}
    if callable(getattr(value, "get_weights", None)) and not isinstance(value, type):
        raise TargetError(f"{text} is a Keras model ({type(value).__name__}); only torch models can be loaded")
    if not callable(value):
        raise TargetError(f"{text} is {_a(value)}, no torch.nn.Module and nothing that makes one")
    return value, args


def _call(text: str, maker: Callable[..., object], kwargs: dict[str, object], meta: bool) -> object:
    import torch

    try:
        inspect.signature(maker).bind(**kwargs)
    except TypeError as error:
        given = f"it was given {', '.join(kwargs)}" if kwargs else "pass it with --arg NAME=VALUE"
        raise TargetError(f"{text} cannot be called: {error}; {given}") from error
    except ValueError:
        pass  # some of C's callables have no signature
    with running(f"calling {text}"), torch.device("meta") if meta else nullcontext():
        return maker(**kwargs)


def _a(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
