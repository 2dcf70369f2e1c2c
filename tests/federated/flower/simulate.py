"""Run Flower's simulation of the deployed app: ``python -m tests.federated.flower.simulate PARTIES``."""

from __future__ import annotations

import json
import sys
from typing import Any

from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation

from bn_audit.federated.flower import FedBN
from tests.federated.flower import deployed
from tests.federated.flower.models import Net

ROUNDS = 3


def main(parties: int) -> None:
    server = ServerApp()

    @server.main()
    def _(grid: Any, context: Any) -> None:
        strategy = FedBN(model=Net(), fraction_train=0.5 if parties > 3 else 1.0, min_train_nodes=2)
        strategy.bad_replies = "leave-out"
        result = strategy.start(deployed.read(grid), deployed.begun(), num_rounds=ROUNDS)
        told = {
            "rejected": [(one.round, one.reason) for one in strategy.rejected],
            "fc.weight": result.arrays["fc.weight"].numpy().tolist(),
        }
        (deployed.folder() / "server.json").write_text(json.dumps(told))

    # Of three, one fails in the second round, and another sends all that it has.
    misdeeds: dict[str, tuple[int, int]] = {"fails": (1, 2), "lies": (2, 2)} if parties == 3 else {}
    run_simulation(
        server_app=server,
        client_app=deployed.client_app(**misdeeds),
        num_supernodes=parties,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            # One process for all of them: it takes longer to start another than to do their work.
            "init_args": {"num_cpus": 1, "include_dashboard": False},
        },
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
