"""What a party does by itself: train its model on its examples for a while, and see how well it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.training.data import Examples, PartyData
from bn_audit.live.user_code import running

require_torch()

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

__all__ = ["Local", "Tested", "accuracy_of", "logits_of", "train_locally"]

_TEST_BATCH = 256


@dataclass(frozen=True, slots=True)
class Local:
    """How a party trains: SGD without momentum on the cross entropy, from the state that it holds.

    Attributes:
        epochs: how often it goes through its examples.
        batch_size: of the batches that are drawn.
        learning_rate: the same in all rounds.
    """

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.1


def train_locally(model: nn.Module, party: PartyData, how: Local, seed: int) -> tuple[int, bool]:
    """Train a model in place, in training mode.

    A batch of one example that we drew is left out: no BatchNorm has a variance of one value.

    Args:
        seed: what the order of the examples, and whatever the model draws, are drawn with.

    Returns:
        How many examples an epoch had, and whether all losses were finite.

    Raises:
        TargetError: the data does not fit the model, or the model's own code raises.
    """
    generator = torch.Generator().manual_seed(seed)
    examples, finite = 0, True
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.train()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=how.learning_rate)
        for epoch in range(how.epochs):
            for inputs, targets in party.train.batches(how.batch_size, generator):
                examples += len(inputs) if epoch == 0 else 0
                if len(inputs) == 1 and how.batch_size > 1:
                    continue
                with running(f"training the model on {party.train.what}"):
                    optimizer.zero_grad()
                    logits, targets = _answer(model, inputs, targets, party.train)
                    loss = nn.functional.cross_entropy(logits, targets)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                finite = finite and bool(torch.isfinite(loss))
    return examples, finite


@dataclass(frozen=True, slots=True)
class Tested:
    """How a model did: the share of targets whose class got the largest logit, and of how many examples and classes."""

    accuracy: float
    examples: int
    classes: int


@torch.no_grad()
def accuracy_of(model: nn.Module, examples: Examples) -> Tested:
    """Test a model, in eval mode."""
    right = total = number = classes = 0
    model.eval()
    for inputs, targets in examples.batches(_TEST_BATCH):
        with running(f"running the model on {examples.what}"):
            logits, targets = _answer(model, inputs, targets, examples)
        right += int((logits.argmax(1) == targets).sum())
        total += targets.numel()
        number += len(inputs)
        classes = logits.shape[1]
    return Tested(right / total, number, classes)


def logits_of(output: object) -> Tensor:
    """The logits in what a model gives: a tensor, the first of a tuple, or what is called ``logits`` or ``out``.

    Raises:
        TargetError: there are none.
    """
    found = output
    for name in ("logits", "out"):
        if isinstance(found, Mapping):
            found = found.get(name, found)
        elif not isinstance(found, Tensor):
            found = getattr(found, name, found)
    if isinstance(found, (tuple, list)) and found:
        found = found[0]
    if not isinstance(found, Tensor) or not found.is_floating_point():
        kind = str(found.dtype) if isinstance(found, Tensor) else type(found).__name__
        raise TargetError(f"the model gives {kind}, and no logits, which an accuracy needs")
    return found


def _answer(
    model: Callable[[Tensor], object], inputs: Tensor, targets: Tensor, examples: Examples
) -> tuple[Tensor, Tensor]:
    """Logits for a batch, and the targets beside them."""
    assert isinstance(model, nn.Module)
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    if parameter is not None:
        inputs = inputs.to(parameter.device, parameter.dtype if inputs.is_floating_point() else None)
    logits = logits_of(model(inputs))
    targets = targets.to(logits.device)
    if logits.dim() < 2 or logits.shape[:1] + logits.shape[2:] != targets.shape:
        raise TargetError(
            f"{examples.what}: the model gives {list(logits.shape)} for targets of shape {list(targets.shape)}; "
            "it should give [examples, classes]"
        )
    classes = logits.shape[1]
    for extreme in (int(targets.min()), int(targets.max())):
        if not 0 <= extreme < classes:
            raise TargetError(
                f"{examples.what} has the target {extreme}, and the model tells {classes} classes apart, "
                f"0 to {classes - 1}"
            )
    return logits, targets
