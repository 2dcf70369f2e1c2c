"""Two federations that are right: one with BatchNorms where SecretFlow finds them, one without any."""

import secretflow as sf
from secretflow.security.aggregation import SecureAggregator
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel, optim_wrapper
from torch import nn, optim

from model import DigitNet, GroupNormNet


def federation(model_fn, devices, server, skip_bn=False):
    return FLModel(
        server=server,
        device_list=devices,
        model=TorchModel(
            model_fn=model_fn, loss_fn=nn.CrossEntropyLoss, optim_fn=optim_wrapper(optim.SGD, lr=0.05, momentum=0.9)
        ),
        aggregator=SecureAggregator(server, devices),
        strategy="fed_avg_w",
        backend="torch",
        skip_bn=skip_bn,
    )


if __name__ == "__main__":
    sf.init(["alice", "bob", "charlie"], address="local")
    parties, charlie = [sf.PYU("alice"), sf.PYU("bob")], sf.PYU("charlie")
    fedbn = federation(DigitNet, parties, charlie, skip_bn=True)
    fedavg = federation(GroupNormNet, parties, charlie)
