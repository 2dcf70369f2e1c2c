"""Two hospitals train one classifier; a third party sums up their updates without seeing them."""

import secretflow as sf
from secretflow.security.aggregation import SecureAggregator
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel, metric_wrapper, optim_wrapper
from torch import nn, optim
from torchmetrics import Accuracy

from data import image_folder_builder
from models import ConvNetBN


def main():
    sf.init(["alice", "bob", "charlie"], address="local")
    alice, bob, charlie = sf.PYU("alice"), sf.PYU("bob"), sf.PYU("charlie")

    model_def = TorchModel(
        model_fn=ConvNetBN,
        loss_fn=nn.CrossEntropyLoss,
        optim_fn=optim_wrapper(optim.Adam, lr=1e-3),
        metrics=[metric_wrapper(Accuracy, task="multiclass", num_classes=10, average="micro")],
    )
    fl_model = FLModel(
        server=charlie,
        device_list=[alice, bob],
        model=model_def,
        aggregator=SecureAggregator(charlie, [alice, bob]),
        strategy="fed_avg_w",
        backend="torch",
        random_seed=1234,
    )
    fl_model.fit(
        {alice: "data/alice", bob: "data/bob"},
        None,
        epochs=10,
        batch_size=32,
        aggregate_freq=1,
        dataset_builder={alice: image_folder_builder(32), bob: image_folder_builder(32)},
    )


if __name__ == "__main__":
    main()
