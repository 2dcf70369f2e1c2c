"""FedBN inside Flower: BatchNorm stays with its node, everything else is averaged by whatever strategy there is.

On the server a strategy, on the clients a mod; an app that trains whole models needs no other change::

    strategy = FedBN(model=Net(), fraction_train=0.5)
    app = ClientApp(mods=[LocalBatchNormMod(Net)])

BatchNorm is found by module type, at any depth (:func:`bn_audit.federated.local_keys`), and no array of it is ever in a
message. :func:`make_arrays` and :func:`load_arrays` are for apps that load and send by themselves, and
:func:`make_ndarrays` and :func:`load_ndarrays` for NumPyClients. docs/flower.md has all of it.

Run on flwr 1.42; needs 1.22 or newer (extra ``flower``).
"""

from __future__ import annotations

import importlib.util

from bn_audit.extras import MissingExtra, install

if importlib.util.find_spec("flwr") is None:
    raise MissingExtra(f"Flower is not installed: {install('flower')}")
if importlib.util.find_spec("flwr.serverapp.strategy") is None:
    raise MissingExtra(f"this Flower is older than 1.22 and has no FedAvg for messages: {install('flower')}")

from bn_audit.federated.flower.direct import load_arrays, load_ndarrays, make_arrays, make_ndarrays
from bn_audit.federated.flower.mod import LocalBatchNormMod
from bn_audit.federated.flower.strategy import FedBN, Rejected

__all__ = [
    "FedBN",
    "LocalBatchNormMod",
    "Rejected",
    "load_arrays",
    "load_ndarrays",
    "make_arrays",
    "make_ndarrays",
]
