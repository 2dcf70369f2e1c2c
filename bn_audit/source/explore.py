"""From a file that may call FLModel to its sites: run the scopes of the calls, follow parameters to the callers, and
say what
was found as plain data.

A call whose model or settings come from parameters is judged once for every caller in the project. The site then
stands at
the outermost call that settles the model and ``skip_bn``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import libcst as cst

from bn_audit.finding import Evidence
from bn_audit.site import FLModelCall, FLModelSite, SkipBnEdit
from bn_audit.source.interpreter.flmodel import Arrival, relevant
from bn_audit.source.interpreter.needs import FLMODEL, Needs
from bn_audit.source.interpreter.roots import execute_root
from bn_audit.source.interpreter.run import MAX_STEPS, Budget, Change, Run, World, worlds
from bn_audit.source.interpreter.values import Func, Step
from bn_audit.source.locate import Locator
from bn_audit.source.names import statements as flat
from bn_audit.source.project import Project, PyModule
from bn_audit.source.skip_bn_edit import Candidate, candidate, edit
from bn_audit.source.targets import Target, Tree, called_name
from bn_audit.source.text import SourceError
from bn_audit.source.wrap_edit import Wrap, wrap, wrap_edits

__all__ = ["Explorer"]

_MAX_LEVELS = 5
"""Callers of callers that are gone through."""
_MAX_CALLERS = 64
"""Calls of one function that are looked into."""

_MAX_BRANCHES = 32
"""Branches of one scope whose calls are looked at apart."""
_MAX_FILE_STEPS = 500_000
"""Steps for the calls of one file, above which no more callers are followed and each scope gets little."""
_RUN_STEPS = 1_000
"""What running a scope costs beside the steps in it."""
_LEAST_STEPS = 10_000
_MAX_TRIAL_STEPS = 200_000
"""Steps for trying edits of the calls of one file."""

Finder = Callable[[str, PyModule], Sequence[str]]
"""The files in which a function of a module may be called, by its name."""


@dataclass(frozen=True, slots=True)
class Trail:
    """An FLModel call being followed upwards: where its site stands so far, and whether the next caller moves it."""

    origin: Target
    place: Step
    moves: bool
    tail: tuple[Target, ...] = ()


@dataclass(slots=True)
class _Group:
    """What came of one target and one trail: the arrivals of each world."""

    target: Target
    trail: Trail
    level: int
    worlds: list[list[Arrival]] = field(default_factory=list)
    complete: bool = True
    no_further: bool = False
    """Whether what follows the target was not run, as there is too much of it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """What becomes a site: its place, and what reaches FLModel there. ``number`` is None if it is all of the group."""

    group: _Group
    place: Step
    arrivals: list[Arrival]
    number: int | None


class Explorer:
    """Finds the sites of files; keeps what it has parsed."""

    def __init__(self, project: Project, finder: Finder) -> None:
        self.project = project
        self.finder = finder
        self.locator = Locator(project)
        self.notes: list[str] = []
        self._callers: dict[int, list[Target]] = {}
        self._steps = _MAX_FILE_STEPS
        """What is left of them for the file in hand."""
        self._trial_steps = _MAX_TRIAL_STEPS

    def tree(self, module: PyModule) -> Tree:
        return module.derive(Tree)

    def names(self, module: PyModule, triggers: Sequence[str]) -> set[str]:
        """Names that may stand for FLModel in a file."""
        return self.tree(module).spread(triggers)

    def sites(self, module: PyModule, triggers: Sequence[str] = ("FLModel",)) -> list[FLModelSite]:
        """The sites of a file's FLModel calls; those that its callers settle stand in the callers' files."""
        tree = self.tree(module)
        self._steps = _MAX_FILE_STEPS
        self._trial_steps = _MAX_TRIAL_STEPS
        names = self.names(module, triggers)
        targets = [
            tree.target(call, FLMODEL if called_name(call) == "FLModel" else None) for call in tree.calls_of(names)
        ]
        groups: list[tuple[_Group, Run]] = []
        for same in _by_scope(targets):
            trails = [Trail(target, Step(target.module, target.node), False) for target in same]
            groups.extend(self._explore(same, trails, 0, frozenset()))
        return self._sites([group for group, _ in groups])

    def _explore(
        self, targets: list[Target], trails: list[Trail], level: int, seen: frozenset[int]
    ) -> list[tuple[_Group, Run]]:
        """Run the scope of ``targets``; each trail's FLModel call is looked for among what the run reaches."""
        groups, last = self._run(targets, trails, level)
        result: list[tuple[_Group, Run]] = []
        for group in groups:
            above = self._above(group, last, level, seen) if last is not None else []
            result.extend(above or ([(group, last)] if last is not None else []))
        return result

    def _run(self, targets: list[Target], trails: list[Trail], level: int) -> tuple[list[_Group], Run | None]:
        groups, last, complete = self._gather(targets, trails, level, no_further=False)
        if not complete:
            # What follows a call says how its FLModel is used, and nothing of what it is made with.
            again, run, complete = self._gather(targets, trails, level, no_further=True)
            if complete and again:
                groups, last = again, run
        if not complete:
            self.notes.append(f"{self.project.display(targets[0].module.path)}: more to follow than the limit allows")
        return groups, last

    def _gather(
        self, targets: list[Target], trails: list[Trail], level: int, *, no_further: bool
    ) -> tuple[list[_Group], Run | None, bool]:
        """The groups of one target and trail each, the last world's run, and whether all worlds were run to the end."""
        steps = max(_LEAST_STEPS, min(MAX_STEPS, self._steps))
        budget = Budget(steps)
        complete = True
        groups: dict[tuple[int, int], _Group] = {}
        last: Run | None = None
        symbolic: dict[str, Func] = {}
        for world in self._worlds(targets, trails, budget, no_further=no_further):
            last = world.run
            symbolic.update(world.run.symbolic)
            found = _assign(world, targets, trails, level)
            for key, (target, trail, arrivals) in found.items():
                group = groups.setdefault(key, _Group(target, trail, level, no_further=no_further))
                group.worlds.append(arrivals)
            complete = complete and world.complete
        for group in groups.values():
            group.complete = complete
        self._steps -= _RUN_STEPS + steps - budget.left
        if last is not None:
            last.symbolic = symbolic
        return list(groups.values()), last, complete

    def _worlds(
        self,
        targets: list[Target],
        trails: list[Trail],
        budget: Budget,
        change: Change | None = None,
        *,
        no_further: bool,
    ) -> Iterator[World]:
        further = {id(target.node): target for trail in trails for target in (*trail.tail, trail.origin)}
        rest = tuple(further.values())
        return worlds(self.project, lambda run: execute_root(run, targets, rest, no_further=no_further), budget, change)

    def _above(self, group: _Group, run: Run, level: int, seen: frozenset[int]) -> list[tuple[_Group, Run]]:
        """The same trail from the callers, if it depends on parameters that a caller gives."""
        if level >= _MAX_LEVELS or self._steps <= 0:
            return []
        settling: frozenset[str] = frozenset()
        other: frozenset[str] = frozenset()
        for arrivals in group.worlds:
            for arrival in arrivals:
                settling |= arrival.model_deps | arrival.skip_deps
                other |= arrival.other_deps
        funcs: dict[int, Func] = {}
        for key, func in run.symbolic.items():  # in the order of the run: keys hold identities, which differ by process
            if key in settling | other and id(func.node) not in seen:
                funcs[id(func.node)] = func
        if not funcs:
            # Nothing depends on a caller; but one that is given the FLModel may fit and evaluate it.
            maker = next((a.returned_by for arrivals in group.worlds for a in arrivals if a.returned_by), None)
            if maker is not None and id(maker.node) not in seen:
                funcs[id(maker.node)] = maker
        result: list[tuple[_Group, Run]] = []
        for number, func in funcs.items():
            moves = any(run.symbolic.get(key) is func or _same(run.symbolic.get(key), func) for key in settling)
            place = group.trail.place if not group.trail.moves else Step(group.target.module, group.target.node)
            tail = (*group.trail.tail, group.target) if level else group.trail.tail
            trail = Trail(group.trail.origin, place, moves, tail)
            for same in _by_scope(self.callers(func, self._needs(func, run))):
                if self._steps > 0:
                    result.extend(self._explore(same, [trail], level + 1, seen | {number}))
                else:
                    self.notes.append(f"{self.project.display(func.module.path)}: more callers than are followed")
        known = _settled(group)
        for above, _ in result:
            if above.trail.moves and above.trail.place is place and _settled(above) == known:
                above.trail = replace(above.trail, moves=False)  # this caller settles nothing
        return result

    def _needs(self, func: Func, run: Run) -> Needs | None:
        """Which parameters of a function matter for the FLModel calls it leads to."""
        if func.name == "__init__" or isinstance(func.node, cst.Lambda):
            return None
        params = func.node.params
        names = [param.name.value for param in (*params.posonly_params, *params.params)]
        if func.owner is not None and func.kind != "staticmethod":
            names = names[1:]
        wanted = relevant(run, func.module, flat(func.node.body))
        keywords = [param.name.value for param in params.kwonly_params]
        return Needs((*names, *keywords), wanted)

    def callers(self, func: Func, needs: Needs | None = None) -> list[Target]:
        """The calls of a function of the project, or of the class whose ``__init__`` it is."""
        key = id(func.node)
        found = self._callers.get(key)
        if found is not None:
            return found
        found = []
        name = func.owner.name if func.name == "__init__" and func.owner is not None else func.name
        if isinstance(func.node, cst.Lambda):
            name = self.tree(func.module).assigned_to(func.node)
        if name.isidentifier():
            for path in self.finder(name, func.module):
                try:
                    module = self.project.open(path)
                except SourceError:
                    continue
                tree = self.tree(module)
                for call in tree.calls_of(tree.spread([name])):
                    target = tree.target(call, needs)
                    if not any(scope is func.node for scope in target.scopes):
                        found.append(target)
                if len(found) >= _MAX_CALLERS:
                    self.notes.append(
                        f"{self.project.display(func.module.path)}: {name} has more callers than are followed"
                    )
                    found = found[:_MAX_CALLERS]
                    break
        self._callers[key] = found
        return found

    # --- plain data --------------------------------------------------------------------------------------------------

    def _sites(self, groups: list[_Group]) -> list[FLModelSite]:
        rows = [row for group in groups for row in _rows(group)]
        changes: dict[int, Candidate] = {}
        wraps: dict[int, Wrap] = {}
        for number, row in enumerate(rows):
            found = candidate(row.place, row.arrivals, self.tree(row.place.module)) if row.group.complete else None
            if found is not None:
                changes[number] = found
            around = wrap(row.place, row.arrivals) if row.group.complete else None
            if around is not None:
                wraps[number] = around
            for step in (
                row.place,
                *(step for arrival in row.arrivals for step in _steps(arrival)),
                *(found.steps if found is not None else ()),
                *(around.steps if around is not None else ()),
            ):
                self.locator.want(step)
        result: dict[tuple[object, ...], FLModelSite] = {}
        for number, row in enumerate(rows):
            place, arrivals = row.place, row.arrivals
            readings = _distinct([self._reading(arrival) for arrival in arrivals])
            if not row.group.complete:
                end = Evidence(self.locator.at(arrivals[0].step), "there is more to follow than the limit allows")
                readings.append(replace(readings[0], model=None, unresolved=end, conditions=()))
            location = self.locator.at(place)
            call = arrivals[0].step
            through = tuple(
                Evidence(self.locator.at(step), "called here")
                for step in arrivals[0].chain
                if step.node is not place.node and step.node is not call.node
            )
            for arrival in arrivals:
                if arrival.unresolved is not None:
                    where = self.locator.at(arrival.unresolved)
                    self.notes.append(
                        f"{where.path}:{where.line}: the trail to a model ends: {arrival.unresolved.message}"
                    )
            change = self._edit(changes[number], row, readings) if number in changes else None
            edits = wrap_edits(wraps[number], self.locator) if number in wraps else ()
            site = FLModelSite(location, self.locator.at(call), tuple(readings), through, change, edits)
            # Of several ways to one call that come to the same, the first is told.
            result.setdefault((site.location, site.call, site.readings), site)
        return list(result.values())

    def _edit(self, found: Candidate, row: _Row, readings: Sequence[FLModelCall]) -> SkipBnEdit | None:
        """What to write so that a call passes ``skip_bn=True``, if that is certainly all that changes."""
        if found.certain or self._holds(found, row, readings):
            return edit(found, self.locator)
        return None

    def _holds(self, found: Candidate, row: _Row, readings: Sequence[FLModelCall]) -> bool:
        """Try a change: whether the readings are the same afterwards, but for ``skip_bn``."""
        if self._trial_steps <= 0:
            return False
        group, change = row.group, found.change
        steps = max(_LEAST_STEPS, min(MAX_STEPS, self._trial_steps))
        budget = Budget(steps)
        tried = _Group(group.target, group.trail, group.level)
        ways = self._worlds([group.target], [group.trail], budget, change, no_further=group.no_further)
        for world in ways:
            tried.complete = tried.complete and world.complete
            for target, trail, arrivals in _assign(world, [group.target], [group.trail], group.level).values():
                if target is group.target and trail is group.trail:
                    tried.worlds.append(arrivals)
        self._trial_steps -= _RUN_STEPS + steps - budget.left
        if change.refused or not tried.complete or len(tried.worlds) != len(group.worlds):
            return False
        after = next((other.arrivals for other in _rows(tried) if other.number == row.number), [])
        wanted = {_bare(replace(reading, skip_bn=True, skip_bn_passed=True)) for reading in readings}
        return {_bare(self._reading(arrival)) for arrival in after} == wanted

    def _reading(self, arrival: Arrival) -> FLModelCall:
        at = self.locator.at
        unresolved = (
            None if arrival.unresolved is None else Evidence(at(arrival.unresolved), arrival.unresolved.message)
        )
        return FLModelCall(
            model=None if arrival.raw is None else self.locator.profile(arrival.raw),
            model_name=arrival.model_name,
            model_trail=self._trail(arrival.model_trail),
            unresolved=unresolved,
            backend=arrival.backend,
            strategy=arrival.strategy,
            aggregator=arrival.aggregator,
            skip_bn=arrival.skip_bn,
            skip_bn_passed=arrival.skip_bn_passed,
            settings_trail=self._trail(arrival.settings_trail),
            base_module=arrival.base_module,
            wrapped=arrival.wrapped,
            trains_after_eval=self._trail(_trains_after_eval(arrival)),
            conditions=tuple(
                dict.fromkeys(
                    f"{decision.text} is {'true' if decision.holds else 'false'}" for decision in arrival.decisions
                )
            ),
        )

    def _trail(self, steps: Sequence[Step]) -> tuple[Evidence, ...]:
        return tuple(dict.fromkeys(Evidence(self.locator.at(step), step.message) for step in steps))


def _distinct(readings: Sequence[FLModelCall]) -> list[FLModelCall]:
    """The readings that differ in more than what they assume; of assumptions only those that all alike ones share."""
    found: dict[FLModelCall, tuple[str, ...]] = {}
    for reading in readings:
        bare = replace(reading, conditions=())
        shared = found.get(bare, reading.conditions)
        found[bare] = tuple(condition for condition in shared if condition in reading.conditions)
    if len(found) == 1:
        return list(found)
    return [replace(bare, conditions=conditions) for bare, conditions in found.items()]


def _bare(reading: FLModelCall) -> FLModelCall:
    """A reading without where its settings come from and what it assumes."""
    return replace(reading, settings_trail=(), conditions=())


def _same(one: Func | None, other: Func) -> bool:
    return one is not None and one.node is other.node


def _by_scope(targets: Sequence[Target]) -> list[list[Target]]:
    """Targets that share all their scopes and branches, so that one run serves them: one that a condition leads to
    another may not see."""
    found: dict[tuple[str, tuple[int, ...]], dict[tuple[int, ...], list[Target]]] = {}
    for target in targets:
        scopes = found.setdefault((target.module.path, tuple(id(scope) for scope in target.scopes)), {})
        branch = tuple(id(node) for node in target.branches) if len(scopes) < _MAX_BRANCHES else ()
        scopes.setdefault(branch, []).append(target)
    return [group for scopes in found.values() for group in scopes.values()]


def _settled(group: _Group) -> set[tuple[object, ...]]:
    """What is known of model and ``skip_bn`` in the worlds of a group."""
    return {
        (
            None if arrival.raw is None else arrival.raw.profile,
            arrival.skip_bn,
            arrival.skip_bn_passed,
            arrival.wrapped,
        )
        for arrivals in group.worlds
        for arrival in arrivals
    }


def _assign(
    world: World, targets: list[Target], trails: list[Trail], level: int
) -> dict[tuple[int, int], tuple[Target, Trail, list[Arrival]]]:
    """Which arrivals belong to which target and trail."""
    by_node = {id(target.node): target for target in targets}
    by_origin: dict[int, list[Trail]] = {}
    for trail in trails:
        by_origin.setdefault(id(trail.origin.node), []).append(trail)
    found: dict[tuple[int, int], tuple[Target, Trail, list[Arrival]]] = {}
    for arrival in world.arrivals:
        nodes = [id(step.node) for step in arrival.chain]
        target = by_node.get(nodes[0])
        if target is None and not level and len(targets[0].functions) > 1:
            # The call stands in a function inside another, which was run, and has called the inner one itself.
            target = by_node.get(nodes[-1])
        if target is None and level:
            # A method of an object whose constructor is the target: that call made the object, and is not on the way.
            target = next((candidate for key, candidate in by_node.items() if key in arrival.makers), None)
        if target is None:
            continue
        for node in dict.fromkeys(nodes):
            for trail in by_origin.get(node, ()):
                key = (id(target.node), node)
                found.setdefault(key, (target, trail, []))[2].append(arrival)
    return found


def _rows(group: _Group) -> Iterator[_Row]:
    """The sites of a group: the n-th arrival of every world is one site; where their numbers differ, all are one."""
    trail = group.trail
    place = Step(group.target.module, group.target.node) if trail.moves else trail.place
    counts = {len(arrivals) for arrivals in group.worlds}
    if len(counts) == 1:
        for number in range(counts.pop()):
            yield _Row(group, place, [arrivals[number] for arrivals in group.worlds], number)
    else:
        yield _Row(group, place, [arrival for arrivals in group.worlds for arrival in arrivals], None)


def _steps(arrival: Arrival) -> Iterator[Step]:
    yield arrival.step
    yield from arrival.chain
    yield from arrival.model_trail
    yield from arrival.settings_trail
    if arrival.unresolved is not None:
        yield arrival.unresolved
    yield from _trains_after_eval(arrival)
    if arrival.raw is not None:
        for step in (*arrival.raw.norm_steps, *arrival.raw.gap_steps):
            if step is not None:
                yield step


def _trains_after_eval(arrival: Arrival) -> list[Step]:
    """What leaves the model in eval mode before it is trained again (FACTS: evaluate() does, and some strategies
    never call
    train()): validation within a fit of more than one epoch, or an evaluation or validation before another fit."""
    found: list[Step] = []
    for number, event in enumerate(arrival.events):
        trained_later = any(later.method == "fit" for later in arrival.events[number + 1 :])
        if event.method == "fit" and event.validates:
            if event.epochs != 1:
                found.append(event.step.saying("this fit validates after each epoch and trains on"))
            elif trained_later:
                found.append(event.step.saying("this fit validates, and another one follows"))
        elif event.method == "evaluate" and trained_later:
            found.append(event.step.saying("the model is evaluated here, and trained again later"))
    return found
