"""The Ray engine: the SecretFlow that is installed, in its simulation: every party a process of Ray's on this machine.

FLModel, strategies, aggregators and device layer are SecretFlow's, unmodified. What is called is seen where the driver
calls it, one call after the other: the state around a load is asked of the party's process, and what comes of a call is
waited for. FLModel itself does not wait for a load, so an error of one would pass it by; here it ends the run, as in
SecretFlow's debug mode, so that the verdict is the same.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import os
import re
import shutil
import socket
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.federated.secretflow import LocalBatchNorm, party_here
from bn_audit.live.errors import MissingExtra, TargetError
from bn_audit.live.installed import Installed, classes_of_installed, version_of_installed
from bn_audit.live.secretflow_engine import party_names, quiet, run_classes
from bn_audit.live.secretflow_runtime import Call
from bn_audit.live.verify import Run
from bn_audit.profile import Profile

__all__ = ["run_ray"]

_STARTED_WITHIN = 300.0
"""Seconds that the parties' processes have to import SecretFlow and to make their models."""
_CPUS = 4
"""CPUs that Ray shall take there to be for each party: it keeps one for every actor that waits (a worker, a masker, the
server), and leaves tasks lying for ever where none is left. They need not exist."""
_LOGS = ("raylet.out", "raylet.err", "gcs_server.out", "gcs_server.err", "worker-*.err", "worker-*.out")
_WATCHED = frozenset({"train_step", "get_weights", "set_weights", "apply_weights"})


def run_ray(model: nn.Module, profile: Profile, settings: SecretFlowSettings, parties: int, rounds: int) -> Run:
    """Run the installed classes in a simulation; see :func:`~bn_audit.live.secretflow_engine.run_classes`.

    Raises:
        MissingExtra: if SecretFlow or Ray is not installed.
        TargetError: if it cannot be started, or is in use; what Ray wrote down is kept in a file then, which the
            message names.
    """
    with simulating(_as_made(model, settings), parties) as platform:
        return run_classes(platform, model, profile, settings, parties, rounds)


def _as_made(model: nn.Module, settings: SecretFlowSettings) -> nn.Module:
    """A model as the parties' processes make it: it says then what it sends."""
    if settings.wrapped is None:
        return model
    try:
        return LocalBatchNorm(lambda: copy.deepcopy(model), integers=settings.wrapped.integers or "refuse")()
    except ValueError:
        return model  # it is refused there as well


class _Stuck(Exception):
    """The parties' processes are not there in time."""


def _ray() -> Any:
    return importlib.import_module("ray")


@contextmanager
def simulating(model: nn.Module, parties: int) -> Iterator[Simulated]:
    """SecretFlow in its simulation mode, whose processes know the classes of a model.

    Raises:
        MissingExtra, TargetError: as :func:`run_ray`.
    """
    version_of_installed()
    if importlib.util.find_spec("ray") is None:
        raise MissingExtra(
            "Ray is not installed here, in which SecretFlow simulates parties; "
            "--engine secretflow runs the same classes without it"
        )
    with quiet():
        secretflow, distributed, classes = classes_of_installed()
    if distributed.get_current_cluster_idx() >= 0:
        raise TargetError("SecretFlow is in use in this process: call secretflow.shutdown() before")
    if _ray().is_initialized():
        raise TargetError("Ray is in use in this process: call ray.shutdown() before")
    mode = distributed.get_distribution_mode()
    # Ray puts sockets below this folder, whose paths may not be long.
    folder = Path(tempfile.mkdtemp(prefix="bn-audit-ray-", dir="/tmp" if os.path.isdir("/tmp") else None))
    names = party_names(parties)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(_by_value(model))
        try:
            with quiet():
                secretflow.init(
                    names,
                    address="local",
                    num_cpus=16 + _CPUS * parties,
                    log_to_driver=False,
                    logging_level="error",
                    _temp_dir=str(folder),
                )
            yield Simulated(secretflow, classes, model, names)
        except _Stuck as error:
            raise TargetError(f"{error}; what Ray wrote down is in {_kept(folder)}") from error
        except TargetError:
            raise
        except Exception as error:
            # Whatever keeps Ray from starting, or from going on.
            text = f"SecretFlow's simulation failed: {type(error).__name__}: {error}"
            raise TargetError(f"{text}; what Ray wrote down is in {_kept(folder)}") from error
        finally:
            with quiet():
                secretflow.shutdown()
                distributed.set_distribution_mode(mode)


def _kept(folder: Path) -> Path:
    """One file with what Ray's processes wrote down."""
    handle, name = tempfile.mkstemp(prefix="bn-audit-ray-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        for pattern in _LOGS:
            for path in sorted(folder.glob(f"session_2*/logs/{pattern}")):
                text = path.read_text(encoding="utf-8", errors="backslashreplace")
                if text.strip():
                    out.write(f"==> {path.name} <==\n{text.rstrip()}\n\n")
    return Path(name)


@contextmanager
def _by_value(model: nn.Module) -> Iterator[None]:
    """Send the code of a model's classes to the processes, where they cannot import it: what a file TARGET defines."""
    cloudpickle: Any = importlib.import_module("ray.cloudpickle")
    modules = {cls.__module__ for module in model.modules() for cls in type(module).__mro__}
    own = [found for name in sorted(modules) if (found := sys.modules.get(name)) is not None and _is_users(found)]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def _is_users(module: Any) -> bool:
    """Whether a module is neither Python's own nor installed."""
    file = getattr(module, "__file__", None)
    if file is None or module.__name__ == "__main__" or module.__name__.startswith("bn_audit."):
        return False
    path = os.path.realpath(file)
    installed = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}
    return not any(path.startswith(folder + os.sep) for folder in installed)


class Simulated(Installed):
    """The installed classes, whose workers are processes of Ray's."""

    def __init__(self, secretflow: Any, classes: Any, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__(secretflow, classes)
        self._model = model
        self._names = tuple(names)
        self._parties: dict[bytes, _Party] = {}

    @property
    def number(self) -> Callable[[], int]:
        """What tells, in a party's process, which party that is."""
        return _Number(self._names)

    def ready(self, federated: Any) -> None:
        """Wait for the parties' models, and raise what kept one from being made.

        Raises:
            _Stuck: they are not there in time.
        """
        ray = _ray()
        waiting = [proxy.data.__ray_ready__.remote() for proxy in federated._workers.values()]
        try:
            ray.get(waiting, timeout=_STARTED_WITHIN)
        except ray.exceptions.GetTimeoutError as error:
            raise _Stuck(f"the parties' processes did not start within {_STARTED_WITHIN:.0f} seconds") from error
        except Exception as error:
            raise self.raised(error) from error

    def spu_aggregator(self, devices: Sequence[Any]) -> Any:
        """SecretFlow's SPUAggregator, on a device of secure computation that all parties make up together.

        Raises:
            TargetError: this release has none, or its device cannot be started.
        """
        if "SPUAggregator" not in self.__dict__:
            raise TargetError("this release of SecretFlow has no SPUAggregator")
        nodes = [{"party": device.party, "address": f"127.0.0.1:{_free_port()}"} for device in devices]
        runtime = {"protocol": "SEMI2K", "field": "FM128"}
        try:
            return self.SPUAggregator(self._secretflow.SPU({"nodes": nodes, "runtime_config": runtime}))
        except Exception as error:
            raise TargetError(f"SecretFlow's SPU does not start here: {type(error).__name__}: {error}") from error

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        return (_Stuck,)

    def raised(self, error: Exception) -> Exception:
        """What was raised in another process, of what Ray makes of it."""
        ray = _ray()
        seen: BaseException = error
        while isinstance(seen, ray.exceptions.RayTaskError) and isinstance(seen.cause, Exception):
            seen = seen.cause
        if isinstance(seen, ray.exceptions.RayActorError) and seen.actor_init_failed:
            return _told(str(seen)) or seen
        return seen if isinstance(seen, Exception) else error

    def worker(self, proxy: Any) -> Any:
        handle = proxy.data
        handle = handle.real if isinstance(handle, _Handle) else handle
        key = handle._actor_id.binary()
        if key not in self._parties:
            self._parties[key] = _Party(handle, self._model)
        return self._parties[key]

    @contextmanager
    def observing(self, federated: Any, observer: Callable[[Call], None]) -> Iterator[None]:
        # The driver's handle of each worker; SecretFlow asks it for methods by their names.
        proxies = list(federated._workers.values())
        for proxy in proxies:
            proxy.data = _Handle(proxy.data, self.worker(proxy), observer, self.raised)
        try:
            yield
        finally:
            for proxy in proxies:
                proxy.data = proxy.data.real


def _told(text: str) -> Exception | None:
    """The exception with which a traceback ends. Of one in an actor's ``__init__`` Ray hands on nothing else."""
    lines = text.rstrip().splitlines()
    last = max((number for number, line in enumerate(lines) if line.startswith("  ")), default=-1)
    match = _LAST_LINE.fullmatch("\n".join(lines[last + 1 :]))
    return None if match is None else type(match[1], (Exception,), {})(match[2])


_LAST_LINE = re.compile(r"(?:\w+\.)*(\w+): (.*)", re.DOTALL)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class _Number:
    """Which party a process belongs to."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def __call__(self) -> int:
        return self.names.index(party_here() or "")


class _Party:
    """A worker in another process, as the driver sees it: its model is a copy with the state of the moment."""

    def __init__(self, handle: Any, model: nn.Module) -> None:
        self._handle = handle
        self._model = copy.deepcopy(model)

    @property
    def model(self) -> nn.Module:
        state = self._ask(_state)
        with torch.no_grad():
            for key, tensor in self._model.state_dict().items():
                if key in state:
                    tensor.copy_(state[key])
        return self._model

    @property
    def model_weights(self) -> Any:
        return self._ask(_weights)

    def _ask(self, function: Callable[[Any], Any]) -> Any:
        return _ray().get(self._handle.__ray_call__.remote(function))


def _state(worker: Any) -> dict[str, torch.Tensor]:
    return {
        key: value.detach().cpu() for key, value in worker.model.state_dict().items() if isinstance(value, torch.Tensor)
    }


def _weights(worker: Any) -> Any:
    return worker.model_weights


class _Handle:
    """In place of Ray's handle of a worker: tells of each call, and waits for what comes of it."""

    def __init__(
        self, real: Any, party: _Party, observer: Callable[[Call], None], raised: Callable[[Exception], Exception]
    ) -> None:
        self.real = real
        self._party = party
        self._observer = observer
        self._raised = raised

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.real, name)
        return _Method(method, name, self) if name in _WATCHED else method

    def run(self, method: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ray = _ray()
        given = tuple(ray.get(arg) if isinstance(arg, ray.ObjectRef) else arg for arg in args)
        self._observer(Call(self._party, name, given, done=False))
        made = method.remote(*args, **kwargs)
        try:
            result = tuple(ray.get(made)) if isinstance(made, list) else ray.get(made)
        except Exception as error:
            raise self._raised(error) from error
        self._observer(Call(self._party, name, given, done=True, result=result))
        return made


class _Method:
    """A method of a worker, as SecretFlow calls it: ``handle.method.options(...).remote(...)``."""

    def __init__(self, method: Any, name: str, handle: _Handle) -> None:
        self._method = method
        self._name = name
        self._handle = handle

    def options(self, **options: Any) -> _Method:
        return _Method(self._method.options(**options), self._name, self._handle)

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        return self._handle.run(self._method, self._name, args, kwargs)
