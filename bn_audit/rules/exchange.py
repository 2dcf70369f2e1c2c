"""A client that sends BatchNorm with the rest of its model, and loads what comes back.

In a framework the averaging is somebody else's code, and right in itself: it averages whatever it is sent. So it is the
client that decides what becomes of BatchNorm: by what it puts into a message, and by what of a message it lets in.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.federation import ExchangeSite
from bn_audit.filters import Test
from bn_audit.finding import Finding, Severity
from bn_audit.profile import NormLayer
from bn_audit.rules.averaging_case import keeps_batchnorm
from bn_audit.rules.exchange_case import Exchanged, exchanged, norm_entries, norms_named, trail, wrong_filter
from bn_audit.rules.exchange_examples import NO_BATCHNORM, OTHER_KEYS, flower_client, message_client
from bn_audit.rules.rule import Rule

__all__ = ["RULES"]


def _shares(site: ExchangeSite) -> Iterator[Finding]:
    if site.role != "client" or site.apart or site.kept:
        return
    found = [one for one in exchanged(site) if _shared(one) and wrong_filter(one) is None]
    if not found:
        return
    first = found[0]
    norms = _shared(first)
    affine = any(norm.affine for norm in norms)
    place = first.sends[0].location
    yield SHARES.finding(
        place,
        f"{'running statistics, weight and bias' if affine else 'the running statistics'} of "
        f"{norms_named([(one, _shared(one)) for one in found])} are sent with the rest, {site.framework} averages them "
        "over the parties, and what comes back is loaded",
        evidence=trail(site, found, place),
        help=f"{_HELP}; {_IN_FLOWER}" if site.framework == "Flower" else _HELP,
    )


def _shared(one: Exchanged) -> list[NormLayer]:
    """The norm layers of which all certainly goes out and comes back in; the counter may be left out.

    Others may stay with the client, as layers do that are its own: a personal head. Where the entries of one layer part
    ways, or a filter asks for BatchNorm by name, somebody thought of it, and it is none.
    """
    if not one.known or any(way.what != "state" for way in one.sends):
        return []
    rows: list[tuple[NormLayer, set[bool]]] = []
    for norm in one.norms:
        entries = [entry for entry in norm_entries(one, [norm]) if entry.shape != ()]
        rows.append((norm, {one.sent(entry) is True and one.loaded(entry) is True for entry in entries}))
    found = [norm for norm, travels in rows if travels == {True}]
    chosen = any(map(keeps_batchnorm, _tests(one))) or any(len(travels) > 1 for _, travels in rows)
    return [] if chosen and len(found) < len(rows) else found


def _tests(one: Exchanged) -> Iterator[Test]:
    """What picks entries on either side."""
    yield from (way.covers for way in one.sends)
    yield from (way.takes for way in one.loads)


_HELP = (
    "leave BatchNorm's entries out of what is sent and of what is loaded, by module and not by name: "
    '`[f"{name}.{key}" for name, module in model.named_modules() if isinstance(module, '
    "nn.modules.batchnorm._BatchNorm) for key in module.state_dict()]` are their keys; each client keeps its own"
)

_IN_FLOWER = (
    "`bn_audit.federated.flower` does it, with the mod `LocalBatchNormMod` in a ClientApp, with `make_ndarrays` and "
    "`load_ndarrays` in a NumPyClient"
)

SHARES = Rule(
    code="BNA206",
    name="exchange-shares-batchnorm",
    severity=Severity.WARNING,
    summary="A client sends its whole state, BatchNorm included, and loads all that comes back",
    finds="""\
A client of Flower (NumPyClient, Client, ClientApp), NVFlare or FedML that sends `state_dict()` of a model with
BatchNorm, and loads what arrives into all of it; or a model with BatchNorm that is handed to a client which the
framework brings along (FedMLRunner, a subclass of OpenFL's PyTorchTaskRunner or FL4Health's BasicClient). What is sent
and what is loaded is read entry by entry, over helper functions, comprehensions, loops and filters. Where a model is
one of several, the message says when it is the one.""",
    why="""\
A framework averages whatever it is sent. Running statistics describe one client's data; their mean describes nobody's,
and the variance between the clients' means is lost altogether. Nothing says so while it happens: the loss is a little
higher, and the model worse for the clients whose data differs most. FedBN keeps BatchNorm with each client and shares
the rest.""",
    remedy="""\
Leave BatchNorm's entries out, by module type, of what is sent and of what is loaded (`strict=False`). Where every round
makes its clients anew, keep them in the client's own state (`context.state` in Flower). For Flower,
`bn_audit.federated.flower` has a mod and a strategy that do so. Where statistics are pooled on purpose, silence the
rule at this place, with the reason.""",
    silent="""\
- No model with BatchNorm can be followed to the client, or what it sends or loads is written in a way that is not
  understood.
- BatchNorm keeps no running statistics (`track_running_stats=False`), is frozen, or has been replaced.
- Either side keeps BatchNorm back: a filter that asks for it by name or parts the entries of one layer, entries that
  are put back from the client's own state; `LocalBatchNormMod` among the mods of a ClientApp; code of the client, of a
  subclass or of a strategy in the project that names BatchNorm.
- BNA201, BNA202 or BNA203 speak of the average of what is sent, or BNA203 of what is sent itself: of the same states or
  the same model, not of another program that makes a model of its own by the same function.""",
    fix_safety="No edit is offered: what is to stay with a client is the author's decision.",
    references=(
        "Li et al., FedBN: Federated Learning on Non-IID Features via Local Batch Normalization, ICLR 2021, "
        "arXiv:2102.07623",
    ),
    bad=(flower_client(), message_client()),
    good=(
        flower_client(sends=NO_BATCHNORM, keys=OTHER_KEYS, strict=False),
        flower_client(norm="nn.GroupNorm(2, 8)"),
        message_client(
            load='arrived = msg.content["arrays"].to_torch_state_dict()\n'
            '    model.load_state_dict({k: v for k, v in arrived.items() if not k.startswith("bn.")}, strict=False)'
        ),
    ),
    judges=ExchangeSite,
    check=_shares,
    yields_to=("BNA201", "BNA202", "BNA203"),
)

RULES = (SHARES,)
