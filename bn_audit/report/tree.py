"""A model as a tree of its modules, its norm layers marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bn_audit.inspection import Inspection
from bn_audit.report.words import printable

__all__ = ["tree"]


@dataclass(slots=True)
class _Node:
    entries: int = 0
    children: dict[str, _Node] = field(default_factory=dict)


def tree(
    inspection: Inspection,
    *,
    mark: Callable[[str], str],
    dim: Callable[[str], str],
    ascii_only: bool = False,
) -> Iterator[str]:
    """Lines of the tree, the root first. Every module of a live model stands there; of a checkpoint those with state.

    Args:
        inspection: what to draw.
        mark: how norm layers look.
        dim: how the branches and the counts look.
        ascii_only: whether the branches may not be drawn with box characters.
    """
    classes = dict(inspection.modules)
    norms = {norm.layer.path: norm for norm in inspection.norms}
    root = _Node()
    for path in classes:
        _node(root, path)
    for entry in inspection.profile.entries:
        _node(root, entry.module).entries += 1
    for path in norms:  # One without state stands nowhere else if only the state is known.
        _node(root, path)

    def entries(number: int) -> str:
        return f"({number} {'entry' if number == 1 else 'entries'})"

    limbs = _ASCII if ascii_only else _BOXES

    def label(title: str, kind: str, path: str, node: _Node) -> str:
        norm = norms.get(path)
        words = printable(f"{title}: {kind}" if kind else title)
        if norm is not None:
            size = "" if norm.layer.features is None else f"({norm.layer.features})"
            return mark(f"{words}{size}  <- norm layer")
        return f"{words} {dim(entries(node.entries))}" if node.entries else words

    def branch(node: _Node, path: str, indent: str) -> Iterator[str]:
        names = list(node.children)
        for name in names:
            here = f"{path}.{name}" if path else name
            limb, more = limbs[2:] if name is names[-1] else limbs[:2]
            child = node.children[name]
            kind = classes.get(here) or (norms[here].layer.type if here in norms else "")
            yield f"{dim(indent + limb)}{label(name, kind, here, child)}"
            yield from branch(child, here, indent + more)

    yield label(inspection.profile.type or "the model", "", "", root)
    yield from branch(root, "", "")


_BOXES = ("├─ ", "│  ", "└─ ", "   ")
_ASCII = ("|- ", "|  ", "`- ", "   ")


def _node(root: _Node, path: str) -> _Node:
    node = root
    for name in path.split(".") if path else ():
        node = node.children.setdefault(name, _Node())
    return node
