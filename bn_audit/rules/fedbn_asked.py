"""FedBN without BatchNorm.

FedBN is FedAvg with BatchNorm left out. Of a model without BatchNorm nothing is left out, and the two are one.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.federation import ExchangeSite
from bn_audit.filters import Test, picked
from bn_audit.finding import Finding, Location, Severity
from bn_audit.rules.averaging_case import means_batchnorm, models_named, words_of
from bn_audit.rules.exchange_case import Exchanged, exchanged, trail
from bn_audit.rules.exchange_examples import NO_BATCHNORM, OTHER_KEYS, flower_client
from bn_audit.rules.rule import Rule

__all__ = ["RULES"]


def _nothing_local(site: ExchangeSite) -> Iterator[Finding]:
    found = exchanged(site)
    if site.role != "client" or not found or not all(one.profile.complete and not one.profile.norms for one in found):
        return
    for one in found:
        ways = [(way.location, way.covers) for way in one.sends] + [(way.location, way.takes) for way in one.loads]
        for place, covers in ways:
            if _asks(covers) and all(_passes(covers, other) for other in found):
                yield _finding(site, found, place)
                return


def _finding(site: ExchangeSite, found: tuple[Exchanged, ...], place: Location) -> Finding:
    names = models_named([one.participant for one in found])
    return NOTHING.finding(
        place,
        f"BatchNorm is kept out here, but {names} {'has' if len(found) == 1 else 'have'} none: nothing stays with a "
        "client, and FedBN is FedAvg",
        evidence=trail(site, found, place, norms=False),
        help="drop the filter, or see whether this is the model that was meant",
    )


def _asks(covers: Test) -> bool:
    return any(means_batchnorm(word) for word in words_of(covers))


def _passes(covers: Test, one: Exchanged) -> bool:
    """Whether a filter lets everything of a model through."""
    return all(picked(covers, entry, one.profile) is True for entry in one.profile.entries)


NOTHING = Rule(
    code="BNA409",
    name="fedbn-without-batchnorm",
    severity=Severity.INFO,
    summary="BatchNorm is kept out of the exchange, and the model has none",
    finds="""\
A client that keeps BatchNorm out of what it sends or loads by name, and whose model is known and has no norm layer with
running statistics: the filter catches nothing.""",
    why="""\
The experiment is called FedBN and is FedAvg. That is harmless for the model, and misleading in a table of results. It
often means that another model was meant, or that its layers are not called what the filter looks for.""",
    remedy="Drop the filter, or see whether this is the model that was meant.",
    silent="""\
- A model is not known to the last entry, or one of several that may be meant has BatchNorm.
- The filter catches some entry.""",
    fix_safety="No edit is offered.",
    references=(
        "Li et al., FedBN: Federated Learning on Non-IID Features via Local Batch Normalization, ICLR 2021, "
        "arXiv:2102.07623",
    ),
    bad=(flower_client(sends=NO_BATCHNORM, keys=OTHER_KEYS, strict=False, norm="nn.Identity()"),),
    good=(flower_client(sends=NO_BATCHNORM, keys=OTHER_KEYS, strict=False), flower_client(norm="nn.Identity()")),
    judges=ExchangeSite,
    check=_nothing_local,
)

RULES = (NOTHING,)
