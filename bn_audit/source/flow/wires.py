"""What comes over a socket, a pipe or MPI from another part of a program: ``conn.send(data)`` there, ``recv()`` here.

A wire has no name by which its ends could be told to belong together. So all that the other side sends may come: what
other files send; in one file, what other functions do.
"""

from __future__ import annotations

import re
from itertools import islice

import libcst as cst

from bn_audit.source.flow.callers import is_static
from bn_audit.source.flow.following import Following
from bn_audit.source.flow.handover import Handover, files_that_call, nearest, side_of
from bn_audit.source.flow.index import Scope, arguments_of
from bn_audit.source.flow.values import Env
from bn_audit.source.interpreter.values import External
from bn_audit.source.nodes import reads
from bn_audit.source.project import PyModule

__all__ = ["RECEIVES", "WIRES", "Wires"]

RECEIVES = frozenset(["recv", "recvall", "recv_into", "recvfrom", "recv_pyobj", "recv_bytes", "recv_multipart"])
"""Methods of a socket or a pipe that give what comes."""
WIRES = re.compile(r"\bsocket\b|\bzmq\b|\bPipe\b|\bwebsockets?\b|multiprocessing\.connection|\.recv\(|\.sendall\(")
"""Words of which a file has one that sends or receives by a socket or a pipe."""
_WORDS = ("socket", "zmq", "Pipe", "connection", ".recv(", ".sendall(")
"""The same, as far as it is looked for in files that send something."""
_SENDS = ("sendall", "send", "send_pyobj", "send_bytes", "send_multipart")
_MAX_FILES = 8
"""Files of a program that are looked into for what sends something."""
_MAX_SENDS = 40
"""Calls of one file that may send something."""
_MAX_STEPS = 4
"""Variables of variables that are gone through to a parameter."""
_MAX_RUNS = 12
"""Callers of a function that sends what it is given."""


class Wires:
    """Finds what comes over wires; keeps what it has found."""

    def __init__(self, follower: Following) -> None:
        self._follower = follower
        self._sent: dict[str, list[Handover]] = {}

    def sent(self, env: Env) -> list[Handover]:
        """What may come where a run of a scope receives something; empty if nothing is seen to be sent."""
        side = side_of(env)
        files = files_that_call(self._follower, _SENDS, env.module, _WORDS, _MAX_FILES)
        modules = {module.path: module for module in (*files, side.module)}
        rows = [row for module in modules.values() for row in self._sent_by(module)]
        others = [row for row in rows if side_of(row.env).module is not side.module]
        return nearest(others or [row for row in rows if side_of(row.env).scope is not side.scope], env)

    def _sent_by(self, module: PyModule) -> list[Handover]:
        """What the calls of a file send, each in the runs of a function that sends what it is given."""
        known = self._sent.get(module.path)
        if known is None:
            known = self._sent[module.path] = []
            index = self._follower.index(module)
            for call in [row for name in _SENDS for row in index.calls_of(name)][:_MAX_SENDS]:
                positional, _, _ = arguments_of(call)
                env = self._follower.env(module, call)
                called = self._follower.lookup.dotted(call.func, env)
                own = called is None or (isinstance(called, External) and called.name.startswith("mpi4py."))
                if isinstance(call.func, cst.Attribute) and own and positional:
                    known.extend(Handover(positional[0], run) for run in self._runs(positional[0], env))
        return known

    def _runs(self, value: cst.BaseExpression, env: Env) -> list[Env]:
        """The runs of a scope by its callers, if what it sends hangs on what it is given."""
        given = _is_given(value, env.scope)
        return (list(islice(self._follower.callers.runs_of(env), _MAX_RUNS)) if given else []) or [env]


def _is_given(value: cst.BaseExpression, scope: Scope, depth: int = 0) -> bool:
    """Whether an expression is made of a parameter: ``struct.pack(">I", len(data)) + data`` of ``data =
    pickle.dumps(message)``."""
    own = scope.parameters[scope.owner is not None and not is_static(scope.node) :]
    if any(reads(value, param.name.value) for param in own):
        return True
    bound = [scope.sole_value(name) for name in scope.bindings if depth < _MAX_STEPS and reads(value, name)]
    return any(row is not None and _is_given(row, scope, depth + 1) for row in bound)
