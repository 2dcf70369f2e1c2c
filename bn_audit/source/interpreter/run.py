"""One run of the interpreter: the state that a world shares, its budget, and the decisions it rests on.

Where a condition is not known, the interpreter takes one branch and notes the decision; the driver runs again for the
other
branch. So every run sees one consistent world with concrete values, and a reading says what it had to assume.
Decisions are
bounded: past the bound neither branch is run, and all that they might have changed becomes unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.values import Const, Func, Step, Unknown, Value, next_number

if TYPE_CHECKING:
    import libcst as cst

    from bn_audit.source.interpreter.flmodel import Arrival
    from bn_audit.source.interpreter.needs import Needs
    from bn_audit.source.interpreter.values import ListVal, Module
    from bn_audit.source.project import Project, PyModule

__all__ = [
    "MAX_CALL_STEPS",
    "MAX_DEPTH",
    "MAX_FORKS",
    "BudgetExceeded",
    "CallTooLong",
    "Change",
    "Decision",
    "Reached",
    "Run",
    "worlds",
]

_WORD = re.compile(r"\w+")
MAX_DEPTH = 48
"""Calls within calls that are followed."""
MAX_FORKS = 5
"""Unknown conditions of one run that are tried both ways; 32 worlds at most."""
MAX_ASIDE = 2
"""How many of them may stand in functions that lead to no target, where only a model is asked for."""
MAX_STEPS = 140_000
"""Expressions and statements evaluated for one target, over all its worlds."""


MAX_CALL_STEPS = 40_000
"""The most that one call made by a root may take of them."""


class BudgetExceeded(Exception):
    """The trail is longer than we follow."""


class CallTooLong(Exception):
    """One call takes more than its share: what it returns becomes unknown."""


class Reached(Exception):
    """All that was looked for has been reached, and nothing else is asked."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A condition that was not known and what was assumed of it."""

    key: str
    text: str
    outcome: bool
    deps: frozenset[str]
    forced: bool = False
    """Not tried the other way: only so the call in question is reached, or it is likely and enough has been tried."""
    first: bool = True
    """The outcome that is tried first."""
    aside: bool = False
    """Met in a function that leads to no target, or where nothing comes of either outcome."""
    negated: bool = False
    """The text says the opposite of the key: ``not plain``, ``norm != "gn"``."""

    @property
    def holds(self) -> bool:
        """Whether what the text says holds."""
        return self.outcome != self.negated


@dataclass(slots=True)
class Budget:
    """Steps left, shared by all the worlds of a target."""

    left: int = MAX_STEPS
    relevant: dict[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    """The names that matter in each body of statements, which are the same in all worlds."""
    passed: set[int] = field(default_factory=set)
    """Statements that touch such names after they have mattered."""


@dataclass(slots=True, eq=False)
class Change:
    """A change of the source that a run takes to be made: a call is given one more keyword, or a constant is True.

    Attributes:
        node: the call, or the constant.
        keyword: what the call is given; "" if the node is a constant.
        new: whether nobody has been given the keyword before, so that what it is handed on to may refuse it.
        value: what reaches those that take it.
        refused: whether some call certainly, or perhaps, does not take the keyword, or has it already.
    """

    node: cst.CSTNode
    keyword: str = ""
    new: bool = False
    value: Const = field(default_factory=lambda: Const(True))
    refused: bool = False


class Run:
    """State of one world."""

    def __init__(self, project: Project, prefix: list[bool], budget: Budget, change: Change | None = None) -> None:
        self.project = project
        self.budget = budget
        self.prefix = prefix
        self.change = change
        self.decisions: list[Decision] = []
        self.assumed: dict[str, bool] = {}
        self.equal: dict[str, Any] = {}
        self.likely: Mapping[str, Const] = {}
        """What options are if nobody says otherwise, by their names: which world is looked at first, and no more."""
        self.beside: Callable[[PyModule, str], Sequence[Mapping[str, object]]] = lambda module, key: ()
        """What the files of settings say that lie beside a program and have a key, one by one."""
        self.settings: dict[int, str] = {}
        """By call that makes what settings name: what these are called, where the call itself does not say so."""
        self.module_frames: dict[str, Frame] = {}
        self.final: dict[str, set[str]] = {}
        self.imported_at: dict[int, Step] = {}
        self.keep: list[Value] = []
        """Values whose identity is used as a key: kept alive so that no other value takes their place."""
        self._loops: list[int] = []
        """For each loop around that runs an unknown number of times, the number of the first value made in it."""
        self.targets: frozenset[int] = frozenset()
        self.needs: dict[int, Needs] = {}
        """By target call: which of its arguments matter."""
        self.target_paths: frozenset[int] = frozenset()
        """Nodes on the way from a root's body down to a target: their branches are entered when a condition is
        unknown."""
        self.arrivals: list[Arrival] = []
        self.reached: set[int] = set()
        self.until: Frame | None = None
        """The frame of the root's own statements, if the run ends as soon as it has reached its targets."""
        self.carried = True
        """Whether what is made from the result of a target matters too: a trainer made from a model, and its calls."""
        self.watched: dict[int, Value | None] = {}
        """By call, by its identity: what it gave last. Only for calls that somebody put here."""
        self.making = 0
        """Above 0 inside such a call."""
        self.made_by: dict[int, Value] = {}
        """By these calls: what they called last."""
        self.active: dict[int, int] = {}
        """How often each function is on the stack."""
        self.searched: set[tuple[str, str]] = set()
        """Members that were looked for behind star imports, in the search that is going on."""
        self.resolving: set[tuple[str, str, str]] = set()
        """Members of modules that are being looked up: an import circle meets itself here."""
        self.symbolic: dict[str, Func] = {}
        """Parameters of root functions that were bound to unknowns, by their keys."""
        self.floor = 0
        """A call that is being followed ends when no more steps than this are left."""
        self.serial = 0

    def step(self, count: int = 1) -> None:
        """Count work done: one for an expression or statement, more for what takes longer."""
        self.budget.left -= count
        if self.budget.left < self.floor:
            raise BudgetExceeded if self.budget.left < 0 else CallTooLong

    def decide(
        self,
        key: str,
        text: Callable[[], str],
        deps: frozenset[str],
        forced: bool | None = None,
        likely: bool | None = None,
        aside: bool = False,
        negated: bool = False,
    ) -> bool | None:
        """Assume an unknown condition; None when no more assumptions are allowed in this run.

        Of conditions that stand ``aside``, in functions that lead to no target, few are tried both ways: seldom do they
        matter.
        """
        if key in self.assumed:
            return self.assumed[key]
        if forced is not None:
            self.assumed[key] = forced
            self.decisions.append(Decision(key, text(), forced, deps, True, aside=aside))
            return forced
        tried = [decision for decision in self.decisions if not decision.forced]
        number = len(tried)
        enough = number >= MAX_FORKS or (aside and sum(decision.aside for decision in tried) >= MAX_ASIDE)
        if enough and likely is None:
            return None
        first = likely is not False
        outcome = self.prefix[number] if number < len(self.prefix) and not enough else first
        self.assumed[key] = outcome
        self.decisions.append(Decision(key, text(), outcome, deps, enough, first, aside, negated))
        return outcome

    @property
    def uncertain(self) -> int:
        """Above 0 inside a loop that runs an unknown number of times: how many there are around."""
        return len(self._loops)

    def enter_loop(self) -> None:
        """Begin a loop that runs an unknown number of times."""
        self._loops.append(next_number())

    def leave_loop(self) -> None:
        """End it."""
        self._loops.pop()

    def repeats(self, value: Module | ListVal) -> bool:
        """Whether what is done to a value now is done an unknown number of times: it was there before the loop."""
        return bool(self._loops) and value.number < self._loops[-1]

    def fresh(self) -> str:
        """A key no other value of this run has; the same in every run that got here in the same way."""
        self.serial += 1
        return f"#{self.serial}"

    def module_frame(self, module: PyModule) -> Frame:
        found = self.module_frames.get(module.path)
        if found is None:
            found = Frame("module", module, None)
            self.module_frames[module.path] = found
            self.final[module.path] = set()
        return found

    def settle(self, module: PyModule, name: str, value: Value) -> None:
        """Give a module's name a value from outside its top level, which is not asked again."""
        self.module_frame(module).vars[name] = value
        self.final[module.path].add(name)

    def hint(self, above: str | None, name: str) -> Const | None:
        """What a setting is by default: ``name`` of ``args.model``, where more than models have a name, or of any."""
        words = _WORD.findall(above) if above and self.likely else []
        found = self.likely.get(f"{words[-1]}.{name}") if words else None
        return found or self.likely.get(name)

    def unknown(
        self,
        reason: str,
        module: PyModule | None = None,
        node: cst.CSTNode | None = None,
        *,
        key: str | None = None,
        deps: frozenset[str] = frozenset(),
        called: bool = False,
        text: str | None = None,
        likely: Const | None = None,
        multiple: tuple[str, float] | None = None,
    ) -> Unknown:
        origin = Step(module, node) if module is not None and node is not None else None
        key = key or self.fresh()
        return Unknown(reason, origin, key=key, deps=deps, called=called, text=text, likely=likely, multiple=multiple)


T = TypeVar("T")


@dataclass(slots=True)
class World:
    """What came of one run."""

    run: Run
    complete: bool = True
    arrivals: list[Arrival] = field(default_factory=list)


def worlds(
    project: Project, execute: Callable[[Run], None], budget: Budget | None = None, change: Change | None = None
) -> Iterator[World]:
    """Run ``execute`` once for every combination of the decisions it meets, in the source as ``change`` makes it.

    A world is not complete if the budget ended it; what it found until then still counts as found.
    """
    budget = budget if budget is not None else Budget()
    prefix: list[bool] = []
    while True:
        run = Run(project, prefix, budget, change)
        world = World(run)
        try:
            execute(run)
        except Reached:
            pass
        except BudgetExceeded:
            world.complete = False
        except (CallTooLong, RecursionError, MemoryError):
            world.complete = False
        world.arrivals = run.arrivals
        yield world
        if not world.complete:
            return
        made = [decision for decision in run.decisions if not decision.forced]
        while made and made[-1].outcome is not made[-1].first:
            made.pop()
        if not made:
            return
        prefix = [*(decision.outcome for decision in made[:-1]), not made[-1].first]
