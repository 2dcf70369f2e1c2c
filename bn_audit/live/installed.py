"""The installed engine: the SecretFlow that is installed here, device layer included, in its debug mode.

Debug mode runs every party in this process, without Ray, one call after the other.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from torch import nn

from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.live.errors import MissingExtra, TargetError
from bn_audit.live.secretflow_engine import party_names, quiet, run_classes
from bn_audit.live.secretflow_runtime import Call, InProcess
from bn_audit.live.verify import Run
from bn_audit.profile import Profile

__all__ = ["Installed", "classes_of_installed", "debugging", "run_installed", "version_of_installed"]

DISTRIBUTIONS = ("secretflow", "secretflow-lite")

_WHEEL = "pip download --no-deps secretflow==1.13.0b0, and the path of that file as the engine"

# Where each is, the newest place first: FL moved to a package of its own with 1.11.
_PLACES = {
    "FLModel": ("secretflow_fl.ml.nn.fl.fl_model", "secretflow.ml.nn.fl.fl_model"),
    "TorchModel": ("secretflow_fl.ml.nn.core.torch", "secretflow.ml.nn.core.torch", "secretflow.ml.nn.utils"),
    "PlainAggregator": ("secretflow.security.aggregation",),
    "SecureAggregator": ("secretflow.security.aggregation",),
    "SPUAggregator": ("secretflow.security.aggregation",),
    "SparsePlainAggregator": ("secretflow_fl.security.aggregation", "secretflow.security.aggregation"),
    "StatefulFedGenAggregator": ("secretflow_fl.security.aggregation.stateful_fedgen_aggregator",),
    "FedGenActor": ("secretflow_fl.ml.nn.fl.backend.torch.strategy.fed_gen",),
    "FedGenGeneratorModel": ("secretflow_fl.ml.nn.fl.backend.torch.strategy.fed_gen",),
    "FedNdarray": ("secretflow.data.ndarray",),
    "PartitionWay": ("secretflow.data.ndarray",),
}


def run_installed(model: nn.Module, profile: Profile, settings: SecretFlowSettings, parties: int, rounds: int) -> Run:
    """Run the installed classes; see :func:`~bn_audit.live.secretflow_engine.run_classes`.

    Raises:
        MissingExtra: if SecretFlow is not installed.
        TargetError: if what is installed has no FLModel for torch or cannot be imported, or the settings cannot be run
            in one process.
    """
    with debugging(parties) as platform:
        return run_classes(platform, model, profile, settings, parties, rounds)


def version_of_installed() -> str | None:
    """The installed release; None where SecretFlow lies on the path without having been installed.

    Raises:
        MissingExtra: if there is no SecretFlow at all.
    """
    for name in DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if importlib.util.find_spec("secretflow") is None:
        raise MissingExtra(f"SecretFlow is not installed here; the classes of a wheel will do: {_WHEEL}")
    return None


@contextmanager
def debugging(parties: int) -> Iterator[Installed]:
    """SecretFlow in its debug mode; afterwards it is in the mode in which it was.

    Raises:
        MissingExtra, TargetError: as :func:`run_installed`; or it is in use already.
    """
    version_of_installed()
    logger = logging.getLogger()
    level, handlers = logger.level, logger.handlers[:]
    try:
        with quiet():
            secretflow, distributed, classes = classes_of_installed()
            platform = Installed(secretflow, classes)
        if distributed.get_current_cluster_idx() >= 0:
            # Another init would take its parties from it.
            raise TargetError("SecretFlow is in use in this process: call secretflow.shutdown() before")
        mode = distributed.get_distribution_mode()
        try:
            with quiet():
                secretflow.init(party_names(parties), debug_mode=True)
            yield platform
        finally:
            with quiet():
                secretflow.shutdown()
                distributed.set_distribution_mode(mode)
    finally:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def classes_of_installed() -> tuple[Any, Any, dict[str, Any]]:
    """SecretFlow, its device layer, and its classes by name, None for those that the release has not.

    Raises:
        TargetError: it cannot be imported.
    """
    secretflow, distributed = _imported("secretflow"), _imported("secretflow.distributed")
    return secretflow, distributed, {name: _found(name, places) for name, places in _PLACES.items()}


class Installed(InProcess):
    """The installed classes by their names, as the engine asks for them."""

    FLModel: Any
    TorchModel: Any

    def __init__(self, secretflow: Any, classes: Mapping[str, Any]) -> None:
        super().__init__(**{name: found for name, found in classes.items() if found is not None})
        self._secretflow = secretflow
        for name in ("FLModel", "TorchModel", "PlainAggregator", "FedNdarray"):
            if name not in self.__dict__:
                raise TargetError(
                    f"the SecretFlow that is installed has no {name} for torch; its last release with one is 1.13, "
                    f"whose wheel does as well: {_WHEEL}"
                )

    def device(self, name: str) -> Any:
        return self._secretflow.PYU(name)

    def federated(self, arrays: Mapping[Any, Any]) -> Any:
        placed = {device: device(_itself)(array) for device, array in arrays.items()}
        return self.FedNdarray(placed, partition_way=self.PartitionWay.HORIZONTAL)

    def worker(self, proxy: Any) -> Any:
        return proxy.data._actor_handle

    @contextmanager
    def observing(self, federated: Any, observer: Callable[[Call], None]) -> Iterator[None]:
        # The handle of each worker runs what others ask of it; what it asks of itself does not pass here.
        handles = [proxy.data for proxy in federated._workers.values()]
        for handle in handles:
            handle._execute_method = _watched(handle._execute_method, handle._actor_handle, observer)
        try:
            yield
        finally:
            for handle in handles:
                del handle._execute_method


def _watched(run: Callable[..., Any], worker: Any, observer: Callable[[Call], None]) -> Callable[..., Any]:
    def execute(name: str, options: Any, *args: Any, **kwargs: Any) -> Any:
        observer(Call(worker, name, args, done=False))
        result = run(name, options, *args, **kwargs)
        observer(Call(worker, name, args, done=True, result=result))
        return result

    return execute


def _itself(value: Any) -> Any:
    return value


def _found(name: str, places: Sequence[str]) -> Any:
    for place in places:
        if importlib.util.find_spec(place.partition(".")[0]) is None:
            continue
        try:
            found = getattr(importlib.import_module(place), name, None)
        except ModuleNotFoundError as error:
            if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
                continue
            raise _broken(error) from error
        except Exception as error:
            raise _broken(error) from error
        if found is not None:
            return found
    return None


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:
        # Whatever keeps it from being imported here.
        raise _broken(error) from error


def _broken(error: Exception) -> TargetError:
    return TargetError(f"the SecretFlow that is installed cannot be imported: {type(error).__name__}: {error}")
