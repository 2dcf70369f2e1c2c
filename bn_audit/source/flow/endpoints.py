"""What goes to and comes from the endpoints of a program's server: ``@app.post("/x")``, ``post(url + "/x")``.

An endpoint is known by its route, as far as that is written down, and so is the address that something is posted to.
Where both may be the same, what is posted is what the endpoint gets, and what its function returns is the answer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

import libcst as cst

from bn_audit.source.flow.changes import text_of
from bn_audit.source.flow.following import Following
from bn_audit.source.flow.handover import Handover, files_that_call, nearest
from bn_audit.source.flow.index import FileIndex, Scope, arguments_of
from bn_audit.source.flow.paths import Gap, Path, alike, literal_names, paths
from bn_audit.source.flow.values import Env
from bn_audit.source.interpreter.values import External
from bn_audit.source.nodes import leaf_name
from bn_audit.source.project import PyModule

__all__ = ["ANSWERS", "ASKS", "BODY", "OPENS", "Endpoints"]

BODY = re.compile(
    r"flask\.(?:globals\.)?request\.(?:data|json|files|form|values|stream|get_json|get_data)"
    r"(?:\.(?:read|get|getlist|to_dict))?"
)
"""What holds the message that a function of Flask's answers, or a part of it."""
OPENS = frozenset(["json", "body", "form", "get_json", "get_data", "model_dump", "dict"])
"""Methods of a message, or of the request that brings it, that give what it holds."""
ASKS = re.compile(r"(?:requests|httpx)\.(?:get|post|put|patch)")
"""Functions that give the answer of an endpoint."""
ANSWERS = frozenset(["content", "text", "json", "read", "data"])
"""What an answer calls what it holds."""
_ROUTES = frozenset(["route", "post", "put", "patch", "api_route"])
"""Decorators that give a function a route by which something may be sent to it."""
_BY_METHOD = frozenset(["route", "api_route"])
"""Those that say for which methods."""
_ANSWERING = _ROUTES | {"get"}
"""Decorators that give a function a route by which it may be asked."""
_REGISTERS = {
    "add_url_rule": ("view_func", 2),
    "add_api_route": ("endpoint", 1),
    "add_route": ("endpoint", 1),
    "add_post": ("handler", 1),
    "add_put": ("handler", 1),
}
"""Methods of an application that give a function a route, which comes first, each with the name and the place of the
function: ``app.add_url_rule("/update", "update", update, methods=["POST"])``."""
_FOR_POSTS = frozenset(["add_post", "add_put"])
"""Those whose routes are for requests that bring something."""
_POSTS = ("post", "put", "patch", "request", "Request")
_BY_HTTP = re.compile(r"(?i)requests|httpx|aiohttp|urllib|session|client|http|fetch|\bapi\b")
"""What is posted by."""
_GIVEN = ("data", "json", "files", "content")
"""What calls that post something name it by."""
_PARTS = {
    "files": ("files",),
    "form": ("data",),
    "values": ("data",),
    "json": ("json", "data", "content"),
    "get_json": ("json", "data", "content"),
    "data": ("data", "json", "content"),
    "get_data": ("data", "json", "content"),
    "stream": ("data", "content"),
}
"""What is posted as what a request calls so."""
_HOLE = re.compile(r"<[^<>/]*>|\{[^{}/]*\}")
_MAX_FILES = 8
"""Files of a program that are looked into for what posts to one endpoint."""
_MAX_POSTS = 40
"""Calls of one file that may post something, and functions of one file that may answer."""


def _is_remote(scope: Scope) -> bool:
    """Whether a function is a procedure of a gRPC service, which is given a request and its circumstances."""
    bases = scope.owner.bases if scope.owner is not None else ()
    return len(scope.parameters) == 3 and any(leaf_name(base.value).endswith("Servicer") for base in bases)


def _routes(function: cst.CSTNode | None, names: Collection[str]) -> Iterator[cst.BaseExpression]:
    """The routes that decorators of some names give a function."""
    for row in function.decorators if isinstance(function, cst.FunctionDef) else ():
        call = row.decorator
        if not isinstance(call, cst.Call) or not isinstance(call.func, cst.Attribute):
            continue
        name = call.func.attr.value
        if name in names and not (name in _BY_METHOD and "get" not in names and not _takes_posts(call)):
            yield from (arg.value for arg in call.args[:1])


def _registrations(index: FileIndex) -> Iterator[tuple[cst.Call, cst.BaseExpression]]:
    """The calls of a file that give functions routes, each with the function."""
    for name, (keyword, place) in _REGISTERS.items():
        for call in index.calls_of(name):
            positional, keywords, _ = arguments_of(call)
            given = keywords.get(keyword, positional[place] if place < len(positional) else None)
            if isinstance(given, (cst.Name, cst.Attribute)) and isinstance(call.func, cst.Attribute):
                yield call, given


def _registered(index: FileIndex) -> Iterator[cst.FunctionDef]:
    """The functions of a file that are given routes by such calls."""
    for _, given in _registrations(index):
        yield from index.functions_of(leaf_name(given))


def _brings(call: cst.Call) -> bool:
    """Whether a route is for requests that bring something."""
    return leaf_name(call.func) in _FOR_POSTS or _takes_posts(call)


def _takes_posts(call: cst.Call) -> bool:
    """Whether a route is for requests that bring something: ``methods=["POST"]``. Without methods it is for GET."""
    methods = arguments_of(call)[1].get("methods")
    if not isinstance(methods, (cst.List, cst.Tuple)):
        return methods is not None
    words = [text_of(row.value) for row in methods.elements]
    return any(word is None or word.upper() in ("POST", "PUT", "PATCH") for word in words)


class Endpoints:
    """Finds what is posted to a program's endpoints; keeps what it has found."""

    def __init__(self, follower: Following) -> None:
        self._follower = follower
        self._found: dict[int, list[Handover]] = {}
        self._registered: dict[str, list[tuple[cst.Call, cst.BaseExpression]]] = {}
        self._posts: dict[str, list[tuple[Path, Handover]]] = {}
        self._answers: dict[str, list[tuple[Path, Handover]]] = {}

    def posted(self, env: Env, part: str = "") -> list[Handover]:
        """What the program posts to the endpoint that a scope is, or is run by; empty if it is none, or nobody is seen
        to post to it. ``part`` is what of the request is asked for, by its dotted name, such as
        ``flask.request.files``; all of it, if nothing."""
        run: Env | None = env
        while run is not None:
            remote = _is_remote(run.scope)
            if remote or next(self._routes_of(run, posted=True), None) is not None:
                known = self._found.get(id(run.scope))
                if known is None:
                    rows = self._called_with(run) if remote else self._posted_to(run)
                    known = self._found[id(run.scope)] = nearest(list(rows), run)
                kinds = next((kinds for word, kinds in _PARTS.items() if f".{word}" in part), None)
                return [row for row in known if kinds is None or row.kind in kinds]
            run = run.caller
        return []

    def _called_with(self, env: Env) -> Iterator[Handover]:
        """What the project's calls give a procedure of a gRPC service: ``stub.SendUpdate(Update(weights=...))``."""
        function = env.scope.function
        name = function.name.value if isinstance(function, cst.FunctionDef) else ""
        for module in files_that_call(self._follower, [name], env.module, [name], _MAX_FILES):
            for call in self._follower.index(module).calls_of(name):
                positional, _, _ = arguments_of(call)
                if positional and isinstance(call.func, cst.Attribute):
                    yield Handover(positional[0], self._follower.env(module, call))

    def answered(self, call: cst.Call, env: Env) -> list[Handover]:
        """What the program's endpoints answer to who asks one; empty if it is nobody's of the program."""
        positional, keywords, _ = arguments_of(call)
        address = keywords.get("url", positional[0] if positional else None)
        asked = [_asked(path) for path in paths(self._follower, address, env)] if address is not None else []
        found: list[Handover] = []
        for module in self._files(asked, env.module, ("route", "get", "post", "add_url_rule", "add_api_route")):
            for route, row in self._answers_in(module):
                if any(_is_same(path, route) for path in asked):
                    found.append(row)
        return nearest(found, env)

    def _answers_in(self, module: PyModule) -> list[tuple[Path, Handover]]:
        """The routes of a file's functions, each with what the function returns."""
        known = self._answers.get(module.path)
        if known is None:
            known = self._answers[module.path] = []
            index = self._follower.index(module)
            for function in [*index.decorated(), *_registered(index)][:_MAX_POSTS]:
                scope = index.scope(function)
                if scope is None:
                    continue
                run = self._follower.alone(module, scope)
                rows = [Handover(value, run) for value in scope.returns]
                for route in self._routes_of(run, posted=False):
                    ways = paths(self._follower, route, self._follower.env(module, route))
                    known.extend((_opened(way), row) for way in ways for row in rows)
        return known

    def _routes_of(self, env: Env, *, posted: bool) -> Iterator[cst.BaseExpression]:
        """The routes of the function that a scope is, by decorators or by what registers it in its file; those alone by
        which something may be sent to it, if so wanted."""
        function = env.scope.function
        yield from _routes(function, _ROUTES if posted else _ANSWERING)
        if not isinstance(function, cst.FunctionDef):
            return
        known = self._registered.get(env.module.path)
        if known is None:
            known = self._registered[env.module.path] = list(_registrations(self._follower.index(env.module)))
        for call, given in known:
            own = isinstance(given, cst.Attribute) == (env.scope.owner is not None)
            if own and leaf_name(given) == function.name.value and call.args and (not posted or _brings(call)):
                yield call.args[0].value

    def _posted_to(self, env: Env) -> Iterator[Handover]:
        routes = [
            _opened(path)
            for route in self._routes_of(env, posted=True)
            for path in paths(self._follower, route, self._follower.env(env.module, route))
        ]
        for module in self._files(routes, env.module, _POSTS):
            for address, row in self._posts_in(module):
                if any(_is_same(address, route) for route in routes):
                    yield row

    def _files(self, routes: Sequence[Path], module: PyModule, names: Sequence[str]) -> Iterator[PyModule]:
        """The files of a project that call something of some names and hold a part of a route, the nearest first."""
        words = sorted({name for route in routes for name in literal_names(route)})
        return files_that_call(self._follower, names, module, words, _MAX_FILES)

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
        called = self._follower.lookup.dotted(call.func, env)
        name = called.name if isinstance(called, External) else index.code(call.func)
        if _BY_HTTP.search(name) is None:
            return  # ``cache.put(key, value)``
        if leaf_name(call.func) == "request":
            positional = positional[1:]  # the method comes first
        address = keywords.get("url", positional[0] if positional else None)
        given = {name: keywords[name] for name in _GIVEN if name in keywords}
        if not given and len(positional) > 1:
            given["data"] = positional[1]
        for path in paths(self._follower, address, env) if address is not None and given else ():
            yield from ((_asked(path), Handover(value, env, kind)) for kind, value in given.items())


def _is_same(address: Path, route: Path) -> bool:
    """Whether an address may be that of an endpoint, as far as both are written down, and a name is."""
    return alike(address, route) and bool(literal_names(address) & literal_names(route))


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
