"""Paths of files as far as a program writes them down: ``os.path.join(folder, f"client_{i}.pth")``.

What is not written down is a gap, known by the expression that fills it. Two paths may be those of one file if, folder
by folder from the file upwards, the gaps of each may stand for what the other has there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import libcst as cst

from bn_audit.source.flow.alive import alive_at
from bn_audit.source.flow.callers import function_of
from bn_audit.source.flow.following import MAX_CALLS, Following
from bn_audit.source.flow.given import argument
from bn_audit.source.flow.index import arguments_of
from bn_audit.source.flow.values import Env, Made
from bn_audit.source.interpreter.values import Const
from bn_audit.source.nodes import dotted_name, is_empty, leaf_name

__all__ = ["Gap", "Path", "alike", "literal_names", "paths", "same_words"]

_MAX_WAYS = 4
"""Ways in which one path may be put together that are told apart."""
_MAX_DEPTH = 14
_MAX_WORK = 40_000
"""Pairs of letters of two names that are compared; longer ones are the same or not."""
_SAME = re.compile(
    r"str|Path|PosixPath|PurePath|abspath|expanduser|normpath|realpath|fspath|resolve|as_posix|absolute|open"
    r"|sorted|list|tuple|set|iter|reversed|tqdm|natsorted"
)
"""Functions and methods that give the path they are given, a file that is opened, or the same paths in another order.
"""
_SLOT = re.compile(r"%[-+ #0-9.]*[sdrif]")
_FIELD = re.compile(r"\{[^{}]*\}")
_RUN = re.compile(r"[a-z]{3,}")
_COMMON = re.compile(
    r"models?|net(?:work)?s?|weights?|states?|dict|params?|checkpoints?|ckpts?|best|last|final|latest|current|saved?|saves"
    r"|pth|pkl|bin|npy|safetensors|pickle|tar|te?mp|out|outputs?|results?|logs?|runs?|exp|files?|data"
)
"""Words that any file of a model may have in its name."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What a path has that is not written down; ``code`` is what fills it.

    One that is ``wide``, a star of a pattern or a name that a folder lists, stands for whatever is there; any other for
    one word: ``client_{i}.pt`` is no ``client_3_head.pt``.
    """

    code: str
    wide: bool = False


Piece = str | Gap
Path = tuple[Piece, ...]
"""Pieces of a path, in order."""


def paths(follower: Following, node: cst.CSTNode, env: Env) -> list[Path]:
    """The ways in which an expression puts a path together, each once."""
    return _Reader(follower).ways(node, env, 0)


def alike(one: Path, other: Path) -> bool:
    """Whether two paths may be those of one file, as far as both are written down."""
    here, there = _folders(one), _folders(other)
    if not here or not there or not all(map(_meet, here, there)):
        return False
    first, second = _folder_of(one), _folder_of(other)
    return first is None or second is None or first == second or first.rpartition(".")[0] != second.rpartition(".")[0]


def same_words(one: Path, other: Path) -> frozenset[str]:
    """The words, in lower case, that two paths which are :func:`alike` share: those that not any file of a model may
    have in its name."""
    here, there = _folders(one), _folders(other)
    rows = (_words(first) & _words(second) for first, second in zip(here, there, strict=False))
    return frozenset().union(*rows)


def literal_names(path: Path) -> frozenset[str]:
    """The names of the file and the folders that are written down as a whole, as far up as :func:`alike` goes."""
    rows = _folders(path)
    return frozenset(row[0] for row in rows if len(row) == 1 and isinstance(row[0], str))


class _Reader:
    """Reads one path."""

    def __init__(self, follower: Following) -> None:
        self._follower = follower
        self._left = 200

    def ways(self, node: cst.CSTNode, env: Env, depth: int) -> list[Path]:
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            return [self._gap(node, env)]
        found = list(dict.fromkeys(self._ways(node, env, depth + 1)))
        return found if 0 < len(found) <= _MAX_WAYS else [self._gap(node, env)]

    def _gap(self, node: cst.CSTNode, env: Env) -> Path:
        return (Gap(" ".join(self._follower.index(env.module).code(node).split())),)

    def _ways(self, node: cst.CSTNode, env: Env, depth: int) -> Iterable[Path]:
        if isinstance(node, (cst.SimpleString, cst.ConcatenatedString)) and isinstance(node.evaluated_value, str):
            yield (node.evaluated_value,)
        elif isinstance(node, cst.ConcatenatedString):
            yield from self._joined([node.left, node.right], env, depth)
        elif isinstance(node, cst.FormattedString):
            yield from self._formatted(node, env, depth)
        elif isinstance(node, cst.BinaryOperation):
            yield from self._operation(node, env, depth)
        elif isinstance(node, cst.Call):
            yield from self._call(node, env, depth)
        elif isinstance(node, cst.Name):
            yield from self._name(node, env, depth)
        elif isinstance(node, cst.Attribute):
            yield from self._attribute(node, env, depth)
        elif isinstance(node, cst.Subscript):
            yield from self._items(node.value, env, depth)
        elif isinstance(node, cst.IfExp):
            yield from (*self.ways(node.body, env, depth), *self.ways(node.orelse, env, depth))
        elif isinstance(node, cst.NamedExpr):
            yield from self.ways(node.value, env, depth)
        else:
            yield self._gap(node, env)

    def _joined(self, nodes: Sequence[cst.CSTNode], env: Env, depth: int, by: str = "") -> Iterator[Path]:
        """Paths one after the other."""
        found: list[Path] = [()]
        for number, node in enumerate(nodes):
            between: Path = (by,) if by and number else ()
            found = [(*before, *between, *way) for before in found for way in self.ways(node, env, depth)][:_MAX_WAYS]
        yield from found

    def _formatted(self, node: cst.FormattedString, env: Env, depth: int) -> Iterator[Path]:
        found: list[Path] = [()]
        for part in node.parts:
            if isinstance(part, cst.FormattedStringText):
                rows: list[Path] = [(part.value.replace("{{", "{").replace("}}", "}"),)]
            else:
                assert isinstance(part, cst.FormattedStringExpression)
                rows = self.ways(part.expression, env, depth)
            found = [(*before, *way) for before in found for way in rows][:_MAX_WAYS]
        yield from found

    def _operation(self, node: cst.BinaryOperation, env: Env, depth: int) -> Iterator[Path]:
        if isinstance(node.operator, cst.Add):
            yield from self._joined([node.left, node.right], env, depth)
        elif isinstance(node.operator, cst.Divide):
            yield from self._joined([node.left, node.right], env, depth, by="/")
        elif isinstance(node.operator, cst.Modulo):
            yield from (self._filled(way, _SLOT, node.right, env) for way in self.ways(node.left, env, depth))
        else:
            yield self._gap(node, env)

    def _filled(self, path: Path, slot: re.Pattern[str], value: cst.CSTNode, env: Env) -> Path:
        """A text whose marked places are filled with what is not written down."""
        (gap,) = self._gap(value, env)
        found: list[Piece] = []
        for piece in path:
            for number, text in enumerate(slot.split(piece) if isinstance(piece, str) else [piece]):
                found.extend([gap, text] if number else [text])
        return tuple(found)

    def _call(self, node: cst.Call, env: Env, depth: int) -> Iterator[Path]:
        positional, keywords, stars = arguments_of(node)
        name = dotted_name(node.func) or ""
        func = node.func
        leaf = func.attr.value if isinstance(func, cst.Attribute) else name
        if leaf == "format" and isinstance(func, cst.Attribute):
            yield from (self._filled(way, _FIELD, node, env) for way in self.ways(func.value, env, depth))
        elif leaf == "joinpath" and isinstance(func, cst.Attribute) and not stars:
            yield from self._joined([func.value, *positional], env, depth, by="/")
        elif leaf in ("join", "urljoin", "Path") and len(positional) > 1 and not stars:
            yield from self._joined(positional, env, depth, by="/")
        elif leaf in ("glob", "rglob", "iglob", "listdir", "iterdir", "scandir"):
            yield from self._listed(node, leaf, env, depth)
        elif _SAME.fullmatch(leaf) and positional:
            yield from self.ways(positional[0], env, depth)
        elif _SAME.fullmatch(leaf) and isinstance(func, cst.Attribute):  # ``folder.resolve()``, ``path.open("rb")``
            yield from self.ways(func.value, env, depth)
        elif leaf == "open" and "file" in keywords:
            yield from self.ways(keywords["file"], env, depth)
        else:
            runs = self._returned(node, env)
            for value, run in runs:
                yield from self.ways(value, run, depth)
            if not runs:
                yield self._gap(node, env)

    def _listed(self, node: cst.Call, leaf: str, env: Env, depth: int) -> Iterator[Path]:
        """The names in a folder, ``os.listdir(folder)``; the paths that a pattern fits, ``folder.glob("*.pt")``."""
        func = node.func
        if leaf in ("listdir", "scandir", "iterdir"):
            yield (Gap(self._follower.index(env.module).code(node), wide=True),)
            return
        rows: list[cst.CSTNode] = [node.args[0].value] if node.args else []
        owner = func.value if isinstance(func, cst.Attribute) else None
        if owner is not None and dotted_name(owner) != "glob":
            rows.insert(0, owner)
        for way in self._joined(rows, env, depth, by="/"):
            yield tuple(row for piece in way for row in (_starred(piece) if isinstance(piece, str) else [piece]))

    def _attribute(self, node: cst.Attribute, env: Env, depth: int) -> Iterator[Path]:
        for origin in self._follower.items(self._follower.origins(node.value, env)):
            if isinstance(origin, Made) and origin.cls is not None:
                writes = [row for row in self._follower.writes_of(origin, node.attr.value) if not row[0].deep]
                for write, inner in writes:
                    yield from self.ways(write.value, inner, depth) if not write.path else [self._gap(node, env)]
                if writes:
                    return
        yield self._gap(node, env)

    def _name(self, node: cst.Name, env: Env, depth: int) -> Iterator[Path]:
        here = self._follower.holder(node.value, node, env)
        if here is not None:
            yield from self._bound(node, node.value, here, env, depth)
            return
        home = self._follower.home(node.value, env.module)
        if home is not None:
            yield from self._bound(node, home[1], home[0], env, depth)
            return
        value = self._follower.lookup.dotted(node, env)
        constant = value.value if isinstance(value, Const) else None
        yield (constant,) if isinstance(constant, str) else self._gap(node, env)

    def _bound(self, node: cst.Name, name: str, here: Env, env: Env, depth: int) -> Iterator[Path]:
        """What a variable of a scope is bound to where it is used."""
        index = self._follower.index(here.module)
        use = node if here.scope is env.scope else None
        rows, sealed = alive_at(index, here.scope.bindings.get(name, []), use)
        for row in rows:
            if row.value is None or row.how not in ("value", "item", "enter"):
                yield self._gap(node, env)
            elif row.how == "item":
                yield from self._item(node, row.value, row.path, here, depth)
            else:
                yield from self.ways(row.value, here, depth) if not row.path else [self._gap(node, env)]
        if not sealed and (not rows or here.scope.takes(name)):
            yield from self._given(node, here, depth)

    def _item(self, node: cst.Name, over: cst.CSTNode, path: tuple[int, ...], env: Env, depth: int) -> Iterator[Path]:
        """What a name stands for in a loop over paths; anything else that is gone over is a gap."""
        if isinstance(over, cst.Call) and dotted_name(over.func) == "enumerate" and path == (1,) and over.args:
            over, path = over.args[0].value, ()
        if path:
            yield self._gap(node, env)
            return
        yield from self._items(over, env, depth)

    def _items(self, node: cst.CSTNode, env: Env, depth: int) -> Iterable[Path]:
        """The items of a list of paths."""
        if isinstance(node, (cst.List, cst.Tuple)):
            for element in node.elements:
                yield from self.ways(element.value, env, depth)
        elif isinstance(node, (cst.ListComp, cst.GeneratorExp, cst.SetComp)):
            yield from (_narrowed(way, node) for way in self.ways(node.elt, env, depth))
        elif isinstance(node, cst.Subscript):  # a slice
            yield from self._items(node.value, env, depth)
        elif isinstance(node, cst.Call) and _SAME.fullmatch(leaf_name(node.func)) and node.args:
            yield from self._items(node.args[0].value, env, depth)
        elif isinstance(node, cst.Name) and depth <= _MAX_DEPTH:
            yield from self._items_of(node, env, depth + 1)
        elif isinstance(node, cst.Call) and depth <= _MAX_DEPTH and (runs := self._returned(node, env)):
            for value, run in runs:
                yield from self._items(value, run, depth + 1)
        else:
            yield from self.ways(node, env, depth)

    def _items_of(self, node: cst.Name, env: Env, depth: int) -> Iterable[Path]:
        """The items of a list of paths that a variable holds, or is given."""
        here = self._follower.holder(node.value, node, env)
        if here is None:
            yield self._gap(node, env)
            return
        given = argument(node.value, here)
        if given is not None and here.caller is not None and node.value not in here.scope.bindings:
            yield from self._items(given, here.caller, depth)
            return
        use = node if here.scope is env.scope else None
        rows, _ = alive_at(self._follower.index(here.module), here.scope.bindings.get(node.value, []), use)
        value = rows[0].value if len(rows) == 1 and rows[0].how == "value" and not rows[0].path else None
        puts = here.scope.puts.get(node.value, ())
        if value is None or (puts and not is_empty(value)):
            yield self._gap(node, env)
        elif puts:
            for put, _ in puts:
                yield from self.ways(put, here, depth)
        else:
            yield from self._items(value, here, depth)

    def _returned(self, node: cst.Call, env: Env) -> list[tuple[cst.BaseExpression, Env]]:
        """What the one function of the project gives that a call runs."""
        targets = self._follower.callee(node, env)
        func = function_of(targets[0][0]) if len(targets) == 1 else None
        scope = self._follower.index(func.module).scope(func.node) if func is not None else None
        if func is None or scope is None or env.depth >= MAX_CALLS:
            return []
        run = Env(func.module, scope, node, env, targets[0][1], env.depth + 1)
        return [(value, run) for value in scope.returns]

    def _given(self, node: cst.Name, env: Env, depth: int) -> Iterator[Path]:
        """What a parameter is given by the call that runs its function; a gap where nobody says."""
        given = argument(node.value, env)
        left_out = env.call is not None and not arguments_of(env.call)[2]
        params = env.scope.parameters if left_out else ()
        default = next((param.default for param in params if param.name.value == node.value), None)
        if given is not None and env.caller is not None:
            yield from self.ways(given, env.caller, depth)
        elif default is not None and env.scope.parent is not None:
            yield from self.ways(default, self._follower.alone(env.module, env.scope.parent), depth)
        else:
            yield self._gap(node, env)


def _starred(text: str) -> Iterator[Piece]:
    """A pattern of file names, its stars as gaps."""
    for number, part in enumerate(re.split(r"\*+|\?+|\[[^\]]*\]", text)):
        if number:
            yield Gap("*", wide=True)
        if part:
            yield part


def _narrowed(path: Path, comp: cst.ListComp | cst.GeneratorExp | cst.SetComp) -> Path:
    """A gap with what a comprehension asks of how it begins and ends: ``if name.startswith("client_")``."""
    if len(path) != 1 or not isinstance(path[0], Gap):
        return path
    ends: dict[str, str] = {}
    for clause in comp.for_in.ifs:
        for method, text in _asked(clause.test):
            ends.setdefault(method, text)
    begin, end = ends.get("startswith", ""), ends.get("endswith", "")
    return tuple(piece for piece in (begin, path[0], end) if piece)


def _asked(test: cst.BaseExpression) -> Iterator[tuple[str, str]]:
    if isinstance(test, cst.BooleanOperation) and isinstance(test.operator, cst.And):
        yield from (*_asked(test.left), *_asked(test.right))
    elif isinstance(test, cst.Call) and isinstance(test.func, cst.Attribute) and len(test.args) == 1:
        given = test.args[0].value
        text = given.evaluated_value if isinstance(given, cst.SimpleString) else None
        if isinstance(text, str):
            yield test.func.attr.value, text


_Folder = tuple[str | bool, ...]
"""A file or a folder: pieces of its name; for a gap, whether it is wide."""


def _folder_of(path: Path) -> str | None:
    """The setting that says in which folder a path begins: ``cfg.private`` of ``cfg.private + "/client_1.pt"``. One
    object's settings are for folders of their own."""
    first = path[0] if path else None
    dotted = isinstance(first, Gap) and re.fullmatch(r"\w+(?:\.\w+)+", first.code)
    after = path[1] if len(path) > 1 else ""
    return first.code if isinstance(first, Gap) and dotted and isinstance(after, str) and after[:1] == "/" else None


def _folders(path: Path) -> list[_Folder]:
    """A path's file and the folders above it, as far up as something of their names is written down."""
    rows: list[list[str | bool]] = [[]]
    for piece in path:
        row = rows[-1]
        if isinstance(piece, Gap):
            if row and isinstance(row[-1], bool):
                row[-1] |= piece.wide
            else:
                row.append(piece.wide)
            continue
        for number, part in enumerate(piece.replace("\\", "/").split("/")):
            if number:
                rows.append([])
            row = rows[-1]
            if part and row and isinstance(row[-1], str):
                row[-1] += part
            elif part:
                row.append(part)
    found: list[_Folder] = []
    for merged in map(tuple, reversed(rows)):
        if not merged or merged == (".",):
            continue
        unknown = len(merged) == 1 and isinstance(merged[0], bool)
        if found and unknown:
            break  # any folder, perhaps several
        found.append((True,) if unknown else merged)  # a whole name may be anything
    return found


@lru_cache(maxsize=1024)
def _meet(one: _Folder, other: _Folder) -> bool:
    """Whether some name fits both."""
    if not _may_meet(one, other):
        return False
    first, second = _letters(one), _letters(other)
    if len(first) * len(second) > _MAX_WORK:
        return one == other
    # From the end: whether what is left of the first from each place on fits what is left of the second.
    below = [all(isinstance(letter, bool) for letter in second[place:]) for place in range(len(second) + 1)]
    for letter in reversed(first):
        row = [isinstance(letter, bool) and below[-1]]
        for place in range(len(second) - 1, -1, -1):
            opposite = second[place]
            if isinstance(letter, str) and isinstance(opposite, str):
                row.append(letter == opposite and below[place + 1])
                continue
            # A gap ends, or takes one letter more of the other, or a gap.
            goes_on = isinstance(letter, bool) and _takes(letter, opposite) and row[-1]
            taken = isinstance(opposite, bool) and _takes(opposite, letter) and below[place]
            ends = (isinstance(letter, bool) and below[place]) or (isinstance(opposite, bool) and row[-1])
            row.append(goes_on or taken or ends)
        below = row[::-1]
    return below[0]


def _may_meet(one: _Folder, other: _Folder) -> bool:
    """The cheapest question first: whether what is written down of two names begins and ends alike."""
    for end, same in ((0, str.startswith), (-1, str.endswith)):
        first, second = one[end], other[end]
        if isinstance(first, str) and isinstance(second, str) and not same(first, second) and not same(second, first):
            return False
    return True


def _takes(wide: bool, letter: str | bool) -> bool:
    """Whether a gap may stand for a letter, or for what fills another gap."""
    return wide or isinstance(letter, bool) or letter not in "_-."


def _letters(folder: _Folder) -> list[str | bool]:
    found: list[str | bool] = []
    for part in folder:
        found.extend([part] if isinstance(part, bool) else part)
    return found


def _words(folder: _Folder) -> frozenset[str]:
    found: set[str] = set()
    for part in folder:
        found.update(_RUN.findall(part.lower()) if isinstance(part, str) else ())
    return frozenset(word for word in found if _COMMON.fullmatch(word) is None)
