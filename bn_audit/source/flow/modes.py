"""In which mode models are where they are run: the program is gone through from where it begins.

A module is in train mode when it is made, and after that in the mode it was last put into. So statements are gone
through in their order, calls into the project are entered, branches are joined, loops are gone through until nothing
changes, and where the model is called the modes are noted that it may have there. What a framework calls (a client's
``fit`` and ``evaluate``) comes in any order and any number of times.

Values are not computed: which objects an expression may stand for is the follower's answer. What cannot be followed
makes the mode unclear, and an unclear mode is no evidence of anything.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from bn_audit.source.flow.callers import function_of
from bn_audit.source.flow.driven import driven_by, keeps_clients, methods_called
from bn_audit.source.flow.given import settled
from bn_audit.source.flow.index import Scope, arguments_of
from bn_audit.source.flow.objects import Copied, ObjectFollower, original
from bn_audit.source.flow.values import Callee, Env, Loaded, Made
from bn_audit.source.flow.values import State as StateOf
from bn_audit.source.interpreter import classes
from bn_audit.source.interpreter.libraries import canonical
from bn_audit.source.interpreter.values import BoundMethod, ClassVal, External, Func, Partial, Step, Value
from bn_audit.source.nodes import children, dotted_name, walk

__all__ = ["Forward", "Mode", "ModeWalk", "Setting"]

_MAX_DEPTH = 16
"""Calls within calls that are entered."""
_MAX_TURNS = 2
"""Times a loop is gone through: what one turn leaves is there in the next."""
_STEPS = 12_000
"""Statements that are gone through for one model."""


class Mode(enum.Enum):
    """What is known of a model's mode."""

    FRESH = "as it was made"
    TRAIN = "train"
    EVAL = "eval"
    PERHAPS_TRAIN = "perhaps put into train mode"
    UNCLEAR = "unclear"

    @property
    def trains(self) -> bool:
        """Whether BatchNorm normalises with the statistics of the batch."""
        return self in (Mode.FRESH, Mode.TRAIN, Mode.PERHAPS_TRAIN)


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A mode, and the call that set it; for a fresh model the call that made it.

    ``one`` says that the call set it for this very object and no other. A ``lasting`` mode is not overwritten:
    something that could not be followed may change it again at any time.
    """

    mode: Mode
    node: cst.CSTNode
    env: Env
    one: bool = True
    lasting: bool = False

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Setting)
            and (other.mode, other.one, other.lasting) == (self.mode, self.one, self.lasting)
            and other.node is self.node
        )

    def __hash__(self) -> int:
        return hash((self.mode, id(self.node), self.one, self.lasting))


State = dict[int, int]
"""The modes that each object may have: objects and settings by number, those of an object as the bits of an integer.

Never changed in place.
"""


@dataclass(slots=True)
class Forward:
    """A model that is called, in one run of a scope.

    Attributes:
        node: the call.
        env: the run of the scope.
        objects: which objects it may be.
        modes: the modes these may have; an object that nobody is seen to make has an unclear one.
        quiet: what turns gradients off around it; None if nothing does.
        calls: the calls that lead to it, outermost first, each with the run of the scope it stands in.
    """

    node: cst.Call
    env: Env
    objects: frozenset[Made]
    modes: set[tuple[Made, Setting]]
    quiet: Step | None
    calls: tuple[tuple[cst.Call, Env], ...]

    @property
    def around(self) -> Iterator[tuple[cst.Call, Env]]:
        """The call, and those that lead to it, innermost first, each with the run of the scope it stands in."""
        yield self.node, self.env
        yield from reversed(self.calls)

    @property
    def models(self) -> list[Made]:
        """The models that it may be, or be a copy of."""
        return list(dict.fromkeys(original(made) for made in self.objects))

    def settings(self, model: Made) -> set[Setting]:
        """The modes it may have if it is this model, or a copy of it."""
        return {setting for made, setting in self.modes if original(made) == model}


@dataclass(slots=True)
class _Flow:
    """The states in which a block is left: by its end, by a jump out of a loop, by a return."""

    end: State | None
    broken: State | None = None
    returned: State | None = None


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one run of a scope did: to the same modes it does the same again, whatever the modes of other objects.

    ``touched`` None: it may have to do with the modes of any object.
    """

    touched: frozenset[int] | None
    before: State
    after: State | None


_NO_GRAD = frozenset({"no_grad", "inference_mode"})
_DULL = frozenset(
    [
        "append", "extend", "item", "size", "view", "reshape", "cpu", "cuda", "detach", "numpy", "format", "join",
        "split", "backward", "step", "zero_grad", "max", "min", "sum", "mean", "eq", "softmax", "argmax", "float",
        "long", "tolist", "items", "keys", "values", "state_dict", "load_state_dict", "parameters", "named_parameters",
        "clone", "squeeze", "unsqueeze", "topk", "expand_as", "type", "norm", "print", "len", "range", "int", "str",
        "isinstance", "enumerate", "zip", "list", "dict", "set", "tuple", "sorted", "abs", "round", "hasattr",
        "info", "debug", "warning", "write", "flush", "add_argument", "parse_args", "requires_grad_", "zeros_like",
        "add_scalar", "to", "open", "close", "update_postfix", "set_postfix", "set_description",
    ]
)  # fmt: skip
"""Methods and functions that change no mode, whatever they are called on."""
_HARMLESS = (
    "torch.",
    "torchvision.",
    "flwr.",
    "nvflare.",
    "fedml.",
    "numpy.",
    "copy.",
    "collections.",
    "builtins.",
    "random.",
    "math.",
    "time.",
)
_HARMLESS_NAMES = frozenset(["torchsummary.summary", "torchinfo.summary", "wandb.watch", "ray.put", "ray.get"])
_HARMFUL = ("torch.onnx", "torch.jit", "torch.export", "torch.ao", "torch.quantization", "torch.fx", "torch.hub")
"""Parts of torch that may change a mode on their way."""


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
        self.models: dict[int, list[Made]] = {}
        for made in dict.fromkeys(models):
            self.models.setdefault(id(made.node), []).append(made)
        self.exhausted = False
        self._forwards: dict[tuple[int, tuple[object, ...]], Forward] = {}
        self._steps = _STEPS
        self._active: list[int] = []
        self._known: dict[tuple[object, ...], list[_Pass]] = {}
        self._touched: list[frozenset[int] | None] = [frozenset()]
        self._objects_met: list[Made] = []
        self._numbers: dict[Made, int] = {}
        self._settings_met: list[Setting] = []
        self._bits: dict[Setting, int] = {}
        self._lasting = 0
        self._held: dict[Made, frozenset[Made]] = {}
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
        if root.scope.owner is not None and receiver is not None and _is_driven(receiver):
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
                end = _join(end, out) if lasts else end
            for made in list(self._driven):
                # A client that is made in a callback finds what the callback left.
                out = self._methods(made, before if lasts else _join(before, self._left.get(made)))
                end = _join(end, out) if lasts else end
            if end == before:
                break

    def _life(self, made: Made) -> None:
        """An object that a framework makes, keeps and calls."""
        assert made.cls is not None
        state: State | None = {}
        init = _method(made.cls, "__init__")
        if init is not None:
            env = self._alone(init, made)
            state = self._enter(env, {}, None) if env is not None else state
        for _ in range(_MAX_TURNS):
            before = state
            state = _join(state, self._methods(made, state))
            if state == before:
                break

    def _methods(self, made: Made, state: State | None) -> State | None:
        """What the methods that a framework calls on an object leave, whichever it calls."""
        assert made.cls is not None
        found = state
        for func in methods_called(made.cls):
            env = self._alone(func, made)
            if env is not None:
                found = _join(found, self._enter(env, state or {}, None))
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
            if _only(state, entry.touched) == entry.before:
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
                    quiet = _decorated(node, env) or quiet
                body = node.body if isinstance(node, cst.Module) else node.body.body
                flow = self._block(body, env, state, quiet)
                out = _join(flow.end, flow.returned)
        finally:
            self._active.pop()
            touched = self._touched.pop()
            self._touch(touched)
        known.append(_Pass(touched, _only(state, touched), None if out is None else _only(out, touched)))
        return out

    def _touch(self, objects: frozenset[int] | None) -> None:
        """Note that what is gone through asks for, or changes, the modes of some objects; None: of any."""
        before = self._touched[-1]
        self._touched[-1] = None if before is None or objects is None else before | objects

    def _block(self, body: Sequence[cst.CSTNode], env: Env, state: State | None, quiet: Step | None) -> _Flow:
        flow = _Flow(state)
        for statement in body:
            if flow.end is None:
                break
            inner = self._statement(statement, env, flow.end, quiet)
            flow.end = inner.end
            flow.broken = _join(flow.broken, inner.broken)
            flow.returned = _join(flow.returned, inner.returned)
        return flow

    def _statement(self, node: cst.CSTNode, env: Env, state: State, quiet: Step | None) -> _Flow:
        self._steps -= 1
        if self._steps < 0 or self.follower.steps < 0:
            self.exhausted = True
            return _Flow(None)
        if type(node) is cst.SimpleStatementLine:
            return self._block(node.body, env, state, quiet)
        return (
            self._compound(node, env, state, quiet)
            if isinstance(node, cst.BaseCompoundStatement)
            else self._small(node, env, state, quiet)
        )

    def _compound(self, node: cst.CSTNode, env: Env, state: State, quiet: Step | None) -> _Flow:
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
            return _both(then, other)
        if isinstance(node, (cst.For, cst.While)):
            return self._loop(node, env, state, quiet)
        if isinstance(node, cst.With):
            return self._with(node, env, state, quiet)
        if isinstance(node, (cst.Try, cst.TryStar)):
            return self._try(node, env, state, quiet)
        if isinstance(node, cst.Match):
            state = self._expression(node.subject, env, state, quiet)
            flow = _Flow(state)
            for case in node.cases:
                flow = _both(flow, self._block(case.body.body, env, state, quiet))
            return flow
        if isinstance(node, cst.FunctionDef):
            scope = self.follower.index(env.module).scope(node)
            if scope is not None and env.scope.function is not None:
                self._nested[id(node)] = Env(env.module, scope, receiver=env.receiver)
            return _Flow(state)
        return _Flow(state)

    def _small(self, node: cst.CSTNode, env: Env, state: State, quiet: Step | None) -> _Flow:
        state = self._expression(node, env, state, quiet)
        if isinstance(node, cst.Assign):
            state = self._assigned(node, env, state)
        if isinstance(node, cst.Return):
            return _Flow(None, None, state)
        if isinstance(node, cst.Raise):
            return _Flow(None)
        if isinstance(node, (cst.Break, cst.Continue)):
            # Where a turn of a loop ends early, the next one begins, or what follows the loop.
            return _Flow(None, state)
        return _Flow(state)

    def _orelse(self, node: cst.If | cst.Else | None, env: Env, state: State, quiet: Step | None) -> _Flow:
        if isinstance(node, cst.If):
            return self._statement(node, env, state, quiet)
        return self._block(node.body.body, env, state, quiet) if node is not None else _Flow(state)

    def _loop(self, node: cst.For | cst.While, env: Env, state: State, quiet: Step | None) -> _Flow:
        """A loop is taken to run at least once: over epochs, batches, clients, rounds."""
        head = node.iter if isinstance(node, cst.For) else node.test
        begin = self._expression(head, env, state, quiet)
        whole = _Flow(None)
        for _ in range(_MAX_TURNS):
            turn = self._block(node.body.body, env, begin, quiet)
            whole = _Flow(_join(turn.end, turn.broken), None, turn.returned)
            following = _join(begin, whole.end)
            if following is None or following == begin:
                break
            begin = following
        if node.orelse is not None and whole.end is not None:
            after = self._block(node.orelse.body.body, env, whole.end, quiet)
            return _Flow(after.end, after.broken, _join(whole.returned, after.returned))
        return whole

    def _try(self, node: cst.Try | cst.TryStar, env: Env, state: State, quiet: Step | None) -> _Flow:
        flow = self._block(node.body.body, env, state, quiet)
        thrown = _join(state, flow.end) or state
        if node.orelse is not None and flow.end is not None:
            inner = self._block(node.orelse.body.body, env, flow.end, quiet)
            flow = _Flow(inner.end, _join(flow.broken, inner.broken), _join(flow.returned, inner.returned))
        for handler in node.handlers:
            flow = _both(flow, self._block(handler.body.body, env, thrown, quiet))
        if node.finalbody is not None:
            last = self._block(node.finalbody.body.body, env, _join(flow.end, flow.returned) or thrown, quiet)
            returned = last.end if flow.returned is not None else None
            return _Flow(last.end if flow.end is not None else None, flow.broken, _join(returned, last.returned))
        return flow

    def _with(self, node: cst.With, env: Env, state: State, quiet: Step | None) -> _Flow:
        for item in node.items:
            before = state
            state = self._expression(item.item, env, state, quiet)
            call = item.item
            name = (dotted_name(call.func if isinstance(call, cst.Call) else call) or "").rpartition(".")[2]
            if (name in _NO_GRAD and not _denied(call)) or (name == "set_grad_enabled" and _denied(call)):
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
                enter = _method(value, "__enter__")
                inner = self._alone(enter, made) if enter is not None else None
                if inner is not None:
                    state = _join(state, self._enter(inner, state, quiet)) or state
        return state

    # --- expressions -------------------------------------------------------------------------------------------------

    def _expression(self, node: cst.CSTNode, env: Env, state: State, quiet: Step | None) -> State:
        """Go through the calls of an expression, in the order in which they are made."""
        calls = self._calls.get(id(node))
        if calls is None:
            calls = self._calls[id(node)] = list(_calls(node, False))
        for call, perhaps in calls:
            out = self._call(call, env, state, quiet)
            if out is None:
                continue
            state = _join(out, state) or out if perhaps else out
        return state

    def _assigned(self, node: cst.Assign, env: Env, state: State) -> State:
        """``model.training = False``."""
        for target in node.targets:
            place = target.target
            if isinstance(place, cst.Attribute) and place.attr.value == "training":
                objects, _ = self._objects(place.value, env)
                state = self._set(state, objects or self._made(state), Mode.UNCLEAR, node, env)
        return state

    def _call(self, node: cst.Call, env: Env, state: State, quiet: Step | None) -> State | None:
        for model in self.models.get(id(node), ()):
            state = self._born(model, state, node, env)
        func = node.func
        name = func.attr.value if isinstance(func, cst.Attribute) else func.value if isinstance(func, cst.Name) else ""
        if name in ("deepcopy", "copy"):
            return self._copied(node, env, state)
        if name in _DULL:
            return state
        if name == "apply" and isinstance(func, cst.Attribute):
            # ``model.apply(freeze)``: what it does to the parts is not looked at.
            objects, _ = self._objects(func.value, env)
            return self._set(state, objects, Mode.UNCLEAR, node, env, lasting=True) if objects else state
        if name == "forward" and isinstance(func, cst.Attribute) and self._objects(func.value, env)[0]:
            return self._forward(node, func, env, state, quiet)
        targets = self.follower.callee(node, env)
        functions = [row for row in targets if isinstance(_unwrapped(row[0]), (Func, ClassVal))]
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
            inner_value = _unwrapped(value)
            if isinstance(inner_value, ClassVal):
                found = _join(found, self._constructed(inner_value, node, env, state, quiet))
                continue
            assert isinstance(inner_value, Func)
            scope = self.follower.index(inner_value.module).scope(inner_value.node)
            if scope is None or (inner_value.name == "forward" and receiver is not None and receiver.kind == "model"):
                found = _join(found, state)
                continue
            carries = self._carries(node, env)
            if scope.owner is None and not carries and not self._gets_at_models(inner_value, scope, node, env):
                found = _join(found, state)
                continue
            if receiver is None and scope.owner is not None:
                receiver = self.follower.any_object(inner_value.module, scope.owner)
            inner = Env(inner_value.module, scope, node, env, receiver, env.depth + 1)
            if not carries:
                # Whoever calls it, it does the same.
                inner = self._same.setdefault((id(scope), receiver, repr(self.follower.given(inner))), inner)
            found = _join(found, self._called(node, env, inner, state, quiet))
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

    def _constructed(self, cls: ClassVal, node: cst.Call, env: Env, state: State, quiet: Step | None) -> State | None:
        if classes.kind(cls) == "torch":
            return state
        made = Made("object", cls.name, cls, node, env)
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
        return self._called(node, env, Env(method.module, scope, node, env, made, env.depth + 1), state, quiet)

    def _given_away(
        self, targets: Sequence[tuple[Value, Made | None]], node: cst.Call, name: str, env: Env, state: State
    ) -> State:
        """A call of something that is not the project's: what it does to a model that it is given is not known."""
        for value, _ in targets:
            if isinstance(value, External):
                dotted = canonical(value.name)
                self._kept = self._kept or keeps_clients(dotted)
                self._handed_over(node, env)
                if dotted.startswith(_HARMFUL):
                    break
                if dotted.startswith(_HARMLESS) or dotted in _HARMLESS_NAMES:
                    return state
        given: set[Made] = set()
        for arg in node.args:
            if isinstance(arg.value, (cst.Name, cst.Attribute, cst.Subscript)):
                objects, _ = self._objects(arg.value, env)
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
        mode = Mode.UNCLEAR if _own_mode(model) else Mode.FRESH
        return {**state, number: self._bit(Setting(mode, node, env, lasting=mode is Mode.UNCLEAR))}

    def _known_model(self, made: Made) -> bool:
        model = original(made)
        return model in self.models.get(id(model.node), ())

    def _is_way(self, value: Value) -> bool:
        """Whether a function is one by way of which models are made."""
        func = _unwrapped(value)
        scope = self.follower.index(func.module).scope(func.node) if isinstance(func, Func) else None
        return id(scope) in self._ways

    def _copied(self, node: cst.Call, env: Env, state: State) -> State:
        """A deep copy begins in the mode of the original, and so does what a function makes for its caller."""
        for origin in self.follower.items(self.follower.origins(node, env)):
            if isinstance(origin, Copied) and origin.node is node and self._known_model(origin):
                number, source = self._number(origin), self._number(origin.source)
                self._touch(frozenset({number, source}))
                if source in state:
                    state = {**state, number: state[source]}
        return state

    def _mode(self, node: cst.Call, func: cst.Attribute, env: Env, state: State, project: bool) -> tuple[State, bool]:
        """``x.eval()``, ``x.train(...)``; whether it is certainly that, and no method of the project's."""
        objects, unknown = self._objects(func.value, env)
        if objects:
            mode = _asked(node, func.attr.value)
            return self._set(state, objects, mode, node, env), True
        if project:
            return state, False
        parts = self._whole_of(func.value, env)
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

    # --- objects -----------------------------------------------------------------------------------------------------

    def _objects(self, node: cst.CSTNode, env: Env) -> tuple[frozenset[Made], bool]:
        """The objects among the models that an expression may stand for; whether nothing at all is known of it."""
        found: set[Made] = set()
        known = False
        for origin in self.follower.items(self.follower.origins(node, env)):
            if isinstance(origin, (Made, Loaded)):
                known = True
            if isinstance(origin, Made) and origin.kind == "model":
                found |= self._held_by(origin)
        return frozenset(found), not known

    def _held_by(self, made: Made) -> frozenset[Made]:
        """The objects among the models that a module is, or holds."""
        if self._known_model(made):
            return frozenset({made})
        known = self._held.get(made)
        if known is not None:
            return known
        self._held[made] = frozenset()
        found: set[Made] = set()
        base = original(made)
        nodes = _class_nodes(base)
        made_here = (model for models in self.models.values() for model in models)
        found.update(model for model in made_here if model.env.scope.owner in nodes)  # it makes them itself
        if isinstance(base.node, cst.Call) and not isinstance(base, Copied):
            for arg in base.node.args:
                for origin in self.follower.items(self.follower.origins(arg.value, base.env)):
                    if isinstance(origin, Made) and origin.kind == "model":
                        found |= self._held_by(origin)
        self._held[made] = frozenset(found)
        return self._held[made]

    def _whole_of(self, node: cst.CSTNode, env: Env) -> frozenset[Made]:
        """The objects of which an expression names a part: ``model.layer1``, ``m`` of ``for m in model.modules()``."""
        while isinstance(node, (cst.Attribute, cst.Subscript, cst.Call)):
            node = node.func if isinstance(node, cst.Call) else node.value
            objects, _ = self._objects(node, env)
            if objects:
                return objects
        return frozenset()

    def _forward(self, node: cst.Call, func: cst.BaseExpression, env: Env, state: State, quiet: Step | None) -> State:
        called: cst.BaseExpression = func
        if isinstance(func, cst.Attribute):
            if func.attr.value == "forward":
                called = func.value
            elif func.attr.value in _CARRIED:
                return state
        objects, _ = self._objects(called, env)
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


_CARRIED = frozenset(
    ["train", "eval", "half", "bfloat16", "double", "compile", "share_memory", "children", "modules", "named_children"]
)
"""Methods of a module that give the module back, or parts of it."""


def _only(state: State, objects: frozenset[int] | None) -> State:
    return state if objects is None else {made: state[made] for made in objects if made in state}


def _join(one: State | None, other: State | None) -> State | None:
    if one is None or other is None or one == other:
        return other if one is None else one
    return {made: one.get(made, 0) | other.get(made, 0) for made in one.keys() | other.keys()}


def _both(one: _Flow, other: _Flow) -> _Flow:
    return _Flow(_join(one.end, other.end), _join(one.broken, other.broken), _join(one.returned, other.returned))


def _calls(node: cst.CSTNode, perhaps: bool) -> Iterator[tuple[cst.Call, bool]]:
    """The calls in an expression in the order in which they are made, and whether one may be left out."""
    # An `isinstance` of libcst's classes, which are abstract, takes long where it says no.
    kind = type(node)
    if kind is cst.Name or kind is cst.FunctionDef or kind is cst.ClassDef:
        return
    if kind is cst.Lambda:
        perhaps = True
    if type(node) is cst.IfExp:
        yield from _calls(node.test, perhaps)
        yield from _calls(node.body, True)
        yield from _calls(node.orelse, True)
        return
    if type(node) is cst.BooleanOperation:
        yield from _calls(node.left, perhaps)
        yield from _calls(node.right, True)
        return
    for child in children(node):
        yield from _calls(child, perhaps)
    if type(node) is cst.Call:
        yield node, perhaps


def _asked(node: cst.Call, attr: str) -> Mode:
    """The mode that ``eval()`` or ``train(mode)`` asks for."""
    if attr == "eval":
        return Mode.EVAL
    positional, keywords, stars = arguments_of(node)
    value = positional[0] if positional else keywords.get("mode")
    if value is None:
        return Mode.UNCLEAR if stars else Mode.TRAIN
    if isinstance(value, cst.Name) and value.value in ("True", "False"):
        return Mode.TRAIN if value.value == "True" else Mode.EVAL
    return Mode.UNCLEAR


def _denied(call: cst.CSTNode) -> bool:
    """Whether a call's first argument is ``False``."""
    if not isinstance(call, cst.Call) or not call.args:
        return False
    value = call.args[0].value
    return isinstance(value, cst.Name) and value.value == "False"


def _decorated(function: cst.FunctionDef, env: Env) -> Step | None:
    """``@torch.no_grad()`` of a function."""
    for row in function.decorators:
        node = row.decorator
        name = (dotted_name(node.func if isinstance(node, cst.Call) else node) or "").rpartition(".")[2]
        if name in _NO_GRAD and not _denied(node):
            return Step(env.module, node)
    return None


def _unwrapped(value: Value) -> Value:
    while isinstance(value, (Partial, BoundMethod)):
        if isinstance(value.func, str):
            return value
        value = value.func
    return value


def _method(cls: ClassVal, name: str) -> Func | None:
    found = classes.find(cls, name)
    return function_of(found[0]) if found is not None else None


def _own_mode(made: Made) -> bool:
    """Whether a model's class has its own idea of modes: it overrides ``train`` or ``eval``, or sets parts' modes in
    ``__init__`` or ``forward``."""
    if made.cls is None:
        return False
    for entry in classes.mro(made.cls):
        if not isinstance(entry, ClassVal):
            continue
        for name in ("train", "eval"):
            if function_of(entry.attrs[name]) is not None if name in entry.attrs else False:
                return True
        for name in ("__init__", "forward"):
            member = entry.attrs.get(name)
            func = function_of(member) if member is not None else None
            if func is not None and any(_sets_mode(node) for node in walk(func.node.body)):
                return True
    return False


def _sets_mode(node: cst.CSTNode) -> bool:
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        return node.func.attr.value in ("eval", "train")
    return (
        isinstance(node, cst.AssignTarget)
        and isinstance(node.target, cst.Attribute)
        and (node.target.attr.value == "training")
    )


def _is_driven(made: Made) -> bool:
    return made.cls is not None and driven_by(made.cls) is not None


def _class_nodes(made: Made) -> list[cst.ClassDef]:
    """The class of an object and its bases, as far as they are the project's."""
    if made.cls is None:
        return []
    return [entry.node for entry in classes.mro(made.cls) if isinstance(entry, ClassVal)]
