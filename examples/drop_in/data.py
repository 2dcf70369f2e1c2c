"""Digits at two hospitals: bob's scanner shows them inverted."""

import numpy as np
import secretflow as sf
import torch
from secretflow.data.ndarray import FedNdarray, PartitionWay


def digits(inverted, first):
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32).reshape(-1, 1, 8, 8)[first::2][:600] / 16
    return 1 - images if inverted else images, np.eye(10, dtype=np.float32)[labels[first::2][:600]]


def federated(alice, bob):
    placed = {alice: alice(digits, num_returns=2)(False, 0), bob: bob(digits, num_returns=2)(True, 1)}
    return tuple(
        FedNdarray({party: arrays[part] for party, arrays in placed.items()}, partition_way=PartitionWay.HORIZONTAL)
        for part in (0, 1)
    )


def report(fl_model, images, labels, folder="models"):
    """Save each party's model, and print how much of its own data it gets right."""
    from model import DigitNet

    paths = {party: f"{folder}/{party.party}.pt" for party in images.partitions}
    fl_model.save_model(model_path=paths)
    for party, path in paths.items():
        model = DigitNet()
        model.load_state_dict(torch.load(path)["model_state_dict"])
        with torch.no_grad():
            found = model.eval()(torch.tensor(sf.reveal(images.partitions[party]))).argmax(1).numpy()
        print(f"{party.party}: {(found == sf.reveal(labels.partitions[party]).argmax(1)).mean():.1%}")
