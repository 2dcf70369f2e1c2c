"""The values of running statistics, which only a live model or a checkpoint shows.

In eval mode a BatchNorm divides by the square root of its running variance. A NaN, an infinite value or a negative
variance in there makes every output below it NaN, on that party or, where BatchNorm is exchanged, on all. Statistics
that no batch has touched are the opposite: nothing fails, and the layer passes its input through unnormalised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bn_audit.finding import Finding, Severity
from bn_audit.health import NormHealth
from bn_audit.rules.live_model import LiveModel
from bn_audit.rules.rule import Example, Rule
from bn_audit.rules.wording import listed

__all__ = ["RULES"]


def _broken(model: LiveModel) -> Iterator[Finding]:
    layers = [one for one in model.health if one.broken]
    if not layers:
        return
    yield BROKEN.finding(
        model.location,
        f"the running statistics of {_named(layers)} of {model.title} hold {_faults(layers)}: in eval mode the outputs "
        "become NaN, and where they are averaged, those of every party",
        help="do not exchange or keep this state; go back to the last round in which it was sound, and see whether a "
        "server optimiser, momentum or noise acts on running statistics, or the learning rate let the training diverge",
    )


def _untrained(model: LiveModel) -> Iterator[Finding]:
    known = [one for one in model.health if one.untrained is not None]
    layers = [one for one in known if one.untrained]
    if not layers or not (model.saved or len(layers) < len(known)):
        return
    others = len(known) - len(layers)
    beside = f", while {others} {'layer holds' if others == 1 else 'layers hold'} others" if others else ""
    yield UNTRAINED.finding(
        model.location,
        f"the running statistics of {_named(layers)} of {model.title} are those they were built with, mean 0 and "
        f"variance 1{beside}: no batch has passed there in train mode, so eval mode does not normalise",
        help="train or recalibrate the layers (some batches in train mode, without an optimiser) before this state is "
        "evaluated; if they were trained, see whether the statistics were left out when the state was saved or sent",
    )


def _named(layers: Sequence[NormHealth]) -> str:
    return listed(one.path or "the root" for one in layers)


def _faults(layers: Sequence[NormHealth]) -> str:
    """``3 NaN and 1 negative variance``."""
    counts = (
        (sum(one.nan for one in layers), "NaN", "NaN"),
        (sum(one.inf for one in layers), "infinite value", "infinite values"),
        (sum(one.negative for one in layers), "negative variance", "negative variances"),
    )
    words = [f"{number} {one if number == 1 else many}" for number, one, many in counts if number]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _program(*lines: str) -> Example:
    """A model in memory: ``model.py:model`` is what is looked at."""
    source = "\n".join(
        (
            "import torch",
            "from torch import nn",
            "",
            "model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))",
            *lines,
        )
    )
    return Example((("model.py", f"{source}\n"),), target="model.py:model")


_FIX_SAFETY = "No edit is offered: values are no source."

BROKEN = Rule(
    code="BNA406",
    name="broken-statistics",
    severity=Severity.ERROR,
    summary="A norm layer's running statistics hold NaN, infinite values or negative variances",
    finds="NaN or infinite values in `running_mean` or `running_var`, or a variance below 0, in a live model or a "
    "checkpoint.",
    why="""\
Eval mode normalises with `1 / sqrt(running_var + eps)`: of a negative variance that is NaN, and NaN spreads through
every layer that follows. Training mode hides it, because it uses the batch's own statistics. In a federation that
averages BatchNorm one party's NaN is everybody's after the next round. A mean of variances is never negative; a
server optimiser, server momentum, a difference of states or noise added to them can make it so.""",
    remedy="""\
Go back to a state that is sound, keep running statistics out of whatever the server does beyond averaging, and
recalibrate: reset them (`reset_running_stats()`) and run some batches in train mode.""",
    silent="""\
- The values are not at hand: the source alone, the meta device, a lazy layer, a file read without torch.
- A variance is exactly 0: the channel is constant, and `eps` keeps the division finite.""",
    fix_safety=_FIX_SAFETY,
    references=("torch.nn.functional.batch_norm",),
    bad=(_program("model[1].running_var[0] = -0.1"), _program('model[3].running_mean.fill_(float("nan"))')),
    good=(_program("model[1].running_var[0] = 0.0"),),
    judges=LiveModel,
    check=_broken,
)

UNTRAINED = Rule(
    code="BNA407",
    name="untrained-statistics",
    severity=Severity.INFO,
    summary="A norm layer's running statistics are those it was built with",
    finds="""\
Norm layers whose running mean is 0, whose running variance is 1 and whose counter, if there is one, is 0: in a
checkpoint, or in a live model other norm layers of which were trained.""",
    why="""\
In eval mode such a layer passes its input through as it is, scaled and shifted by weight and bias. Accuracy in
evaluation is then far below what training showed. It happens where a state dict was sent or saved without its
buffers, where a model was trained in eval mode, and where new layers are put on a trained backbone.""",
    remedy="""\
Train the layers, or recalibrate them: some batches in train mode, without an optimiser. Where statistics got lost on
the way, send or save `state_dict()` instead of `parameters()`.""",
    silent="""\
- The values are not at hand: the source alone, the meta device, a lazy layer, a file read without torch.
- No norm layer of a live model was trained: it may just have been built.""",
    fix_safety=_FIX_SAFETY,
    references=("torch.nn.BatchNorm2d, `reset_running_stats`",),
    bad=(_program("model[:2](torch.randn(4, 1, 8, 8))"),),
    good=(_program("model(torch.randn(4, 1, 8, 8))"), _program()),
    judges=LiveModel,
    check=_untrained,
)

RULES = (BROKEN, UNTRAINED)
