"""Measure what ``local_batchnorm`` costs in a round, beside SecretFlow's get_weights and update_weights. See README.md.

A ResNet50 with its real layers, one thread, CPU time. In every round both take turns: SecretFlow's own, of all entries,
out of the wheel and unmodified; and ours, of all but BatchNorm's. What SecretFlow loads has its counters in floating
point, since with integers its load fails.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bn_audit.federated.secretflow import local_batchnorm
from bn_audit.live.wheel import opened

GOAL = 1.1


class Bottleneck(nn.Module):
    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        if stride != 1 or inside != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )


def resnet50() -> nn.Module:
    model = nn.Module()
    model.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    model.bn1 = nn.BatchNorm2d(64)
    inside = 64
    for number, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=1):
        layers = []
        for block in range(blocks):
            layers.append(Bottleneck(inside, width, 2 if number > 1 and block == 0 else 1))
            inside = 4 * width
        model.add_module(f"layer{number}", nn.Sequential(*layers))
    model.fc = nn.Linear(inside, 1000)
    return model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path, help="secretflow-1.13.0b0-*.whl")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--fail", action="store_true", help="status 1 if the goal is missed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with opened(arguments.wheel) as runtime:
        mixin: Any = runtime.BaseModule
        theirs: Any = resnet50()
        ours: Any = local_batchnorm(resnet50)()
        numbers = [len(theirs.state_dict()), len(ours.get_weights_not_bn(return_numpy=True))]
        print(f"ResNet50: SecretFlow moves {numbers[0]} entries, local_batchnorm {numbers[1]}")
        arrived = [
            array.astype(np.float64) if array.dtype == np.int64 else array
            for array in mixin.get_weights(theirs, return_numpy=True)
        ]
        own = ours.get_weights_not_bn(return_numpy=True)
        steps: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "send": (
                lambda: mixin.get_weights(theirs, return_numpy=True),
                lambda: ours.get_weights_not_bn(return_numpy=True),
            ),
            "load": (lambda: mixin.update_weights(theirs, arrived), lambda: ours.update_weights_not_bn(own)),
        }
        good = measure(steps, arguments.rounds)
    return 1 if arguments.fail and not good else 0


def measure(steps: dict[str, tuple[Callable[[], Any], Callable[[], Any]]], rounds: int) -> bool:
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(rounds + 1):  # the first warms up
        for name, (their, our) in steps.items():
            taken[name].append((cpu(their), cpu(our)))
    whole = [tuple(map(sum, zip(*parts, strict=True))) for parts in zip(*taken.values(), strict=True)]
    for name, pairs in {**taken, "round": whole}.items():
        ratios = [our / their for their, our in pairs[1:]]
        print(
            f"{name:6} SecretFlow {1000 * statistics.median(their for their, _ in pairs[1:]):6.1f} ms, "
            f"local_batchnorm {1000 * statistics.median(our for _, our in pairs[1:]):6.1f} ms, "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    return statistics.median(our / their for their, our in whole[1:]) <= GOAL


def cpu(step: Callable[[], Any]) -> float:
    begun = time.process_time()
    step()
    return time.process_time() - begun


if __name__ == "__main__":
    sys.exit(main())
