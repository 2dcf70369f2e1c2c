"""What was found in a file, as plain data: federations to sites."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import libcst as cst

from bn_audit.federation import AveragingSite, ExchangeSite, FederatedSite, Participant, ServerStepSite, united
from bn_audit.filters import EVERYTHING, All, Equals, Floating, Not, Test
from bn_audit.finding import Evidence, Location
from bn_audit.source.flow.exchange_sites import ExchangeWriter
from bn_audit.source.flow.exchanges import ClientHunter
from bn_audit.source.flow.filters import concerns, read_test, read_tests, words_of
from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.following import Finder
from bn_audit.source.flow.forms import forms
from bn_audit.source.flow.hunt import Federation, Hunter
from bn_audit.source.flow.keys import born_with, keys_of, narrowed
from bn_audit.source.flow.models import ModelReading, chain_of
from bn_audit.source.flow.modes.sites import ModeSites
from bn_audit.source.flow.options import Options
from bn_audit.source.flow.values import Env, Filter, Made, State, Stepped
from bn_audit.source.interpreter.values import Step
from bn_audit.source.locate import Locator
from bn_audit.source.nodes import dotted_name
from bn_audit.source.project import Project, PyModule

__all__ = ["FederatedReader"]

_FILE_STEPS = 30_000
"""What following the trails of one file may take."""
_MAX_STATES = 4
"""Places where states are taken that a trail names."""


class FederatedReader:
    """Finds what is federated in files; keeps what it has found out."""

    def __init__(self, project: Project, finder: Finder) -> None:
        self.follower = Follower(project, finder)
        options = Options(project, finder)
        self.hunter = Hunter(self.follower, options)
        self.clients = ClientHunter(self.follower, options)
        self.locator = Locator(project)
        self.writer = ExchangeWriter(self.locator, self._participants_of, calls_of)
        self.modes = ModeSites(self.follower, self.hunter.reader, self.locator, self.participants)
        self.notes: list[str] = []

    def sites(self, module: PyModule) -> list[FederatedSite]:
        """The sites whose trail begins in a file."""
        self.follower.steps, self.follower.exhausted = _FILE_STEPS, False
        found = list(self.hunter.federations(module))
        clients = list(self.clients.clients(module))
        if self.follower.exhausted:
            self.notes.append(f"{self.follower.project.display(module.path)}: more to follow than the limit allows")
        self._want(found)
        averagings = [(id(row.averaging.scope), self._averaging(row)) for row in found]
        steps = _first_steps(self._step(row, stepped) for row in found for stepped in row.steps)
        exchanges = [self.writer.site(client) for client in clients]
        self._note_ends(found, [row for _, row in averagings], exchanges)
        modes = self.modes.sites(found, clients)
        self.notes.extend(self.modes.notes)
        self.modes.notes.clear()
        return [*merged(dict.fromkeys(averagings)), *dict.fromkeys(steps), *dict.fromkeys(exchanges), *modes]

    def _note_ends(
        self, found: Sequence[Federation], averagings: Sequence[AveragingSite], exchanges: Sequence[ExchangeSite]
    ) -> None:
        """Say where no model could be followed to a place at which states are averaged or exchanged, or not into what
        it is made of."""
        ends: dict[Location, str] = {}
        for row in found:
            if not row.readings:
                averaged = self.locator.at(Step(row.env.module, row.averaging.node))
                where = self.locator.at(row.states[0]) if row.states else averaged
                ends.setdefault(where, f"its state is averaged at {averaged.path}:{averaged.line}")
        participants = [one for site in averagings for one in site.participants]
        for site in exchanges:
            for way in site.sends:
                participants.extend(way.participants)
                if not way.participants:
                    ends.setdefault(way.location, f"its state is what `{site.name}` sends")
        for one in participants:
            for gap in one.profile.gaps if not one.profile.norms else ():
                if gap.may_hold_norm and gap.location is not None:
                    ends.setdefault(gap.location, gap.reason)
        for where, text in ends.items():
            self.notes.append(f"{where.path}:{where.line}: the trail to a model ends: {text}")

    def _want(self, found: Sequence[Federation]) -> None:
        """Say of all federations at once what will be located: a file is gone over for each time that it is asked for
        something new."""
        for row in found:
            steps = [Step(row.env.module, row.averaging.node), *calls_of(row.env), *row.states, row.load]
            steps.extend(Step(stepped.env.module, stepped.step.node) for stepped in row.steps)
            for reading in row.readings:
                raw = (*reading.raw.norm_steps, *reading.raw.gap_steps, *reading.trail)
                steps.extend(step for step in raw if step is not None)
            steps.extend(self._pick_steps(row))
            steps.extend(step for made in row.makers for step in _way(made))
            for step in steps:
                self.locator.want(step)

    def _step(self, found: Federation, stepped: Stepped) -> ServerStepSite:
        step, env = stepped.step, stepped.env
        combined = Step(found.env.module, found.averaging.node, "the parties' states are combined here")
        return ServerStepSite(
            location=self.locator.at(Step(env.module, step.node)),
            kind=step.kind,
            participants=self.participants(found.readings, found.makers),
            covers=read_tests(self.follower, step.tests, step.key, env),
            averaging=self.evidence([combined])[0],
            load=None if found.load.node is found.averaging.node else self.evidence([found.load])[0],
        )

    def _averaging(self, found: Federation) -> AveragingSite:
        averaging, env = found.averaging, found.env
        return AveragingSite(
            location=self.locator.at(Step(env.module, averaging.node)),
            what="parameters" if found.what == "parameters" else "state",
            participants=self.participants(found.readings, found.makers),
            covers=self._covers(found),
            forms=forms(self.follower, averaging, env, found.onto, found.load.module),
            through=self.evidence(calls_of(env)),
            states=self.evidence(found.states)[:_MAX_STATES],
            load=None if found.load.node is averaging.node else self.evidence([found.load])[0],
            picks=self.evidence(self._pick_steps(found)),
        )

    def _pick_steps(self, found: Federation) -> list[Step]:
        """Where the conditions on entries stand."""
        tests = [(test, found.averaging.key, found.env) for test, _ in found.averaging.tests]
        tests.extend((row.node, row.key, row.env) for row in found.filters)
        return [Step(env.module, node, "entries are picked here") for node, key, env in tests if concerns(node, key)]

    def _covers(self, found: Federation) -> Test:
        """Which entries are combined: those that pass the averaging's own conditions, and all on the way."""
        own = read_tests(self.follower, found.averaging.tests, found.averaging.key, found.env)
        others: list[Test] = []
        if found.apart:
            others.append(Floating())
        keys = keys_of(self.follower, found.averaging, found.env)
        if keys is not None and (len(keys[0].names) == 1 and found.averaging.key):
            words = words_of(self.follower, keys[0].iter, keys[1])
            if words is not None:  # ``for key in ("fc.weight", "fc.bias")``
                others.append(Equals(words))
        over, run = (keys[0].iter, keys[1]) if keys is not None else (found.averaging.slot, found.env)
        picked = narrowed(self.follower, over, run) if over is not None else ()
        for row in (*found.filters, *picked, *born_with(self.follower, found.averaging, found.env)):
            if not concerns(row.node, row.key) or self._are_those_loaded(row, found):
                continue
            test = read_test(self.follower, row.node, row.key, row.env)
            others.append(test if row.wanted else Not(test))
        tests = tuple(dict.fromkeys(test for test in (own, *others) if test != EVERYTHING))
        return tests[0] if len(tests) == 1 else All(tests)

    def _are_those_loaded(self, row: Filter, found: Federation) -> bool:
        """Whether the entries that pass are those of the model that the result is loaded into: ``if key in
        net.state_dict()`` leaves nothing of it out."""
        asked, load = row.node, found.load.node
        if not isinstance(asked, cst.Comparison) or not isinstance(load, cst.Call) or not row.wanted:
            return False
        operator, held = asked.comparisons[0].operator, asked.comparisons[0].comparator
        if len(asked.comparisons) > 1 or not isinstance(operator, cst.In) or dotted_name(asked.left) != row.key:
            return False
        if not isinstance(load.func, cst.Attribute) or load.func.attr.value != "load_state_dict":
            return False
        if isinstance(held, cst.Call) and isinstance(held.func, cst.Attribute) and held.func.attr.value == "keys":
            held = held.func.value
        states = self.follower.origins(held, row.env)
        loaded = set(self.follower.origins(load.func.value, self.follower.env(found.load.module, load)))
        return bool(states) and all(
            isinstance(state, State) and state.what == "state" and not state.filters and state.model in loaded
            for state in states
        )

    def _participants_of(self, models: Iterable[Made]) -> tuple[Participant, ...]:
        """Models as plain data, each as it may turn out."""
        makers = list(models)
        readings = (reading for made in makers for reading in self.hunter.reader.readings(made))
        return self.participants(readings, makers)

    def participants(self, readings: Iterable[ModelReading], makers: Iterable[Made] = ()) -> tuple[Participant, ...]:
        """Models as plain data, each once.

        Args:
            readings: as each may turn out.
            makers: the models, each as often as it is made in another way.
        """
        readings = list(readings)
        ways = self._ways(makers)
        for reading in readings:
            for step in (*reading.raw.norm_steps, *reading.raw.gap_steps, *reading.trail):
                if step is not None:
                    self.locator.want(step)
        rows = (
            Participant(
                reading.name,
                self.locator.profile(reading.raw),
                reading.conditions,
                self.evidence(reading.trail),
                ways.get(reading.made, ()),
            )
            for reading in readings
        )
        return united(rows)

    def _ways(self, makers: Iterable[Made]) -> Mapping[Made, tuple[tuple[Location, ...], ...]]:
        """The calls that lead to each model, by what makes it."""
        found: dict[Made, dict[tuple[Location, ...], None]] = {}
        for made in makers:
            found.setdefault(made, {})[tuple(map(self.locator.at, _way(made)))] = None
        return {made: tuple(ways) for made, ways in found.items()}

    def evidence(self, steps: Sequence[Step]) -> tuple[Evidence, ...]:
        """Steps of a trail as plain data, each once."""
        return tuple(dict.fromkeys(Evidence(self.locator.at(step), step.message) for step in steps))


def _way(made: Made) -> list[Step]:
    """The calls that lead to the one that makes a model, outermost first, that one last; its class if there is none."""
    return [Step(module, call) for module, call in chain_of(made)] or [Step(made.env.module, made.node)]


def _first_steps(rows: Iterable[ServerStepSite]) -> list[ServerStepSite]:
    """One site for what is done to entries in the same way at several places of a file."""
    found: dict[tuple[object, ...], ServerStepSite] = {}
    for row in sorted(rows, key=lambda row: row.location):
        found.setdefault((row.location.path, row.kind, row.participants, row.covers, row.load), row)
    return list(found.values())


def merged(rows: Iterable[tuple[int, AveragingSite]]) -> list[AveragingSite]:
    """One site for all that one function combines in the same way for the same models: its branches, its terms.

    ``rows`` are sites, each with what identifies the function.
    """
    found: dict[tuple[object, ...], AveragingSite] = {}
    rows = list(_of_all_callers(rows))
    for function, site in rows:
        beside = dict.fromkeys(row.covers for other, row in rows if other == function and row.covers != site.covers)
        site = replace(site, beside=tuple(beside))
        key = (function, site.what, site.covers, site.participants)
        known = found.get(key)
        if known is None:
            found[key] = site
        elif site.location != known.location:
            first, second = sorted((known, site), key=lambda one: one.location)
            again = Evidence(second.location, "and here, in the same way")
            participants = united((*known.participants, *site.participants))
            places = tuple(dict.fromkeys((*known.again, *site.again, again)))
            found[key] = replace(first, participants=participants, again=places)
    return list(found.values())


def _of_all_callers(rows: Iterable[tuple[int, AveragingSite]]) -> Iterator[tuple[int, AveragingSite]]:
    """One site for what one place combines, whoever calls it: with the models of all."""
    found: dict[tuple[object, ...], tuple[int, AveragingSite]] = {}
    for function, site in rows:
        key = (function, site.location, site.what, site.covers)
        known = found.setdefault(key, (function, site))[1]
        if site.participants != known.participants:
            participants = united((*known.participants, *site.participants))
            forms = tuple(dict.fromkeys((*known.forms, *site.forms)))
            found[key] = function, replace(known, participants=participants, forms=forms)
    yield from found.values()


def calls_of(env: Env) -> list[Step]:
    """The calls that lead to a run of a scope, outermost first."""
    found: list[Step] = []
    current: Env | None = env
    while current is not None:
        if current.call is not None and current.caller is not None:
            found.append(Step(current.caller.module, current.call, "called here"))
        current = current.caller
    return found[::-1]
