"""The same, with models that say themselves what is exchanged: everything but BatchNorm."""

import secretflow as sf
from secretflow.security.aggregation import SecureAggregator
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel, optim_wrapper
from torch import nn, optim

from bn_audit.federated.secretflow import local_batchnorm

from data import federated, report
from model import DigitNet

if __name__ == "__main__":
    sf.init(["alice", "bob", "charlie"], address="local", log_to_driver=False)
    alice, bob, charlie = sf.PYU("alice"), sf.PYU("bob"), sf.PYU("charlie")
    images, labels = federated(alice, bob)
    fl_model = FLModel(
        server=charlie,
        device_list=[alice, bob],
        model=TorchModel(
            model_fn=local_batchnorm(DigitNet),
            loss_fn=nn.CrossEntropyLoss,
            optim_fn=optim_wrapper(optim.Adam, lr=1e-3),
        ),
        aggregator=SecureAggregator(charlie, [alice, bob]),
        strategy="fed_avg_w",
        backend="torch",
        skip_bn=True,
    )
    fl_model.fit(images, labels, epochs=5, batch_size=32, aggregate_freq=2, verbose=0)
    report(fl_model, images, labels)
    sf.shutdown()
