"""How a framework's clients look in source: which methods it calls, what they are given, and what of theirs it sends.

A framework is known by the dotted names under which a program imports it. Nothing here reads its code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["WHOLE", "Callback", "ClientClass", "Engine", "Framework", "Hook", "Job", "Kit", "Wrapper", "names"]

WHOLE = -1
"""The place of what is sent in what a method returns: all of it."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A method that the framework calls.

    Attributes:
        name: of the method.
        message: the place of the parameter that brings what others hold, ``self`` not counted; None if there is none.
        sends: the item of the returned tuple that is sent; ``WHOLE`` for all of it, None if nothing is, or if what is
            sent is wrapped (see :class:`Wrapper`).
        initial: whether the message may be a state that nobody has averaged yet, integers still integers.
    """

    name: str
    message: int | None = None
    sends: int | None = None
    initial: bool = False


@dataclass(frozen=True, slots=True)
class ClientClass:
    """A class whose subclasses are clients.

    Attributes:
        base: the class.
        hooks: the methods that it leaves to them.
        holds: what its own constructor keeps: attribute, argument and place.
    """

    base: re.Pattern[str]
    hooks: tuple[Hook, ...]
    holds: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Callback:
    """A function that the framework calls: handed over as a keyword argument, or decorated by a method of an object
    that the framework makes.

    ``maker`` is what makes the object whose method decorates (``app = ClientApp()``; ``@app.train()``).
    """

    name: str
    message: int
    maker: re.Pattern[str] | None = None
    initial: bool = False


@dataclass(frozen=True, slots=True)
class Wrapper:
    """A class that holds what is sent: which of its arguments."""

    name: re.Pattern[str]
    argument: str
    place: int = 0


@dataclass(frozen=True, slots=True)
class Kit:
    """A client that the framework brings along, for a model that a program hands it, or derives from it.

    Attributes:
        name: what is called with the model; a class whose subclasses count too.
        argument, place: where the model is handed in; "" if the object itself is the model, or makes it.
        what: what of it is sent.
        unless: keyword arguments which say that the program's own client or server is used; for a class, methods of
            its own which say that it does otherwise.
        method: the method of a class that makes the model; "" if the object is the model itself.
        harmless: what such a method of its own may return all the same.
        hands: methods of what is handed in that are given the model: ``trainer.fit(model)``; none if it is the model.
        setting, values: a key of the files of settings beside a program, and what its values begin with where such
            states are averaged; if the files say something else, they are not.
    """

    name: re.Pattern[str]
    argument: str
    place: int
    what: Literal["state", "parameters"]
    unless: tuple[str, ...] = ()
    method: str = ""
    harmless: re.Pattern[str] | None = None
    hands: tuple[str, ...] = ()
    setting: str = ""
    values: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The last parts of the dotted names: the names of the classes."""
        return _last_words(self.name)


@dataclass(frozen=True, slots=True)
class Engine:
    """A library's client that a script drives, and whose model is not in the program.

    Attributes:
        name: what makes it.
        gives: the method, called without arguments, that gives all of its model's state.
        unless: keyword arguments which say that something is kept back.
    """

    name: re.Pattern[str]
    gives: str
    unless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """A call that says with which model the server begins and which script the clients run: two keyword arguments."""

    name: re.Pattern[str]
    model: str
    script: str

    @property
    def words(self) -> tuple[str, ...]:
        """The last parts of the dotted names."""
        return _last_words(self.name)


@dataclass(frozen=True, slots=True)
class Framework:
    """A framework's clients.

    Attributes:
        title: what a message calls it.
        mark: str that stand in every file that takes something from it.
        packages: the top-level packages it is imported from.
        clients, callbacks, wrappers, kits, engines, jobs: see there.
        flows: classes of which a program derives a federation as a whole, step by step; a step that brings the parties
            together is handed one run of the same object for each of them.
        receivers: calls that return a message.
        aggregates: methods by which a program's own server combines what arrives.
        switches: bytes in a job's configuration which say that entries are kept back; ``switched`` finds where one is
            given something, and not only declared.
        mods: what stands between a client and the network, in the keyword argument ``mods`` of what makes a client or
            registers its functions, and keeps BatchNorm back.
        aside: what functions are called that answer requests of another kind: what they send is averaged by nobody.
    """

    title: str
    mark: str
    packages: tuple[str, ...]
    clients: tuple[ClientClass, ...] = ()
    callbacks: tuple[Callback, ...] = ()
    wrappers: tuple[Wrapper, ...] = ()
    kits: tuple[Kit, ...] = ()
    engines: tuple[Engine, ...] = ()
    jobs: tuple[Job, ...] = ()
    flows: tuple[re.Pattern[str], ...] = ()
    receivers: tuple[re.Pattern[str], ...] = ()
    aggregates: tuple[str, ...] = ()
    switches: tuple[bytes, ...] = ()
    switched: re.Pattern[bytes] | None = None
    mods: re.Pattern[str] | None = None
    aside: re.Pattern[str] | None = None


def _last_words(pattern: re.Pattern[str]) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+(?=[|)])", pattern.pattern))


def names(*patterns: str) -> re.Pattern[str]:
    """A pattern of dotted names: ``flwr.client..NumPyClient`` allows any modules between the two dots."""
    alternatives = (re.escape(pattern).replace(r"\.\.", r"\.(?:\w+\.)*") for pattern in patterns)
    return re.compile(rf"(?:{'|'.join(alternatives)})\Z")
