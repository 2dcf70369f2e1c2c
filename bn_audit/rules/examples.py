"""Whole programs for the examples of the rules on FLModel, from the lines that matter."""

from __future__ import annotations

from bn_audit.rules.rule import Example

__all__ = ["federation"]

_AGGREGATORS = {
    "PlainAggregator": ("secretflow.security.aggregation", "PlainAggregator(charlie)"),
    "SecureAggregator": ("secretflow.security.aggregation", "SecureAggregator(charlie, [alice, bob])"),
    "SparsePlainAggregator": ("secretflow_fl.security.aggregation", "SparsePlainAggregator(charlie)"),
}


def federation(
    *layers: str,
    aggregator: str = "SecureAggregator",
    settings: tuple[str, ...] = (),
    after: str = "",
    imports: str = "",
) -> Example:
    """A federation of two parties that train one torch model.

    Args:
        layers: the lines of the model's ``__init__`` after the call of super's.
        aggregator: class name of the aggregator.
        settings: further arguments of the FLModel call.
        after: what follows the call.
        imports: what is imported besides.
    """
    module, built = _AGGREGATORS[aggregator]
    body = "\n".join(f"        {line}" for line in layers)
    arguments = "\n".join(f"    {argument}," for argument in ('backend="torch"', *settings))
    source = f"""\
{imports}import secretflow as sf
from {module} import {aggregator}
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
{body}


alice, bob, charlie = sf.PYU("alice"), sf.PYU("bob"), sf.PYU("charlie")
fl_model = FLModel(
    server=charlie,
    device_list=[alice, bob],
    model=TorchModel(model_fn=Net),
    aggregator={built},
{arguments}
)
{after}"""
    return Example((("train.py", source.rstrip() + "\n"),))
