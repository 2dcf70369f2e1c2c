"""From the places where a file loads states into models to the federations behind them.

A federation is: the states of several live parties are combined, and the result is loaded back into the model they
share. So the search begins where something is loaded: what it comes from tells whether states were combined on the way,
and the model that takes it says what was combined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import libcst as cst

from bn_audit.source.flow.alive import branches
from bn_audit.source.flow.callers import function_of
from bn_audit.source.flow.circumstances import Condition
from bn_audit.source.flow.combining.averaging import Adder, Averaging, by_position, is_of_buffers
from bn_audit.source.flow.combining.in_turn import PARTY, SHARED
from bn_audit.source.flow.combining.whole import adds_whole, handed_on, held_in
from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.flow.keys import keys_of
from bn_audit.source.flow.loops import depends, loops_around, over_time
from bn_audit.source.flow.marks import Marks
from bn_audit.source.flow.models import ModelReader, ModelReading
from bn_audit.source.flow.options import Options
from bn_audit.source.flow.passing import STATES
from bn_audit.source.flow.trials import without_trials
from bn_audit.source.flow.values import Combined, Env, Filter, Loaded, Made, Origin, State, Stepped
from bn_audit.source.interpreter import classes
from bn_audit.source.interpreter.values import External, Func, Step
from bn_audit.source.nodes import root_name, walk
from bn_audit.source.project import PyModule

__all__ = ["Federation", "Hunter"]

_HANDS_BACK = re.compile(
    r"(?i)federat|fed_?avg|client|server|participant|\bpart(?:y|ies)\b|aggregat|averag|flat|vector"
)
"""Words of which a file has one that puts into parameters what comes from several parties."""
_MAX_CLIMB = 6
"""Calls from where a state is taken up to where a loop may say whose it is."""
_MAX_RUNS = 8
"""Calls of one function that are looked at for it."""
_PARTIES = re.compile(r"(?i)federat|fed_?avg|client|participant|\bpart(?:y|ies)\b")
_BUFFERS = re.compile(r"(?:named|\w)_buffers\s*\(|[(,*]\s*[\w.\[\]]+\.buffers\s*\(")
"""What a function has that hands buffers on, or goes over them beside others: not one that sets them to something."""
_ARRIVES = {"file": "the file that it is written to is read here", "message": "it arrives here in a message"}
_MPI = re.compile(r"\bmpi4py\b")
_FEDERATED = re.compile(r"(?i)federat|fed_?(?:avg|prox|nova|opt|sgd|per|rep|bn)(?![a-z])")
_MERGES = re.compile(
    r"(?i)models?_?soup|re-?basin|merge_?(?:the_?|all_?|n_?)?models?|merged_?models?|models?_?merg|merger\b"
)
"""Words for models that are trained apart, once, and made one: no federation goes on after it."""
_TOGETHER = re.compile(
    r"(?i)federat|(?:\b|_)fed(?:\b|_)|fed_?avg|client|server|participant|\bpart(?:y|ies)\b|worker|hospital|silo"
    r"|aggregat|(?:global|local|shared)_?(?:model|net|weight|state|param|updat|train)"
)
"""Words of those who train one model together."""


@dataclass(slots=True)
class Federation:
    """States that are combined and loaded back.

    Attributes:
        averaging: where and how they are combined.
        env: the run of the scope that does it.
        load: where the result is loaded into a model; the averaging itself if it works in place.
        readings: the models that take part, each as it may turn out.
        states: where the parties' states are taken.
        what: ``state`` or ``parameters``: what the parties hand over.
        filters: conditions that entries pass on their way from the parties, or back into the model.
        steps: what else is done to entries on this way: noise, a server's momentum.
        onto: what is added to the model's own entries; None if the result takes their place.
        apart: whether parameters and buffers are combined in loops of their own. Counters may be left out.
        makers: the models before they are read, each as often as it is made in another way.
    """

    averaging: Averaging
    env: Env
    load: Step
    readings: tuple[ModelReading, ...]
    states: tuple[Step, ...]
    what: str
    filters: tuple[Filter, ...] = ()
    steps: tuple[Stepped, ...] = ()
    onto: cst.BaseExpression | None = None
    apart: bool = False
    makers: tuple[Made, ...] = ()


class Hunter:
    """Finds the federations of files."""

    def __init__(self, follower: Follower, options: Options) -> None:
        self.follower = follower
        self.reader = ModelReader(follower.project, options)
        self._one_each: dict[tuple[int, object], bool | None] = {}

    def federations(self, module: PyModule) -> Iterator[Federation]:
        """Those whose result is loaded in a file, or that work in place there."""
        for node, receiver, value in self._loads(module):
            env = self.follower.env(module, node)
            if self.follower.constants.rules_out(node, env):
                continue
            combined = [row for row in self.follower.origins(value, env) if isinstance(row, Combined)]
            if not combined:
                continue
            load = Step(module, node, "the result is loaded here")
            apart = [row for run in self._runs(receiver, env) for row in self._loaded(receiver, value, run, load)]
            for row in apart or self._loaded(receiver, value, env, load):
                row.onto = value if _adds(node) else None
                yield row
        for averaging in module.derive(Marks).all_averagings():
            found = self._in_place(module, averaging)
            if found is not None:
                yield found

    def _loaded(
        self, receiver: cst.BaseExpression, value: cst.BaseExpression, env: Env, load: Step
    ) -> Iterator[Federation]:
        """What a load puts into a model in one run of its scope."""
        origins = self.follower.origins(value, env)
        models = list(self._models(receiver, env))
        stepped = [row for row in origins if isinstance(row, Stepped)]
        told: set[int] = set()
        # A function that adds whole states is told by what it does to their entries, if that can be told by itself.
        for row in sorted((row for row in origins if isinstance(row, Combined)), key=_is_whole):
            if _is_whole(row) and id(row.averaging.node) in told:
                continue
            found = self._federation(row, models, load)
            if found is not None:
                told.update(_calls_to(row.env))
                found.steps = (*stepped, *found.steps)
                yield found

    def _runs(self, receiver: cst.BaseExpression, env: Env) -> Iterator[Env]:
        """The runs of a function that loads into a model it is given, by its callers: each gives it a state that goes
        with the model."""
        names = [param.name.value for param in env.scope.parameters[1 if env.scope.owner is not None else 0 :]]
        if root_name(receiver) in names and not self.follower.exhausted:
            yield from self.follower.callers.runs_of(env)

    def _loads(self, module: PyModule) -> Iterator[tuple[cst.CSTNode, cst.BaseExpression, cst.BaseExpression]]:
        """Where a file puts values into a model: (where, the model, the value)."""
        index = self.follower.index(module)
        for call in index.calls_of("load_state_dict"):
            positional, keywords, _ = arguments_of(call)
            value = positional[0] if positional else keywords.get("state_dict")
            if value is not None and isinstance(call.func, cst.Attribute):
                yield call, call.func.value, value
        for call in index.calls_of("vector_to_parameters"):
            positional, _, _ = arguments_of(call)
            if len(positional) > 1:
                yield call, positional[1], positional[0]
        for call in index.calls_of("copy_"):
            if call.args and isinstance(call.func, cst.Attribute):
                yield call, call.func.value, call.args[0].value
        for node, target in index.assigned("data") if index.mentions(_HANDS_BACK) else ():
            # ``param.data = param.data - rate * update`` is a step of training.
            if index.code(target) not in index.code(node.value):
                yield node, target.value, node.value
        for call in index.calls_of("add_", beside="state_dict"):
            if call.args and isinstance(call.func, cst.Attribute) and self._is_entry(index, call.func.value):
                yield call, call.func.value, call.args[0].value

    def _is_entry(self, index: FileIndex, node: cst.BaseExpression) -> bool:
        """Whether an expression is an entry of a model's own state: ``for name, data in model.state_dict().items()``,
        ``model.state_dict()[name]``."""
        while isinstance(node, cst.Attribute) and node.attr.value == "data":
            node = node.value
        if isinstance(node, cst.Subscript):
            return _takes_state(node.value)
        if not isinstance(node, cst.Name):
            return False
        return any(node.value in loop.names and _takes_state(loop.iter) for loop in loops_around(index, node))

    def _models(self, node: cst.BaseExpression, env: Env) -> Iterator[Made]:
        for origin in self.follower.items(self.follower.origins(node, env)):
            if isinstance(origin, Made) and origin.kind == "model":
                yield origin
            elif isinstance(origin, State) and origin.model is not None:
                yield origin.model

    def _federation(self, row: Combined, models: list[Made], load: Step) -> Federation | None:
        averaging, env = row.averaging, row.env
        if self._is_ruled_out(averaging.node, env):
            return None
        if averaging.what == "buffers":
            return None  # what stands beside the parameters' is told there
        over = averaging.node if averaging.how == "all_reduce" else averaging.gathers
        if isinstance(over, cst.Call) and not self._between_parties(over, env):
            return None
        if (averaging.turns or averaging.apart) and not self.follower.index(env.module).mentions(_PARTIES):
            return None
        if averaging.held is not None and not self._takes_over(averaging, env, load):
            return None
        if averaging.by is not None and not self._adds_whole(averaging.by, env):
            return None
        if averaging.keys is None and averaging.key and keys_of(self.follower, averaging, env) is None:
            return None  # a function that is given one key: nobody is seen to give it all
        if averaging.vector:
            origins: tuple[Origin, ...] = tuple(self._vectors(averaging, env))
        elif averaging.by is not None and averaging.by.own:
            origins = tuple(dict.fromkeys(self._held_by(averaging, env)))
        else:
            origins = tuple(self.follower.items(self.follower.origins(averaging.state, env)))
        if by_position(averaging):
            # A state dict has no places; what was made a list of has.
            origins = tuple(origin for origin in origins if not isinstance(origin, State) or self._listed(origin))
        if averaging.held is not None and any(isinstance(origin, Combined) for origin in origins):
            return None  # the average of all, which is told by itself
        if averaging.parties is None and (averaging.held is not None or _is_taken_inside(averaging)):
            # A model that is given again and again is one that goes on training, but if the callers' loops say whose.
            origins = tuple(row for row in origins if not isinstance(row, State) or self._is_anothers(averaging, row))
        if not _live(origins) or self._from_files(averaging, env) or self._is_merge(env, load):
            return None
        models = [*models, *(origin.model for origin in origins if isinstance(origin, State) and origin.model)]
        models.extend(origin for origin in origins if isinstance(origin, Made) and origin.kind == "model")
        way = self._way(averaging.node, env)
        taking = without_trials(dict.fromkeys(models), env.module)
        readings = tuple(reading for made in taking for reading in self.reader.readings_beside(made, way))
        states = tuple(step for origin in origins if isinstance(origin, State) for step in _taken(origin))
        whats = {self._what(origin) for origin in origins if isinstance(origin, State)} or {averaging.what}
        half = "state" not in whats or averaging.what == "parameters" or self._of_parameters(averaging, env)
        apart = half and self._has_buffers(averaging, env)
        if half and not apart and self._may_have_buffers(averaging, env):
            return None  # whether the statistics are left behind is not certain
        what = "parameters" if (half and not apart) or self._are_of_parameters(row.filters) else "state"
        filters = {id(one.node): one for one in row.filters if not one.among}
        for origin in origins:
            if isinstance(origin, State):
                filters.update({id(one.node): one for one in origin.filters if not one.among})
        steps = tuple(origin for origin in origins if isinstance(origin, Stepped))
        passed = tuple(filters.values())
        makers = tuple(without_trials(models, env.module))
        return Federation(averaging, env, load, readings, states, what, passed, steps, apart=apart, makers=makers)

    def _takes_over(self, averaging: Averaging, env: Env, load: Step) -> bool:
        """Whether it is a server that loads what it has mixed with a party's state: no client that mixes what it gets
        with its own, nobody who tries a mixture."""
        assert averaging.held is not None
        node, index = load.node, self.follower.index(load.module)
        receiver = averaging.held if node is averaging.node else None
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and receiver is None:
            receiver = node.func.value
        owner = index.scope_of(node).owner
        holder = owner.name.value if owner is not None else ""
        text = index.code(receiver) if receiver is not None else ""
        speaks = (self.follower.index(module).mentions(_PARTIES) for module in (env.module, load.module))
        if receiver is None or PARTY.search(f"{text} {holder}") or not any(speaks):
            return False
        return SHARED.search(text) is not None or (SHARED.search(holder) is not None and root_name(receiver) == "self")

    def _is_ruled_out(self, node: cst.CSTNode, env: Env) -> bool:
        """Whether constants of the program say that a run of a scope does not come to a node, or to the calls that lead
        there."""
        place: cst.CSTNode | None = node
        run: Env | None = env
        while run is not None and place is not None:
            if self.follower.constants.rules_out(place, run):
                return True
            place, run = run.call, run.caller
        return False

    def _is_merge(self, env: Env, load: Step) -> bool:
        """Whether models that were trained apart are made one, as the words of all files on the way say."""
        indexes = [self.follower.index(load.module)]
        run: Env | None = env
        while run is not None:
            indexes.append(self.follower.index(run.module))
            run = run.caller
        return any(index.mentions(_MERGES) for index in indexes) and not any(
            index.mentions(_TOGETHER) for index in indexes
        )

    def _way(self, node: cst.CSTNode, env: Env) -> list[Condition]:
        """The conditions under which a run of a scope comes to a node, with those of the calls that lead to it."""
        found: list[Condition] = []
        place: cst.CSTNode | None = node
        run: Env | None = env
        while run is not None and place is not None:
            index = self.follower.index(run.module)
            found.extend(Condition(" ".join(index.code(test).split()), holds) for test, holds in branches(index, place))
            place, run = run.call, run.caller
        return found

    def _has_buffers(self, averaging: Averaging, env: Env) -> bool:
        """Whether a function that combines parameters combines the buffers as well, in a loop of their own."""
        found = env.module.derive(Marks).all_averagings()
        return any(other.scope is averaging.scope and is_of_buffers(other) for other in found)

    def _may_have_buffers(self, averaging: Averaging, env: Env) -> bool:
        """Whether what combines parameters may be run for the buffers too, or stands beside what does something with
        them."""
        run: Env | None = env
        while run is not None:
            index, function = self.follower.index(run.module), run.scope.node
            held = isinstance(function, cst.FunctionDef) and index.holds(function, _BUFFERS)
            if held or (isinstance(function, cst.Module) and index.mentions(_BUFFERS)):
                return True
            run = run.caller
        if averaging.keys is not None or env.caller is None or not isinstance(env.scope.node, cst.FunctionDef):
            return False
        index = self.follower.index(env.caller.module)
        calls = index.calls_of(env.scope.node.name.value)
        return sum(index.scope_of(call) is env.caller.scope for call in calls) > 1

    def _of_parameters(self, averaging: Averaging, env: Env) -> bool:
        """Whether the entries are gone over by the names of parameters alone."""
        found = keys_of(self.follower, averaging, env)
        if found is None:
            return False
        loop, run = found
        first = averaging.key in loop.names[:1] or averaging.keys is None
        return first and self.follower.of_parameters(loop.iter, run)

    def _what(self, state: State) -> str:
        """``parameters`` if a state has entries of parameters alone, as it was taken or since."""
        return "parameters" if self._are_of_parameters(state.filters) else state.what

    def _are_of_parameters(self, filters: Iterable[Filter]) -> bool:
        return any(one.among and self.follower.of_parameters(one.node, one.env) for one in filters)

    def _vectors(self, averaging: Averaging, env: Env) -> Iterator[State]:
        """The states that are combined as vectors, each of another party: not of one that goes on training."""
        for node in averaging.vector:
            for origin in self.follower.items(self.follower.origins(node, env)):
                if isinstance(origin, State) and origin.flat and not self._over_time(origin):
                    yield origin

    def _is_anothers(self, averaging: Averaging, state: State) -> bool:
        """Whether what is added, or mixed in, is another party's each time. Of what a server mixes it is enough that no
        loop says it is not."""
        known = self._is_one_each(state.node, state.env)
        return known is not False if averaging.held is not None else known is True

    def _is_one_each(self, node: cst.CSTNode, env: Env, depth: int = 0) -> bool | None:
        """Whether a loop on the way to where a state is taken goes over those whose it is, and over no time; None if
        there is no loop."""
        key = (id(node), env.key)
        if key in self._one_each:
            return self._one_each[key]
        self._one_each[key] = None  # a circle of calls says nothing
        index = self.follower.index(env.module)
        loops = loops_around(index, node)
        found: bool | None = False if loops else None
        if any(depends(index, node, loop) and not over_time(index, loop) for loop in loops):
            found = True
        elif depth < _MAX_CLIMB:
            runs = [env] if env.call is not None else islice(self.follower.callers.runs_of(env), _MAX_RUNS)
            for run in runs:
                if run.call is None or run.caller is None:
                    continue
                above = self._is_one_each(run.call, run.caller, depth + 1)
                if above:
                    found = True
                    break
                found = above if found is None else found
        self._one_each[key] = found
        return found

    def _over_time(self, state: State) -> bool:
        """Whether a state is taken in loops that change nothing about whose it is: snapshots of one training."""
        node: cst.CSTNode = state.node
        env: Env | None = state.env
        looped = False
        while env is not None:
            index = self.follower.index(env.module)
            for loop in loops_around(index, node):
                if depends(index, node, loop):
                    return False
                looped = True
            if env.call is None:
                break
            node, env = env.call, env.caller
        return looped

    def _adds_whole(self, adder: Adder, env: Env, depth: int = 0) -> bool:
        """Whether what is called adds states by their keys, or calls what does: ``lambda total, state: add(total,
        scale(state, share))``."""
        if adder.own:
            operators = [found for made in self._objects(adder.function, env) for found in self._operators_of(made)]
            own = Adder(adder.function, 0, 1)
            return bool(operators) and all(
                adds_whole(self.follower.index(found.module), found.node, own, bound=False) for found in operators
            )
        called = self.follower.callee(cst.Call(adder.function), env)
        return bool(called) and all(
            isinstance(function, Func) and self._adds_so(function, adder, env, depth, bound=_is_bound(function, made))
            for function, made in called
        )

    def _objects(self, node: cst.BaseExpression, env: Env) -> Iterator[Made]:
        """The objects, other than models, that an expression may be."""
        for origin in self.follower.items(self.follower.origins(node, env)):
            if isinstance(origin, Made) and origin.kind == "object" and origin.cls is not None:
                yield origin

    def _operators_of(self, made: Made) -> Iterator[Func]:
        """What an object does when it is added."""
        for name in ("__add__", "__iadd__"):
            member = classes.find(made.cls, name) if made.cls is not None else None
            function = function_of(member[0]) if member is not None else None
            if function is not None and isinstance(function.node, cst.FunctionDef):
                yield function

    def _held_by(self, averaging: Averaging, env: Env) -> Iterator[Origin]:
        """The states that objects hold which are added."""
        for made in self._objects(averaging.state, env):
            for function in self._operators_of(made):
                for attr in held_in(function.node) if isinstance(function.node, cst.FunctionDef) else ():
                    if attr:
                        yield from self.follower.items(self.follower.of_object(made, attr))
                    elif isinstance(made.node, cst.Call) and made.node.args:
                        given = self.follower.origins(made.node.args[0].value, made.env)
                        yield from self.follower.items(given)

    def _adds_so(self, function: Func, adder: Adder, env: Env, depth: int, *, bound: bool) -> bool:
        node = function.node
        if isinstance(node, cst.Lambda) and isinstance(node.body, cst.Call) and depth < 2:
            inner = handed_on(node, node.body, adder)
            return inner is not None and self._adds_whole(inner, env, depth + 1)
        return adds_whole(self.follower.index(function.module), node, adder, bound=bound)

    def _between_parties(self, call: cst.Call, env: Env) -> bool:
        """Whether what a call combines over processes is the parties' of a federation: to train one model on many
        machines is none, so the program has to say that it is."""
        called = self.follower.lookup.dotted(call.func, env)
        if isinstance(called, External):
            if not called.name.startswith(("torch.distributed.", "mpi4py.")):
                return False
        elif not (isinstance(call.func, cst.Attribute) and self.follower.index(env.module).mentions(_MPI)):
            return False  # ``self.comm.allreduce(value)``: by its name alone, where there is MPI
        current: Env | None = env
        modules = [env.module, *(module for module, _ in self.follower.callers.of(env))]
        while current is not None:
            modules.append(current.module)
            current = current.caller
        return any(self.follower.index(module).mentions(_FEDERATED) for module in modules)

    def _listed(self, state: State) -> bool:
        """Whether a state's values are put into a list where it is taken."""
        if state.what == "parameters":
            return True
        for above in self.follower.index(state.env.module).above(state.node):
            if isinstance(above, (cst.ListComp, cst.GeneratorExp)):
                return True
            if isinstance(above, cst.Call) and isinstance(above.func, cst.Attribute):
                if above.func.attr.value == "values":
                    return True
            elif isinstance(above, cst.BaseSmallStatement):
                break
        return False

    def _in_place(self, module: PyModule, averaging: Averaging) -> Federation | None:
        """``for s, c in zip(server.parameters(), client.parameters()): s.data += c.data * w``, or a sum over processes
        that takes the place of what each of them has handed in."""
        if averaging.how == "all_reduce":
            return self._over_processes(module, averaging)
        if averaging.slot is None:
            return None
        if averaging.what != "parameters" and not self._is_live_entry(
            averaging.slot, self.follower.env(module, averaging.node)
        ):
            return None
        if any(isinstance(part, cst.Subtract) for part in _operators(averaging.added)):
            return None  # differences gather in something that is no model: a control variate, a momentum
        env = self.follower.env(module, averaging.node)
        models = list(self._models(averaging.slot, env))
        if not models or self._is_of_an_average(averaging, env):
            return None
        return self._federation(Combined(averaging, env), models, Step(module, averaging.node))

    def _is_of_an_average(self, averaging: Averaging, env: Env) -> bool:
        """Whether what a function adds to a model, once in a call, is what the parties' states were combined to, and no
        party's: ``server.step(mean)``."""
        return averaging.parties is None and any(
            isinstance(origin, Combined) and origin.averaging is not averaging
            for origin in self.follower.items(self.follower.origins(averaging.state, env))
        )

    def _is_live_entry(self, slot: cst.BaseExpression, env: Env) -> bool:
        """``state[key].data``, where ``state = model.state_dict()``: what is added to it is added to the model's."""
        while isinstance(slot, cst.Attribute) and slot.attr.value == "data":
            slot = slot.value
        return isinstance(slot, cst.Subscript) and self._is_live(slot.value, env)

    def _over_processes(self, module: PyModule, averaging: Averaging) -> Federation | None:
        if averaging.vector or not isinstance(averaging.added, (cst.Name, cst.Subscript)):
            return None
        slot = averaging.slot
        while isinstance(slot, cst.Attribute) and slot.attr.value == "data":
            slot = slot.value
        env = self.follower.env(module, averaging.node)
        if slot is not averaging.entry or not self._is_live(averaging.state, env):
            return None  # a copy of the entry: what becomes of it is for who loads it
        found = Combined(averaging, env)
        return self._federation(found, [], Step(module, averaging.node))

    def _is_live(self, state: cst.BaseExpression, env: Env, depth: int = 0) -> bool:
        """Whether a state's tensors are the model's own: ``model.state_dict()``, and no copy of it."""
        if isinstance(state, cst.Call) and isinstance(state.func, cst.Attribute):
            attr = state.func.attr.value
            return attr in STATES or (attr in ("values", "items") and self._is_live(state.func.value, env, depth))
        if isinstance(state, cst.Name) and depth < 3:
            value = env.scope.sole_value(state.value)
            return value is not None and self._is_live(value, env, depth + 1)
        return False

    def _from_files(self, averaging: Averaging, env: Env) -> bool:
        """Whether the parties' states are checkpoints: a model that takes one after the other."""
        if averaging.parties is None:
            return False
        index = self.follower.index(env.module)
        for call in index.calls_of("load_state_dict"):
            if averaging.parties.node in index.above(call) and call.args:
                found = self.follower.origins(call.args[0].value, env)
                if found and all(isinstance(origin, Loaded) for origin in found):
                    return True
        return False


def _live(origins: tuple[Origin, ...]) -> bool:
    """Whether what is combined is seen to be taken from live models, and none of it read from files.

    What only came in a message is not enough: the party that sent it may have kept BatchNorm back.
    """
    return any(isinstance(origin, State) or _is_known(origin) for origin in origins) and not any(
        isinstance(origin, Loaded) for origin in origins
    )


def _taken(state: State) -> Iterator[Step]:
    """Where a state is taken, and where it is taken up if it goes through a file or a message."""
    yield Step(state.env.module, state.node, "a party's state is taken here")
    for arrival in state.arrivals:
        yield Step(arrival.env.module, arrival.node, _ARRIVES[arrival.how])


def _is_known(origin: Origin) -> bool:
    """Whether an origin is a model; what is picked by a name at run time may be anything."""
    return isinstance(origin, Made) and origin.kind == "model" and (origin.cls is not None or bool(origin.name))


def _calls_to(env: Env) -> Iterator[int]:
    """The calls that lead to a run of a scope, by identity."""
    run: Env | None = env
    while run is not None and run.call is not None:
        yield id(run.call)
        run = run.caller


def _is_whole(row: Combined) -> bool:
    return row.averaging.by is not None


def _is_bound(function: Func, receiver: Made | None) -> bool:
    """Whether a function is called as a method, which is not given its first parameter."""
    return receiver is not None and function.kind != "staticmethod"


def _adds(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value == "add_"


def _takes_state(node: cst.BaseExpression) -> bool:
    """``model.state_dict()``, and its ``items()`` and ``values()``."""
    if not isinstance(node, cst.Call) or not isinstance(node.func, cst.Attribute):
        return False
    attr = node.func.attr.value
    return attr == "state_dict" or (attr in ("items", "values") and _takes_state(node.func.value))


def _operators(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    return (part.operator for part in walk(node) if isinstance(part, cst.BinaryOperation))


def _is_taken_inside(averaging: Averaging) -> bool:
    """Whether the state that a function adds to a sum is taken there, of a model that it is given."""
    given = {param.name.value for param in averaging.scope.parameters}
    grows = averaging.slot is not None and averaging.held is None and averaging.how != "all_reduce"
    return grows and not averaging.vector and root_name(averaging.state) not in given
