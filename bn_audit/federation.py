"""The kinds of site at which the states of several parties meet, whatever the framework: plain data.

A site names the models that take part in it, each as its profile and the trail that leads to it. Several models may:
``--model resnet`` picks one of them when the program runs. So a rule says of a site what is certain for a model, and
under which conditions that model is the one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from bn_audit.filters import EVERYTHING, Test
from bn_audit.finding import Edit, Evidence, Location
from bn_audit.handwritten import HandWritten
from bn_audit.profile import Profile

__all__ = [
    "AveragingSite",
    "EvaluationSite",
    "ExchangeSite",
    "FederatedSite",
    "Loading",
    "Participant",
    "Rebuild",
    "Sending",
    "ServerStepSite",
    "TrainingSite",
    "united",
]


@dataclass(frozen=True, slots=True)
class Participant:
    """A model that takes part in a federation, as far as the source tells.

    Attributes:
        name: what a message calls it: its class or constructor.
        profile: what it holds; partial or not.
        conditions: what has to be so for it to be the one, in words (``args.model == 'resnet'``).
        trail: from the call that makes it to its class.
        ways: the calls that lead to the one that makes it, outermost first, that one last; several where it is the same
            in all of this, which says no more than that it is of one kind.
    """

    name: str
    profile: Profile
    conditions: tuple[str, ...] = ()
    trail: tuple[Evidence, ...] = ()
    ways: tuple[tuple[Location, ...], ...] = field(default=(), compare=False)


def united(participants: Iterable[Participant]) -> tuple[Participant, ...]:
    """Each model once, with all the ways that lead to it."""
    found: dict[Participant, Participant] = {}
    for one in participants:
        known = found.setdefault(one, one)
        if known is not one and known.ways != one.ways:
            found[one] = replace(known, ways=tuple(dict.fromkeys((*known.ways, *one.ways))))
    return tuple(found.values())


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
        beside: which entries other branches of the same function combine.
        promotes: whether torch is one whose arithmetic on mixed types is known here.
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
    beside: tuple[Test, ...] = ()
    promotes: bool = True


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


@dataclass(frozen=True, slots=True)
class Sending:
    """One way in which what a client sends may turn out.

    Attributes:
        location: where the state is taken.
        what: ``state`` for entries of a state dict, ``parameters`` for what ``parameters()`` gives.
        covers: which entries of the state dict are sent; unclear where that is not known.
        participants: the models whose entries they are.
        listed: whether they travel as a list, each known by its place alone.
        floats: whether all are made floats before they are sent, integers too.
        through: the calls that lead there from what the framework calls, outermost first.
    """

    location: Location
    what: Literal["state", "parameters"]
    covers: Test
    participants: tuple[Participant, ...]
    listed: bool = False
    floats: bool = False
    through: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Rebuild:
    """An array is made a tensor by a call that takes a 0-d integer for a size: ``torch.Tensor(array)``.

    Attributes:
        location: the call.
        name: what is called, as it is written.
        edits: what to write so that the array's value and dtype are kept.
        written: how the call then reads.
    """

    location: Location
    name: str
    edits: tuple[Edit, ...] = ()
    written: str = ""


@dataclass(frozen=True, slots=True)
class Loading:
    """One way in which what arrives is loaded into a model.

    Attributes:
        location: the call that loads it.
        takes: which entries of the model take what arrived.
        participants: the models that take it.
        keys: for arrays that are known by their place: the entries whose keys they are given, in order; None where
            entries travel by key.
        rebuild: how an array becomes a tensor, where that may go wrong.
        strict: whether every entry of the model has to be there.
        initial: whether it may be a state that nobody has averaged yet, its integers still integers.
        through: the calls that lead there.
    """

    location: Location
    takes: Test
    participants: tuple[Participant, ...]
    keys: Test | None = None
    rebuild: Rebuild | None = None
    strict: bool = True
    initial: bool = False
    through: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class ExchangeSite:
    """A client of a framework: what it sends, and what it does with what arrives; or a server's function that loads.

    Attributes:
        location: the client's class or function.
        framework: whose, as a message calls it.
        name: of the class or function.
        role: ``client`` or ``server``.
        sends: the ways in which what is sent may turn out; empty for a server.
        loads: the ways in which what arrives is loaded.
        apart: places in its code, or in what it works with, that name BatchNorm.
        kept: places where entries are put back into a model from elsewhere.
    """

    location: Location
    framework: str
    name: str
    role: Literal["client", "server"]
    sends: tuple[Sending, ...]
    loads: tuple[Loading, ...]
    apart: tuple[Evidence, ...] = ()
    kept: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluationSite:
    """A model of a federation is certainly in train mode where it is run without gradients and its output measured.

    Attributes:
        location: the call of the model.
        model: how the source writes the model there: ``self.model``.
        participants: the models that it may be.
        quiet: what turns gradients off.
        measured: where the output is measured.
        trained: the calls that put it into train mode; none if no call put it into any mode, so that it is in the one
            it was made in.
        federation: how the model takes part in a federation.
        through: the calls that lead to the evaluation, outermost first.
        edits: what to write so that ``eval()`` is called before; none where no edit is certain to do just that, or
            where the model would then be trained in eval mode.
    """

    location: Location
    model: str
    participants: tuple[Participant, ...]
    quiet: Evidence
    measured: Evidence
    trained: tuple[Evidence, ...]
    federation: Evidence
    through: tuple[Evidence, ...] = ()
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingSite:
    """A model of a federation is trained after it was evaluated, and nothing puts it back into train mode.

    Attributes:
        location: the call of the model in the training loop.
        model: how the source writes the model there.
        participants: the models that it may be.
        step: where the optimizer takes a step.
        evaluated: the ``eval()`` calls that the model comes from.
        federation: how the model takes part in a federation.
        through: the calls that lead to the training, outermost first.
    """

    location: Location
    model: str
    participants: tuple[Participant, ...]
    step: Evidence
    evaluated: tuple[Evidence, ...]
    federation: Evidence
    through: tuple[Evidence, ...] = ()


FederatedSite = AveragingSite | ServerStepSite | ExchangeSite | EvaluationSite | TrainingSite
"""Any of these kinds."""
