"""Train torchvision's ResNet18 and timm's EfficientNet in the wheel's FLModel, made by ``local_batchnorm``.

In a process of its own, since torchvision's wheels are built for other builds of torch than may be installed here:

    python -m tests.secretflow.architectures SECRETFLOW_WHEEL FOLDER...

The folders hold torchvision and timm, unpacked. What came of the entries is printed as JSON, by model and aggregator:
how many stayed with their party in every exchange, how many were the same in all parties after it, how many neither.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bn_audit.federated import local_keys
from bn_audit.federated.secretflow import local_batchnorm
from bn_audit.live.secretflow_runtime import PYU, Call, FedNdarray, PYUObject, Runtime, observing
from bn_audit.live.wheel import opened

_SIZES = (4, 6)
_IMAGE = 32
_CLASSES = 2


def main() -> None:
    wheel, *folders = map(Path, sys.argv[1:])
    # What its compiled part would define, and its Python part describes.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torch.set_num_threads(1)
    found = {}
    with opened(wheel) as runtime:
        sys.path[:0] = map(str, folders)
        import timm
        from torchvision.models import resnet18

        makers: dict[str, Callable[[], nn.Module]] = {
            "torchvision resnet18": partial(resnet18, num_classes=_CLASSES),
            "timm efficientnet_b0": partial(timm.create_model, "efficientnet_b0", num_classes=_CLASSES),
        }
        for name, make in makers.items():
            for aggregator in ("plain", "secure", "sparse"):
                found[f"{name}, {aggregator}"] = trained(runtime, make, aggregator)
    json.dump(found, sys.stdout)


def trained(runtime: Runtime, make: Callable[[], nn.Module], aggregator: str) -> dict[str, int]:
    """Fit for one epoch of two rounds; what became of the entries."""
    parties = [PYU("alice"), PYU("bob")]
    aggregators: dict[str, Callable[[], Any]] = {
        "plain": lambda: runtime.PlainAggregator(parties[0]),
        "secure": lambda: runtime.SecureAggregator(parties[0], parties),
        "sparse": lambda: runtime.SparsePlainAggregator(parties[0]),
    }
    exchanges: list[tuple[list[Any], list[Any]]] = []
    before: list[Any] = []
    after: list[Any] = []

    def watch(call: Call) -> None:
        if call.method not in ("set_weights", "apply_weights"):
            return
        state = {key: value.clone() for key, value in call.worker.model.state_dict().items()}
        (after if call.done else before).append(state)
        if len(after) == len(parties):
            exchanges.append((before[:], after[:]))
            before.clear(), after.clear()

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), observing(watch):
        warnings.simplefilter("ignore")
        federated = runtime.FLModel(
            server=parties[0],
            device_list=parties,
            model=runtime.TorchModel(
                model_fn=local_batchnorm(make),
                loss_fn=nn.CrossEntropyLoss,
                optim_fn=partial(torch.optim.SGD, lr=0.01),
            ),
            aggregator=aggregators[aggregator](),
            strategy="fed_stc" if aggregator == "sparse" else "fed_avg_w",
            backend="torch",
            skip_bn=True,
        )
        rng = np.random.default_rng(3)
        x = {party: rng.random((size, 3, _IMAGE, _IMAGE)) for party, size in zip(parties, _SIZES, strict=True)}
        y = {party: np.eye(_CLASSES)[rng.integers(0, _CLASSES, len(data))] for party, data in x.items()}
        federated.fit(placed(x), placed(y), batch_sampling_rate=0.5, epochs=1, verbose=0)
    local = local_keys(make())
    counts = {"exchanges": len(exchanges), "local": 0, "shared": 0, "wrong": 0, "moved apart": 0}
    for key in exchanges[0][0][0]:
        kept = all(torch.equal(b[key], a[key]) for bs, as_ in exchanges for b, a in zip(bs, as_, strict=True))
        equal = all(torch.equal(as_[0][key], as_[1][key]) for _, as_ in exchanges)
        if key in local:
            counts["local" if kept else "wrong"] += 1
            counts["moved apart"] += not torch.equal(exchanges[-1][1][0][key], exchanges[-1][1][1][key])
        else:
            counts["shared" if equal else "wrong"] += 1
    return counts


def placed(data: dict[PYU, Any]) -> FedNdarray:
    return FedNdarray({party: PYUObject(party, array) for party, array in data.items()})


if __name__ == "__main__":
    main()
