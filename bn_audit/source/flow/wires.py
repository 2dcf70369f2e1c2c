"""What comes over a socket or a pipe from another part of a program: ``conn.send(data)`` there, ``conn.recv()`` here.

A wire has no name by which its ends could be told to belong together. So all that the other side sends may come: what
other files send; in one file, what other functions do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import libcst as cst

from bn_audit.source.flow.following import Following
from bn_audit.source.flow.handover import Handover, nearest, side_of
from bn_audit.source.flow.index import arguments_of
from bn_audit.source.flow.values import Env
from bn_audit.source.nodes import root_name
from bn_audit.source.project import PyModule
from bn_audit.source.text import SourceError

__all__ = ["RECEIVES", "WIRES", "Wires"]

RECEIVES = frozenset(["recv", "recvall", "recv_into", "recvfrom", "recv_pyobj", "recv_bytes", "recv_multipart"])
"""Methods of a socket or a pipe that give what comes."""
WIRES = re.compile(r"\bsocket\b|\bzmq\b|\bPipe\b|\bwebsockets?\b|multiprocessing\.connection|\.recv\(|\.sendall\(")
"""Words of which a file has one that sends or receives by a socket or a pipe."""
_SENDS = ("sendall", "send", "send_pyobj", "send_bytes", "send_multipart")
_MAX_FILES = 8
"""Files of a program that are looked into for what sends something."""
_MAX_SENDS = 40
"""Calls of one file that may send something."""
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
        rows = [row for module in self._files(env.module, side.module) for row in self._sent_by(module)]
        others = [row for row in rows if side_of(row.env).module is not side.module]
        return nearest(others or [row for row in rows if side_of(row.env).scope is not side.scope], env)

    def _files(self, *modules: PyModule) -> Iterator[PyModule]:
        """The files at both ends of a wire, and other files of the project that send something."""
        told: dict[str, PyModule] = {module.path: module for module in modules}
        yield from told.values()
        project, module = self._follower.project, modules[0]
        own = project.root(module.path)
        for name in _SENDS:
            for path in self._follower.finder(name, module, "give"):
                absolute = os.path.abspath(path)
                if absolute in told or len(told) > _MAX_FILES or project.root(absolute) != own:
                    continue
                try:
                    other = project.open(path)
                except SourceError:
                    continue
                told[absolute] = other
                if self._follower.index(other).mentions(WIRES):
                    yield other

    def _sent_by(self, module: PyModule) -> list[Handover]:
        """What the calls of a file send, each in the runs of a function that sends what it is given."""
        known = self._sent.get(module.path)
        if known is None:
            known = self._sent[module.path] = []
            index = self._follower.index(module)
            for call in [row for name in _SENDS for row in index.calls_of(name)][:_MAX_SENDS]:
                positional, _, _ = arguments_of(call)
                env = self._follower.env(module, call)
                method = isinstance(call.func, cst.Attribute) and self._follower.lookup.dotted(call.func, env) is None
                if method and positional:
                    known.extend(Handover(positional[0], run) for run in self._runs(positional[0], env))
        return known

    def _runs(self, value: cst.BaseExpression, env: Env) -> Iterator[Env]:
        """The runs of a scope by its callers, if what it sends hangs on what it is given."""
        found = False
        if self._is_given(value, env):
            for count, (call, caller) in enumerate(self._follower.callers.running(env)):
                if count >= _MAX_RUNS:
                    break
                found = True
                yield Env(env.module, env.scope, call, caller, env.receiver, caller.depth + 1)
        if not found:
            yield env

    def _is_given(self, value: cst.BaseExpression, env: Env, depth: int = 0) -> bool:
        """Whether an expression is made of a parameter: ``struct.pack(">I", len(data)) + data`` of ``data =
        pickle.dumps(message)``."""
        for part in _names(value):
            bound = env.scope.sole_value(part)
            if env.scope.takes(part) or (depth < 4 and bound is not None and self._is_given(bound, env, depth + 1)):
                return True
        return False


def _names(node: cst.CSTNode) -> Iterator[str]:
    """The variables that an expression reads."""
    if isinstance(node, cst.Call):
        for arg in node.args:
            yield from _names(arg.value)
        root = root_name(node.func) if isinstance(node.func, cst.Attribute) else None
        if root is not None:
            yield root
    elif isinstance(node, cst.BinaryOperation):
        yield from (*_names(node.left), *_names(node.right))
    elif isinstance(node, (cst.Name, cst.Attribute, cst.Subscript)):
        root = root_name(node)
        if root is not None:
            yield root
