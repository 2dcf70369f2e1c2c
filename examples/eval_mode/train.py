"""Activity recognition from wearable sensors; sparse updates, validated after every epoch."""

import secretflow as sf
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel, metric_wrapper, optim_wrapper
from secretflow_fl.security.aggregation import SparsePlainAggregator
from torch import nn, optim
from torchmetrics import Accuracy

from model import SensorNet


def train(train_data, train_label, test_data, test_label):
    alice, bob, charlie = sf.PYU("alice"), sf.PYU("bob"), sf.PYU("charlie")
    fl_model = FLModel(
        server=charlie,
        device_list=[alice, bob],
        model=TorchModel(
            model_fn=SensorNet,
            loss_fn=nn.CrossEntropyLoss,
            optim_fn=optim_wrapper(optim.Adam, lr=1e-3),
            metrics=[metric_wrapper(Accuracy, task="multiclass", num_classes=6)],
        ),
        aggregator=SparsePlainAggregator(charlie),
        strategy="fed_stc",
        backend="torch",
        skip_bn=True,
    )
    return fl_model.fit(
        train_data,
        train_label,
        validation_data=(test_data, test_label),
        epochs=20,
        batch_size=64,
        aggregate_freq=2,
    )
