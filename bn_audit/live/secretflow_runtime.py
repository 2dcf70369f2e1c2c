"""SecretFlow's FLModel in one process: the wheel's unmodified classes above a device layer of ours.

From the wheel run, unmodified: FLModel and its callbacks, the strategies, BaseModule, TorchModel, and the Plain,
Secure, SparsePlain and StatefulFedGen aggregators. Ours are only the parts that need Ray, SPU or JAX: PYU, ``proxy``,
``reveal``, the data containers, and two helper functions. The wheel is unpacked and read; nothing is installed.

Errors surface here where they are raised, as they do in SecretFlow's debug mode. Under Ray a load runs in the party's
actor and its error is never awaited: ``fit`` then returns normally.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import pickle
import sys
import types
import typing
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["PYU", "Call", "FedNdarray", "InProcess", "Runtime", "loaded", "observing"]


@dataclass(frozen=True, slots=True)
class Call:
    """A method call that reaches a party's worker: seen once before it runs and once after it returned."""

    worker: Any
    method: str
    arguments: tuple[Any, ...]
    done: bool
    result: Any = None


_observers: list[Callable[[Call], None]] = []


@contextmanager
def observing(observer: Callable[[Call], None]) -> Iterator[None]:
    """Report every call that reaches a worker."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


class Device:
    """Where data lies."""


class PYU(Device):
    """A party. Calling it with a function gives the function that runs at the party."""

    def __init__(self, party: str) -> None:
        self.party = party

    def __hash__(self) -> int:
        return hash(self.party)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PYU) and other.party == self.party

    def __repr__(self) -> str:
        return self.party

    def __call__(self, function: Callable[..., Any], *, num_returns: int | None = None, **_: Any) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            return _placed(self, function(*reveal(args), **reveal(kwargs)), num_returns or _returns(function))

        return run


class DeviceObject:
    """Data at a device; what travels is copied."""

    def __init__(self, device: Device, data: Any) -> None:
        self.device = device
        self.data = data

    def to(self, device: Device) -> DeviceObject:
        return type(self)(device, copy.deepcopy(self.data))


class PYUObject(DeviceObject):
    """Data at a party."""


class SPU(Device):
    """Only a name to import: SPU itself does not run here."""


class SPUObject(DeviceObject):
    """Only a name to import."""


def reveal(value: Any) -> Any:
    """The data behind device objects, in any nesting; for a function one that reveals what it returns."""
    if isinstance(value, DeviceObject):
        return value.data
    if isinstance(value, (list, tuple)):
        return type(value)(reveal(item) for item in value)
    if isinstance(value, dict):
        return {key: reveal(item) for key, item in value.items()}
    if inspect.isfunction(value):
        return lambda *args, **kwargs: reveal(value(*reveal(args), **reveal(kwargs)))
    return value


def _returns(function: Callable[..., Any]) -> int:
    """How many values a function returns, by its annotation, as SecretFlow counts them."""
    try:
        annotation = inspect.signature(function).return_annotation
    except (TypeError, ValueError):
        return 1
    return len(typing.get_args(annotation)) if typing.get_origin(annotation) is tuple else 1


def _placed(device: Device, result: Any, count: int) -> Any:
    if count > 1:
        return [PYUObject(device, item) for item in result]
    return PYUObject(device, result)


def proxy(device_object_type: type | None = None, **_: Any) -> Callable[[type], type]:
    """A class whose instances live at a device and whose methods take and return device objects."""

    def decorate(wrapped: type) -> type:
        def __init__(self: PYUObject, *args: Any, device: Device, **kwargs: Any) -> None:
            PYUObject.__init__(self, device, wrapped(*_plain(args), **_plain(kwargs)))

        members: dict[str, Any] = {"__init__": __init__}
        for name, function in inspect.getmembers(wrapped, inspect.isfunction):
            if name != "__init__":
                members[name] = _remote(name, function)
        return type(f"ActorProxy({wrapped.__name__})", (PYUObject,), members)

    return decorate


def _plain(value: Any) -> Any:
    """As ``reveal``, but functions (model builders) stay what they are."""
    if isinstance(value, DeviceObject):
        return value.data
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _remote(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: PYUObject, *args: Any, **kwargs: Any) -> Any:
        # What reaches an actor has been through pickle.
        arguments = pickle.loads(pickle.dumps(_plain(args)))
        for observer in _observers:
            observer(Call(self.data, name, arguments, done=False))
        result = function(self.data, *arguments, **_plain(kwargs))
        for observer in _observers:
            observer(Call(self.data, name, arguments, done=True, result=result))
        return _placed(self.device, result, _returns(function))

    return call


class HDataFrame:
    """Only a name to import."""


class FedNdarray:
    """Arrays, one at each party."""

    def __init__(self, partitions: dict[PYU, PYUObject]) -> None:
        self.partitions = partitions

    def partition_shape(self) -> dict[PYU, tuple[int, ...]]:
        return {device: item.data.shape for device, item in self.partitions.items()}


# Below secretflow_fl since 1.11, below secretflow before.
_NAMES = {
    "ml.nn.fl.fl_model": ("FLModel",),
    "security.aggregation.sparse_plain_aggregator": ("SparsePlainAggregator",),
}
_TORCH_NAMES = {
    "ml.nn.core.torch": ("BaseModule", "TorchModel"),
    "ml.nn.fl.backend.torch.strategy.fed_gen": ("FedGenActor", "FedGenGeneratorModel"),
    "security.aggregation.stateful_fedgen_aggregator": ("StatefulFedGenAggregator",),
}


_ROOTS = ("secretflow", "secretflow_fl")


class InProcess(types.SimpleNamespace):
    """The part of a platform that is the same wherever the parties are objects in this process, one after the other."""

    @property
    def number(self) -> Callable[[], int] | None:
        return None

    def ready(self, federated: Any) -> None:
        pass

    def raised(self, error: Exception) -> Exception:
        return error

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        return ()


class Runtime(InProcess):
    """The wheel's own classes by their names: FLModel, the aggregators, for torch TorchModel and what fed_gen needs.

    What a release does not have yet is missing.
    """

    FLModel: Any
    TorchModel: Any

    def device(self, name: str) -> PYU:
        return PYU(name)

    def federated(self, arrays: Mapping[PYU, Any]) -> FedNdarray:
        return FedNdarray({device: PYUObject(device, array) for device, array in arrays.items()})

    def worker(self, proxy: PYUObject) -> Any:
        return proxy.data

    def observing(self, federated: Any, observer: Callable[[Call], None]) -> AbstractContextManager[None]:
        return observing(observer)


@contextmanager
def loaded(wheel: Path, folder: Path, backend: str = "torch") -> Iterator[Runtime]:
    """Unpack the wheel's Python files into a folder, put the stand-ins in place, and import what is tested.

    The stand-ins go by names of SecretFlow's and, where it is missing, of JAX; they are taken away again.
    """
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.endswith(".py")])
    # Where SecretFlow is installed, what was imported of it comes back afterwards.
    real = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in _ROOTS}
    before = set(sys.modules)
    try:
        root = "secretflow_fl" if (folder / "secretflow_fl").is_dir() else "secretflow"
        _stand_in(folder, root)
        aggregation = sys.modules["secretflow.security.aggregation"]
        found = {name: vars(aggregation)[name] for name in ("PlainAggregator", "SecureAggregator")}
        for dotted, names in (_NAMES | (_TORCH_NAMES if backend == "torch" else {})).items():
            if folder.joinpath(root, *dotted.split(".")).with_suffix(".py").exists() or dotted == "ml.nn.core.torch":
                module = importlib.import_module(f"{root}.{dotted}")
                found |= {name: vars(module)[name] for name in names}
        yield Runtime(**found)
    finally:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in (*_ROOTS, "jax"):
                del sys.modules[name]
        sys.modules.update(real)


def _stand_in(folder: Path, root: str) -> None:
    if "jax" not in sys.modules and importlib.util.find_spec("jax") is None:
        # The compressors name jax.numpy.ndarray in an isinstance.
        numpy = {name: getattr(np, name) for name in ("ndarray", "array", "asarray")}
        _module("jax", None, numpy=_module("jax.numpy", **numpy))
    device = {item.__name__: item for item in (Device, DeviceObject, PYU, PYUObject, SPU, SPUObject, proxy, reveal)} | {
        "wait": lambda value: None
    }
    core = folder / "secretflow"
    _module("secretflow", core, **device)
    _module("secretflow.device", None, **device)
    _module("secretflow.device.device", None, **device)
    _module("secretflow.device.device.pyu", **device)
    _module("secretflow.data", None)
    _module("secretflow.data.horizontal", HDataFrame=HDataFrame)
    _module("secretflow.data.ndarray", FedNdarray=FedNdarray)
    _module("secretflow.utils", core / "utils")
    _module("secretflow.utils.random", global_random=lambda device, bound: 1234)
    _module("secretflow.utils.io", rows_count=lambda filename: 0)
    security = _module("secretflow.security", core / "security")
    aggregation = _module("secretflow.security.aggregation", core / "security" / "aggregation")
    for name in ("Aggregator", "PlainAggregator", "SecureAggregator"):
        file = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).strip("_")
        module = importlib.import_module(f"secretflow.security.aggregation.{file}")
        setattr(aggregation, name, getattr(module, name))
    security.__dict__["SecureAggregator"] = aggregation.__dict__["SecureAggregator"]
    # Packages whose __init__ would import TensorFlow, SPU or everything.
    for dotted in (
        "",
        "ml",
        "ml.nn",
        "ml.nn.callbacks",
        "ml.nn.fl",
        "ml.nn.fl.backend",
        "ml.nn.fl.backend.torch",
        "ml.nn.fl.backend.tensorflow",
        "security",
        "security.aggregation",
        "utils",
    ):
        parts = [root, *dotted.split(".")] if dotted else [root]
        if ".".join(parts) not in sys.modules:
            _module(".".join(parts), folder.joinpath(*parts))


def _module(name: str, path: Path | bool | None = False, **members: Any) -> types.ModuleType:
    """Put a module of ours under a name of the wheel's.

    A package over the wheel's folder if a path is given, an empty package for None, no package at all for False.
    """
    module = types.ModuleType(name)
    if path is not False:
        module.__path__ = [] if path is None else [str(path)]
    module.__dict__.update(members)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)
    return module
