"""Keys and arrays that are paired by position, and do not belong together.

A list of arrays has no names. Whoever receives one takes the keys from a model of its own and zips. That goes well as
long as both sides mean the same entries; a filter that one side has and the other has not shifts everything after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bn_audit.federation import ExchangeSite, Loading, Sending
from bn_audit.filters import Test, picked
from bn_audit.finding import Finding, Severity
from bn_audit.profile import Profile
from bn_audit.rules.averaging_case import models_named
from bn_audit.rules.exchange_case import Exchanged, exchanged, trail
from bn_audit.rules.exchange_examples import NAMES, NO_BATCHNORM, OTHER_KEYS, PARAMETERS, flower_client
from bn_audit.rules.rule import Rule
from bn_audit.rules.wording import listed

__all__ = ["RULES"]


def _shifted(site: ExchangeSite) -> Iterator[Finding]:
    by_place: dict[Loading, list[tuple[Exchanged, str]]] = {}
    for one in exchanged(site):
        for way in one.loads:
            text = _misaligned(one, way)
            if text:
                by_place.setdefault(way, []).append((one, text))
    for way, rows in by_place.items():
        yield MISALIGNED.finding(
            way.location,
            f"the arrays that arrive are given keys by position, but {rows[0][1]}",
            evidence=trail(site, [one for one, _ in rows], way.location, norms=False),
            help="take keys and arrays from the same entries in the same order on both sides, or send a dict",
        )


def _misaligned(one: Exchanged, way: Loading) -> str:
    """What goes wrong, if no way of sending goes with the keys that the arrays are given; "" if one may."""
    profile = one.profile
    if way.keys is None or not one.known or not one.sends or not profile.complete or not profile.ordered:
        return ""
    keys = _keys(profile, way.keys)
    texts: list[str] = []
    for sending in one.sends:
        sent = _keys(profile, sending.covers) if sending.listed else None
        if sent is None or keys is None or sent == keys:
            return ""
        common = min(len(sent), len(keys))
        if not way.strict and keys[:common] == sent[:common]:
            return ""  # `zip` stops where either ends, and what comes after may be missing
        texts.append(_shift(one, sending, sent, keys))
    return texts[0]


def _keys(profile: Profile, covers: Test) -> list[str] | None:
    """The keys that a test picks, in order; None if that is not known of each."""
    answers = [picked(covers, entry, profile) for entry in profile.entries]
    if None in answers:
        return None
    return [entry.key for entry, answer in zip(profile.entries, answers, strict=True) if answer]


def _shift(one: Exchanged, sending: Sending, sent: Sequence[str], keys: Sequence[str]) -> str:
    what = "`parameters()`" if sending.what == "parameters" else "the state"
    common = min(len(sent), len(keys))
    place = next((i for i in range(common) if sent[i] != keys[i]), common)
    counts = f"{len(sent)} arrays of {what} of {models_named([one.participant])} are sent for {len(keys)} keys"
    if place < common:
        return f"{counts}: from number {place + 1} on they are shifted, and `{keys[place]}` gets `{sent[place]}`"
    if len(keys) > len(sent):
        return f"{counts}: none is left for {listed(keys[place:])}"
    return f"{counts}: {listed(sent[place:])} {'is' if len(sent) == place + 1 else 'are'} dropped"


MISALIGNED = Rule(
    code="BNA204",
    name="misaligned-state-zip",
    severity=Severity.ERROR,
    summary="Keys and arrays are paired by position, and one side has entries the other has not",
    finds="""\
A client that sends a list of arrays and gives those that arrive the keys of its state dict by position, where the two
lists hold different entries: one side is filtered and the other is not, or `parameters()` is paired with the keys of
`state_dict()`. Both sides are worked out on the model's own keys.""",
    why="""\
`zip` pairs what stands at the same place, and stops where the shorter list ends. From the first entry that only one
side has, every array gets the key of another. Where shapes differ loading fails; where they agree, a weight silently
becomes another layer's.""",
    remedy="""\
Take keys and arrays from the same entries, in the same order: apply one filter on both sides, or iterate over
`named_parameters()` on both. A dict of arrays needs no order.""",
    silent="""\
- Both sides hold the same entries of the model in the same order.
- One of the two is not understood, or the model's keys are not all known.""",
    fix_safety="No edit is offered: which of the two sides is meant is the author's decision.",
    references=("PEP 618, `zip` that checks the length",),
    bad=(flower_client(keys=OTHER_KEYS, strict=False), flower_client(sends=PARAMETERS)),
    good=(
        flower_client(sends=NO_BATCHNORM, keys=OTHER_KEYS, strict=False),
        flower_client(sends=PARAMETERS, keys=NAMES, strict=False),
        flower_client(sends=PARAMETERS, norm="nn.GroupNorm(2, 8)"),
    ),
    judges=ExchangeSite,
    check=_shifted,
)

RULES = (MISALIGNED,)
