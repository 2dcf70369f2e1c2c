"""Through a program: statements in their order, calls entered, branches joined, loops until nothing changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import libcst as cst

from bn_audit.source.flow.callers import function_of
from bn_audit.source.flow.driven import driven_by, keeps_clients, methods_called
from bn_audit.source.flow.given import settled
from bn_audit.source.flow.index import Scope
from bn_audit.source.flow.modes.harmless import DULL, is_harmful, is_harmless
from bn_audit.source.flow.modes.objects import ModelObjects, has_own_mode, is_driven, method_of, unwrapped
from bn_audit.source.flow.modes.setting import Forward, Mode, Setting
from bn_audit.source.flow.modes.states import Flow, Pass, State, both, join, only
from bn_audit.source.flow.modes.syntax import NO_GRAD, asked_mode, calls_in, is_denied, quiet_decorator
from bn_audit.source.flow.objects import Copied, ObjectFollower, original
from bn_audit.source.flow.values import Bound, Callee, Env, Made, given_before
from bn_audit.source.flow.values import State as StateOf
from bn_audit.source.interpreter import classes
from bn_audit.source.interpreter.libraries import canonical
from bn_audit.source.interpreter.values import ClassVal, External, Func, Step, Value
from bn_audit.source.nodes import dotted_name, walk

__all__ = ["ModeWalk"]

_MAX_DEPTH = 16
"""Calls within calls that are entered."""
_MAX_TURNS = 2
"""Times a loop is gone through: what one turn leaves is there in the next."""
_STEPS = 12_000
"""Statements that are gone through for one model."""
_CARRIED = frozenset(
    ["train", "eval", "half", "bfloat16", "double", "compile", "share_memory", "children", "modules", "named_children"]
)
"""Methods of a module that give the module back, or parts of it."""


class ModeWalk:
    """The modes of some models through a program.

    Attributes:
        exhausted: whether there was more to go through than the limits allow. Nothing is then known of the forwards.
    """

    def __init__(
        self,
        follower: ObjectFollower,
        models: Iterable[Made],
        ways: Collection[int],
        evaluations: Iterable[cst.CSTNode] = (),
    ) -> None:
        """``ways`` are the scopes, by identity, by way of which the models are made; ``evaluations`` forwards before
        which ``eval()`` is taken to be called."""
        self.follower = follower
        self._ways = ways
        self._supposed = frozenset(map(id, evaluations))
        self.objects = ModelObjects(follower, models)
        self.exhausted = False
        self._forwards: dict[tuple[int, tuple[object, ...]], Forward] = {}
        self._steps = _STEPS
        self._active: list[int] = []
        self._known: dict[tuple[object, ...], list[Pass]] = {}
        self._touched: list[frozenset[int] | None] = [frozenset()]
        self._objects_met: list[Made] = []
        self._numbers: dict[Made, int] = {}
        self._settings_met: list[Setting] = []
        self._bits: dict[Setting, int] = {}
        self._lasting = 0
        self._driven: dict[Made, None] = {}
        self._nested: dict[int, Env] = {}
        self._entered: set[int] = set()
        self._again: set[int] = set()
        self._kept = False
        self._left: dict[Made, State] = {}
        self._calls: dict[int, list[tuple[cst.Call, bool]]] = {}
        self._outside: dict[int, bool] = {}
        self._stack: list[tuple[cst.Call, Env]] = []
        self._same: dict[tuple[int, Made | None, str], Env] = {}

    @property
    def forwards(self) -> list[Forward]:
        """Where a model is called, in the order in which it was met."""
        return [] if self.exhausted else list(self._forwards.values())

    # --- where a program begins --------------------------------------------------------------------------------------

    def run(self, root: Env) -> None:
        """Go through a program from a root: a file's top level, or a function that nobody is seen to call."""
        receiver = root.receiver
        if root.scope.owner is not None and receiver is not None and is_driven(receiver):
            self._life(receiver)
            return
        end = self._enter(root, {}, None)
        # What a function made for a framework is made anew each time; what a file's top level made stays.
        lasts = root.scope.function is None or self._kept
        for _ in range(_MAX_TURNS if lasts else 1):
            before = end
            for env in [env for key, env in self._nested.items() if key not in self._entered or key in self._again]:
                self._again.add(id(env.scope.node))
                out = self._enter(env, before or {}, None)
                end = join(end, out) if lasts else end
            for made in list(self._driven):
                # A client that is made in a callback finds what the callback left.
                out = self._methods(made, before if lasts else join(before, self._left.get(made)))
                end = join(end, out) if lasts else end
            if end == before:
                break

    def _life(self, made: Made) -> None:
        """An object that a framework makes, keeps and calls."""
        assert made.cls is not None
        state: State | None = {}
        init = method_of(made.cls, "__init__")
        if init is not None:
            env = self._alone(init, made)
            state = self._enter(env, {}, None) if env is not None else state
        for _ in range(_MAX_TURNS):
            before = state
            state = join(state, self._methods(made, state))
            if state == before:
                break

    def _methods(self, made: Made, state: State | None) -> State | None:
        """What the methods that a framework calls on an object leave, whichever it calls."""
        assert made.cls is not None
        found = state
        for func in methods_called(made.cls):
            env = self._alone(func, made)
            if env is not None:
                found = join(found, self._enter(env, state or {}, None))
        return found

    def _alone(self, func: Func, made: Made) -> Env | None:
        scope = self.follower.index(func.module).scope(func.node)
        return Env(func.module, scope, receiver=made) if scope is not None else None

    # --- blocks ------------------------------------------------------------------------------------------------------

    def _enter(self, env: Env, state: State, quiet: Step | None) -> State | None:
        """Go through the body of a scope; the state in which it is left."""
        scope = env.scope
        known = self._known.setdefault((id(scope), env.key, id(quiet.node) if quiet is not None else 0), [])
        for entry in known:
            if only(state, entry.touched) == entry.before:
                self._touch(entry.touched)
                if entry.after is None:
                    return None
                return entry.after if entry.touched is None else state | entry.after
        if id(scope) in self._active or len(self._active) >= _MAX_DEPTH:
            return state
        self._entered.add(id(scope.node))
        self._active.append(id(scope))
        self._touched.append(frozenset())
        try:
            node = scope.node
            if isinstance(node, cst.Lambda):
                out: State | None = self._expression(node.body, env, state, quiet)
            else:
                if isinstance(node, cst.FunctionDef):
                    quiet = quiet_decorator(node, env) or quiet
                body = node.body if isinstance(node, cst.Module) else node.body.body
                flow = self._block(body, env, state, quiet)
                out = join(flow.end, flow.returned)
        finally:
            self._active.pop()
            touched = self._touched.pop()
            self._touch(touched)
        known.append(Pass(touched, only(state, touched), None if out is None else only(out, touched)))
        return out

    def _touch(self, objects: frozenset[int] | None) -> None:
        """Note that what is gone through asks for, or changes, the modes of some objects; None: of any."""
        before = self._touched[-1]
        self._touched[-1] = None if before is None or objects is None else before | objects

    def _block(self, body: Sequence[cst.CSTNode], env: Env, state: State | None, quiet: Step | None) -> Flow:
        flow = Flow(state)
        for statement in body:
            if flow.end is None:
                break
            inner = self._statement(statement, env, flow.end, quiet)
            flow.end = inner.end
            flow.broken = join(flow.broken, inner.broken)
            flow.returned = join(flow.returned, inner.returned)
        return flow

    def _statement(self, node: cst.CSTNode, env: Env, state: State, quiet: Step | None) -> Flow:
        self._steps -= 1
        if self._steps < 0 or self.follower.steps < 0:
            self.exhausted = True
            return Flow(None)
        if type(node) is cst.SimpleStatementLine:
            return self._block(node.body, env, state, quiet)
        return (
            self._compound(node, env, state, quiet)
            if isinstance(node, cst.BaseCompoundStatement)
            else self._small(node, env, state, quiet)
        )

    def _compound(self, node: cst.CSTNode, env: Env, state: State, quiet: Step | None) -> Flow:
        if isinstance(node, cst.If):
            state = self._expression(node.test, env, state, quiet)
            outcome = settled(node.test, self.follower.given(env))
            if outcome is not None:
                return (
                    self._block(node.body.body, env, state, quiet)
                    if outcome
                    else self._orelse(node.orelse, env, state, quiet)
                )
            then = self._block(node.body.body, env, state, quiet)
            other = self._orelse(node.orelse, env, state, quiet)
            return both(then, other)
        if isinstance(node, (cst.For, cst.While)):
            return self._loop(node, env, state, quiet)
        if isinstance(node, cst.With):
            return self._with(node, env, state, quiet)
        if isinstance(node, (cst.Try, cst.TryStar)):
            return self._try(node, env, state, quiet)
        if isinstance(node, cst.Match):
            state = self._expression(node.subject, env, state, quiet)
            flow = Flow(state)
            for case in node.cases:
                flow = both(flow, self._block(case.body.body, env, state, quiet))
            return flow
        if isinstance(node, cst.FunctionDef):
            scope = self.follower.index(env.module).scope(node)
            if scope is not None and env.scope.function is not None:
                self._nested[id(node)] = Env(env.module, scope, receiver=env.receiver)
            return Flow(state)
        return Flow(state)

    def _small(self, node: cst.CSTNode, env: Env, state: State, quiet: Step | None) -> Flow:
        state = self._expression(node, env, state, quiet)
        if isinstance(node, cst.Assign):
            state = self._assigned(node, env, state)
        if isinstance(node, cst.Return):
            return Flow(None, None, state)
        if isinstance(node, cst.Raise):
            return Flow(None)
        if isinstance(node, (cst.Break, cst.Continue)):
            # Where a turn of a loop ends early, the next one begins, or what follows the loop.
            return Flow(None, state)
        return Flow(state)

    def _orelse(self, node: cst.If | cst.Else | None, env: Env, state: State, quiet: Step | None) -> Flow:
        if isinstance(node, cst.If):
            return self._statement(node, env, state, quiet)
        return self._block(node.body.body, env, state, quiet) if node is not None else Flow(state)

    def _loop(self, node: cst.For | cst.While, env: Env, state: State, quiet: Step | None) -> Flow:
        """A loop is taken to run at least once: over epochs, batches, clients, rounds."""
        head = node.iter if isinstance(node, cst.For) else node.test
        begin = self._expression(head, env, state, quiet)
        whole = Flow(None)
        for _ in range(_MAX_TURNS):
            turn = self._block(node.body.body, env, begin, quiet)
            whole = Flow(join(turn.end, turn.broken), None, turn.returned)
            following = join(begin, whole.end)
            if following is None or following == begin:
                break
            begin = following
        if node.orelse is not None and whole.end is not None:
            after = self._block(node.orelse.body.body, env, whole.end, quiet)
            return Flow(after.end, after.broken, join(whole.returned, after.returned))
        return whole

    def _try(self, node: cst.Try | cst.TryStar, env: Env, state: State, quiet: Step | None) -> Flow:
        flow = self._block(node.body.body, env, state, quiet)
        thrown = join(state, flow.end) or state
        if node.orelse is not None and flow.end is not None:
            inner = self._block(node.orelse.body.body, env, flow.end, quiet)
            flow = Flow(inner.end, join(flow.broken, inner.broken), join(flow.returned, inner.returned))
        for handler in node.handlers:
            flow = both(flow, self._block(handler.body.body, env, thrown, quiet))
        if node.finalbody is not None:
            last = self._block(node.finalbody.body.body, env, join(flow.end, flow.returned) or thrown, quiet)
            returned = last.end if flow.returned is not None else None
            return Flow(last.end if flow.end is not None else None, flow.broken, join(returned, last.returned))
        return flow

    def _with(self, node: cst.With, env: Env, state: State, quiet: Step | None) -> Flow:
        for item in node.items:
            before = state
            state = self._expression(item.item, env, state, quiet)
            call = item.item
            name = (dotted_name(call.func if isinstance(call, cst.Call) else call) or "").rpartition(".")[2]
            if (name in NO_GRAD and not is_denied(call)) or (name == "set_grad_enabled" and is_denied(call)):
                quiet = Step(env.module, call)
            elif name == "enable_grad":
                quiet = None
            if isinstance(call, cst.Call):
                state = self._entering(call, env, state, quiet)
            if state != before:
                # A context manager that changes modes changes them back at the end, one way or another.
                changed = {self._objects_met[made] for made in state if state[made] != before.get(made)}
                state = self._set(state, changed, Mode.UNCLEAR, call, env)
        return self._block(node.body.body, env, state, quiet)

    def _entering(self, call: cst.Call, env: Env, state: State, quiet: Step | None) -> State:
        """``__enter__`` of an object of the project that is made there."""
        for value, _ in self.follower.callee(call, env):
            if isinstance(value, ClassVal):
                made = Made("object", value.name, value, call, env)
                enter = method_of(value, "__enter__")
                inner = self._alone(enter, made) if enter is not None else None
                if inner is not None:
                    state = join(state, self._enter(inner, state, quiet)) or state
        return state

    # --- expressions -------------------------------------------------------------------------------------------------

    def _expression(self, node: cst.CSTNode, env: Env, state: State, quiet: Step | None) -> State:
        """Go through the calls of an expression, in the order in which they are made."""
        calls = self._calls.get(id(node))
        if calls is None:
            calls = self._calls[id(node)] = list(calls_in(node, False))
        for call, perhaps in calls:
            out = self._call(call, env, state, quiet)
            if out is None:
                continue
            state = join(out, state) or out if perhaps else out
        return state

    def _assigned(self, node: cst.Assign, env: Env, state: State) -> State:
        """``model.training = False``."""
        for target in node.targets:
            place = target.target
            if isinstance(place, cst.Attribute) and place.attr.value == "training":
                objects, _ = self.objects.among(place.value, env)
                state = self._set(state, objects or self._made(state), Mode.UNCLEAR, node, env)
        return state

    def _call(self, node: cst.Call, env: Env, state: State, quiet: Step | None) -> State | None:
        for model in self.objects.made_by.get(id(node), ()):
            state = self._born(model, state, node, env)
        func = node.func
        name = func.attr.value if isinstance(func, cst.Attribute) else func.value if isinstance(func, cst.Name) else ""
        if name in ("deepcopy", "copy"):
            return self._copied(node, env, state)
        if name in DULL:
            return state
        if name == "apply" and isinstance(func, cst.Attribute):
            # ``model.apply(freeze)``: what it does to the parts is not looked at.
            objects, _ = self.objects.among(func.value, env)
            return self._set(state, objects, Mode.UNCLEAR, node, env, lasting=True) if objects else state
        if name == "forward" and isinstance(func, cst.Attribute) and self.objects.among(func.value, env)[0]:
            return self._forward(node, func, env, state, quiet)
        targets = self.follower.callee(node, env)
        functions = [row for row in targets if isinstance(unwrapped(row[0]), (Func, ClassVal))]
        if name in ("eval", "train") and isinstance(func, cst.Attribute):
            state, own = self._mode(node, func, env, state, bool(functions))
            if own:
                return state
        if functions:
            out = self._into(functions, node, env, state, quiet)
            makes = any(self._is_way(value) for value, _ in functions)
            return self._copied(node, env, out) if makes and out is not None else out
        if isinstance(func, (cst.Name, cst.Attribute, cst.Subscript, cst.Call)):
            state = self._forward(node, func, env, state, quiet)
        return self._given_away(targets, node, name, env, state)

    def _into(
        self, functions: Iterable[tuple[Value, Made | None]], node: cst.Call, env: Env, state: State, quiet: Step | None
    ) -> State | None:
        """Enter the functions that a call may run."""
        found: State | None = None
        for value, receiver in functions:
            inner_value, bound = unwrapped(value), given_before(value)[1]
            if isinstance(inner_value, ClassVal):
                found = join(found, self._constructed(inner_value, node, env, state, quiet, bound))
                continue
            assert isinstance(inner_value, Func)
            scope = self.follower.index(inner_value.module).scope(inner_value.node)
            if scope is None or (inner_value.name == "forward" and receiver is not None and receiver.kind == "model"):
                found = join(found, state)
                continue
            carries = self._carries(node, env) or any(self._carries(row.node, row.env) for row in bound)
            if scope.owner is None and not carries and not self._gets_at_models(inner_value, scope, node, env):
                found = join(found, state)
                continue
            if receiver is None and scope.owner is not None:
                receiver = self.follower.any_object(inner_value.module, scope.owner)
            inner = Env(inner_value.module, scope, node, env, receiver, env.depth + 1, bound)
            if not carries:
                # Whoever calls it, it does the same.
                inner = self._same.setdefault((id(scope), receiver, repr(self.follower.given(inner))), inner)
            found = join(found, self._called(node, env, inner, state, quiet))
        return found

    def _called(self, node: cst.Call, env: Env, inner: Env, state: State, quiet: Step | None) -> State | None:
        self._stack.append((node, env))
        try:
            return self._enter(inner, state, quiet)
        finally:
            self._stack.pop()

    def _carries(self, node: cst.Call, env: Env) -> bool:
        """Whether a call hands over something through which a model may be got at."""
        return any(
            isinstance(origin, (Callee, StateOf)) or (isinstance(origin, Made) and origin.kind != "library")
            for arg in node.args
            for origin in self.follower.items(self.follower.origins(arg.value, env))
        )

    def _gets_at_models(self, func: Func, scope: Scope, node: cst.Call, env: Env) -> bool:
        """Whether a function that is given nothing of the kind gives back a model, or may have one around or in it.

        Reading data takes most statements of a program, and no part in this.
        """
        return (
            not node.args
            or id(scope) in self._ways
            or self._reads_outside(func, scope)
            or any(
                isinstance(origin, Made) and origin.kind != "library"
                for origin in self.follower.items(self.follower.origins(node, env))
            )
        )

    def _reads_outside(self, func: Func, scope: Scope) -> bool:
        known = self._outside.get(id(func.node))
        if known is None:
            top = self.follower.index(func.module).top
            known = self._outside[id(func.node)] = (scope.parent is not top) or any(
                isinstance(part, cst.Name)
                and any(
                    isinstance(row.value, cst.Call) and row.how != "other" for row in top.bindings.get(part.value, ())
                )
                for part in walk(func.node.body)
            )
        return known

    def _constructed(
        self, cls: ClassVal, node: cst.Call, env: Env, state: State, quiet: Step | None, bound: tuple[Bound, ...] = ()
    ) -> State | None:
        if classes.kind(cls) == "torch":
            return state
        made = Made("object", cls.name, cls, node, env, bound=bound)
        if driven_by(cls) is not None:
            self._driven[made] = None
            self._left[made] = state
        found = classes.find(cls, "__init__")
        method = function_of(found[0]) if found is not None else None
        if found is None or method is None or not isinstance(found[1], ClassVal):
            return state
        scope = self.follower.index(method.module).scope(method.node)
        if scope is None:
            return state
        run = Env(method.module, scope, node, env, made, env.depth + 1, bound)
        return self._called(node, env, run, state, quiet)

    def _given_away(
        self, targets: Sequence[tuple[Value, Made | None]], node: cst.Call, name: str, env: Env, state: State
    ) -> State:
        """A call of something that is not the project's: what it does to a model that it is given is not known."""
        for value, _ in targets:
            if isinstance(value, External):
                dotted = canonical(value.name)
                self._kept = self._kept or keeps_clients(dotted)
                self._handed_over(node, env)
                if is_harmful(dotted):
                    break
                if is_harmless(dotted):
                    return state
        given: set[Made] = set()
        for arg in node.args:
            if isinstance(arg.value, (cst.Name, cst.Attribute, cst.Subscript)):
                objects, _ = self.objects.among(arg.value, env)
                given |= objects
        if not given:
            return state
        # An object that is made with the model keeps it: a trainer, an engine, a wrapper.
        return self._set(state, given, Mode.UNCLEAR, node, env, lasting=name[:1].isupper())

    def _handed_over(self, node: cst.Call, env: Env) -> None:
        """Functions that a library is given, and will call: ``client_fn``, ``evaluate_fn``, a thread's target."""
        for arg in node.args:
            if not isinstance(arg.value, (cst.Name, cst.Attribute, cst.Call)):
                continue
            for origin in self.follower.items(self.follower.origins(arg.value, env)):
                func = function_of(origin.value) if isinstance(origin, Callee) else None
                if func is not None and isinstance(func.node, cst.FunctionDef):
                    scope = self.follower.index(func.module).scope(func.node)
                    if scope is not None and scope.owner is None:
                        self._nested[id(func.node)] = self.follower.alone(func.module, scope)

    # --- modes -------------------------------------------------------------------------------------------------------

    def _number(self, made: Made) -> int:
        found = self._numbers.get(made)
        if found is None:
            found = self._numbers[made] = len(self._objects_met)
            self._objects_met.append(made)
        return found

    def _bit(self, setting: Setting) -> int:
        found = self._bits.get(setting)
        if found is None:
            found = self._bits[setting] = 1 << len(self._settings_met)
            self._settings_met.append(setting)
            if setting.lasting:
                self._lasting |= found
        return found

    def _of(self, bits: int) -> list[Setting]:
        return [setting for number, setting in enumerate(self._settings_met) if bits >> number & 1]

    def _made(self, state: State) -> list[Made]:
        return [self._objects_met[number] for number in state]

    def _born(self, model: Made, state: State, node: cst.CSTNode, env: Env) -> State:
        number = self._number(model)
        self._touch(frozenset({number}))
        mode = Mode.UNCLEAR if has_own_mode(model) else Mode.FRESH
        return {**state, number: self._bit(Setting(mode, node, env, lasting=mode is Mode.UNCLEAR))}

    def _is_way(self, value: Value) -> bool:
        """Whether a function is one by way of which models are made."""
        func = unwrapped(value)
        scope = self.follower.index(func.module).scope(func.node) if isinstance(func, Func) else None
        return id(scope) in self._ways

    def _copied(self, node: cst.Call, env: Env, state: State) -> State:
        """A deep copy begins in the mode of the original, and so does what a function makes for its caller."""
        for origin in self.follower.items(self.follower.origins(node, env)):
            if isinstance(origin, Copied) and origin.node is node and self.objects.is_known(origin):
                number, source = self._number(origin), self._number(origin.source)
                self._touch(frozenset({number, source}))
                if source in state:
                    state = {**state, number: state[source]}
        return state

    def _mode(self, node: cst.Call, func: cst.Attribute, env: Env, state: State, project: bool) -> tuple[State, bool]:
        """``x.eval()``, ``x.train(...)``; whether it is certainly that, and no method of the project's."""
        objects, unknown = self.objects.among(func.value, env)
        if objects:
            mode = asked_mode(node, func.attr.value)
            return self._set(state, objects, mode, node, env), True
        if project:
            return state, False
        parts = self.objects.whole_of(func.value, env)
        if parts:
            mode = Mode.UNCLEAR if func.attr.value == "eval" else Mode.PERHAPS_TRAIN
            return self._set(state, parts, mode, node, env, lasting=mode is Mode.UNCLEAR), True
        if unknown and state:
            mode = Mode.UNCLEAR if func.attr.value == "eval" else Mode.PERHAPS_TRAIN
            self._touch(None)
            bit = self._bit(Setting(mode, node, env, one=False))
            return {number: bits | bit for number, bits in state.items()}, False
        return state, False

    def _set(
        self, state: State, objects: Iterable[Made], mode: Mode, node: cst.CSTNode, env: Env, lasting: bool = False
    ) -> State:
        found = set(objects)
        self._touch(frozenset(map(self._number, found)))
        sources = [original(made) for made in found]
        after = dict(state)
        for made in found:
            alone = sources.count(original(made)) == 1
            before = state.get(self._number(made), 0)
            # Of a model and its copies one is put into train mode only: the others stay as they were.
            kept = before & self._lasting if alone or mode not in (Mode.TRAIN, Mode.PERHAPS_TRAIN) else before
            after[self._number(made)] = kept | self._bit(Setting(mode, node, env, alone, lasting))
        return after

    # --- forwards ----------------------------------------------------------------------------------------------------

    def _forward(self, node: cst.Call, func: cst.BaseExpression, env: Env, state: State, quiet: Step | None) -> State:
        called: cst.BaseExpression = func
        if isinstance(func, cst.Attribute):
            if func.attr.value == "forward":
                called = func.value
            elif func.attr.value in _CARRIED:
                return state
        objects, _ = self.objects.among(called, env)
        if not objects:
            return state
        if id(node) in self._supposed:
            state = self._set(state, objects, Mode.EVAL, node, env)
        self._touch(frozenset(map(self._number, objects)))
        unseen = self._bit(Setting(Mode.UNCLEAR, node, env))
        modes = {(made, setting) for made in objects for setting in self._of(state.get(self._number(made), unseen))}
        known = self._forwards.get((id(node), env.key))
        if known is None:
            self._forwards[id(node), env.key] = Forward(node, env, objects, modes, quiet, tuple(self._stack))
        else:
            known.modes |= modes
        return state
