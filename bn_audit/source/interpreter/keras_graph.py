"""The graph of a functional Keras model, and the order in which the model lists its layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bn_audit.source.interpreter.values import (
    Const,
    DictVal,
    Hole,
    KerasTensor,
    ListVal,
    Module,
    RegistryGap,
    Step,
    TensorVal,
    Unknown,
)

__all__ = ["gather", "layers", "tracked"]


def gather(values: Iterable[object], step: Step) -> tuple[KerasTensor, ...]:
    """The Keras tensors among values, lists and dicts of them; a gap for what may be one and is not known."""
    found: list[KerasTensor] = []
    stack = list(values)
    while stack:
        value = stack.pop(0)
        if isinstance(value, KerasTensor):
            found.append(value)
        elif isinstance(value, ListVal):
            stack[:0] = value.items
        elif isinstance(value, DictVal):
            stack[:0] = list(value.items.values())
        elif not isinstance(value, (Const, TensorVal)):
            # Layers may lie behind whatever this is: what a model that is not known puts out, say.
            reason = value.reason if isinstance(value, Unknown) else "a tensor that is not known"
            found.append(KerasTensor(RegistryGap(reason, step), (), step))
    return tuple(found)


def layers(outputs: Sequence[KerasTensor], inputs: Sequence[KerasTensor]) -> list[Module | RegistryGap]:
    """The layers between inputs and outputs as ``model.layers`` has them.

    They are listed by their greatest distance from an output, the farthest first, and at one distance in the order in
    which a walk from the outputs meets them (keras.engine.functional._map_graph_network, Keras 2.12).
    """
    ends = {id(tensor) for tensor in inputs}
    nodes, met = _walk(outputs, ends)
    depth: dict[int, int] = {}
    layer_depth: dict[int, int] = {}
    for node in reversed(nodes):
        owner = _owner(node, ends)
        own = max(depth.get(id(node), 0), layer_depth.get(owner, 0))
        depth[id(node)] = layer_depth[owner] = own
        for parent in () if id(node) in ends else node.parents:
            depth[id(parent)] = max(depth.get(id(parent), 0), own + 1)
    found: dict[int, Module | RegistryGap] = {
        id(node.layer): node.layer for node in nodes if node.layer is not None and id(node) not in ends
    }
    return [found[owner] for owner in sorted(found, key=lambda owner: (-layer_depth[owner], met[owner]))]


def _owner(node: KerasTensor, ends: set[int]) -> int:
    return id(node) if node.layer is None or id(node) in ends else id(node.layer)


def _walk(outputs: Sequence[KerasTensor], ends: set[int]) -> tuple[list[KerasTensor], dict[int, int]]:
    """The tensors behind the outputs, each after those it is made from, and when each layer was met first."""
    nodes: list[KerasTensor] = []
    met: dict[int, int] = {}
    seen: set[int] = set()
    stack: list[tuple[KerasTensor, bool]] = [(output, False) for output in reversed(outputs)]
    while stack:
        node, done = stack.pop()
        if done:
            nodes.append(node)
            continue
        if id(node) in seen:
            continue
        seen.add(id(node))
        met.setdefault(_owner(node, ends), len(met))
        stack.append((node, True))
        if id(node) not in ends:
            stack.extend((parent, False) for parent in reversed(node.parents))
    return nodes, met


def tracked(path: str, value: object, depth: int = 0) -> Iterator[tuple[str, Module | RegistryGap | None]]:
    """The layers in a value that is an attribute of a layer or model, at any depth."""
    if isinstance(value, Module):
        yield path, value
    elif isinstance(value, ListVal) and depth < 8:
        for number, item in enumerate(value.items):
            yield from tracked(f"{path}.{number}", item, depth + 1)
    elif isinstance(value, DictVal) and depth < 8:
        for key, item in value.items.items():
            yield from tracked(f"{path}.{key}", item, depth + 1)
        if value.open:
            yield f"?{path}", RegistryGap("may hold layers under keys that are not known", value.origin)
    elif isinstance(value, Hole) or (isinstance(value, Unknown) and value.called):
        yield f"?{path}", RegistryGap("may hold layers that are not known", None)
