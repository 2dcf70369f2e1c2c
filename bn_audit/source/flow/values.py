"""What an expression may come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from bn_audit.source.interpreter.values import Partial

if TYPE_CHECKING:
    import libcst as cst

    from bn_audit.source.flow.combining.averaging import Averaging
    from bn_audit.source.flow.index import Scope
    from bn_audit.source.flow.server_steps import ServerStep
    from bn_audit.source.interpreter.values import ClassVal, Value
    from bn_audit.source.project import PyModule

__all__ = [
    "PARAMETER_KEY",
    "Arrival",
    "Bound",
    "Callee",
    "Combined",
    "Env",
    "Filter",
    "Given",
    "Imported",
    "Loaded",
    "Made",
    "Opaque",
    "Origin",
    "Parts",
    "Received",
    "State",
    "Stepped",
    "given_before",
    "is_of_message",
]


@dataclass(frozen=True, slots=True, eq=False)
class Env:
    """A scope as it is run by one call: who called it, and for which object.

    ``call`` and ``caller`` are None where a function is looked at by itself: its parameters then come from all its
    callers. ``bound`` is what was given before the call, by ``functools.partial``: the first first.
    """

    module: PyModule
    scope: Scope
    call: cst.Call | None = None
    caller: Env | None = None
    receiver: Made | None = None
    depth: int = 0
    bound: tuple[Bound, ...] = ()
    key: tuple[int, ...] = field(init=False, repr=False)
    """What tells one run of a scope from another."""

    def __post_init__(self) -> None:
        made = self.receiver
        own: tuple[int, ...] = (id(self.scope), id(self.call), id(made.node) if made is not None else 0)
        if made is not None and made.cls is not None:
            own += (id(made.cls.node),)  # one call makes objects of several classes: ``cls = A if big else B; cls()``
        for row in self.bound:
            own += (id(row.node), *row.env.key)
        object.__setattr__(self, "key", own if self.caller is None else own + self.caller.key)


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """Arguments that are given to something before it is called: ``functools.partial(f, 1, key=2)``."""

    node: cst.Call
    env: Env


class Origin:
    """Base of what an expression may come from."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Made(Origin):
    """An object made by a call of a class of the project, or of a class or function of a library.

    ``cls`` is None for a library's; ``name`` is then the dotted name of what was called. ``node`` is the call, or the
    class itself for an object that nobody is seen to make (``self`` of a method that is looked at by itself).
    """

    kind: str
    """``model`` for an ``nn.Module``, ``object`` for another."""
    name: str
    cls: ClassVal | None
    node: cst.CSTNode
    env: Env
    picked: bool = field(default=False, kw_only=True)
    """Whether it is one of several that the call may make, as the class is picked by a name at run time."""
    settings: str = field(default="", kw_only=True)
    """What the settings are called that say what is made, where they were handed on under another name."""
    bound: tuple[Bound, ...] = field(default=(), kw_only=True, repr=False)
    """What its constructor was given before the call that makes it."""

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Made)
            and other.node is self.node
            and other.name == self.name
            and (not self.picked or _class_node(self) is _class_node(other))
        )

    def __hash__(self) -> int:
        return hash((id(self.node), self.name))


def _class_node(made: Made) -> cst.CSTNode | None:
    return made.cls.node if made.cls is not None else None


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """A condition under which entries of a state are passed on; ``key`` is what it calls the key, "" if nothing.

    ``node`` is the condition, which must hold if ``wanted``; a call whose condition is not known (``filter(f, state)``)
    stands for itself. With ``among`` it is where the keys come from by which entries are asked for.
    """

    node: cst.BaseExpression
    wanted: bool
    key: str
    env: Env
    among: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """Where a value is taken up that went through a file, or through a message between parts of the program."""

    how: Literal["file", "message"]
    node: cst.CSTNode
    env: Env


@dataclass(frozen=True, slots=True)
class State(Origin):
    """A model's state dict, or a part of it; ``what`` is ``state`` or ``parameters``.

    ``node`` is where it is taken. ``model`` is None where it could not be followed. ``filters`` are the conditions that
    its entries have passed since. ``flat`` says that the entries were joined to one vector. ``arrivals``
    are where it is taken up again on its way, if it goes through files or messages.
    """

    what: str
    model: Made | None
    node: cst.CSTNode
    env: Env
    filters: tuple[Filter, ...] = ()
    flat: bool = False
    arrivals: tuple[Arrival, ...] = ()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, State)
            and other.node is self.node
            and other.model == self.model
            and other.flat == self.flat
            and _nodes(other.filters) == _nodes(self.filters)
        )

    def __hash__(self) -> int:
        return hash((id(self.node), self.model, self.flat, _nodes(self.filters)))


@dataclass(frozen=True, slots=True)
class Combined(Origin):
    """What the parties' states were combined to, in one run of the scope that does it."""

    averaging: Averaging
    env: Env
    filters: tuple[Filter, ...] = ()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Combined)
            and other.averaging is self.averaging
            and other.env.key == self.env.key
            and _nodes(other.filters) == _nodes(self.filters)
        )

    def __hash__(self) -> int:
        return hash((id(self.averaging), _nodes(self.filters)))


@dataclass(frozen=True, slots=True)
class Stepped(Origin):
    """What has been given noise, or a step of a server's optimiser."""

    step: ServerStep
    env: Env

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stepped) and other.step is self.step

    def __hash__(self) -> int:
        return hash(id(self.step))


def is_of_message(origin: Origin) -> bool:
    """Whether it is a state as it comes out of a message."""
    return isinstance(origin, State) and origin.arrivals != () and origin.arrivals[-1].how == "message"


def _nodes(filters: tuple[Filter, ...]) -> frozenset[tuple[int, bool]]:
    """What filters are, whatever the order in which they were passed."""
    return frozenset((id(row.node), row.wanted) for row in filters)


@dataclass(frozen=True, slots=True)
class Loaded(Origin):
    """What was read from a file: ``torch.load``."""


@dataclass(frozen=True, slots=True)
class Received(Origin):
    """What came in a message: a parameter that nobody in the project gives, or what an unknown object handed out."""

    what: str


@dataclass(frozen=True, slots=True)
class Imported(Origin):
    """One of several modules, imported by a name that is put together at run time.

    ``files`` are their absolute paths, each with what would stand for the part of the name that is not written down.
    """

    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Callee(Origin):
    """A class or function itself, handed about to be called later; ``receiver`` for a bound method; ``picked`` if
    it is one of several of which a name picks one at run time."""

    value: Value
    receiver: Made | None = None
    picked: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Callee) and self._node is other._node and self.receiver == other.receiver

    def __hash__(self) -> int:
        return hash(id(self._node))

    @property
    def _node(self) -> object:
        return self.value.bound.node if isinstance(self.value, Given) else getattr(self.value, "node", self.value)


@dataclass(frozen=True, slots=True)
class Opaque(Origin):
    """A value that is none of these, or could not be followed."""

    name: str = ""


class Given(Partial):
    """What ``functools.partial`` makes of a class or function, with where its arguments are written."""

    __slots__ = ("bound",)

    def __init__(self, func: Value, bound: Bound) -> None:
        super().__init__(func, [], {})
        self.bound = bound


def given_before(value: Value) -> tuple[Value, tuple[Bound, ...]]:
    """What is called in the end, and what was given to it before: the first first."""
    found: list[Bound] = []
    while isinstance(value, Given):
        found.append(value.bound)
        value = value.func
    return value, tuple(found[::-1])


PARAMETER_KEY = Opaque("the key of a parameter")
"""What ``for key, value in model.named_parameters()`` gives beside the values."""


@dataclass(frozen=True, slots=True)
class Parts(Origin):
    """A tuple, part by part, each with all it may come from."""

    parts: tuple[tuple[Origin, ...], ...]
