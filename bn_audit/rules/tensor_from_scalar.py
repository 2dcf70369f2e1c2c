"""An array that becomes a size.

`torch.Tensor(x)` is two functions in one: of a sequence or an array it makes a float tensor with these values, of an
integer one with that many elements, uninitialised. A 0-d integer array counts as an integer. BatchNorm's counter of
batches is one, and the only one in most models.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.federation import ExchangeSite, Loading, Rebuild
from bn_audit.filters import EVERYTHING, picked
from bn_audit.finding import Applicability, Finding, Fix, Severity
from bn_audit.profile import StateEntry
from bn_audit.rules.averaging_case import of_models
from bn_audit.rules.exchange_case import Exchanged, exchanged, trail
from bn_audit.rules.exchange_examples import NO_BATCHNORM, OTHER_KEYS, flower_client
from bn_audit.rules.rule import Rule

__all__ = ["RULES"]


def _sizes(site: ExchangeSite) -> Iterator[Finding]:
    by_place: dict[Rebuild, list[tuple[Exchanged, StateEntry]]] = {}
    for one in exchanged(site):
        for way in one.loads:
            entry = _integer(one, way)
            if entry is not None and way.rebuild is not None:
                by_place.setdefault(way.rebuild, []).append((one, entry))
    for rebuild, rows in by_place.items():
        found = list(dict.fromkeys(one for one, _ in rows))
        integers = of_models([(one.participant, [entry.key]) for one, entry in rows])
        fix = None
        if rebuild.edits:
            fix = Fix(Applicability.UNSAFE, f"write `{rebuild.written}`, which keeps value and dtype", rebuild.edits)
        yield SIZES.finding(
            rebuild.location,
            f"`{rebuild.name}` takes the 0-d integer {integers} for a size: a counter of 0 becomes an empty tensor, "
            "one of N a tensor of N uninitialised elements, and loading the first round's state fails with a size "
            "mismatch",
            evidence=trail(site, found, rebuild.location),
            help="make the tensor with `torch.as_tensor`; better still, leave BatchNorm out of the exchange, on both "
            "sides",
            fix=fix,
        )


def _integer(one: Exchanged, way: Loading) -> StateEntry | None:
    """The first 0-d integer that certainly gets to ``torch.Tensor`` while it is an integer still."""
    if way.rebuild is None or not way.initial or any(sending.floats for sending in one.sends):
        return None
    for entry in one.profile.entries:
        if entry.shape != () or entry.dtype not in ("int64", "int32", "int16", "int8", "uint8"):
            continue
        # All entries by position and strictly: either it arrives, or the load fails for want of others.
        arrives = (way.keys == EVERYTHING and way.strict) or (one.known and one.sent(entry) is True)
        if arrives and picked(way.takes, entry, one.profile) is True:
            return entry
    return None


SIZES = Rule(
    code="BNA205",
    name="tensor-from-scalar",
    severity=Severity.ERROR,
    summary="`torch.Tensor(array)` takes BatchNorm's counter for a size",
    finds="""\
Arrays that arrive from other parties and are made tensors with `torch.Tensor` or `torch.FloatTensor`, where a 0-d
integer of the model, such as `num_batches_tracked`, is certainly among them.""",
    why="""\
`torch.Tensor(array)` makes a float tensor of an array, but of a 0-d integer N a tensor of N uninitialised elements. The
counter of a model that was never trained is 0: the tensor is empty, and `load_state_dict` raises `size mismatch ...
torch.Size([0])`, with old releases of torch an IndexError. A counter of 1 becomes one element of uninitialised memory,
which `load_state_dict` accepts. After the first averaging the counter is a float, so that only the first round
tells.""",
    remedy="Write `torch.as_tensor(array)`, which keeps value and dtype, or keep BatchNorm out of the exchange.",
    silent="""\
- No model with a 0-d integer can be followed to the place, or what it sends or loads is not understood.
- A filter keeps the counter out, the arrays are tensors already, or the client makes floats of all that it sends.
- What arrives was averaged before, so that the counter is a float.""",
    fix_safety="The edit is unsafe: the round goes on after it, and averages BatchNorm (BNA206).",
    references=("torch.Tensor, the legacy constructor", "torch.nn.Module.load_state_dict"),
    bad=(flower_client(tensor="torch.Tensor(array)"),),
    good=(
        flower_client(),
        flower_client(tensor="torch.Tensor(array)", norm="nn.GroupNorm(2, 8)"),
        flower_client(tensor="torch.Tensor(array)", sends=NO_BATCHNORM, keys=OTHER_KEYS, strict=False),
    ),
    judges=ExchangeSite,
    check=_sizes,
)

RULES = (SIZES,)
