"""What arrives at the endpoints of a program's own server: ``@app.post("/update")``, ``post(url + "/update")``.

An endpoint is known by its route, as far as that is written down, and so is the address that something is posted to.
Where both may be the same, what is posted is what the endpoint gets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import libcst as cst

from bn_audit.source.flow.following import Following
from bn_audit.source.flow.handover import Handover, nearest
from bn_audit.source.flow.index import FileIndex, Scope, arguments_of
from bn_audit.source.flow.paths import Gap, Path, alike, literal_names, paths
from bn_audit.source.flow.values import Env
from bn_audit.source.nodes import leaf_name
from bn_audit.source.project import PyModule
from bn_audit.source.text import SourceError

__all__ = ["BODY", "OPENS", "Endpoints"]

BODY = re.compile(
    r"flask\.(?:globals\.)?request\.(?:data|json|files|form|values|stream|get_json|get_data)"
    r"(?:\.(?:read|get|getlist|to_dict))?"
)
"""What holds the message that a function of Flask's answers, or a part of it."""
OPENS = frozenset(["json", "body", "form", "get_json", "get_data", "model_dump", "dict"])
"""Methods of a message, or of the request that brings it, that give what it holds."""
_ROUTES = frozenset(["route", "post", "put", "patch", "api_route"])
"""Decorators that give a function a route by which something may be sent to it."""
_POSTS = ("post", "put", "patch", "request", "Request")
_GIVEN = ("data", "json", "files", "content")
"""What calls that post something name it by."""
_HOLE = re.compile(r"<[^<>/]*>|\{[^{}/]*\}")
_MAX_FILES = 8
"""Files of a program that are looked into for what posts to one endpoint."""
_MAX_POSTS = 40
"""Calls of one file that may post something."""


def _is_endpoint(scope: Scope) -> bool:
    """Whether a function has a route by which something may be sent to it."""
    return next(_routes(scope), None) is not None


def _routes(scope: Scope) -> Iterator[cst.Call]:
    function = scope.function
    for row in function.decorators if isinstance(function, cst.FunctionDef) else ():
        call = row.decorator
        if isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute) and call.func.attr.value in _ROUTES:
            yield call


class Endpoints:
    """Finds what is posted to a program's endpoints; keeps what it has found."""

    def __init__(self, follower: Following) -> None:
        self._follower = follower
        self._found: dict[int, list[Handover]] = {}
        self._posts: dict[str, list[tuple[Path, Handover]]] = {}

    def posted(self, env: Env) -> list[Handover]:
        """What the program posts to the endpoint that a scope is, or is run by; empty if it is none, or nobody is seen
        to post to it."""
        run: Env | None = env
        while run is not None:
            if _is_endpoint(run.scope):
                known = self._found.get(id(run.scope))
                if known is None:
                    known = self._found[id(run.scope)] = nearest(list(self._posted_to(run)), run)
                return known
            run = run.caller
        return []

    def _posted_to(self, env: Env) -> Iterator[Handover]:
        routes = [
            route
            for call in _routes(env.scope)
            if call.args
            for path in paths(self._follower, call.args[0].value, self._follower.env(env.module, call))
            if (route := _opened(path))
        ]
        for module in self._files(routes, env.module):
            for address, row in self._posts_in(module):
                if any(alike(address, route) and literal_names(address) & literal_names(route) for route in routes):
                    yield row

    def _files(self, routes: list[Path], module: PyModule) -> Iterator[PyModule]:
        """The files of a project that post something and hold a part of a route, the nearest first."""
        project = self._follower.project
        own = project.root(module.path)
        words = sorted({name.encode() for route in routes for name in literal_names(route)})
        told: set[str] = set()
        for name in _POSTS if words else ():
            for path in self._follower.finder(name, module, "give"):
                absolute = os.path.abspath(path)
                if absolute in told or len(told) >= _MAX_FILES or project.root(absolute) != own:
                    continue
                if not any(project.outside.holds(absolute, [word]) for word in words):
                    continue
                told.add(absolute)
                try:
                    yield project.open(path)
                except SourceError:
                    continue

    def _posts_in(self, module: PyModule) -> list[tuple[Path, Handover]]:
        """The addresses that a file posts to, each with what it posts."""
        known = self._posts.get(module.path)
        if known is None:
            known = self._posts[module.path] = []
            index = self._follower.index(module)
            for call in [row for name in _POSTS for row in index.calls_of(name)][:_MAX_POSTS]:
                known.extend(self._post(index, call, self._follower.env(module, call)))
        return known

    def _post(self, index: FileIndex, call: cst.Call, env: Env) -> Iterator[tuple[Path, Handover]]:
        positional, keywords, _ = arguments_of(call)
        if leaf_name(call.func) == "request":
            positional = positional[1:]  # the method comes first
        address = keywords.get("url", positional[0] if positional else None)
        given = [keywords[name] for name in _GIVEN if name in keywords] or positional[1:2]
        for path in paths(self._follower, address, env) if address is not None and given else ():
            yield from ((_asked(path), Handover(value, env)) for value in given)


def _opened(path: Path) -> Path:
    """A route with its variables as gaps: ``/clients/<name>``, ``/clients/{name}``."""
    found: list[str | Gap] = []
    for piece in path:
        for number, text in enumerate(_HOLE.split(piece) if isinstance(piece, str) else [piece]):
            found.extend([Gap("route"), text] if number else [text])
    return tuple(found)


def _asked(path: Path) -> Path:
    """An address without what is asked of it: ``/update?client=3``."""
    found: list[str | Gap] = []
    for piece in path:
        if isinstance(piece, str) and "?" in piece:
            return (*found, piece.partition("?")[0])
        found.append(piece)
    return tuple(found)
