"""From the clients of federated frameworks in a file to what they send and what they load.

A client is known by import: a class that derives from a framework's, a function that a framework's object decorates or
is handed, a script that receives messages by a framework's call. What it runs is followed forwards from there, through
the functions of the project that it calls; what is sent and what is loaded on the way is read entry by entry.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import libcst as cst

from bn_audit.filters import EVERYTHING
from bn_audit.source.flow.callers import function_of
from bn_audit.source.flow.cargo import Cargo, Part, by_position
from bn_audit.source.flow.carried import CargoReader
from bn_audit.source.flow.circumstances import set_apart
from bn_audit.source.flow.engines import RECEIVED, given_by_engine, models_of_job, sent_whole
from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.frameworks import frameworks
from bn_audit.source.flow.frameworks.kinds import WHOLE, ClientClass, Framework, Hook
from bn_audit.source.flow.index import FileIndex, Scope, arguments_of
from bn_audit.source.flow.kits import kit_models, sent_by
from bn_audit.source.flow.options import Options
from bn_audit.source.flow.values import Callee, Env, Made
from bn_audit.source.interpreter import classes
from bn_audit.source.interpreter.libraries import canonical
from bn_audit.source.interpreter.values import ClassVal, External, Func, Value
from bn_audit.source.nodes import children, root_name
from bn_audit.source.project import PyModule
from bn_audit.source.targets import Tree
from bn_audit.source.text import SourceError

__all__ = ["Client", "ClientHunter", "Load", "Send"]

_MAX_DEPTH = 5
"""Calls within calls that are followed from what a framework calls."""
_MAX_SERVERS = 6
"""Files with a server's own way of combining that are looked into for one client."""
_MAX_MAKERS = 6
"""Files that are looked into for calls that make a client."""
_MAX_RUNS = 80
"""Functions that are looked into from one such place."""
_BATCHNORM = re.compile(r"(?i)(?<![a-z])bn(?![a-z])|batch_?norm|running_(?:mean|var)")


_MAX_HEIRS = 16
"""Classes that derive from a client's, and from those."""
_MAX_ABOVE = 3
"""Folders from that of a client upwards in which the settings of its job are looked for."""
_SETTINGS = (".json", ".conf", ".yml", ".yaml", ".py")
"""What files end in that may configure a job."""


@dataclass(frozen=True, slots=True)
class Send:
    """What a client sends, in each way it may turn out; ``node`` is the expression that is sent."""

    ways: tuple[Cargo, ...]
    node: cst.CSTNode
    env: Env


@dataclass(frozen=True, slots=True)
class Load:
    """What is loaded into models, in each way it may turn out.

    Attributes:
        models: what takes it; empty if they could not be followed.
        node: the call or statement that loads it.
        strict: whether every entry of the model has to be there.
        initial: whether it may be a state that nobody has averaged yet.
    """

    ways: tuple[Cargo, ...]
    models: tuple[Made, ...]
    node: cst.CSTNode
    env: Env
    strict: bool
    initial: bool


@dataclass(slots=True)
class Client:
    """One client of a framework: what it sends and loads.

    Attributes:
        framework: whose.
        node, module: its class or function.
        role: ``client``, or ``server`` for a function that the server calls.
        sends, loads: in the order in which they are met.
        apart: places that treat BatchNorm apart from the rest of a model.
        made: for each call that makes it, the conditions under which it is reached, and what options are by default.
    """

    framework: Framework
    module: PyModule
    node: cst.CSTNode
    role: Literal["client", "server"]
    sends: list[Send] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    apart: list[tuple[PyModule, cst.CSTNode]] = field(default_factory=list)
    made: tuple[tuple[tuple[str, ...], Mapping[str, object]], ...] = ()

    def may_have(self, conditions: Sequence[str]) -> bool:
        """Whether a model that is picked under conditions may be its own. Where the client is made for one option alone
        and the model for another, and neither is the default, nobody is known to set both."""
        if not conditions or not self.made:
            return True
        for own, defaults in self.made:
            one, other = set_apart(own, defaults), set_apart(conditions, defaults)
            if not one - other or not other - one:
                return True
        return False


class ClientHunter:
    """Finds the clients of files."""

    def __init__(self, follower: Follower, options: Options) -> None:
        self.follower = follower
        self._options = options
        self.reader = CargoReader(follower)
        self._calls: dict[int, list[cst.Call]] = {}

    def clients(self, module: PyModule) -> Iterator[Client]:
        """Those that begin in a file."""
        index = self.follower.index(module)
        for framework in frameworks():
            for client in self._begin(framework, module, index):
                if client.role == "client" and any(part.models for send in client.sends for part in _parts(send)):
                    client.apart.extend(self._apart_at_the_server(client))
                    client.apart.extend(self._switched(client))
                yield client

    def _begin(self, framework: Framework, module: PyModule, index: FileIndex) -> Iterator[Client]:
        if _names(module, framework):
            for node in index.classes():
                yield from self._classes(framework, module, node)
            yield from self._decorated(framework, module, index)
            yield from self._handed(framework, module, index)
            yield from self._receiving(framework, module, index)
            yield from self._kits(framework, module, index)

    # --- where clients begin -----------------------------------------------------------------------------------------

    def _classes(self, framework: Framework, module: PyModule, node: cst.ClassDef) -> Iterator[Client]:
        """A class, and those that derive from it in files that do not name the framework."""
        cls = self.follower.lookup.class_of(module, node)
        kind = next((kind for kind in framework.clients if cls is not None and _derives(cls, kind)), None)
        if cls is None or kind is None:
            return
        yield from self._class(framework, kind, cls)
        for other in self.follower.callers.subclasses(cls):
            if not _names(other.module, framework):
                yield from self._class(framework, kind, other)

    def _class(self, framework: Framework, kind: ClientClass, cls: ClassVal) -> Iterator[Client]:
        module, node = cls.module, cls.node
        receiver = self.follower.any_object(module, node)
        client = Client(framework, module, node, "client")
        hooks: list[tuple[Hook, Env]] = []
        for hook in kind.hooks:
            found = classes.find(cls, hook.name)
            method = function_of(found[0]) if found is not None else None
            scope = self.follower.index(method.module).scope(method.node) if method is not None else None
            if method is not None and scope is not None:
                hooks.append((hook, Env(method.module, scope, receiver=receiver)))
        if not hooks:
            return
        client.apart.extend(self._apart_below(cls))
        self.reader.start({found for hook, env in hooks for found in _message(hook, env)})
        for hook, env in hooks:
            self._follow(client, env, hook.initial)
            if hook.sends is not None:
                place = () if hook.sends == WHOLE else (hook.sends,)
                client.sends.extend(Send(self.reader.at(value, place, env), value, env) for value in env.scope.returns)
        if (client.sends or client.loads) and (not framework.switches or self._is_run(cls, kind)):
            client.made = tuple(self._calls_of(cls))
            yield client

    def _is_run(self, cls: ClassVal, kind: ClientClass) -> bool:
        """Whether somebody may run what a class sends: not if the jobs around it name classes that derive from it and
        send in a way of their own, and nobody names or makes one that sends as it does."""
        names = [hook.name for hook in kind.hooks if hook.sends is not None] or [hook.name for hook in kind.hooks[:1]]
        own = _methods(cls, names)
        heirs = list(self.follower.callers.subclasses(cls))
        for heir in heirs:
            if len(heirs) < _MAX_HEIRS:
                heirs.extend(row for row in self.follower.callers.subclasses(heir) if row not in heirs)
        others = {heir.name for heir in heirs if _methods(heir, names) != own}
        alike = [cls, *(heir for heir in heirs if heir.name not in others)]
        cut = self.follower.project.exhausted and self._may_have_others([cls, *heirs])
        if not (others or cut) or any(True for one in alike for _ in self._calls_of(one)):
            return True
        named = set(self._named_in_jobs(cls.module, {cls.name, *(heir.name for heir in heirs)}))
        return bool(named - others) or (not cut and not named & others)

    def _may_have_others(self, known: Sequence[ClassVal]) -> bool:
        """Whether files that could not be opened any more may derive from some classes."""
        seen = {os.path.abspath(cls.module.path) for cls in known}
        found = (path for cls in known for path in self.follower.finder(cls.name, cls.module, "base"))
        return any(os.path.abspath(path) not in seen for path in found)

    def _named_in_jobs(self, module: PyModule, names: Collection[str]) -> Iterator[str]:
        """Which of some classes the settings above a module name."""
        outside = self.follower.project.outside
        words = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in sorted(names)).encode())
        folder = module.folder
        for _ in range(_MAX_ABOVE):
            for place in (folder, os.path.join(folder, "config")):
                for name in outside.entries(place, _SETTINGS[:-1]):
                    try:
                        data = outside.read(os.path.join(place, name))
                    except SourceError:
                        continue
                    yield from (found.decode() for found in words.findall(data))
            folder = os.path.dirname(folder)

    def _calls_of(self, cls: ClassVal) -> Iterator[tuple[tuple[str, ...], Mapping[str, object]]]:
        """The conditions under which the project makes objects of a class, with the defaults of options there."""
        for path in self.follower.finder(cls.name, cls.module)[:_MAX_MAKERS]:
            try:
                module = self.follower.project.open(path)
            except SourceError:
                continue
            index = self.follower.index(module)
            for call in index.calls_of(cls.name):
                tests = module.derive(Tree).conditions(call)
                defaults = {name: value.value for name, value in self._options.of(module).items()} if tests else {}
                yield tuple(index.code(test) for test in tests), defaults

    def _decorated(self, framework: Framework, module: PyModule, index: FileIndex) -> Iterator[Client]:
        for node in index.decorated():
            for decorator in node.decorators:
                called = decorator.decorator.func if isinstance(decorator.decorator, cst.Call) else None
                target = called if called is not None else decorator.decorator
                if not isinstance(target, cst.Attribute):
                    continue
                for callback in framework.callbacks:
                    if callback.maker is None or callback.name != target.attr.value:
                        continue
                    env = self.follower.env(module, node)
                    made = self.follower.items(self.follower.origins(target.value, env))
                    makers = [row for row in made if isinstance(row, Made) and callback.maker.match(row.name)]
                    scope = index.scope(node)
                    if makers and scope is not None:
                        client = Client(framework, module, node, "client")
                        calls = [(decorator.decorator, env), *((row.node, row.env) for row in makers)]
                        client.apart.extend(self._kept_by_mods(framework, calls))
                        yield from self._callback(client, Env(module, scope), 0, callback.initial)

    def _handed(self, framework: Framework, module: PyModule, index: FileIndex) -> Iterator[Client]:
        for callback in framework.callbacks:
            if callback.maker is not None or not _holds(module, callback.name):
                continue
            for call in index.calls_with(callback.name):
                value = arguments_of(call)[1].get(callback.name)
                if value is None:
                    continue
                env = self.follower.env(module, call)
                for origin in self.follower.origins(value, env):
                    func = function_of(origin.value) if isinstance(origin, Callee) else None
                    scope = self.follower.index(func.module).scope(func.node) if func is not None else None
                    if func is None or scope is None:
                        continue
                    receiver = origin.receiver if isinstance(origin, Callee) else None
                    inner = Env(func.module, scope, receiver=receiver)
                    place = callback.message + (1 if receiver is not None else 0)
                    client = Client(framework, func.module, func.node, "server")
                    yield from self._callback(client, inner, place, callback.initial)

    def _receiving(self, framework: Framework, module: PyModule, index: FileIndex) -> Iterator[Client]:
        """Scripts: the scope in which a message is received."""
        seen: set[int] = set()
        for pattern in framework.receivers:
            for call in index.calls_of("receive"):
                env = self.follower.env(module, call)
                if id(env.scope) in seen or not self._is(call, env, pattern):
                    continue
                seen.add(id(env.scope))
                self.reader.start(set())
                client = Client(framework, module, env.scope.node, "client")
                self._follow(client, env, True)
                self._driven(client)
                if client.sends or client.loads:
                    yield client

    def _driven(self, client: Client) -> None:
        """A script that only drives a library's client: what that one sends, and loads, of its own model."""
        if any(part.models for send in client.sends for part in _parts(send)):
            return
        for engine in client.framework.engines:
            for number, send in enumerate(client.sends):
                call = given_by_engine(engine, send.node, send.env, self.follower)
                jobs = client.framework.jobs if call is not None else ()
                found = (made for job in jobs for made in models_of_job(job, client.module, self.follower))
                models = tuple(dict.fromkeys(found))
                if call is not None and models:
                    client.sends[number] = Send((sent_whole(call, send.env, models),), call, send.env)
                    client.loads.append(Load((RECEIVED,), models, call, send.env, True, True))

    def _kits(self, framework: Framework, module: PyModule, index: FileIndex) -> Iterator[Client]:
        for kit in framework.kits:
            for handed in kit_models(kit, self.follower, module, index, self._options):
                node, env, models = handed
                sent, loaded = sent_by(kit, handed)
                client = Client(framework, module, node, "client")
                client.apart.extend(self._apart(env))
                client.sends.append(Send((sent,), node, env))
                client.loads.append(Load((loaded,), models, node, env, True, True))
                yield client

    def _callback(self, client: Client, env: Env, place: int, initial: bool) -> Iterator[Client]:
        params = env.scope.parameters
        self.reader.start({(id(env.scope), params[place].name.value)} if place < len(params) else set())
        self._follow(client, env, initial)
        if client.sends or client.loads:
            yield client

    # --- what they run -----------------------------------------------------------------------------------------------

    def _follow(self, client: Client, env: Env, initial: bool) -> None:
        """What a scope, and the functions that it calls, send and load."""
        seen: set[tuple[int, int]] = set()
        queue = [(env, 0)]
        while queue and len(seen) < _MAX_RUNS:
            current, depth = queue.pop(0)
            run = (id(current.scope), id(current.receiver.cls) if current.receiver is not None else 0)
            if run in seen:
                continue
            seen.add(run)
            client.apart.extend(self._apart(current))
            client.loads.extend(self._copied(current, initial))
            for call in self._calls_in(current):
                self._look(client, call, current, initial)
                if depth >= _MAX_DEPTH:
                    continue
                for value, receiver in self.follower.callee(call, current):
                    inner = self._inside(value, receiver, call, current)
                    if inner is not None and not _is_aside(client.framework, value):
                        queue.append((inner, depth + 1))

    def _inside(self, value: Value, receiver: Made | None, call: cst.Call, env: Env) -> Env | None:
        if isinstance(value, Func):
            return self.reader.inside(value, receiver, call, env)
        return None

    def _look(self, client: Client, call: cst.Call, env: Env, initial: bool) -> None:
        func = call.func
        name = func.attr.value if isinstance(func, cst.Attribute) else func.value if isinstance(func, cst.Name) else ""
        if name == "load_state_dict" and isinstance(func, cst.Attribute):
            positional, keywords, _ = arguments_of(call)
            value = positional[0] if positional else keywords.get("state_dict")
            if value is None:
                return
            strict = keywords.get("strict", positional[1] if len(positional) > 1 else None)
            models = tuple(
                dict.fromkeys(
                    origin
                    for origin in self.follower.items(self.follower.origins(func.value, env))
                    if isinstance(origin, Made) and origin.kind == "model"
                )
            )
            if models:
                client.loads.append(Load(self.reader.read(value, env), models, call, env, _is_true(strict), initial))
            return
        for wrapper in client.framework.wrappers:
            if name and self._is(call, env, wrapper.name):
                positional, keywords, _ = arguments_of(call)
                value = keywords.get(wrapper.argument) if wrapper.argument else None
                if value is None and wrapper.place < len(positional):
                    value = positional[wrapper.place]
                if value is not None and not _kept(self.follower.index(env.module), call, env.scope):
                    client.sends.append(Send(self.reader.read(value, env), value, env))

    def _copied(self, env: Env, initial: bool) -> Iterator[Load]:
        """``for p, new in zip(model.parameters(), arrays): p.data = new``."""
        for loop in _nodes(env.scope, cst.For):
            if not isinstance(loop, cst.For):
                continue
            target = loop.target
            if not isinstance(target, cst.Tuple) or len(target.elements) != 2:
                continue
            names = [part.value.value if isinstance(part.value, cst.Name) else "" for part in target.elements]
            written = names[0] if _is_written(loop, names[0]) else names[1] if _is_written(loop, names[1]) else ""
            if not written:
                continue
            place = names.index(written)
            for way in self.reader.read(loop.iter, env):
                if way.shape != "zip" or len(way.zipped) != 2:
                    continue
                own, other = way.zipped[place], way.zipped[1 - place]
                made = by_position(own.shaped("keys"), other, EVERYTHING, None)
                if len(own.parts) == 1 and own.parts[0].models and made.shape == "dict":
                    yield Load((made,), own.parts[0].models, loop.iter, env, True, initial)

    def _is(self, call: cst.Call, env: Env, pattern: re.Pattern[str]) -> bool:
        return any(
            isinstance(value, External) and pattern.match(canonical(value.name)) is not None
            for value, _ in self.follower.callee(call, env)
        )

    def _calls_in(self, env: Env) -> list[cst.Call]:
        known = self._calls.get(id(env.scope))
        if known is None:
            known = self._calls[id(env.scope)] = [
                node for node in _nodes(env.scope, cst.Call) if isinstance(node, cst.Call)
            ]
        return known

    def _kept_by_mods(
        self, framework: Framework, calls: Sequence[tuple[cst.CSTNode, Env]]
    ) -> Iterator[tuple[PyModule, cst.CSTNode]]:
        """Mods that keep BatchNorm back, in calls that make a client or register its functions."""
        for call, env in calls:
            value = arguments_of(call)[1].get("mods") if isinstance(call, cst.Call) else None
            if value is None or framework.mods is None:
                continue
            for row in self.follower.items(self.follower.origins(value, env)):
                if isinstance(row, Made) and framework.mods.match(row.name):
                    yield row.env.module, row.node

    def _apart_below(self, cls: ClassVal) -> Iterator[tuple[PyModule, cst.CSTNode]]:
        """The same in the methods of subclasses: who wrote one that keeps BatchNorm knows what the base does."""
        for other in self.follower.callers.subclasses(cls):
            index = self.follower.index(other.module)
            for member in other.attrs.values():
                func = function_of(member)
                scope = index.scope(func.node) if func is not None and func.module is other.module else None
                if scope is not None:
                    yield from self._apart(Env(other.module, scope))

    def _apart_at_the_server(self, client: Client) -> Iterator[tuple[PyModule, cst.CSTNode]]:
        """The same in the project's own servers."""
        root = self.follower.project.root(client.module.path)
        for name in client.framework.aggregates:
            for path in self.follower.finder(name, client.module, "define")[:_MAX_SERVERS]:
                if self.follower.project.root(path) != root:
                    continue
                try:
                    module = self.follower.project.open(path)
                except SourceError:
                    continue
                index = self.follower.index(module)
                for function in index.functions_of(name):
                    owner = index.owner_of(function)
                    holders = [function] if owner is None else owner.body.body
                    for node in holders:
                        scope = index.scope(node)
                        if scope is not None:
                            yield from self._apart(Env(module, scope))

    def _switched(self, client: Client) -> Iterator[tuple[PyModule, cst.CSTNode]]:
        """The configuration beside a client says that entries are kept back."""
        if not client.framework.switches:
            return
        folder = client.module.folder
        for place in (folder, os.path.dirname(folder), os.path.join(os.path.dirname(folder), "config")):
            outside = self.follower.project.outside
            for name in outside.entries(place, _SETTINGS):
                path = os.path.join(place, name)
                if outside.holds(path, client.framework.switches) and self._is_on(client.framework, path):
                    yield client.module, client.node
                    return

    def _is_on(self, framework: Framework, path: str) -> bool:
        """Whether a file says more of a switch than that there is one."""
        try:
            data = self.follower.project.outside.read(path)
        except SourceError:
            return True
        return framework.switched is None or framework.switched.search(data) is not None

    def _apart(self, env: Env) -> Iterator[tuple[PyModule, cst.CSTNode]]:
        """Words for BatchNorm in the strings and names of a scope that is no model's own code."""
        receiver = env.receiver
        if receiver is not None and receiver.kind == "model":
            return
        for node in _nodes(env.scope, cst.SimpleString, cst.Name):
            text = node.value if isinstance(node, (cst.SimpleString, cst.Name)) else ""
            if _BATCHNORM.search(text):
                yield env.module, node
                return


def _nodes(scope: Scope, *kinds: type[cst.CSTNode]) -> Iterator[cst.CSTNode]:
    """The nodes of some kinds in a scope, nested functions and classes left out, in the order of the source."""
    body = scope.node.body
    stack: list[cst.CSTNode] = list(reversed(body)) if not isinstance(body, cst.CSTNode) else [body]
    while stack:
        node = stack.pop()
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            continue
        if isinstance(node, cst.Expr) and isinstance(node.value, (cst.SimpleString, cst.ConcatenatedString)):
            continue  # a docstring
        if isinstance(node, kinds):
            yield node
        stack.extend(reversed(list(children(node))))


def _names(module: PyModule, framework: Framework) -> bool:
    """Whether a file may take something from a framework itself, and not from another file."""
    return _holds(module, framework.mark)


def _holds(module: PyModule, text: str) -> bool:
    return any(text in part.source for part in module.parsed.parts)


def _parts(send: Send) -> Iterator[Part]:
    for way in send.ways:
        yield from way.parts


def _is_written(loop: cst.For, name: str) -> bool:
    """Whether the body of a loop puts something into what a name stands for: ``p.data = ...``, ``p.copy_(...)``."""
    if not name:
        return False
    stack: list[cst.CSTNode] = [loop.body]
    while stack:
        node = stack.pop()
        place: cst.CSTNode | None = None
        if isinstance(node, cst.Assign):
            place = node.targets[0].target
            place = place if isinstance(place, cst.Attribute) and place.attr.value == "data" else None
        elif isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value == "copy_":
            place = node.func
        if place is not None and root_name(place) == name:
            return True
        stack.extend(children(node))
    return False


def _message(hook: Hook, env: Env) -> Iterator[tuple[int, str]]:
    """The parameter that brings a hook its message, with the identity of its scope."""
    params = env.scope.parameters
    place = (hook.message or 0) + (1 if env.scope.owner is not None else 0)
    if hook.message is not None and place < len(params):
        yield id(env.scope), params[place].name.value


def _derives(cls: ClassVal, kind: ClientClass) -> bool:
    for entry in classes.mro(cls)[1:]:
        if isinstance(entry, External) and kind.base.match(entry.name):
            return True
        if isinstance(entry, ClassVal) and kind.base.match(f"{entry.module.name}.{entry.name}"):
            return True
    return False


def _is_aside(framework: Framework, value: Value) -> bool:
    """Whether a function answers requests of another kind than those for a state that is averaged."""
    return isinstance(value, Func) and framework.aside is not None and framework.aside.match(value.name) is not None


def _methods(cls: ClassVal, names: Sequence[str]) -> list[cst.CSTNode | None]:
    """The functions behind some methods of a class, its own or inherited."""
    members = (classes.find(cls, name) for name in names)
    found = (function_of(member[0]) if member is not None else None for member in members)
    return [func.node if func is not None else None for func in found]


def _kept(index: FileIndex, call: cst.Call, scope: Scope) -> bool:
    """Whether what a call makes is put into the client's own state: ``context.state["bn"] = ArrayRecord(...)``, at once
    or by a name that is read for nothing else."""
    statement = index.statement_of(call)
    if not isinstance(statement, cst.Assign):
        return False
    target = statement.targets[0].target
    if not isinstance(target, cst.Name) or len(scope.bindings.get(target.value, ())) != 1:
        return _is_own_state(target)
    uses = [
        node for node in _nodes(scope, cst.Name) if node is not target and getattr(node, "value", "") == target.value
    ]
    into = [index.statement_of(node) for node in uses]
    return bool(uses) and all(
        isinstance(row, cst.Assign) and row.value is node and _is_own_state(row.targets[0].target)
        for row, node in zip(into, uses, strict=True)
    )


def _is_own_state(place: cst.BaseExpression) -> bool:
    """``context.state["bn"]``, ``state["bn"]``."""
    target = place
    while isinstance(target, (cst.Subscript, cst.Attribute)):
        if isinstance(target, cst.Attribute) and "state" in target.attr.value:
            return True
        target = target.value
    return isinstance(target, cst.Name) and "state" in target.value and isinstance(place, cst.Subscript)


def _is_true(node: cst.BaseExpression | None) -> bool:
    return node is None or (isinstance(node, cst.Name) and node.value == "True")
