"""Flower: NumPyClient and Client, and the Message API of ClientApp. Read in flwr 1.0 to 1.42.

Lists of arrays travel by position; an ArrayRecord travels by key. Every strategy of Flower's averages whatever it is
sent; FedBN is the client's affair, or that of a mod between it and the network.
"""

from __future__ import annotations

from bn_audit.source.flow.frameworks.kinds import WHOLE, Callback, ClientClass, Framework, Hook, Wrapper, names

FRAMEWORK = Framework(
    title="Flower",
    mark="flwr",
    packages=("flwr",),
    clients=(
        ClientClass(
            names("flwr..NumPyClient"),
            (
                Hook("fit", message=0, sends=0, initial=True),
                Hook("get_parameters", sends=WHOLE),
                Hook("evaluate", message=0),
            ),
        ),
        ClientClass(
            names("flwr..Client"),
            (
                Hook("fit", message=0, initial=True),
                Hook("get_parameters"),
                Hook("evaluate", message=0),
            ),
        ),
    ),
    callbacks=(
        Callback("train", 0, maker=names("flwr..ClientApp"), initial=True),
        Callback("evaluate", 0, maker=names("flwr..ClientApp")),
        Callback("evaluate_fn", 1, initial=True),
        Callback("eval_fn", 0, initial=True),
    ),
    wrappers=(
        Wrapper(names("flwr..ArrayRecord", "flwr..ParametersRecord"), "", 0),
        Wrapper(names("flwr..FitRes", "flwr..GetParametersRes"), "parameters", 1),
    ),
    aggregates=("aggregate_fit", "aggregate_train"),
    mods=names("bn_audit.federated..LocalBatchNormMod"),
)
