"""MNIST between two parties, BatchNorm kept local."""

import secretflow as sf
from secretflow.security.aggregation import PlainAggregator
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel, metric_wrapper, optim_wrapper
from secretflow_fl.utils.simulation.datasets_fl import load_mnist
from torch import nn, optim
from torchmetrics import Accuracy

from model import DigitNet

sf.init(["alice", "bob", "charlie"], address="local")
alice, bob, charlie = sf.PYU("alice"), sf.PYU("bob"), sf.PYU("charlie")

(train_data, train_label), _ = load_mnist(
    parts={alice: 0.4, bob: 0.6}, normalized_x=True, categorical_y=True, is_torch=True
)

model_def = TorchModel(
    model_fn=DigitNet,
    loss_fn=nn.CrossEntropyLoss,
    optim_fn=optim_wrapper(optim.Adam, lr=1e-2),
    metrics=[metric_wrapper(Accuracy, task="multiclass", num_classes=10, average="micro")],
)

settings = {"strategy": "fed_avg_w", "backend": "torch", "skip_bn": True}
fl_model = FLModel(
    server=charlie,
    device_list=[alice, bob],
    model=model_def,
    aggregator=PlainAggregator(charlie),
    random_seed=1234,
    **settings,
)

history = fl_model.fit(train_data, train_label, epochs=5, batch_size=128, aggregate_freq=2)
