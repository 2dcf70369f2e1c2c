"""What a first look at the bytes of a file says in which a trigger stands: whether it may take FLModel from SecretFlow,
whether it takes the state of a model or puts it back and speaks of parties, whether it has a client of a framework.

Apart from the triggers, so that nobody who meets none waits for these expressions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from bn_audit.source.raw import utf_16_or_32
from bn_audit.source.trigger import TRIGGER

__all__ = [
    "kinds",
    "may_exchange",
    "may_federate",
    "may_import",
    "speaks_of_parties",
    "takes_flmodel",
]

_ORIGIN = re.compile(rb"secretflow|(?:from|import)\s+sfl\b")


def takes_flmodel(data: bytes) -> bool:
    """Whether a file that holds the trigger may take FLModel from SecretFlow itself, and not from another file."""
    # UTF-16 puts a null byte beside each letter; Python does not read it as source, which is worth an error.
    return _ORIGIN.search(data if utf_16_or_32(data) is None else data.replace(b"\0", b"")) is not None


_LOWER_WORDS = bytes(
    ord(chr(byte).lower()) if chr(byte).isascii() and (chr(byte).isalnum() or byte == 0x5F) else 0x20
    for byte in range(256)
)
# Begun with what is certain to be there, a search is ten times as fast as one that looks behind at every byte: so what
# must not stand before a word is asked after the word has been found.
_STATE = tuple(
    map(
        re.compile,
        (
            rb"load_state_dict\s*\((?!\s*torch\.load\s*\()",
            rb"copy_\s*\(",
            rb"\.data\b",
            rb"set_parameters",
            rb"ArrayRecord",
            rb"params(?<!\wparams)\s*=",
            rb"vector_to_parameters",
        ),
    )
)
_ADDED = re.compile(rb"\.add_\s*\(")
_REDUCED = re.compile(rb"\.(?:(?:named_)?parameters|state_dict)\(|_to_vector")
_NEAR = 400
"""Bytes before a sum over processes in which the loop over a model's entries begins; and between what gives a model's
entries and what makes one flat."""
_VECTOR = frozenset([b"unflatten", b"vector", b"vectors"])
_JOINED = re.compile(rb"(?:\bcat|concatenate)\s*\(")
_FLAT = re.compile(rb"(?:view|reshape)\(\s*-1\s*\)|flatten|ravel\(")
_PARTIES = re.compile(
    rb"federat|fed_?avg|fed_?prox|fed_?bn|\bclients?\b|client_|_client|w_locals|w_glob|\bparty|\bparties"
    rb"|global_(?:model|weights|params|net|state)|local_(?:models|weights|params|states)\b|num_users|idxs_users"
    rb"|\bflwr\b|nvflare"
)
"""Words of which hardly anything else speaks. In lower case, and each within one word."""
_IN_PARTIES = (b"fed", b"client", b"w_locals", b"w_glob", b"part", b"global_", b"local_", b"users", b"flwr", b"nvflare")
"""One of these stands in each of them."""
_PERHAPS = (b"aggregat", b"participant", b"weighted")
_PERHAPS_WORDS = frozenset([b"server", b"servers"])
_PERHAPS_CALLED = tuple(re.compile(rb"%s(?!e?_?pool)(?<!\w%s)\w*\(" % (part, part)) for part in (b"averag", b"avg"))
_HANDED = tuple(
    re.compile(rb"\bdef\s+_?%s_(?:\w+_)?(?:weights|parameters|params)\s*\(" % how) for how in (b"get", b"set")
)
"""Functions that take the entries out of a model and put them in: with both, a file may serve an exchange."""
_PERHAPS_MANY = frozenset([b"models", b"nets", b"states", b"state_dicts", b"workers", b"users"])
"""What counts half as much: these within words and as words, calls of what begins so (not of layers that pool),
functions that take entries out and put them in, and what goes through several of something. Together three are wanted,
of different ones, or one in a short file: of the 10,824 files of sixteen packages, a third of them federated
frameworks, 30 are looked into for nothing else."""
_SHORT = 12_000
"""Files of fewer bytes cost little: there one word will do."""


def may_federate(data: bytes) -> bool:
    """Whether a file may put combined states into a model: it does so with some state, and speaks of more than one
    party. What it calls them is no evidence, only a reason to look."""
    reduces = _reduces(data)
    puts = reduces or _puts_state(data)
    if not puts and not _goes_through_files(data):
        return False
    words = _words(data)
    parties = len(_parties(words))
    short = len(data) < _SHORT
    if not puts:
        return parties > 1 or (parties > 0 and short)
    if parties > 1 or (parties and (short or reduces)) or (short and reduces):
        return True
    wanted = 1 if short else 3
    text = data.lower()
    return 2 * parties + sum(1 for _ in islice(_perhaps(text, words), wanted)) >= wanted


def _reduces(data: bytes) -> bool:
    """Whether a file may sum up a model's entries over processes: whose they are, its callers may say."""
    place = data.find(b"all_reduce")
    while place >= 0:
        if _REDUCED.search(data, max(0, place - _NEAR), place) is not None:
            return True
        place = data.find(b"all_reduce", place + 1)
    return False


def _puts_state(data: bytes) -> bool:
    """Whether a file may put something into a model's state."""
    return any(pattern.search(data) for pattern in _STATE) or (
        b"state_dict" in data and _ADDED.search(data) is not None
    )


def _goes_through_files(data: bytes) -> bool:
    """Whether a file puts what it reads from a file into a model, and writes files: it may get there what others have
    averaged. Every program that goes on training where it stopped does so too."""
    return b"torch.load(" in data and b"torch.save(" in data and b"load_state_dict" in data


def speaks_of_parties(data: bytes) -> bool:
    """Whether a file has words of which hardly anything else speaks than a federation."""
    return bool(_parties(_words(data)))


def _words(data: bytes) -> set[bytes]:
    """The different words of a text, in lower case: a tenth of it."""
    return set(data.translate(_LOWER_WORDS).split())


def _parties(words: Iterable[bytes]) -> set[bytes]:
    text = b" %s " % b" ".join(words)
    found: set[bytes] = set()
    for part in _IN_PARTIES:
        place = text.find(part)
        while place >= 0:
            end = text.find(b" ", place)
            found.update(_PARTIES.findall(text[text.rfind(b" ", 0, place) + 1 : end]))
            place = text.find(part, end)
    return found


def _perhaps(text: bytes, words: Collection[bytes]) -> Iterator[bytes]:
    """What of a text in lower case may be said of parties; its words tell what is worth a search."""
    yield from (part for part in _PERHAPS if part in text)
    yield from _PERHAPS_WORDS.intersection(words)
    if b"_to_vector" in text or (not _VECTOR.isdisjoint(words) and _joins(text)):
        yield b"vector"
    if all(pattern.search(text) for pattern in _HANDED):
        yield b"get and set"
    for pattern in _PERHAPS_CALLED:
        yield from set(pattern.findall(text))
    for word in _PERHAPS_MANY.intersection(words):
        if _stands(text, word + b"[", after=False):
            yield word + b"["
        if _stands(text, b"in " + word, after=True):
            yield b"in " + word


def _joins(text: bytes) -> bool:
    """Whether a text may join the entries of a state to one vector."""
    return _JOINED.search(text) is not None and any(
        _FLAT.search(text, max(0, match.start() - _NEAR), match.end() + _NEAR) for match in _REDUCED.finditer(text)
    )


def _stands(text: bytes, part: bytes, *, after: bool) -> bool:
    """Whether something stands in a text with no letter before it, and if so wanted, none after it."""
    part = re.escape(part)
    return re.search(rb"%s(?<!\w%s)%s" % (part, part, rb"\b" if after else b""), text) is not None


_FRAMEWORKS = (b"flwr", b"nvflare", b"fedml", b"fedlab", b"openfl", b"fl4health")
_FRAMEWORK = re.compile(rb"\b(?:%s)\b" % b"|".join(_FRAMEWORKS))
_CLIENT = re.compile(
    rb"NumPyClient|\bClient\b|ClientApp|evaluate_fn|eval_fn|Learner\b|Executor\b|receive\(\)|Trainer\b|TaskRunner"
    rb"|FedMLRunner|\bSimulator(?:MPI|SingleProcess|NCCL)\b|FederatedModel|ModelInterface|SerializationTool|\bget_model\b"
)


def may_exchange(data: bytes) -> bool:
    """Whether a file may hold a client of a framework, or call one's."""
    return (
        any(name in data for name in _FRAMEWORKS)
        and _FRAMEWORK.search(data) is not None
        and _CLIENT.search(data) is not None
    )


def kinds(data: bytes) -> tuple[str, ...]:
    """What a file that holds a trigger is worth a look for: ``flmodel`` if it may take FLModel from SecretFlow itself,
    ``federated`` if it may exchange or combine states."""
    found = []
    if (TRIGGER in data or utf_16_or_32(data) is not None) and takes_flmodel(data):
        found.append("flmodel")
    if may_federate(data) or may_exchange(data):
        found.append("federated")
    return tuple(found)


_FROM = re.compile(rb"from\s+(?=[\w.])(\.*)((?:\w[\w.]*)?)\s+import\s+")


def may_import(data: bytes, names: Iterable[str], module: str) -> bool:
    """Whether a file may take one of the names from a module: by ``from ... import``, or as an attribute of it.

    A dotted name must end like the module's path does, since it is not known from which folder it counts.
    """
    parts = os.path.splitext(module)[0].split(os.sep)
    if parts[-1] == "__init__":
        parts.pop()
    wanted = [name.encode() for name in names]
    for dots, source, members in _imports(data):
        tail = [part for part in source.decode("ascii", "replace").split(".") if part]
        fits = parts[-len(tail) :] == tail if tail else bool(dots)
        if fits and (members.strip().startswith(b"*") or any(name in members for name in wanted)):
            return True
    return any(f"{parts[-1]}.{name}".encode() in data for name in names)


def _imports(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """The dots, the module and the members of every ``from ... import``. In linear time, whatever stands there."""
    position, closed = 0, data.rfind(b")")
    while (match := _FROM.search(data, position)) is not None:
        start = match.end()
        brackets = data.startswith(b"(", start) and start < closed
        position = data.find(b")" if brackets else b"\n", start)
        position = len(data) if position < 0 else position
        yield match[1], match[2], data[start:position]
