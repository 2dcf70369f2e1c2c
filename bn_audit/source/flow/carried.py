"""What of a model's state a value carries, and in which form: read forwards, entry by entry, or not at all.

The follower says where a value may come from, and takes every container for its items. What travels between parties
has to be known better: which entries, under which conditions, by key or by position, and whether what arrives takes
their place. A state is taken, filtered, turned into arrays, zipped with keys and loaded in a few idioms, and these are
read here: comprehensions, loops that fill a dict or a list, `update`, `pop`, `zip`, and functions that do this.
Whatever is written otherwise is `unknown`, which no rule speaks of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import libcst as cst

from bn_audit.filters import EVERYTHING, All, Equals, IsParameter, Not, Test, Unclear
from bn_audit.source.flow.alive import alive_at
from bn_audit.source.flow.cargo import (
    CONSTANT,
    INDEX,
    NOTHING,
    UNKNOWN,
    Cargo,
    Cargos,
    Part,
    Rebuilt,
    Shape,
    by_position,
)
from bn_audit.source.flow.changes import Change, changes_in, text_of
from bn_audit.source.flow.filters import read_tests
from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.frameworks import frameworks
from bn_audit.source.flow.given import argument
from bn_audit.source.flow.index import FileIndex, Scope, arguments_of
from bn_audit.source.flow.loops import Loop, conditions, loops_around
from bn_audit.source.flow.values import Env, Made
from bn_audit.source.interpreter import classes
from bn_audit.source.interpreter.libraries import canonical
from bn_audit.source.interpreter.values import BoundMethod, External, Func, Value
from bn_audit.source.nodes import children, dotted_name

__all__ = ["CargoReader"]

_MAX_WAYS = 8
"""Ways in which one value may turn out that are told apart."""
_MAX_DEPTH = 40
_STEPS = 8_000
"""Expressions that are read for one client."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one turn of a loop binds: names for keys, for entries, and for pairs of both."""

    keys: dict[str, Cargo] = field(default_factory=dict)
    values: dict[str, Cargo] = field(default_factory=dict)
    pairs: dict[str, Cargo] = field(default_factory=dict)
    zipped: tuple[Cargo, ...] = ()

    def joined(self, other: _Turn) -> _Turn:
        return _Turn({**self.keys, **other.keys}, {**self.values, **other.values}, {**self.pairs, **other.pairs})


_PASS = frozenset(
    [
        "collections.OrderedDict",
        "dict",
        "list",
        "tuple",
        "iter",
        "copy.deepcopy",
        "copy.copy",
        "typing.OrderedDict",
        "typing.cast",
        "tqdm.tqdm",
        "tqdm",
        "numpy.array",
        "numpy.asarray",
    ]
)
"""Functions that give the entries they are given."""
_REBUILD = frozenset(["torch.Tensor", "torch.FloatTensor"])
_CONVERT = frozenset(
    [
        "torch.tensor",
        "torch.as_tensor",
        "torch.from_numpy",
        "torch.clone",
        "torch.squeeze",
        "numpy.array",
        "numpy.asarray",
        "numpy.copy",
        "numpy.ascontiguousarray",
        "numpy.float32",
        "numpy.reshape",
        "numpy.subtract",
        "torch.sub",
        "torch.subtract",
        "torch.reshape",
        "copy.deepcopy",
        "copy.copy",
        "flwr.common.Array",
        "flwr.app.Array",
    ]
)
"""Functions that give one entry in another form."""
_SHAPES = frozenset(
    f"{library}.{name}_like" for library in ("torch", "numpy") for name in ("zeros", "ones", "empty", "full")
)
"""Functions that take the form of an entry alone."""
_KEEPING = frozenset(
    [
        "cpu", "cuda", "to", "detach", "numpy", "clone", "float", "double", "half", "bfloat16", "long", "int", "data",
        "contiguous", "tolist", "astype", "copy", "type", "type_as", "requires_grad_", "reshape", "view", "flatten",
        "ravel", "squeeze", "item", "share_memory_", "unsqueeze", "resize_", "view_as", "reshape_as",
    ]
)  # fmt: skip
"""Methods and attributes that give one entry in another form."""
_WHOLE = frozenset(["copy", "deepcopy", "eval", "train", "module"])
"""Methods that give the same entries."""


class CargoReader:
    """Reads what values carry; keeps what it has read."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self.messages: set[tuple[int, str]] = set()
        self.steps = _STEPS
        self._known: dict[tuple[object, ...], Cargos] = {}
        self._busy: set[tuple[object, ...]] = set()
        self._cut = 0
        self._changes: dict[int, dict[str, list[Change]]] = {}

    # --- expressions -------------------------------------------------------------------------------------------------

    def read(self, node: cst.CSTNode, env: Env) -> Cargos:
        """The ways in which an expression may turn out, each once; UNKNOWN among them where one is not understood."""
        key = (id(node), env.key)
        known = self._known.get(key)
        if known is not None:
            return known
        self.steps -= 1
        if key in self._busy or len(self._busy) > _MAX_DEPTH or self.steps < 0:
            self._cut += 1
            return (UNKNOWN,)
        self._busy.add(key)
        before = self._cut
        try:
            found = tuple(dict.fromkeys(self._read(node, env)))
        finally:
            self._busy.discard(key)
        if not found or len(found) > _MAX_WAYS:
            found = (UNKNOWN,)
        if self._cut == before or not self._busy:
            self._known[key] = found
        return found

    def start(self, messages: set[tuple[int, str]]) -> None:
        """Begin with a client, to which these parameters bring a message: each with the identity of its scope."""
        self.messages = messages
        self.steps = _STEPS
        self._known.clear()
        self._cut = 0

    def _read(self, node: cst.CSTNode, env: Env) -> Iterable[Cargo]:
        if isinstance(node, cst.Name) and node.value == "None":
            yield NOTHING
        elif isinstance(node, cst.Name):
            yield from self._name(node, env)
        elif isinstance(node, cst.Attribute):
            yield from self._attribute(node, env)
        elif isinstance(node, cst.Call):
            yield from self._call(node, env)
        elif isinstance(node, cst.Subscript):
            yield from (_message(way) if _is_message(way) else UNKNOWN for way in self.read(node.value, env))
        elif isinstance(node, cst.DictComp):
            yield from self._comprehension(node, env, node.key, node.value, "dict")
        elif isinstance(node, (cst.ListComp, cst.GeneratorExp)):
            yield from self._list_comprehension(node, env)
        elif isinstance(node, cst.IfExp):
            yield from (*self.read(node.body, env), *self.read(node.orelse, env))
        elif isinstance(node, cst.NamedExpr):
            yield from self.read(node.value, env)
        elif isinstance(node, cst.Await):
            yield from self.read(node.expression, env)
        elif isinstance(node, cst.Dict):
            yield from self._dict(node, env)
        elif isinstance(node, cst.List):
            yield from self._list(node, env)
        elif isinstance(node, cst.BinaryOperation) and isinstance(node.operator, (cst.Add, cst.BitOr)):
            shape: Shape = "list" if isinstance(node.operator, cst.Add) else "dict"
            yield from self._joined([self.read(node.left, env), self.read(node.right, env)], shape)
        else:
            yield UNKNOWN

    def _joined(self, rows: Sequence[Cargos], shape: Shape) -> Iterator[Cargo]:
        """Several values one after the other."""
        found: list[tuple[Part, ...]] = [()]
        for ways in rows:
            found = [(*parts, *way.parts) for parts in found for way in ways][: _MAX_WAYS + 1]
        yield from (Cargo(shape, parts) for parts in found)

    def _dict(self, node: cst.Dict, env: Env) -> Iterable[Cargo]:
        rows: list[Cargos] = []
        for element in node.elements:
            if isinstance(element, cst.StarredDictElement):
                rows.append(self.read(element.value, env))
            elif isinstance(element, cst.DictElement):
                name = text_of(element.key)
                if name is None and isinstance(element.key, cst.Attribute):
                    name = dotted_name(element.key)  # a constant: ``MetaKey.INITIAL_METRICS``
                covers: Test = Equals((name,)) if name is not None else Unclear("?")
                rows.append((Cargo("dict", (Part("unknown", covers),)),))
        yield from self._joined(rows, "dict")

    def _list(self, node: cst.List, env: Env) -> Iterable[Cargo]:
        if not all(isinstance(element, cst.StarredElement) for element in node.elements):
            yield UNKNOWN
            return
        yield from self._joined([self.read(element.value, env) for element in node.elements], "list")

    # --- names -------------------------------------------------------------------------------------------------------

    def _name(self, node: cst.Name, env: Env) -> Iterable[Cargo]:
        name = node.value
        here = self.follower.holder(name, node, env)
        if here is None:
            yield UNKNOWN
            return
        index = self.follower.index(here.module)
        use = node if here.scope is env.scope else None
        rows, sealed = alive_at(index, here.scope.bindings.get(name, []), use)
        found: list[tuple[Cargo, int]] = []
        for row in rows:
            if row.value is None or row.how not in ("value", "item"):
                continue
            ways = (UNKNOWN,) if row.how == "item" else self.at(row.value, row.path, here)
            found.extend((way, row.order) for way in ways)
        if not sealed and not (found and _is_local(name, here.scope)):
            found.extend((way, -1) for way in self.parameter(name, here))
        for way, order in found:
            yield from self._changed(way, name, order, here, use)

    def at(self, node: cst.CSTNode, path: tuple[int, ...], env: Env) -> Cargos:
        """What stands at a place in a tuple that an expression gives."""
        if not path:
            return self.read(node, env)
        if isinstance(node, cst.Tuple) and path[0] < len(node.elements):
            return self.at(node.elements[path[0]].value, path[1:], env)
        if isinstance(node, cst.Call):
            found: list[Cargo] = []
            for value, receiver in self.follower.callee(node, env):
                if isinstance(value, Func) and (inner := self.inside(value, receiver, node, env)) is not None:
                    for given in inner.scope.returns:
                        found.extend(self.at(given, path, inner))
            if found:
                return tuple(found)
        ways = self.read(node, env)
        return tuple(_message(way) for way in ways) if all(_is_message(way) for way in ways) else (UNKNOWN,)

    def parameter(self, name: str, env: Env) -> Iterable[Cargo]:
        """What a parameter is given by the call that runs its scope; a message if the framework gives it."""
        if (id(env.scope), name) in self.messages and env.call is None:
            yield Cargo("any", (Part("message"),))
            return
        given = argument(name, env)
        if given is None or env.caller is None:
            yield UNKNOWN
        else:
            yield from self.read(given, env.caller)

    def _attribute(self, node: cst.Attribute, env: Env) -> Iterable[Cargo]:
        attr = node.attr.value
        base = self.read(node.value, env)
        if all(_is_message(way) for way in base):
            yield from base
            return
        for origin in self.follower.items(self.follower.origins(node.value, env)):
            if isinstance(origin, Made) and origin.cls is not None:
                for write, inner in self.follower.writes_of(origin, attr):
                    yield from self.at(write.value, write.path, inner) if not write.deep else (UNKNOWN,)
                member = classes.find(origin.cls, attr)
                getter = getattr(member[0], "func", None) if member is not None else None
                if isinstance(getter, Func) and not isinstance(member[0] if member else None, BoundMethod):
                    yield from self.returned(getter, None, origin, origin.env)

    # --- calls -------------------------------------------------------------------------------------------------------

    def _call(self, node: cst.Call, env: Env) -> Iterable[Cargo]:
        func = node.func
        attr = func.attr.value if isinstance(func, cst.Attribute) else ""
        if attr in ("state_dict", "parameters", "named_parameters", "buffers", "named_buffers") and len(node.args) < 2:
            assert isinstance(func, cst.Attribute)
            yield from self._state(node, func, attr, env)
            return
        target = self.follower.callee(node, env)
        if target:
            for value, receiver in target:
                if isinstance(value, Func):
                    yield from self.returned(value, node, receiver, env)
                elif isinstance(value, External):
                    yield from self._external(canonical(value.name), node, env)
                else:
                    yield from self._named(getattr(value, "name", ""), node, env)
            return
        if isinstance(func, cst.Attribute):
            yield from self._method(func.value, attr, env)
            return
        yield UNKNOWN

    def _state(self, node: cst.Call, func: cst.Attribute, attr: str, env: Env) -> Iterable[Cargo]:
        models: list[Made] = []
        for origin in self.follower.items(self.follower.origins(func.value, env)):
            if not isinstance(origin, Made) or origin.kind != "model":
                continue
            own = classes.find(origin.cls, attr) if origin.cls is not None else None
            method = own[0] if own is not None else None
            if isinstance(method, Func):  # the class says itself what its state is
                yield from self.returned(method, node, origin, env)
            else:
                models.append(origin)
        if not models:
            yield UNKNOWN
            return
        shape: Shape = "dict" if attr == "state_dict" else "pairs" if attr.startswith("named_") else "list"
        buffers = attr.endswith("buffers")
        covers = EVERYTHING if attr == "state_dict" else Not(IsParameter()) if buffers else IsParameter()
        what: Literal["state", "parameters"] = "state" if attr == "state_dict" else "parameters"
        inside = self._inside_of(func.value, env)
        yield Cargo(shape, (Part("model", covers, what, tuple(dict.fromkeys(models)), node, env, inside=inside),))

    def _inside_of(self, node: cst.BaseExpression, env: Env) -> tuple[tuple[Made, ...], str] | None:
        """The models that ``model.body`` may be a part of, and what its keys begin with there: ``body.``."""
        if not isinstance(node, cst.Attribute) or node.attr.value in _WHOLE:
            return None
        found = dict.fromkeys(
            origin
            for origin in self.follower.items(self.follower.origins(node.value, env))
            if isinstance(origin, Made) and origin.kind == "model" and origin.cls is not None
        )
        names = {self._attribute_behind(node.attr.value, made) for made in found}
        name = names.pop() if len(names) == 1 else None
        return (tuple(found), f"{name}.") if name is not None else None

    def _attribute_behind(self, name: str, made: Made) -> str | None:
        """The attribute that ``model.name`` gives: its own, or the one that a property of that name returns."""
        member = classes.find(made.cls, name) if made.cls is not None else None
        getter = getattr(member[0], "func", None) if member is not None else None
        if not isinstance(getter, Func) or isinstance(member[0] if member else None, BoundMethod):
            return name
        scope = self.follower.index(getter.module).scope(getter.node)
        given = scope.returns if scope is not None else []
        kept = given[0] if len(given) == 1 else None
        return kept.attr.value if isinstance(kept, cst.Attribute) and dotted_name(kept.value) == "self" else None

    def _method(self, base: cst.BaseExpression, attr: str, env: Env) -> Iterable[Cargo]:
        """A method of something that is no object of the project."""
        for way in self.read(base, env):
            if way.shape in ("unknown", "none"):
                yield UNKNOWN
            elif attr in ("items", "values", "keys") and (way.shape in ("dict", "any")):
                yield way.shaped({"items": "pairs", "values": "list"}.get(attr, "keys"))  # type: ignore[arg-type]
            elif attr == "to_torch_state_dict":
                yield replace(way, parts=tuple(replace(part, tensors=True) for part in way.parts))
            elif attr in _WHOLE or _is_message(way):
                yield way
            else:
                yield UNKNOWN

    def _external(self, name: str, node: cst.Call, env: Env) -> Iterable[Cargo]:
        if any(pattern.match(name) for framework in frameworks() for pattern in framework.receivers):
            yield Cargo("any", (Part("message", node=node, env=env),))
        elif name in ("torch.load", "pickle.load", "joblib.load"):
            yield Cargo("any", (Part("file"),))
        elif any(name.partition(".")[0] in framework.packages for framework in frameworks()):
            yield from self._of_framework(node, env)
        else:
            yield from self._named(name, node, env)

    def _of_framework(self, node: cst.Call, env: Env) -> Iterable[Cargo]:
        """What a framework makes of a state or a message: the same in a form of its own."""
        positional, keywords, _ = arguments_of(node)
        given = [self.read(row, env) for row in (*positional, *keywords.values())]
        known = [ways for ways in given if all(way.shape != "unknown" for way in ways)]
        yield from known[0] if len(known) == 1 else (UNKNOWN,)

    def _named(self, name: str, node: cst.Call, env: Env) -> Iterable[Cargo]:
        positional, _, stars = arguments_of(node)
        if stars or not positional:
            empty = name in ("collections.OrderedDict", "dict", "list", "typing.OrderedDict") and not node.args
            yield Cargo("list" if name == "list" else "dict") if empty else UNKNOWN
        elif name == "zip":
            ways: list[tuple[Cargo, ...]] = [()]
            for each in positional:
                ways = [(*row, way) for row in ways for way in self.read(each, env)][: _MAX_WAYS + 1]
            yield from (Cargo("zip", zipped=row) for row in ways)
        elif name == "enumerate":
            yield from (Cargo("zip", zipped=(INDEX, way)) for way in self.read(positional[0], env))
        elif name == "map" and len(positional) == 2:
            yield from self._mapped(positional[0], positional[1], env)
        elif name in _PASS:
            last = positional[-1] if name == "typing.cast" else positional[0]
            into: Shape | None = "list" if name in ("list", "tuple", "iter") else None
            for way in self.read(last, env):
                yield from self._passed(way, name, into)
        else:
            yield UNKNOWN

    def _passed(self, way: Cargo, name: str, into: Shape | None) -> Iterable[Cargo]:
        if name in ("collections.OrderedDict", "dict", "typing.OrderedDict"):
            if way.shape == "zip":
                yield from self._paired(way)
            else:
                yield way.shaped("dict") if way.shape in ("pairs", "dict", "any") else UNKNOWN
        elif into == "list" and way.shape == "dict":
            yield way.shaped("keys")
        else:
            yield way

    def _paired(self, way: Cargo) -> Iterator[Cargo]:
        """``dict(zip(keys, arrays))``."""
        if len(way.zipped) != 2:
            yield UNKNOWN
            return
        yield by_position(way.zipped[0], way.zipped[1], EVERYTHING, None)

    def _mapped(self, function: cst.BaseExpression, over: cst.BaseExpression, env: Env) -> Iterator[Cargo]:
        """``map(lambda v: v.cpu().numpy(), values)``."""
        if not isinstance(function, cst.Lambda) or len(function.params.params) != 1:
            yield UNKNOWN
            return
        name = function.params.params[0].name
        for way in self.read(over, env):
            for turn in self._turns(name, way):
                found = self._entry(function.body, turn, env)
                yield UNKNOWN if found is None else _rebuilt(found[0].shaped("list"), found[1])

    def returned(self, func: Func, call: cst.Call | None, receiver: Made | None, env: Env) -> Iterable[Cargo]:
        """What a function of the project returns when it is called so."""
        inner = self.inside(func, receiver, call, env)
        if inner is None or inner.scope.yields or not inner.scope.returns:
            yield UNKNOWN
            return
        for value in inner.scope.returns:
            yield from self.read(value, inner)

    def inside(self, func: Func, receiver: Made | None, call: cst.Call | None, env: Env) -> Env | None:
        """The run of a function that a call makes."""
        scope = self.follower.index(func.module).scope(func.node)
        if scope is None or env.depth > 8:
            return None
        if receiver is None and scope.owner is not None:
            receiver = self.follower.any_object(func.module, scope.owner)
        return Env(func.module, scope, call, env if call is not None else None, receiver, env.depth + 1)

    # --- loops -------------------------------------------------------------------------------------------------------

    def _comprehension(
        self, node: cst.BaseComp, env: Env, key: cst.BaseExpression, value: cst.BaseExpression, shape: Shape
    ) -> Iterable[Cargo]:
        clause: cst.CompFor = node.for_in
        if clause.inner_for_in is not None:
            yield UNKNOWN
            return
        tests = tuple((row.test, True) for row in clause.ifs)
        for way in self.read(clause.iter, env):
            for turn in self._turns(clause.target, way):
                yield self._made(turn, key, value, tests, shape, env)

    def _list_comprehension(self, node: cst.ListComp | cst.GeneratorExp, env: Env) -> Iterable[Cargo]:
        element = node.elt
        if isinstance(element, cst.Tuple) and len(element.elements) == 2:
            key, value = (part.value for part in element.elements)
            yield from self._comprehension(node, env, key, value, "pairs")
            return
        clause = node.for_in
        if clause.inner_for_in is not None:
            yield UNKNOWN
            return
        tests = tuple((row.test, True) for row in clause.ifs)
        for way in self.read(clause.iter, env):
            for turn in self._turns(clause.target, way):
                name = next(iter(turn.keys), "")
                test = self._tests(tests, name, turn, env)
                plain = element.value if isinstance(element, cst.Name) else ""
                if plain in turn.keys and plain not in turn.values:
                    yield _only(turn.keys[plain].shaped("keys"), test)
                    continue
                found = self._entry(element, turn, env)
                yield UNKNOWN if found is None else _only(_rebuilt(found[0].shaped("list"), found[1]), test)

    def _made(
        self,
        turn: _Turn,
        key: cst.BaseExpression,
        value: cst.BaseExpression,
        tests: Sequence[tuple[cst.BaseExpression, bool]],
        shape: Shape,
        env: Env,
    ) -> Cargo:
        """The entries that the turns of a loop give: ``key: value`` where all tests hold."""
        plain = _unprefixed(key)
        name = _name_in(key)
        found = self._entry(value, turn, env)
        if name not in turn.keys or found is None:
            return UNKNOWN
        test = self._tests(tests, name, turn, env)
        keys, (entries, rebuilt) = turn.keys[name], found
        if entries is CONSTANT:
            return Cargo("dict", (Part("gone", test),))
        if entries.parts == keys.parts or entries.shape == "dict" or (_is_message(keys) and _is_message(entries)):
            made = _rebuilt(_only(entries.shaped(shape), test), rebuilt)
            return _renamed(made, plain is not key, not isinstance(plain, cst.Name))
        return by_position(keys, entries, test, rebuilt).shaped(shape)

    def _turns(self, target: cst.CSTNode, way: Cargo) -> list[_Turn]:
        """What a loop over a value binds to its target."""
        if way.shape in ("unknown", "none"):
            return []
        if isinstance(target, cst.Tuple):
            parts = [element.value for element in target.elements]
            if way.shape == "zip" and len(parts) == len(way.zipped):
                found = [_Turn()]
                for part, inner in zip(parts, way.zipped, strict=True):
                    found = [turn.joined(more) for turn in found for more in self._turns(part, inner)]
                return [replace(turn, zipped=way.zipped) for turn in found]
            if way.shape in ("pairs", "any") and len(parts) == 2:
                key, value = parts
                if isinstance(key, cst.Name) and isinstance(value, cst.Name):
                    return [_Turn(keys={key.value: way}, values={value.value: way})]
            return []
        if not isinstance(target, cst.Name):
            return []
        name = target.value
        if way is INDEX:
            return [_Turn()]
        if way.shape in ("keys", "dict"):
            return [_Turn(keys={name: way})]
        if way.shape == "list":
            return [_Turn(values={name: way})]
        if way.shape == "any":
            return [_Turn(keys={name: way}, values={name: way})]
        return [_Turn(pairs={name: way})] if way.shape == "pairs" else []

    def _entry(
        self, node: cst.BaseExpression, turn: _Turn, env: Env, depth: int = 0
    ) -> tuple[Cargo, Rebuilt | None] | None:
        """Whose entry an expression in a loop is, in whatever form, and how it was made a tensor."""
        if depth > 12:
            return None
        if isinstance(node, cst.Name):
            if node.value in turn.values:
                return turn.values[node.value], None
            rows, sealed = alive_at(self.follower.index(env.module), env.scope.bindings.get(node.value, []), node)
            if sealed and len(rows) == 1 and rows[0].how == "value" and not rows[0].path:
                value = rows[0].value
                return self._entry(value, turn, env, depth + 1) if isinstance(value, cst.BaseExpression) else None
            return None
        if isinstance(node, cst.Subscript) and len(node.slice) == 1 and isinstance(node.slice[0].slice, cst.Index):
            place = node.slice[0].slice.value
            if isinstance(place, cst.Name) and place.value in turn.keys:
                return self._by_key(self.read(node.value, env), turn.keys[place.value])
            if isinstance(node.value, cst.Name) and node.value.value in turn.pairs:
                return turn.pairs[node.value.value], None
            return self._entry(node.value, turn, env, depth + 1)  # a slice of an entry
        if isinstance(node, cst.Attribute):
            return self._entry(node.value, turn, env, depth + 1) if node.attr.value in _KEEPING else None
        if isinstance(node, cst.Call):
            return self._converted(node, turn, env, depth)
        if isinstance(node, cst.BinaryOperation):
            left = self._entry(node.left, turn, env, depth + 1)
            return left if left is not None else self._entry(node.right, turn, env, depth + 1)
        if isinstance(node, cst.IfExp):
            body, other = (self._entry(part, turn, env, depth + 1) for part in (node.body, node.orelse))
            return body if body == other else None
        return None

    def _by_key(self, ways: Cargos, keys: Cargo) -> tuple[Cargo, None] | None:
        """The entries that are asked for by these keys."""
        covers = [part.covers for part in keys.parts]
        if len(ways) != 1 or ways[0].shape not in ("dict", "any") or not covers:
            return None
        if EVERYTHING in covers:
            return ways[0].shaped("dict"), None
        return (_only(ways[0], covers[0]).shaped("dict"), None) if len(covers) == 1 else None

    def _converted(self, node: cst.Call, turn: _Turn, env: Env, depth: int) -> tuple[Cargo, Rebuilt | None] | None:
        func = node.func
        if isinstance(func, cst.Attribute) and func.attr.value in _KEEPING:
            found = self._entry(func.value, turn, env, depth + 1)
            if found is not None:
                return (_floats(found[0]), found[1]) if _makes_floats(node, func.attr.value) else found
        positional, _, _ = arguments_of(node)
        if not positional:
            return None
        name = self._library_name(func, env)
        if name in _SHAPES:
            return CONSTANT, None
        if name in _REBUILD:
            found = self._entry(positional[0], turn, env, depth + 1)
            return (found[0], found[1] or Rebuilt(name, node, env)) if found is not None else None
        package = name.partition(".")[0]
        if name in _CONVERT or any(package in framework.packages for framework in frameworks()):
            return self._entry(positional[0], turn, env, depth + 1)
        return None

    def _library_name(self, func: cst.BaseExpression, env: Env) -> str:
        value: Value | None = self.follower.lookup.dotted(func, env)
        return canonical(value.name) if isinstance(value, External) else ""

    def _tests(self, tests: Sequence[tuple[cst.BaseExpression, bool]], name: str, turn: _Turn, env: Env) -> Test:
        """Conditions of a loop over entries. Whether a key is among those that arrived decides nothing: all arrive that
        were sent."""
        left = [(test, wanted) for test, wanted in tests if not self._among_all(test, wanted, name, env)]
        if not name and left:
            names = {*turn.values, *turn.pairs}
            left = [(test, wanted) for test, wanted in left if _mentions(test, names)]
        return read_tests(self.follower, left, name, env)

    def _among_all(self, test: cst.BaseExpression, wanted: bool, name: str, env: Env) -> bool:
        """``key in state``, ``key not in message: continue``: true of every entry that there is."""
        if not isinstance(test, cst.Comparison) or len(test.comparisons) != 1 or not isinstance(test.left, cst.Name):
            return False
        operator, right = test.comparisons[0].operator, test.comparisons[0].comparator
        if test.left.value != name or not isinstance(operator, cst.In if wanted else cst.NotIn):
            return False
        return all(_is_message(way) or _is_whole(way) for way in self.read(right, env))

    # --- changes -----------------------------------------------------------------------------------------------------

    def _changed(self, way: Cargo, name: str, order: int, env: Env, use: cst.CSTNode | None) -> Iterable[Cargo]:
        """What becomes of a container between the place where it is bound and the place where it is used."""
        index = self.follower.index(env.module)
        place = index.order(use) if use is not None else None
        ways = [way]
        for change in self._changes_of(env.scope, index).get(name, ()):
            if change.order < order or (place is not None and change.order > place):
                continue
            if use is not None and change.node in index.above(use):
                continue  # what it changes it with is worked out before: ``state.update(f(state))``
            ways = [found for each in ways for found in self._apply(each, change, use, env)]
            if len(ways) > _MAX_WAYS:
                return [UNKNOWN]
        return ways

    def _is_made(self, change: cst.CSTNode, use: cst.CSTNode | None, env: Env) -> bool:
        """Whether a change, or a loop around it, is certainly run before a use: it stands under no condition that the
        use does not stand under."""
        index = self.follower.index(env.module)
        blocks = index.blocks(change)
        return use is not None and blocks == index.blocks(use)[: len(blocks)]

    def _apply(self, way: Cargo, change: Change, use: cst.CSTNode | None, env: Env) -> list[Cargo]:
        if way.shape in ("unknown", "none"):
            return [way]
        if change.how in ("update", "extend"):
            passed = _perhaps(EVERYTHING, sure=self._is_made(change.node, use, env))
            shape = "dict" if change.how == "update" else way.shape
            return [
                replace(way, shape=shape, parts=(*way.parts, *_only(more, passed).parts))
                for more in self.read(change.value, env)
            ]
        if change.how == "call":
            return [UNKNOWN] if self._changes_argument(change, env) else [way]
        index = self.follower.index(env.module)
        word = text_of(change.key) if change.key is not None else None
        if word is not None:
            if change.how == "drop":
                return [_only(way, Not(_perhaps(Equals((word,)), sure=self._is_made(change.node, use, env))))]
            return [replace(way, parts=(*way.parts, Part("unknown", Equals((word,)))))]
        found: list[Cargo] = []
        for loop in reversed(loops_around(index, change.node)):
            names = set(loop.names)
            if loop.target is None:
                continue
            if change.how == "append" or (change.key is not None and _name_in(change.key) in names):
                found = self._in_loop(way, change, loop, env, sure=self._is_made(loop.node, use, env))
                break
        return found or [replace(way, parts=(*way.parts, Part("unknown", Unclear("?"))))]

    def _in_loop(self, way: Cargo, change: Change, loop: Loop, env: Env, *, sure: bool) -> list[Cargo]:
        index = self.follower.index(env.module)
        tests = conditions(index, change.node, loop)
        found: list[Cargo] = []
        for over in self.read(loop.iter, env):
            for turn in self._turns(loop.target, over) if loop.target is not None else ():
                if change.how == "append":
                    entry = self._entry(change.value, turn, env)
                    name = next(iter(turn.keys), "")
                    if entry is None:
                        return []
                    passed = _perhaps(self._tests(tests, name, turn, env), sure=sure)
                    more = _only(_rebuilt(entry[0], entry[1]), passed)
                    found.append(Cargo("list", (*way.parts, *more.parts)))
                elif change.how == "drop":
                    if not isinstance(change.key, cst.Name):
                        return []
                    dropped = _perhaps(self._tests(tests, change.key.value, turn, env), sure=sure)
                    found.append(_only(way, Not(dropped)))
                else:
                    assert change.key is not None
                    more = self._made(turn, change.key, change.value, tests, "dict", env)
                    if more.shape == "unknown":
                        return []
                    found.append(Cargo("dict", (*way.parts, *_only(more, _perhaps(EVERYTHING, sure=sure)).parts)))
        return found

    def _changes_argument(self, change: Change, env: Env) -> bool:
        """Whether a function changes the container it is handed."""
        call = change.value
        assert isinstance(call, cst.Call)
        positional, keywords, _ = arguments_of(call)
        for value, _receiver in self.follower.callee(call, env):
            if not isinstance(value, Func):
                continue
            scope = self.follower.index(value.module).scope(value.node)
            if scope is None:
                continue
            offset = 1 if scope.owner is not None else 0
            for number, row in enumerate(positional):
                if isinstance(row, cst.Name) and row.value == change.name and number + offset < len(scope.parameters):
                    own = scope.parameters[number + offset].name.value
                    rows = self._changes_of(scope, self.follower.index(value.module)).get(own, ())
                    if any(inner.how != "call" for inner in rows):
                        return True
            if any(isinstance(row, cst.Name) and row.value == change.name for row in keywords.values()):
                return True
        return False

    def _changes_of(self, scope: Scope, index: FileIndex) -> dict[str, list[Change]]:
        """The statements of a scope that change a container in place, by its name, in the order of the source."""
        known = self._changes.get(id(scope))
        if known is None:
            known = self._changes[id(scope)] = {}
            for change in changes_in(scope, index):
                known.setdefault(change.name, []).append(change)
        return known


def _is_local(name: str, scope: Scope) -> bool:
    """Whether a name is a function's own variable and no parameter: where no binding was reached it holds nothing."""
    return scope.function is not None and name not in {param.name.value for param in _parameters(scope)}


def _parameters(scope: Scope) -> Iterator[cst.Param]:
    function = scope.function
    yield from scope.parameters
    if function is not None and isinstance(function.params.star_arg, cst.Param):
        yield function.params.star_arg
    if function is not None and function.params.star_kwarg is not None:
        yield function.params.star_kwarg


def _only(way: Cargo, test: Test) -> Cargo:
    return way if test == EVERYTHING else replace(way, parts=tuple(part.only(test) for part in way.parts))


def _perhaps(test: Test, *, sure: bool) -> Test:
    """A condition of something that may not happen at all."""
    if sure:
        return test
    return Unclear("?") if test == EVERYTHING else All((test, Unclear("?")))


def _floats(way: Cargo) -> Cargo:
    return replace(way, parts=tuple(replace(part, floats=True) for part in way.parts))


def _makes_floats(call: cst.Call, attr: str) -> bool:
    """Whether a call makes floats of integers: ``v.float()``, ``v.astype(np.float32)``, ``v.to(torch.float32)``."""
    if attr in ("float", "double", "half", "bfloat16"):
        return True
    names = [dotted_name(arg.value) or text_of(arg.value) or "" for arg in call.args]
    return attr in ("astype", "to", "type") and any("float" in name for name in names)


def _rebuilt(way: Cargo, rebuilt: Rebuilt | None) -> Cargo:
    if rebuilt is None:
        return way
    return replace(way, parts=tuple(replace(part, rebuilt=rebuilt) for part in way.parts))


def _unprefixed(key: cst.BaseExpression) -> cst.BaseExpression:
    """``k`` of ``f"model.{k}"`` and ``"model." + k``; any other expression as it is."""
    if isinstance(key, cst.BinaryOperation) and isinstance(key.operator, cst.Add) and text_of(key.left) is not None:
        return key.right
    if isinstance(key, cst.FormattedString) and len(key.parts) == 2:
        text, value = key.parts
        if isinstance(text, cst.FormattedStringText) and isinstance(value, cst.FormattedStringExpression):
            return value.expression
    return key


def _name_in(key: cst.BaseExpression) -> str:
    """The variable in a key that a prefix may be put before or taken from; "" if it is anything else."""
    key = _unprefixed(key)
    while isinstance(key, cst.Call) and isinstance(key.func, cst.Attribute):
        if key.func.attr.value not in ("replace", "removeprefix"):
            return ""
        key = key.func.value
    return key.value if isinstance(key, cst.Name) else ""


def _renamed(way: Cargo, prefixed: bool, stripped: bool) -> Cargo:
    if not prefixed and not stripped:
        return way
    parts = (
        replace(part, prefixed=part.prefixed or prefixed, stripped=part.stripped or stripped) for part in way.parts
    )
    return replace(way, parts=tuple(parts))


def _is_message(way: Cargo) -> bool:
    return bool(way.parts) and way.shape != "unknown" and all(part.source == "message" for part in way.parts)


def _is_whole(way: Cargo) -> bool:
    return len(way.parts) == 1 and way.parts[0].covers == EVERYTHING and way.parts[0].source == "model"


def _message(way: Cargo) -> Cargo:
    return way.shaped("any")


def _mentions(node: cst.CSTNode, names: set[str]) -> bool:
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, cst.Name) and current.value in names:
            return True
        stack.extend(children(current))
    return False
