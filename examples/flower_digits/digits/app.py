"""What `flwr run` runs: one of the three ways, as `way` in the run's configuration says."""

import json

import torch
from flwr.app import ArrayRecord
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from digits import fedavg, fedbn, local
from digits.model import Net

WAYS = {"fedavg": fedavg, "fedbn": fedbn, "local": local}


class Chosen(ClientApp):
    def __call__(self, message, context):
        return WAYS[context.run_config["way"]].client(message, context)


client = Chosen()
server = ServerApp()


@server.main()
def main(grid, context):
    config = context.run_config
    torch.manual_seed(config["seed"])
    strategy = WAYS[config["way"]].strategy()
    result = strategy.start(grid, ArrayRecord(Net().state_dict()), num_rounds=config["rounds"])
    curve = [round(float(one["accuracy"]), 4) for _, one in sorted(result.evaluate_metrics_clientapp.items())]
    print("RESULT", json.dumps({"way": config["way"], "seed": config["seed"], "accuracy": curve}))
