"""What the interpreter knows of a value: the domain of our partial evaluation.

A value is either known well enough to go on with (a constant, a list, a class, a module of torch ...) or
:class:`Unknown`,
which remembers why the trail ended there. Mutable values (lists, dicts, instances, modules) have identity, as in
Python:
two names may hold the same one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bn_audit.profile import Shape
from bn_audit.source.state import ModuleState, NormTraits
from bn_audit.wrapping import Wrapping

if TYPE_CHECKING:
    import libcst as cst

    from bn_audit.source.interpreter.frames import Frame
    from bn_audit.source.project import PyModule

__all__ = [
    "HOLE",
    "BoundMethod",
    "BuiltinVal",
    "ClassVal",
    "Const",
    "DictVal",
    "EnumMember",
    "External",
    "ExternalResult",
    "Func",
    "Hole",
    "Instance",
    "KerasTensor",
    "ListVal",
    "Module",
    "ModuleRef",
    "NamespaceRef",
    "Omitted",
    "Partial",
    "Property",
    "RegistryGap",
    "SetVal",
    "Step",
    "SuperVal",
    "TensorVal",
    "Unknown",
    "Value",
    "Wrapped",
    "dependencies",
    "next_number",
    "uncertain_name",
]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A node of a file, with what it has to do with the trail. Its position is computed only if it is reported."""

    module: PyModule
    node: cst.CSTNode
    message: str = ""

    def saying(self, message: str) -> Step:
        """The same place under another message."""
        return Step(self.module, self.node, message)


class Value:
    """Base of the domain. ``origin`` is where the value was made, if that is worth telling."""

    __slots__ = ("origin",)
    origin: Step | None

    def __init__(self, origin: Step | None = None) -> None:
        self.origin = origin


class Unknown(Value):
    """A value that could not be followed.

    ``key`` identifies it within a run (two reads of ``args.bn`` have one key), so that assumptions made of it stay
    consistent. ``deps`` are the parameters of the root frame that it depends on. ``called`` says that it is what an
    unresolved call returned, so that it may well be a module. ``text`` is how a message writes it. ``likely`` is what
    it is if nobody asks for anything else, which is no more than a hint. ``multiple`` is the key of another and how
    many times that it is: ``4 * width``.
    """

    __slots__ = ("called", "deps", "key", "likely", "multiple", "reason", "text")

    def __init__(
        self,
        reason: str,
        origin: Step | None = None,
        *,
        key: str | None = None,
        deps: frozenset[str] = frozenset(),
        called: bool = False,
        text: str | None = None,
        likely: Const | None = None,
        multiple: tuple[str, float] | None = None,
    ) -> None:
        super().__init__(origin)
        self.multiple = multiple
        self.reason = reason
        self.key = key
        self.deps = deps
        self.called = called
        self.text = text
        self.likely = likely


class Const(Value):
    """An int, float, complex, str, bytes, bool, None or Ellipsis."""

    __slots__ = ("value",)

    def __init__(self, value: Any, origin: Step | None = None) -> None:
        super().__init__(origin)
        self.value = value


class EnumMember(Const):
    """A member of an enumeration that is a string or number too: it compares and formats as its value."""

    __slots__ = ("cls", "name")

    def __init__(self, value: Any, cls: ClassVal, name: str, origin: Step | None = None) -> None:
        super().__init__(value, origin)
        self.cls = cls
        self.name = name


class Omitted(Const):
    """A constant that a parameter has by default, because the call leaves it out. ``name`` is the parameter's."""

    __slots__ = ("name",)

    def __init__(self, default: Const, name: str) -> None:
        super().__init__(default.value, default.origin)
        self.name = name


class Hole:
    """Stands in a list for an unknown number of unknown items."""

    __slots__ = ()


HOLE = Hole()

MAX_ITEMS = 10_000
"""Items of a list that are kept; what follows is not known. Doubled often enough, a list fills any memory."""


class ListVal(Value):
    """A list or tuple (or what iterating made one of); a :class:`Hole` among the items is a stretch nobody knows."""

    __slots__ = ("deps", "items", "kind", "number")

    def __init__(
        self,
        items: list[Value | Hole],
        kind: str = "list",
        origin: Step | None = None,
        *,
        deps: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(origin)
        self.items = items
        self.kind = kind
        self.deps = deps
        self.number = next_number()
        self.trim()

    def trim(self) -> None:
        """Forget what goes beyond :data:`MAX_ITEMS`."""
        if len(self.items) > MAX_ITEMS:
            self.items[MAX_ITEMS:] = [HOLE]

    @property
    def open(self) -> bool:
        """Whether an unknown stretch is among the items."""
        return any(isinstance(item, Hole) for item in self.items)


class SetVal(ListVal):
    """A set: equal constants are one item, and the order means nothing."""

    __slots__ = ()

    def __init__(self, items: list[Value | Hole], origin: Step | None = None) -> None:
        found: dict[object, Value | Hole] = {}
        for item in items:
            found.setdefault((item.value,) if isinstance(item, Const) else item, item)
        super().__init__(list(found.values()), "set", origin)


class DictVal(Value):
    """A dict; ``open`` says that it may hold more, or other values. ``factory`` makes what a defaultdict lacks.

    A key is a Python constant, a tuple of such, or (see operations.hashed) stands for a class or an object.
    """

    __slots__ = ("deps", "factory", "items", "open")

    def __init__(
        self,
        items: dict[Any, Value] | None = None,
        *,
        open: bool = False,
        origin: Step | None = None,
        deps: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(origin)
        self.items = items if items is not None else {}
        self.open = open
        self.deps = deps
        self.factory: Value | None = None


class External(Value):
    """A module, class or function outside the project, by its dotted name: ``torch.nn.BatchNorm2d``."""

    __slots__ = ("name",)

    def __init__(self, name: str, origin: Step | None = None) -> None:
        super().__init__(origin)
        self.name = name

    @property
    def leaf(self) -> str:
        """The last component of the name."""
        return self.name.rpartition(".")[2]

    @property
    def package(self) -> str:
        """The first component of the name."""
        return self.name.partition(".")[0]


class ExternalResult(Value):
    """What a call of something external returned, with its arguments kept; ``events`` are later calls of its
    methods."""

    __slots__ = ("args", "attrs", "events", "func", "kwargs", "number", "open")

    def __init__(
        self,
        func: External,
        args: list[Value | Hole],
        kwargs: dict[str, Value],
        open: bool,
        origin: Step | None = None,
    ) -> None:
        super().__init__(origin)
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.open = open
        self.attrs: dict[str, Value] = {}
        self.events: list[tuple[str, list[Value | Hole], dict[str, Value], Step]] = []
        self.number = next_number()  # tells one result from another, as an identity does while it is in use


class ModuleRef(Value):
    """A module of the project."""

    __slots__ = ("module",)

    def __init__(self, module: PyModule, origin: Step | None = None) -> None:
        super().__init__(origin)
        self.module = module


class NamespaceRef(Value):
    """A folder of the project without an ``__init__``: a namespace package."""

    __slots__ = ("folder",)

    def __init__(self, folder: str, origin: Step | None = None) -> None:
        super().__init__(origin)
        self.folder = folder


class Func(Value):
    """A function or lambda of the project with the scope it closes over. ``owner`` is the class whose body defines
    it."""

    __slots__ = ("defaults", "frame", "kind", "module", "name", "node", "owner")

    def __init__(
        self,
        name: str,
        node: cst.FunctionDef | cst.Lambda,
        module: PyModule,
        frame: Frame,
        defaults: dict[str, Value],
        kind: str = "function",
    ) -> None:
        super().__init__(Step(module, node))
        self.name = name
        self.node = node
        self.module = module
        self.frame = frame
        self.defaults = defaults
        self.kind = kind  # function, staticmethod, classmethod, property
        self.owner: ClassVal | None = None


class Property(Value):
    """A value behind ``@property`` or ``cached_property``."""

    __slots__ = ("func",)

    def __init__(self, func: Func) -> None:
        super().__init__(func.origin)
        self.func = func


class ClassVal(Value):
    """A class of the project."""

    __slots__ = ("attrs", "bases", "frame", "kind", "module", "name", "node", "order")

    def __init__(
        self, name: str, node: cst.ClassDef, module: PyModule, bases: list[Value], attrs: dict[str, Value], frame: Frame
    ) -> None:
        super().__init__(Step(module, node))
        self.name = name
        self.node = node
        self.module = module
        self.bases = bases
        self.attrs = attrs
        self.frame = frame
        self.order: list[Value] | None = None
        self.kind: str | None = None


class BoundMethod(Value):
    """A function of the project bound to an instance or class, or a named method of a value of ours (``func`` a
    str)."""

    __slots__ = ("func", "self_value")

    def __init__(self, func: Func | str, self_value: Value, origin: Step | None = None) -> None:
        super().__init__(origin)
        self.func = func
        self.self_value = self_value


class BuiltinVal(Value):
    """A builtin function or class: ``range``, ``print``, ``object``."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__(None)
        self.name = name


class Partial(Value):
    """``functools.partial`` and what behaves like it."""

    __slots__ = ("args", "func", "kwargs")

    def __init__(
        self, func: Value, args: list[Value | Hole], kwargs: dict[str, Value], origin: Step | None = None
    ) -> None:
        super().__init__(origin)
        self.func = func
        self.args = args
        self.kwargs = kwargs


class Wrapped(Partial):
    """What ``local_batchnorm`` of bn-audit makes: a builder of models that keep BatchNorm with their party."""

    __slots__ = ("wrapping",)

    def __init__(self, func: Value, wrapping: Wrapping, origin: Step | None = None) -> None:
        super().__init__(func, [], {}, origin)
        self.wrapping = wrapping


class SuperVal(Value):
    """``super()`` inside ``cls``, for ``self_value``."""

    __slots__ = ("cls", "self_value")

    def __init__(self, cls: ClassVal, self_value: Value) -> None:
        super().__init__(None)
        self.cls = cls
        self.self_value = self_value


class Instance(Value):
    """An object of a class of the project that is no torch module."""

    __slots__ = ("attrs", "cls", "open_reason", "symbolic")

    def __init__(self, cls: ClassVal, origin: Step | None = None) -> None:
        super().__init__(origin)
        self.cls = cls
        self.attrs: dict[str, Value] = {}
        self.symbolic = False
        self.open_reason: str | None = None


class TensorVal(Value):
    """A tensor: shape, dtype, whether it is an ``nn.Parameter``, and the value of a 0-d integer where known."""

    __slots__ = ("dtype", "number", "parameter", "shape")

    def __init__(
        self,
        shape: Shape | None,
        dtype: str | None,
        origin: Step | None = None,
        *,
        parameter: bool = False,
        number: int | None = None,
    ) -> None:
        super().__init__(origin)
        self.shape = shape
        self.dtype = dtype
        self.parameter = parameter
        self.number = number


@dataclass(slots=True, eq=False)
class RegistryGap:
    """Stands among a module's children or entries where something may be registered that we could not see."""

    reason: str
    step: Step | None = None


class Module(Value):
    """An ``nn.Module`` (or Keras layer or model): registries in order, and plain attributes.

    ``params`` and ``buffers`` hold TensorVals (None when registered as None), ``children`` Modules; a RegistryGap may
    stand
    in each under a key that is no attribute name. ``template`` is what a known layer was grown from.
    """

    __slots__ = (
        "attrs",
        "buffers",
        "children",
        "cls",
        "extra",
        "framework",
        "norm",
        "number",
        "params",
        "persistent",
        "type_name",
    )

    def __init__(self, type_name: str, cls: ClassVal | None = None, origin: Step | None = None) -> None:
        super().__init__(origin)
        self.type_name = type_name
        self.cls = cls
        self.params: dict[str, TensorVal | RegistryGap | None] = {}
        self.buffers: dict[str, TensorVal | RegistryGap | None] = {}
        self.persistent: set[str] = set()
        self.children: dict[str, Module | RegistryGap | None] = {}
        self.attrs: dict[str, Value] = {}
        self.norm: NormTraits | None = None
        self.number = next_number()
        self.framework = "torch"
        self.extra: dict[str, Any] = {}

    @classmethod
    def grow(cls, state: ModuleState, origin: Step | None) -> Module:
        """A fresh module from a template, every part of it made at ``origin``."""
        module = cls(state.type, None, origin)
        module.fill(state, origin)
        return module

    def fill(self, state: ModuleState, origin: Step | None) -> None:
        """Register what a template says, as the constructor of a known base class does."""
        self.norm = state.norm
        for slot in state.slots:
            tensor = TensorVal(slot.shape, slot.dtype, origin, parameter=slot.kind == "parameter", number=slot.value)
            if slot.kind == "parameter":
                self.params[slot.name] = tensor
            else:
                self.buffers[slot.name] = tensor
                self.persistent.add(slot.name)
        for name, child in state.children:
            self.children[name] = Module.grow(child, origin)
        if state.holds:
            self.extra["holds_batchnorm"] = True
        if not state.complete:
            self.add_gap(f"what {state.type} holds with these arguments is not known", origin)

    def add_gap(self, reason: str, step: Step | None) -> None:
        """Say that something unknown may be registered after what is there now."""
        last = next(reversed(self.children.values()), None)
        if isinstance(last, RegistryGap):
            return
        self.children[f"?{len(self.children)}"] = RegistryGap(reason, step)

    def modules(self, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Module]]:
        """(path, module) in ``named_modules()`` order, each module once."""
        seen = set() if seen is None else seen
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, child in self.children.items():
            if isinstance(child, Module):
                yield from child.modules(f"{prefix}.{name}" if prefix else name, seen)


class KerasTensor(Value):
    """A symbolic Keras tensor: the layer it comes out of, and the tensors that went in.

    ``layer`` is None for an input and for an operation without weights (``a + b``, ``tf.concat``).
    """

    __slots__ = ("layer", "parents")

    def __init__(
        self, layer: Module | RegistryGap | None, parents: tuple[KerasTensor, ...], origin: Step | None = None
    ) -> None:
        super().__init__(origin)
        self.layer = layer
        self.parents = parents


def next_number() -> int:
    """A number above all before it: tells which of two values was made first."""
    return next(_NUMBERS)


_NUMBERS = itertools.count()


def uncertain_name(name: str) -> bool:
    """Whether a child's name stands for one that is not known: ``?3`` a stretch of any length, ``4+`` a place in a
    container after one."""
    return name.startswith("?") or name.endswith("+")


def dependencies(value: Value | Hole | None) -> frozenset[str]:
    """The parameters of the root frame a value depends on, as far as its parts say."""
    if isinstance(value, (Unknown, DictVal)):
        return value.deps
    if isinstance(value, ListVal):
        found = value.deps
        for item in value.items[:64]:
            if isinstance(item, Unknown):
                found |= item.deps
        return found
    return frozenset()
