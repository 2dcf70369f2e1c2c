"""CIFAR-10 split between two parties, with FedBN asked for."""

import secretflow as sf
from secretflow.security.aggregation import PlainAggregator
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel, metric_wrapper, optim_wrapper
from torch import nn, optim
from torchmetrics import Accuracy

from models import resnet20


def build(devices, server):
    model_def = TorchModel(
        model_fn=resnet20,
        loss_fn=nn.CrossEntropyLoss,
        optim_fn=optim_wrapper(optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4),
        metrics=[metric_wrapper(Accuracy, task="multiclass", num_classes=10)],
    )
    return FLModel(
        server=server,
        device_list=devices,
        model=model_def,
        aggregator=PlainAggregator(server),
        strategy="fed_avg_w",
        backend="torch",
        skip_bn=True,  # FedBN: BatchNorm stays with the parties
    )


if __name__ == "__main__":
    sf.init(["alice", "bob", "charlie"], address="local")
    alice, bob, charlie = sf.PYU("alice"), sf.PYU("bob"), sf.PYU("charlie")
    fl_model = build([alice, bob], charlie)
