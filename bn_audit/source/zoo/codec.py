"""The zoo's files: many module trees that share most of their parts, of which a reader wants one.

A file is the magic, a compressed JSON header and compressed blocks of text. A line of a block is a node: a module's
type, norm traits, own entries and children, which are earlier nodes, named by how many lines lie between. Equal
subtrees are one node, so the sixth block of a ResNet costs a number. To read one model only the header and the blocks
with its nodes are decompressed.

A dimension may follow an argument of the constructor: ``n``, ``4n``, ``n+5`` with n the number of classes, ``c`` that
of input channels; ``?`` is one that is not known.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

from bn_audit.profile import Shape
from bn_audit.source.state import ModuleState, NormTraits, Slot

__all__ = ["ABSENT", "FIXED", "SIZE", "Library", "Node", "Recipe", "Variant", "encode"]

ABSENT = "absent"
"""The class of an argument that is not passed, where that is none of its values."""
SIZE = "size"
"""The class of an argument that is a positive number."""

FIXED = -1
"""The default of a size that a variant does not let choose: the constructor raises for any other."""

_MAGIC = b"bnz1"
_BLOCK = 1 << 15  # characters; zlib's window, so that a block is as small as it gets
_DIM = re.compile(r"(\d*)([a-z])([+-]\d+)?")

Dim = "int | None | tuple[str, int, int]"


class Node(NamedTuple):
    """One module as it is written.

    ``slots`` are (name, dims, dtype, kind, value); a dim is an int, None, or (variable, slope, offset). ``norm`` is
    (batchnorm, tracked, affine, cumulative, features, momentum, eps, family) with features a dim. ``children`` are
    names and indices of earlier nodes.
    """

    type: str
    norm: tuple[Any, ...] | None
    slots: tuple[tuple[Any, ...], ...]
    children: tuple[tuple[str, int], ...]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Variant:
    """A tree, and the classes of arguments for which it holds; ``defaults`` are those of its size arguments, or FIXED.

    A size that is not among them may change anything.
    """

    condition: dict[str, list[Any]]
    root: int
    defaults: dict[str, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the arguments of a constructor choose what it holds.

    Attributes:
        names: under which it is found; all hold the same.
        function: its name in the modules that export it, if that is another.
        paths: the modules that export it.
        positional: names of positional arguments.
        defaults: values of arguments that mean the same as passing nothing (a tuple is written as a list).
        kinds: argument -> ``flag`` (its value counts), ``presence`` (whether it is None) or ``size``.
        absent: argument -> the class of an absent one.
        inert: arguments that change nothing that is held.
        renamed: old name -> new name.
        letters: size argument -> the variable's letter.
        variants: tried in order.
    """

    names: tuple[str, ...]
    variants: tuple[Variant, ...]
    function: str = ""
    paths: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    absent: dict[str, Any] = field(default_factory=dict)
    inert: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    letters: dict[str, str] = field(default_factory=dict)


def encode(
    versions: Mapping[str, str], recipes: Sequence[Recipe], nodes: Sequence[Node], aliases: Mapping[str, str]
) -> bytes:
    """The bytes of a library's file. Nodes that no recipe reaches are left out; equal input gives equal bytes."""
    numbers: dict[int, int] = {}
    lines: list[str] = []

    def place(index: int) -> int:
        if index not in numbers:
            node = nodes[index]
            children = [(name, place(child)) for name, child in node.children]
            numbers[index] = len(lines)
            lines.append(_line(node, [(name, len(lines) - number) for name, number in children]))
        return numbers[index]

    forms: dict[str, int] = {}
    models: dict[str, list[Any]] = {}
    for recipe in recipes:
        form = [
            list(recipe.paths),
            list(recipe.positional),
            recipe.defaults,
            recipe.kinds,
            recipe.absent,
            list(recipe.inert),
            recipe.renamed,
            recipe.letters,
            [variant.condition for variant in recipe.variants],
            [list(variant.defaults) for variant in recipe.variants],
        ]
        number = forms.setdefault(json.dumps(form, separators=(",", ":")), len(forms))
        roots = [[place(v.root), *v.defaults.values()] if v.defaults else place(v.root) for v in recipe.variants]
        models[recipe.names[0]] = [number, recipe.function, roots]
        for name in recipe.names[1:]:
            models[name] = [recipe.names[0]]
    for name, target in aliases.items():
        if name not in models and target in models:
            models[name] = [target]
    blocks: list[list[str]] = [[]]
    size = 0
    for line in lines:
        if size > _BLOCK:
            blocks.append([])
            size = 0
        blocks[-1].append(line)
        size += len(line) + 1
    packed = [zlib.compress("\n".join(block).encode(), 9) for block in blocks]
    header = {
        "versions": dict(versions),
        "forms": [json.loads(form) for form in forms],
        "models": models,
        "blocks": [[len(block), len(data)] for block, data in zip(blocks, packed, strict=True)],
    }
    head = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    return b"".join([_MAGIC, struct.pack("<I", len(head)), head, *packed])


def _line(node: Node, children: list[tuple[str, int]]) -> str:
    words = [node.type, *(slot[0] for slot in node.slots), *(name for name, _ in children)]
    if any(re.search(r"[\s:=!]", word) for word in words):
        raise ValueError(f"a name holds a separator: {words}")
    norm = ""
    if node.norm is not None:
        batchnorm, tracked, affine, cumulative, features, momentum, eps, family = node.norm
        flags = "".join(str(int(flag)) for flag in (batchnorm, tracked, affine, cumulative))
        norm = f"{flags} {_dim_text(features)} {momentum} {eps} {family}"
    slots = []
    for name, dims, dtype, kind, value in node.slots:
        text = f"{name}:{','.join(_dim_text(dim) for dim in dims)}"
        if (dtype, kind, value) != ("float32", "parameter", None):
            text += f":{kind[0]}:{dtype}" + ("" if value is None else f":{value}")
        slots.append(text)
    kids = " ".join(f"{name}={back}" for name, back in children)
    return "\t".join(
        ("" if node.complete else "!") + part if k == 0 else part
        for k, part in enumerate((node.type, norm, " ".join(slots), kids))
    )


def _dim_text(dim: Any) -> str:
    if dim is None:
        return "?"
    if isinstance(dim, int):
        return str(dim)
    letter, slope, offset = dim
    return f"{'' if slope == 1 else slope}{letter}{f'{offset:+d}' if offset else ''}"


class Library:
    """One file, read once; blocks are decompressed when a model asks for them."""

    def __init__(self, data: bytes) -> None:
        if data[:4] != _MAGIC:
            raise ValueError("not a file of the zoo")
        (length,) = struct.unpack_from("<I", data, 4)
        header = json.loads(zlib.decompress(data[8 : 8 + length]))
        self.versions: dict[str, str] = header["versions"]
        self._forms: list[Any] = header["forms"]
        self._models: dict[str, list[Any]] = header["models"]
        self._data = data
        self._firsts: list[int] = []  # the number of each block's first line
        self._bytes: list[tuple[int, int]] = []  # where each block lies
        line, byte = 0, 8 + length
        for lines, size in header["blocks"]:
            self._firsts.append(line)
            self._bytes.append((byte, byte + size))
            line, byte = line + lines, byte + size

    @property
    def names(self) -> tuple[str, ...]:
        """All names under which a model is found."""
        return tuple(self._models)

    def recipe(self, name: str) -> Recipe | None:
        """The recipe of a model, or None if the library has no model of that name."""
        entry = self._models.get(name)
        while entry is not None and len(entry) == 1:  # another name for the same, which may be one itself
            entry = self._models.get(entry[0])
        if entry is None:
            return None
        number, function, roots = entry
        paths, positional, literals, kinds, absent, inert, renamed, letters, conditions, sizes = self._forms[number]
        variants = []
        for condition, names, root in zip(conditions, sizes, roots, strict=True):
            first, *defaults = root if isinstance(root, list) else [root]
            variants.append(Variant(condition, first, dict(zip(names, defaults, strict=True))))
        return Recipe(
            names=(name,),
            variants=tuple(variants),
            function=function,
            paths=tuple(paths),
            positional=tuple(positional),
            defaults=literals,
            kinds=kinds,
            absent=absent,
            inert=tuple(inert),
            renamed=renamed,
            letters=letters,
        )

    def type(self, root: int) -> str:
        """The class name of a node."""
        return self._line(root, {}).partition("\t")[0].removeprefix("!")

    def _line(self, number: int, blocks: dict[int, list[str]]) -> str:
        """A node's line; ``blocks`` keeps what was decompressed."""
        index = bisect_right(self._firsts, number) - 1
        lines = blocks.get(index)
        if lines is None:
            start, end = self._bytes[index]
            lines = blocks[index] = zlib.decompress(self._data[start:end]).decode().split("\n")
        return lines[number - self._firsts[index]]

    def tree(self, root: int, values: Mapping[str, int | None]) -> ModuleState:
        """The tree below a node, with the variables replaced by their values (None: not known)."""
        blocks: dict[int, list[str]] = {}
        built: dict[int, ModuleState] = {}

        def build(number: int) -> ModuleState:
            if number not in built:
                type_name, norm, slots, kids = self._line(number, blocks).split("\t")
                children = []
                for kid in kids.split(" ") if kids else ():
                    name, _, back = kid.partition("=")
                    children.append((name, build(number - int(back))))
                complete = not type_name.startswith("!")
                type_name = type_name.removeprefix("!")
                built[number] = ModuleState(
                    type_name,
                    tuple(_slot(text, values) for text in slots.split(" ")) if slots else (),
                    tuple(children),
                    _norm(type_name, norm, values) if norm else None,
                    complete,
                )
            return built[number]

        return build(root)


def _slot(text: str, values: Mapping[str, int | None]) -> Slot:
    name, dims, *rest = text.split(":")
    shape: Shape = tuple(_dim(dim, values) for dim in dims.split(",")) if dims else ()
    if not rest:
        return Slot(name, shape, "float32", "parameter")
    kind: Literal["parameter", "buffer"] = "parameter" if rest[0] == "p" else "buffer"
    return Slot(name, shape, rest[1], kind, int(rest[2]) if len(rest) > 2 else None)


def _dim(text: str, values: Mapping[str, int | None]) -> int | None:
    if text.isdigit():
        return int(text)
    if (match := _DIM.fullmatch(text)) is None:
        return None
    slope, letter, offset = match.groups()
    value = values.get(letter)
    return None if value is None else int(slope or 1) * value + int(offset or 0)


def _norm(type_name: str, text: str, values: Mapping[str, int | None]) -> NormTraits:
    flags, features, momentum, eps, family = text.split(" ")
    batchnorm, tracked, affine, cumulative = (flag == "1" for flag in flags)
    return NormTraits(
        type_name,
        batchnorm=batchnorm,
        tracked=tracked,
        affine=affine,
        features=_dim(features, values),
        momentum=None if momentum == "None" else float(momentum),
        cumulative=cumulative,
        eps=None if eps == "None" else float(eps),
        family=cast('Literal["batch", "instance", "sync", "other"]', family),
    )
