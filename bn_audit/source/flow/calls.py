"""What a call may call, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.flow.attributes import Attributes
from bn_audit.source.flow.callers import function_of
from bn_audit.source.flow.dispatch import dispatch_of, without_remote
from bn_audit.source.flow.dynamic import PICKERS, picks_by_name
from bn_audit.source.flow.endpoints import ANSWERS, ASKS, BODY, OPENS, Endpoints
from bn_audit.source.flow.files import READERS, Files
from bn_audit.source.flow.following import MAX_CALLS, MAX_STEPS, filtered, kind_of, no_vectors
from bn_audit.source.flow.handover import Handover
from bn_audit.source.flow.imported import IMPORTERS, imports_of, picked_in, text_with_holes
from bn_audit.source.flow.index import PARTIES, Scope, arguments_of
from bn_audit.source.flow.marks import Marks
from bn_audit.source.flow.passing import (
    CIPHERS,
    INSTANTIATE,
    JOINING_FUNCTIONS,
    PASSING_FUNCTIONS,
    PASSING_METHODS,
    REDUCING,
    STATES,
    makes_models,
)
from bn_audit.source.flow.values import (
    Arrival,
    Bound,
    Callee,
    Combined,
    Env,
    Filter,
    Given,
    Imported,
    Loaded,
    Made,
    Opaque,
    Origin,
    Received,
    State,
    Stepped,
    given_before,
    is_of_message,
)
from bn_audit.source.flow.wires import RECEIVES, WIRES, Wires
from bn_audit.source.interpreter import classes
from bn_audit.source.interpreter.libraries import canonical
from bn_audit.source.interpreter.taught import names_of
from bn_audit.source.interpreter.values import (
    BoundMethod,
    ClassVal,
    External,
    Func,
    Instance,
    Module,
    Partial,
    Value,
)
from bn_audit.source.nodes import dotted_name, leaf_name

if TYPE_CHECKING:
    from bn_audit.source.flow.following import Finder
    from bn_audit.source.project import Project, PyModule

__all__ = ["Calls"]

_HANDED_IN = frozenset(["gather", "allgather", "bcast"])
"""Methods of an MPI communicator that give what processes hand in, or what one of them does."""

_CALLED = (Func, ClassVal, External, Partial)

_MAX_ARRIVALS = 4
"""Files and messages on a state's way that are told."""


class Calls(Attributes):
    """The part of a follower that knows calls."""

    def __init__(self, project: Project, finder: Finder, steps: int = MAX_STEPS) -> None:
        super().__init__(project, finder, steps)
        self.files = Files(self)
        self.endpoints = Endpoints(self)
        self.wires = Wires(self)

    def _call(self, node: cst.Call, env: Env) -> Iterable[Origin]:
        func = node.func
        if isinstance(func, cst.Attribute):
            attr = func.attr.value
            if attr in STATES and (attr != "state_dict" or len(node.args) < 2):
                yield from self._state(node, func, env)
                return
        target = self.callee(node, env)
        if target:
            picked = self._is_choice(func, env)
            for value, receiver in target:
                yield from self._apply(value, receiver, node, env, picked)
            values = (given_before(value)[0] for value, _ in target)
            if picked and any(isinstance(value, ClassVal) and kind_of(value) == "model" for value in values):
                yield Made("model", "", None, node, env)
            return
        handed = dispatch_of(node)
        if handed is not None and handed.gives:
            called = [row for row in self.origins(handed.function, env) if isinstance(row, Callee)]
            for row in called:
                yield from self._apply(row.value, row.receiver, node, env)
            if called:
                return
        if self._runs_all(node, env):
            yield from self.origins(node.args[0].value, env)
            return
        if isinstance(func, cst.Attribute):
            attr = func.attr.value
            if attr in PASSING_METHODS:
                given = self.items(self.origins(func.value, env))
                yield from no_vectors(given) if attr in REDUCING else given
                return
            if attr in CIPHERS and node.args:
                yield from self.origins(node.args[0].value, env)
                return
            base = tuple(self.items(self.origins(func.value, env)))
            parts = [origin for origin in base if is_of_message(origin)]
            if attr in ANSWERS:  # ``requests.get(url).json()``
                parts.extend(origin for origin in base if isinstance(origin, Combined))
            if parts and (attr in OPENS or attr in ANSWERS):  # ``await request.json()``
                yield from parts
                return
            if attr in RECEIVES and self.index(env.module).mentions(WIRES):
                yield from self._over_wire(attr, node, env)
                return
            if attr == "item" and base and all(_is_of_file(origin) for origin in base):
                yield from base  # ``np.load(path, allow_pickle=True).item()``: what was a dict is one again
                return
            if attr in ("decode", "encode"):  # bytes as text: a model may have methods of these names
                yield from (origin for origin in base if isinstance(origin, (State, Combined)))
            if attr == "join" and isinstance(func.value, cst.SimpleString) and node.args:  # ``b"".join(chunks)``
                yield from self.items(self.origins(node.args[0].value, env))
                return
            if any(isinstance(origin, Received) for origin in base):
                yield Received(attr)
                return
        name = dotted_name(func) or ""
        leaf = name.rpartition(".")[2]
        if leaf == "getattr" and len(node.args) > 1 and _imports_by_name(env.module):
            yield from self._picked(node.args[0].value, node.args[1].value, env)
        picked = leaf not in PICKERS and (
            picks_by_name(self.index(env.module), func) or any(map(_is_picked, self.origins(func, env)))
        )
        if picked:
            yield Made("model", "", None, node, env)
        else:
            # A message of a protocol that is not in the source is known by what it is made with.
            record = leaf[:1].isupper() and any(arg.keyword is not None for arg in node.args)
            yield Made("object", name, None, node, env) if record else Opaque(name)

    def _picked(self, base: cst.BaseExpression, name: cst.BaseExpression, env: Env) -> Iterator[Origin]:
        """What is picked by a name in modules that are imported by one."""
        for origin in self.items(self.origins(base, env)):
            if isinstance(origin, Imported):
                text = text_with_holes(self.index(env.module), name)
                yield from self._picked_in(origin, text)

    def _picked_in(self, imported: Imported, text: tuple[str | None, ...]) -> Iterator[Origin]:
        for module, node in picked_in(self.project, imported, text):
            cls = self.lookup.class_of(module, node)
            if cls is not None:
                yield Callee(cls, picked=True)

    def _is_choice(self, func: cst.BaseExpression, env: Env) -> bool:
        """Whether what is called was seen to be picked by a name at run time."""
        key = (id(func), env.key)
        found = self._known.get(key) or self._tentative.get(key) or ()
        return any(isinstance(row, Callee) and row.picked for row in found)

    def _state(self, node: cst.Call, func: cst.Attribute, env: Env) -> Iterable[Origin]:
        what = STATES[func.attr.value]
        found = False
        for origin in self.items(self.origins(func.value, env)):
            if isinstance(origin, Made) and origin.kind == "model":
                found = True
                yield State(what, origin, node, env)
            elif isinstance(origin, (Loaded, Received)):
                found = True
                yield State(what, None, node, env)
        if not found:
            yield State(what, None, node, env)

    def _runs_all(self, node: cst.Call, env: Env) -> bool:
        """Whether a call gives what all calls in a comprehension give: joblib's ``Parallel()(delayed(f)(x) for x
        in xs)``."""
        if len(node.args) != 1 or not isinstance(node.args[0].value, (cst.GeneratorExp, cst.ListComp)):
            return False
        found = self.origins(node.func, env)
        return bool(found) and all(isinstance(row, Made) and row.name == "joblib.Parallel" for row in found)

    def callee(self, node: cst.Call, env: Env) -> list[tuple[Value, Made | None]]:
        """What a call may call: functions with the object they are methods of, classes, things of libraries."""
        func = without_remote(node.func)
        if isinstance(func, cst.Lambda):  # written and called in one place
            return [(Func("<lambda>", func, env.module, self.lookup.run.module_frame(env.module), {}), None)]
        if isinstance(func, cst.Name):
            local = self._local_function(func.value, env)
            if local is not None:
                return [(local, None)]
            several = self.lookup.imports(func, env)
            if len(several) > 1:
                return [(self.as_given(row), None) for row in several if isinstance(row, _CALLED)]
        value = self.lookup.dotted(func, env)
        if isinstance(value, _CALLED):
            return [(self.as_given(value), None)]
        if isinstance(value, BoundMethod) and isinstance(value.func, Func):
            return [(value.func, None)]
        if value is not None and not isinstance(value, (Module, Instance)) and hasattr(value, "name"):
            name = getattr(value, "name", "")
            if isinstance(name, str) and (name in PASSING_FUNCTIONS or name in ("filter", "open")):
                return [(External(name), None)]
        found: list[tuple[Value, Made | None]] = []
        if isinstance(func, cst.Attribute):
            above = isinstance(func.value, cst.Call) and dotted_name(func.value.func) == "super"
            if above and env.receiver is not None and env.receiver.cls is not None:
                return self._super_method(func.attr.value, env)
            for origin in self.items(self.origins(func.value, env)):
                if isinstance(origin, Made) and origin.cls is not None:
                    member = classes.find(origin.cls, func.attr.value)
                    method = function_of(member[0]) if member is not None else None
                    if method is not None and not any(_runs_same(row, method, origin) for row in found):
                        found.append((method, origin))
                    found.extend(self._overrides(origin, func.attr.value))
        if not found:
            for origin in self.items(self.origins(func, env)):
                if isinstance(origin, Callee):
                    found.append((origin.value, origin.receiver))
                elif isinstance(origin, Opaque) and makes_models(origin.name) and not found:
                    # ``{"resnet18": models.resnet18, ...}[name]()``: what the call makes says what it may be.
                    found.append((External(origin.name), None))
                elif isinstance(origin, Made) and origin.cls is not None and origin.kind != "model":
                    member = classes.find(origin.cls, "__call__")  # an object that is called as a function is
                    method = function_of(member[0]) if member is not None else None
                    if method is not None:
                        found.append((method, origin))
        return found

    def _overrides(self, made: Made, name: str) -> Iterator[tuple[Value, Made | None]]:
        """What a method may be where only the base of an object's class is known: that of a subclass."""
        if not isinstance(made.node, cst.ClassDef) or made.cls is None:
            return
        for cls in self.callers.subclasses(made.cls):
            method = function_of(cls.attrs.get(name))
            if method is not None and method.module is cls.module:
                yield method, self.any_object(cls.module, cls.node)

    def _super_method(self, name: str, env: Env) -> list[tuple[Value, Made | None]]:
        receiver = env.receiver
        assert receiver is not None and receiver.cls is not None
        holder: Scope | None = env.scope
        while holder is not None and holder.owner is None:
            holder = holder.parent
        owner = (
            self.lookup.class_of(env.module, holder.owner) if holder is not None and holder.owner is not None else None
        )
        if owner is None:
            return []
        found = classes.find(receiver.cls, name, after=owner)
        method = function_of(found[0]) if found is not None else None
        return [(method, receiver)] if method is not None else []

    def _local_function(self, name: str, env: Env) -> Func | None:
        scope: Scope | None = env.scope
        while scope is not None and scope.parent is not None:
            rows = scope.bindings.get(name)
            if rows and not isinstance(scope.node, cst.ClassDef):
                row = rows[-1]
                if isinstance(row.node, cst.FunctionDef):
                    return Func(name, row.node, env.module, self.lookup.run.module_frame(env.module), {})
                return None
            scope = scope.parent
        return None

    def _apply(
        self, called: Value, receiver: Made | None, node: cst.Call, env: Env, picked: bool = False
    ) -> Iterable[Origin]:
        value, bound = given_before(called)
        if isinstance(value, Partial):
            yield from self._apply(value.func, receiver, node, env, picked)
        elif env.module.taught is not None and env.module.taught.makes_model(names_of(value)):
            yield Made("model", names_of(value)[0], None, node, env)
        elif isinstance(value, ClassVal):
            yield Made(kind_of(value), value.name, value, node, env, picked=picked, bound=bound)
        elif isinstance(value, Func):
            if self._adds_noise(value):
                step = env.module.derive(Marks).step_by(node)
                if step is not None:
                    yield Stepped(step, env)
            yield from self.returned(value, node, receiver, env, bound)
        elif isinstance(value, External) and any(map(_is_placed, bound)):
            made = makes_models(canonical(value.name))
            yield Made("model", canonical(value.name), None, node, env) if made else Opaque(value.name)
        elif isinstance(value, External):
            yield from self._external(canonical(value.name), node, env)
        else:
            yield Opaque(dotted_name(node.func) or "")

    def _external(self, name: str, node: cst.Call, env: Env) -> Iterable[Origin]:
        if name == "filter" and len(node.args) == 2:
            unclear = (Filter(node, True, "", env),)
            yield from filtered(self.items(self.origins(node.args[1].value, env)), unclear)
            return
        if name == "functools.partial":
            yield from self._partial(node, env)
            return
        if name.rpartition(".")[2] in IMPORTERS:
            imported = imports_of(self.project, self.index(env.module), node)
            yield imported if imported is not None else Opaque(name)
        elif name in READERS:
            yield from self._read(name, node, env)
        elif name == "open" and node.args:
            written = self.files.written(node.args[0].value, env)
            yield from self._those(written, Arrival("file", node, env))
            if not written:
                yield Made("library", name, None, node, env)
        elif BODY.fullmatch(name):
            yield from self._arrived(name, node, env)
        elif ASKS.fullmatch(name):
            answers = tuple(self._those(self.endpoints.answered(node, env), Arrival("message", node, env)))
            yield from answers or (Made("library", name, None, node, env),)
        elif name.startswith("mpi4py.") and name.rpartition(".")[2] in _HANDED_IN and node.args:
            if self.index(env.module).mentions(PARTIES):
                yield from self.origins(node.args[0].value, env)
        elif name.startswith("mpi4py.") and name.endswith(".recv"):
            yield from self._over_wire("recv", node, env)
        elif name in JOINING_FUNCTIONS:
            for given in node.args[:1]:
                for origin in self.items(self.origins(given.value, env)):
                    yield replace(origin, flat=True) if isinstance(origin, State) else origin
        elif name in PASSING_FUNCTIONS or name.rpartition(".")[2] in ("DataParallel", "DistributedDataParallel"):
            positional, keywords, _ = arguments_of(node)
            for number, argument in enumerate((*positional, *keywords.values())):
                if name in ("map", "functools.reduce") and number == 0:
                    continue
                if name in ("zip", "enumerate"):
                    yield from self.items(self.each(node, env))
                    return
                found = self.origins(argument, env)
                leaf = name.rpartition(".")[2]
                # ``dict((key, value) for ...)``: what it holds are the values.
                values = self.items(found) if leaf in ("dict", "OrderedDict") else found
                yield from no_vectors(values) if leaf in REDUCING else values
            for arg in node.args:
                if arg.star == "*":
                    yield from self.items(self.origins(arg.value, env))
        else:
            settings = self._settings(node, env) if name in INSTANTIATE else ""
            yield Made("model" if makes_models(name) else "library", name, None, node, env, settings=settings)

    def _partial(self, node: cst.Call, env: Env) -> Iterable[Origin]:
        """What is to be called later, with what it is given now."""
        positional, _, _ = arguments_of(node)
        found = False
        clear = positional and not any(arg.star == "*" for arg in node.args)
        for origin in self.items(self.origins(positional[0], env)) if clear else ():
            value = origin.value if isinstance(origin, Callee) else None
            if isinstance(origin, Opaque) and makes_models(canonical(origin.name)):
                value = External(origin.name)
            if value is not None:
                found = True
                held = origin if isinstance(origin, Callee) else None
                receiver, picked = (held.receiver, held.picked) if held is not None else (None, False)
                yield Callee(Given(value, Bound(node, env)), receiver, picked)
        if not found:
            yield Made("library", "functools.partial", None, node, env)

    def _read(self, name: str, node: cst.Call, env: Env) -> Iterable[Origin]:
        """What a file holds that is read: what the program writes to it, as far as that is known."""
        positional, keywords, _ = arguments_of(node)
        held = positional[0] if positional else keywords.get(READERS[name])
        if held is not None and self._is_in_memory(held, env):
            yield from self.items(self.origins(held, env))
            return
        arrays = name == "numpy.load"
        written = self.files.written(held, env, arrays=arrays) if held is not None else []
        found = tuple(self._those(written, Arrival("file", node, env)))
        yield from found
        if not any(isinstance(origin, (State, Combined, Made)) for origin in found):
            # An array may be anything: only of what torch and its like read is it certain that it was kept.
            yield Made("library", name, None, node, env) if arrays else Loaded()

    def _those(self, written: Iterable[Handover], arrival: Arrival) -> Iterable[Origin]:
        """What was written to a file, or sent in a message, where it is taken up."""
        for row in written:
            for origin in self.items(self.origins(row.value, row.env)):
                if isinstance(origin, State) and len(origin.arrivals) < _MAX_ARRIVALS:
                    yield replace(origin, arrivals=(*origin.arrivals, arrival))
                else:
                    yield origin

    def _of_library(self, name: str, node: cst.CSTNode, env: Env) -> Iterable[Origin]:
        if BODY.fullmatch(name):
            yield from self._arrived(name, node, env)
        else:
            yield Opaque(name)

    def _arrived(self, name: str, node: cst.CSTNode, env: Env) -> Iterable[Origin]:
        found = tuple(self._those(self.endpoints.posted(env, name), Arrival("message", node, env)))
        yield from found or (Received(name),)

    def _over_wire(self, name: str, node: cst.CSTNode, env: Env) -> Iterable[Origin]:
        """What comes over a socket or a pipe."""
        found = tuple(self._those(self.wires.sent(env), Arrival("message", node, env)))
        yield from found or (Received(name),)

    def _is_in_memory(self, node: cst.BaseExpression, env: Env) -> bool:
        """Whether what is read from is no file: ``io.BytesIO(message)``."""
        if isinstance(node, cst.Name):
            holder = self.holder(node.value, node, env)
            value = holder.scope.sole_value(node.value) if holder is not None else None
        else:
            value = node
        return isinstance(value, cst.Call) and leaf_name(value.func) == "BytesIO"

    def _settings(self, node: cst.Call, env: Env) -> str:
        """What settings are called where they come from: ``model`` for ``instantiate(models[i])`` of copies of
        ``cfg.model`` in a list; "" if the call says so itself, or it is not clear."""
        positional, _, _ = arguments_of(node)
        if not positional or isinstance(positional[0], cst.Attribute):
            return ""
        found = {
            row.name if isinstance(row, Opaque) else row.what if isinstance(row, Received) else ""
            for row in self.items(self.origins(positional[0], env))
        }
        return found.pop() if len(found) == 1 else ""

    def _adds_noise(self, func: Func) -> bool:
        """Whether a function adds noise to what it gives back."""
        return isinstance(func.node, cst.FunctionDef) and func.module.derive(Marks).adds_noise(func.node)

    def returned(
        self, func: Func, call: cst.Call | None, receiver: Made | None, env: Env, bound: tuple[Bound, ...] = ()
    ) -> Iterable[Origin]:
        """What a function returns (or yields) when it is called so."""
        index = self.index(func.module)
        scope = index.scope(func.node)
        if scope is None:
            return
        if receiver is None and scope.owner is not None:
            receiver = self.any_object(func.module, scope.owner)
        if env.depth >= MAX_CALLS:
            inner = Env(func.module, scope, receiver=receiver)
        else:
            inner = Env(func.module, scope, call, env if call is not None else None, receiver, env.depth + 1, bound)
        for value in (*scope.returns, *scope.yields):
            if self.reached(value, inner):
                yield from self.origins(value, inner)


def _is_placed(row: Bound) -> bool:
    """Whether arguments are given by their place, so that those of the call are not the first."""
    return len(arguments_of(row.node)[0]) > 1


def _runs_same(row: tuple[Value, Made | None], method: Func, made: Made) -> bool:
    """Whether a method is known to run for an object that does the same: not for another class of the same call."""
    value, receiver = row
    return value is method and (receiver is None or receiver.node is not made.node or receiver.cls is made.cls)


def _is_of_file(origin: Origin) -> bool:
    """Whether it is a state as it comes out of a file."""
    return isinstance(origin, State) and origin.arrivals != () and origin.arrivals[-1].how == "file"


def _imports_by_name(module: PyModule) -> bool:
    return any(word in part.source for part in module.parsed.parts for word in IMPORTERS)


def _is_picked(origin: Origin) -> bool:
    """Whether a value is a class or function that was picked by its name."""
    return isinstance(origin, Opaque) and origin.name.rpartition(".")[2] in PICKERS
