"""Clients of frameworks as plain data: what they send and load, to sites."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import libcst as cst

from bn_audit.federation import ExchangeSite, Loading, Participant, Rebuild, Sending
from bn_audit.filters import EVERYTHING, Equals, Starts, Unclear
from bn_audit.finding import Edit, Evidence
from bn_audit.source.flow.cargo import UNKNOWN, Cargo, Part, Rebuilt, taken
from bn_audit.source.flow.exchanges import Client, Load, Send
from bn_audit.source.flow.index import arguments_of
from bn_audit.source.flow.trials import without_trials
from bn_audit.source.flow.values import Env, Made
from bn_audit.source.interpreter.values import Step
from bn_audit.source.locate import Locator

__all__ = ["ExchangeWriter"]

_MAX_APART = 2
_Way = TypeVar("_Way", Sending, Loading)


@dataclass(slots=True)
class ExchangeWriter:
    """Makes sites of clients.

    ``participants`` gives models as plain data, ``calls`` the calls that lead to a run of a scope.
    """

    locator: Locator
    participants: Callable[[Iterable[Made]], tuple[Participant, ...]]
    calls: Callable[[Env], list[Step]]

    def site(self, client: Client) -> ExchangeSite:
        """One client."""
        apart = [Step(module, node, "BatchNorm is named here") for module, node in client.apart]
        kept: list[Step] = []
        taking = {made for load in client.loads if _arrives(load) for made in load.models}
        found = client.sends if all(map(_fits, client.loads)) else map(_without_prefixed, client.sends)
        sends = [_own_models(row, client) for send in found for row in self._sends(_as_loaded(send, taking), client)]
        loads: list[Loading] = []
        for load in client.loads:
            loads.extend(_own_models(row, client) for row in self._loads(load, client))
            kept.extend(_put_back(load))
        name = getattr(getattr(client.node, "name", None), "value", "")
        return ExchangeSite(
            location=self.locator.at(Step(client.module, client.node)),
            framework=client.framework.title,
            name=str(name),
            role=client.role,
            sends=tuple(dict.fromkeys(sends)),
            loads=tuple(dict.fromkeys(loads)),
            apart=self._evidence(apart[:_MAX_APART]),
            kept=self._evidence(kept[:_MAX_APART]),
        )

    def _sends(self, send: Send, client: Client) -> Iterator[Sending]:
        for way in send.ways:
            if way.shape == "none" or _metrics(way):
                continue
            parts = [part for part in way.parts if part.source == "model" and part.node is not None]
            known = parts and way.shape != "unknown" and all(part.source != "unknown" for part in way.parts)
            first = parts[0] if parts else None
            place = Step(first.env.module, first.node) if first is not None and first.env and first.node else None
            yield Sending(
                location=self.locator.at(place or Step(send.env.module, send.node)),
                what="parameters" if parts and all(part.what == "parameters" for part in parts) else "state",
                covers=taken(way, "model") if known else Unclear("?"),
                participants=self._of(client, (made for part in parts for made in part.models)) if known else (),
                listed=way.shape == "list",
                floats=bool(parts) and all(part.floats for part in parts),
                through=self._evidence(self.calls(first.env)) if first is not None and first.env else (),
            )

    def _loads(self, load: Load, client: Client) -> Iterator[Loading]:
        for way in load.ways:
            if way.shape in ("unknown", "none"):
                continue
            part = next((part for part in way.parts if part.source == "message"), None)
            if part is None:
                continue
            yield Loading(
                location=self.locator.at(Step(load.env.module, load.node)),
                takes=taken(way, "message"),
                participants=self._of(client, load.models),
                keys=part.keys.covers if part.keys is not None and len(way.parts) == 1 else None,
                rebuild=self._rebuild(part.rebuilt) if part.rebuilt is not None and not part.tensors else None,
                strict=load.strict,
                initial=load.initial,
                through=self._evidence(self.calls(load.env)),
            )

    def _of(self, client: Client, models: Iterable[Made]) -> tuple[Participant, ...]:
        return self.participants(without_trials(models, client.module))

    def _rebuild(self, rebuilt: Rebuilt) -> Rebuild:
        call = rebuilt.node
        module = rebuilt.env.module
        code = module.tree.code_for_node(call.func).strip()
        edits: tuple[Edit, ...] = ()
        written = ""
        positional, keywords, stars = arguments_of(call)
        if isinstance(call.func, cst.Attribute) and len(positional) == 1 and not keywords and not stars:
            place = self.locator.at(Step(module, call.func.attr))
            edits = (Edit(place.line, place.column, place.end_line, place.end_column, "as_tensor"),)
            inner = module.tree.code_for_node(positional[0]).strip()
            written = f"{module.tree.code_for_node(call.func.value).strip()}.as_tensor({inner})"
        return Rebuild(self.locator.at(Step(module, call)), code, edits, written)

    def _evidence(self, steps: Iterable[Step]) -> tuple[Evidence, ...]:
        return tuple(dict.fromkeys(Evidence(self.locator.at(step), step.message) for step in steps))


def _fits(load: Load) -> bool:
    """Whether keys that somebody has given another beginning would not go unnoticed."""
    return load.strict or all(part.stripped for way in load.ways for part in way.parts if part.source == "message")


def _without_prefixed(send: Send) -> Send:
    """What is sent, without saying what is under keys that the one who loads it does not know."""
    ways = (UNKNOWN if any(part.prefixed for part in way.parts) else way for way in send.ways)
    return replace(send, ways=tuple(ways))


def _own_models(way: _Way, client: Client) -> _Way:
    """A way without the models that are certainly not the client's."""
    return replace(way, participants=tuple(one for one in way.participants if client.may_have(one.conditions)))


def _as_loaded(send: Send, taking: set[Made]) -> Send:
    """What is sent of a submodule, as a part of the model that takes what arrives: ``model.body.state_dict()`` on one
    side, keys of the whole model that begin with ``body`` on the other."""
    return replace(
        send, ways=tuple(replace(way, parts=tuple(_whole(part, taking) for part in way.parts)) for way in send.ways)
    )


def _whole(part: Part, taking: set[Made]) -> Part:
    if part.inside is None or part.covers != EVERYTHING or taking & set(part.models):
        return part
    models = tuple(model for model in part.inside[0] if model in taking)
    return replace(part, models=models, covers=Starts((part.inside[1],))) if models else part


def _arrives(load: Load) -> bool:
    """Whether what is loaded is known to have arrived, and was not read from a file or taken from the client itself."""
    return any(part.source == "message" for way in load.ways for part in way.parts)


def _metrics(way: Cargo) -> bool:
    """Whether a dict is written out, name by name: no state."""
    return way.shape == "dict" and all(
        part.source == "unknown" and isinstance(part.covers, Equals) for part in way.parts
    )


def _put_back(load: Load) -> Iterator[Step]:
    """A load that puts some entries of a model back, and leaves others: what a party keeps."""
    for way in load.ways:
        others = [part for part in way.parts if part.source != "message"]
        if not others and way.shape != "unknown":
            continue
        whole = load.strict and not any(part.source == "message" for part in way.parts)
        if not whole and not (_own(way.parts) and way.shape == "dict"):
            yield Step(load.env.module, load.node, "entries are put back here")


def _own(parts: tuple[Part, ...]) -> bool:
    """Whether a dict begins as the model's own state, and what arrives takes its place."""
    return parts[0].source == "model" and all(part.source == "message" for part in parts[1:])
