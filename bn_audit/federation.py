"""The kinds of site at which the states of several parties meet, whatever the framework: plain data.

A site names the models that take part in it, each as its profile and the trail that leads to it. Several models may:
``--model resnet`` picks one of them when the program runs. So a rule says of a site what is certain for a model, and
under which conditions that model is the one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bn_audit.filters import EVERYTHING, Test
from bn_audit.finding import Evidence, Location
from bn_audit.handwritten import HandWritten
from bn_audit.profile import Profile

__all__ = ["AveragingSite", "FederatedSite", "Participant", "ServerStepSite"]


@dataclass(frozen=True, slots=True)
class Participant:
    """A model that takes part in a federation, as far as the source tells.

    Attributes:
        name: what a message calls it: its class or constructor.
        profile: what it holds; partial or not.
        conditions: what has to be so for it to be the one, in words (``args.model == 'resnet'``).
        trail: from the call that makes it to its class.
    """

    name: str
    profile: Profile
    conditions: tuple[str, ...] = ()
    trail: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class AveragingSite:
    """States of several parties are combined, and the result is loaded into the model they share.

    Attributes:
        location: the statement or call that combines them.
        what: ``state`` if entries of state dicts are combined, ``parameters`` if only what ``parameters()`` gives.
        covers: which of these entries are.
        forms: the ways in which it may be meant, of which one is true; none if it is written in no known way.
        participants: the models that may take part.
        through: the calls that lead to the combination, outermost first.
        states: where the parties' states are taken.
        load: where the result goes into a model.
        again: other places in the same function that do the same.
        picks: where conditions on entries stand.
    """

    location: Location
    what: Literal["state", "parameters"]
    participants: tuple[Participant, ...]
    covers: Test = EVERYTHING
    forms: tuple[HandWritten, ...] = ()
    through: tuple[Evidence, ...] = ()
    states: tuple[Evidence, ...] = ()
    load: Evidence | None = None
    again: tuple[Evidence, ...] = ()
    picks: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerStepSite:
    """Something other than a mean is done to the entries of a federation's state, before it is loaded.

    Attributes:
        location: the statement or call.
        kind: ``noise`` that is added, or a server's ``momentum``, which gathers over rounds.
        participants: the models that may take part.
        covers: which entries it is done to.
        averaging: where the parties' states are combined.
        load: where the result goes into a model.
    """

    location: Location
    kind: Literal["noise", "momentum"]
    participants: tuple[Participant, ...]
    covers: Test = EVERYTHING
    averaging: Evidence | None = None
    load: Evidence | None = None


FederatedSite = AveragingSite | ServerStepSite
"""Any of these kinds."""
