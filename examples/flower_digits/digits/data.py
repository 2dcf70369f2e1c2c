"""scikit-learn's digits as parties see them, each through one of five sensors."""

import torch
from sklearn.datasets import load_digits

SENSORS = {
    "clean": lambda images, generator: images,
    "invert": lambda images, generator: 1 - images,
    "low contrast": lambda images, generator: 0.4 + 0.2 * images,
    "noise": lambda images, generator: (images + 0.25 * torch.randn(images.shape, generator=generator)).clamp(0, 1),
    "gradient": lambda images, generator: 0.25 * images + 0.75 * torch.linspace(0, 1, 8),
}


def load_party(context):
    """Images and labels to train on, a third of the party's own, and to test on."""
    party, of = context.node_config["partition-id"], context.node_config["num-partitions"]
    seed = context.run_config["seed"]
    digits = load_digits()
    images = torch.as_tensor(digits.images, dtype=torch.float32) / 16
    labels = torch.as_tensor(digits.target)
    own = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).tensor_split(of)[party]
    sensor = list(SENSORS.values())[party % len(SENSORS)]
    seen = sensor(images[own], torch.Generator().manual_seed(1000 * seed + party))[:, None]
    train = len(own) // 3
    return (seen[:train], labels[own][:train]), (seen[train:], labels[own][train:])
