"""What makes a file worth a look: the name of SecretFlow's FLModel, and of SecretFlow; the state of a model that is
taken or put back, in a file that speaks of parties; or the client of a framework."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from bn_audit.source.raw import utf_16_or_32

__all__ = [
    "MARK",
    "TRIGGER",
    "TRIGGERS",
    "kinds",
    "may_exchange",
    "may_federate",
    "may_import",
    "speaks_of_parties",
    "takes_flmodel",
]

TRIGGER = b"FLModel"
TRIGGERS = (
    TRIGGER,
    b"state_dict",
    b".parameters()",
    b"NumPyClient",
    b"ArrayRecord",
    b"FedMLRunner",
    b"ClientTrainer",
    b"TaskRunner",
    b"FederatedModel",
    b"fl4health",
)
"""Literal bytes, one of which stands in every file that is looked into for its own sake."""

MARK = b"BNA"
"""Literal bytes that stand in every file with a suppression that names a code of ours."""

_ORIGIN = re.compile(rb"secretflow|(?:from|import)\s+sfl\b")


def takes_flmodel(data: bytes) -> bool:
    """Whether a file that holds the trigger may take FLModel from SecretFlow itself, and not from another file."""
    # UTF-16 puts a null byte beside each letter; Python does not read it as source, which is worth an error.
    return _ORIGIN.search(data if utf_16_or_32(data) is None else data.replace(b"\0", b"")) is not None


_BLANKS = bytes(byte if chr(byte).isascii() and (chr(byte).isalnum() or byte == 0x5F) else 0x20 for byte in range(256))
_STATE = re.compile(
    rb"load_state_dict\s*\((?!\s*torch\.load\s*\()|copy_\s*\(|\.data\b|set_parameters|ArrayRecord|\bparams\s*="
    rb"|vector_to_parameters"
)
_PARTIES = re.compile(
    rb"federat|fed_?avg|fed_?prox|fed_?bn|\bclients?\b|client_|_client|w_locals|w_glob|\bparty|\bparties"
    rb"|global_(?:model|weights|params|net|state)|local_(?:models|weights|params|states)\b|num_users|idxs_users"
    rb"|\bflwr\b|nvflare"
)
"""Words of which hardly anything else speaks. In lower case, and each within one word."""
_PERHAPS = re.compile(
    rb"aggregat|participant|\bservers?\b|\baverag\w*\(|\bavg\w*\(|weighted"
    rb"|\b(?:models|nets|states|state_dicts|workers|users)\[|\bin (?:models|nets|states|state_dicts|workers|users)\b"
)
"""Words that count half as much. Together three are wanted, of different ones: in 10,747 files of sixteen packages, a
third of them federated frameworks, 123 have them beside state."""
_SHORT = 12_000
"""Files of fewer bytes cost little: there one word will do."""


def may_federate(data: bytes) -> bool:
    """Whether a file may put combined states into a model: it does so with some state, and speaks of more than one
    party. What it calls them is no evidence, only a reason to look."""
    if _STATE.search(data) is None:
        return False
    text = data.lower()
    parties = _parties(text)
    if len(data) < _SHORT:
        return bool(parties) or _PERHAPS.search(text) is not None
    return len(parties) > 1 or 2 * len(parties) + len(set(_PERHAPS.findall(text))) > 2


def speaks_of_parties(data: bytes) -> bool:
    """Whether a file has words of which hardly anything else speaks than a federation."""
    return bool(_parties(data.lower()))


def _parties(text: bytes) -> set[bytes]:
    # Of a text, the different words are a tenth; all that is looked for among them lies within one.
    return set(_PARTIES.findall(b" ".join(set(text.translate(_BLANKS).split()))))


_FRAMEWORK = re.compile(rb"\b(?:flwr|nvflare|fedml|fedlab|openfl|fl4health)\b")
_CLIENT = re.compile(
    rb"NumPyClient|\bClient\b|ClientApp|evaluate_fn|eval_fn|Learner\b|Executor\b|receive\(\)|Trainer\b|TaskRunner"
    rb"|FedMLRunner|FederatedModel|ModelInterface|SerializationTool|\bget_model\b"
)


def may_exchange(data: bytes) -> bool:
    """Whether a file may hold a client of a framework, or call one's."""
    return _FRAMEWORK.search(data) is not None and _CLIENT.search(data) is not None


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
