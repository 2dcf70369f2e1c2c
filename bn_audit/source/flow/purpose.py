"""What a model is run for: to measure how good it is, or to train it.

An evaluation is a forward whose output is measured: compared with the labels, or handed to a loss or a metric. Under
``no_grad`` nothing else than a measure can come of a loss. A forward whose output is dropped (statistics that are
refreshed), kept as features, prototypes or a teacher's opinion, or sent back as predictions is none.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

import libcst as cst

from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.index import FileIndex, Scope
from bn_audit.source.flow.values import Env, Made, Origin, State
from bn_audit.source.interpreter.values import Step
from bn_audit.source.nodes import leaf_name, walk

__all__ = ["measured", "trained_by", "tunes_statistics"]

_MEASURES = re.compile(
    r"(?i)(?:^|_)acc(?:$|_|\d)|accurac|metric|(?:^|_)(?:roc_)?auc|(?:^|_)f1|correct|dice|(?:^|_)m?iou|precision|recall"
    r"|confusion|perplex|(?:^|_)eq$|loss|criteri|entropy|nll|(?:^|_)mse|(?:^|_)bce|(?:^|_)mae|(?:^|_)psnr|(?:^|_)ssim"
)
"""Names of what takes an output to measure it; ``eq`` compares it with the labels."""
_LOSSES = re.compile(r"(?i)loss|criteri|entropy|nll|(?:^|_)mse|(?:^|_)bce|(?:^|_)mae|(?:^|_)kl|divergence")
"""Those of them that a model is trained with as well."""
_QUIET = frozenset({"no_grad", "inference_mode"})
_NOT_OUTPUT = frozenset({"shape", "size", "ndim", "dim", "dtype", "device", "is_cuda"})
_PUTS = frozenset({"append", "extend", "update", "add", "put", "insert"})
_ROUNDS = 8
_MAX_CALLERS = 4
_TUNING = re.compile(r"reset_running_stats|track_running_stats|\.momentum\s*=[^=]|update_bn\b|adapt_bn|bn_adapt")


def measured(follower: Follower, around: Iterable[tuple[cst.Call, Env]]) -> Step | None:
    """Where the output of a forward is measured; None if it is not, as far as the source tells.

    What a function returns is looked at in its callers on the way. ``around`` are the forward and the calls that lead
    to it, innermost first.
    """
    around = list(itertools.islice(around, _MAX_CALLERS))
    if around and _beside_training(around[0][1].module.derive(FileIndex), around[0][0]):
        return None
    for number, (node, env) in enumerate(around):
        found, returned = _fate(follower.index(env.module), node)
        if found is not None:
            if _is_trained_on(found, around[number:]):
                return None
            return Step(env.module, found, "its output is measured here")
        if not returned:
            return None
    return None


def _is_trained_on(measure: cst.CSTNode, around: list[tuple[cst.Call, Env]]) -> bool:
    """Whether what measures an output may be the loss that a model is trained with, which takes the output for what is
    to come out: a pseudo-label. Gradients are then not off there, and somebody asks for them."""
    if not isinstance(measure, cst.Call) or _LOSSES.search(_leaf(measure.func)) is None:
        return False
    places = [measure, *(call for call, _ in around[1:])]
    rows = [(env.module.derive(FileIndex), place, env.scope) for place, (_, env) in zip(places, around, strict=True)]
    return not any(_is_quiet(index, place) for index, place, _ in rows) and any(
        index.scope_of(call) is scope for index, _, scope in rows for call in index.calls_of("backward")
    )


def _is_quiet(index: FileIndex, node: cst.CSTNode) -> bool:
    """Whether gradients are off where a node stands, as far as its function says."""
    for above in index.above(node):
        rows: list[cst.CSTNode] = []
        if isinstance(above, cst.With):
            rows = [item.item for item in above.items]
        elif isinstance(above, cst.FunctionDef):
            rows = [row.decorator for row in above.decorators]
        if any(map(_turns_off, rows)):
            return True
        if isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
            return False
    return False


def _turns_off(node: cst.CSTNode) -> bool:
    """``torch.no_grad()``, ``torch.set_grad_enabled(False)``."""
    name = _leaf(node)
    given = node.args[0].value if isinstance(node, cst.Call) and node.args else None
    denied = isinstance(given, cst.Name) and given.value == "False"
    return denied if name == "set_grad_enabled" else name in _QUIET and not denied


def _beside_training(index: FileIndex, node: cst.CSTNode) -> bool:
    """Whether the model is trained on the batch that a forward is given: what comes of it, a teacher's opinion or how
    sure the model is, is part of the training."""
    loops = _loops(index, node)
    for call in index.calls_of("backward"):
        if index.scope_of(call) is not index.scope_of(node):
            continue
        others = _loops(index, call)
        shared = next((loop for loop in others if loop in loops), None)
        if shared is not None and not _counts(shared):
            inner = [*loops[: loops.index(shared)], *others[: others.index(shared)]]
            if all(_counts(loop) for loop in inner):
                return True
    return False


def _loops(index: FileIndex, node: cst.CSTNode) -> list[cst.For]:
    """The loops around a node in its scope, innermost first."""
    found: list[cst.For] = []
    for above in index.above(node):
        if isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
            break
        if isinstance(above, cst.For):
            found.append(above)
    return found


def _counts(loop: cst.For) -> bool:
    """Whether a loop only counts: ``for epoch in range(epochs)``."""
    over = loop.iter
    while isinstance(over, cst.Call) and _leaf(over.func) in ("tqdm", "trange", "range"):
        if _leaf(over.func) != "tqdm" or not over.args:
            return True
        over = over.args[0].value
    return False


def _fate(index: FileIndex, node: cst.CSTNode) -> tuple[cst.CSTNode | None, bool]:
    """Where a value is measured in its scope, and whether it is returned."""
    scope = index.scope_of(node)
    names: set[str] = set()
    returned = False
    sources: list[cst.CSTNode] = [node]
    seen: set[int] = set()
    for _ in range(_ROUNDS):
        before = len(names)
        for source in sources:
            if id(source) in seen:
                continue
            seen.add(id(source))
            found, bound, out = _use(index, source)
            if found is not None:
                return found, returned
            names |= bound
            returned |= out
        if len(names) == before:
            break
        sources = [part for part in _names(index, scope) if part.value in names]
    return None, returned


def _names(index: FileIndex, scope: Scope) -> Iterator[cst.Name]:
    """The names that a scope reads or binds: functions within it have names of their own."""
    for part in walk(scope.node):
        if isinstance(part, cst.Name) and index.scope_of(part) is scope:
            above = index.parent(part)
            if isinstance(above, cst.Attribute) and above.attr is part:
                continue
            yield part


def _use(index: FileIndex, source: cst.CSTNode) -> tuple[cst.CSTNode | None, set[str], bool]:
    """What becomes of one occurrence of a value: where it is measured, the names it goes to, whether it is returned."""
    current = source
    for above in index.above(source):
        if isinstance(above, cst.Attribute) and above.attr.value in _NOT_OUTPUT:
            return None, set(), False
        if isinstance(above, cst.Comparison) and any(
            isinstance(row.operator, (cst.Equal, cst.NotEqual)) for row in above.comparisons
        ):
            other = above.left if current is not above.left else above.comparisons[0].comparator
            if not isinstance(other, (cst.Integer, cst.SimpleString)):
                return above, set(), False
        if isinstance(above, cst.Call) and current is not above.func:
            name = _leaf(above.func)
            if name in ("len", "isinstance", "print", "type"):
                return None, set(), False
            if _MEASURES.search(name):
                return above, set(), False
        if isinstance(above, cst.Call) and current is above.func:
            # A method of the value: ``pred.eq(labels)``.
            name = _leaf(above.func)
            if name == "eq" or (name != "" and _MEASURES.search(name)):
                return above, set(), False
        if isinstance(above, cst.Arg):
            call = index.parent(above)
            if isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute) and call.func.attr.value in _PUTS:
                kept = _root(call.func.value)
                if kept:
                    return _metric_object(call), {kept}, False
        if isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
            return None, set(), False
        if isinstance(above, cst.Return):
            return None, set(), True
        if isinstance(above, cst.Assign) and current is above.value:
            return None, {name for row in above.targets for name in _targets(row.target)}, False
        if isinstance(above, (cst.AnnAssign, cst.AugAssign)) and current is above.value:
            return None, set(_targets(above.target)), False
        if isinstance(above, cst.For) and current is above.iter:
            return None, set(_targets(above.target)), False
        if isinstance(above, cst.BaseSmallStatement):
            return None, set(), False
        current = above
    return None, set(), False


def _metric_object(call: cst.Call) -> cst.CSTNode | None:
    """``metric.update(output, labels)``, ``accuracy.add(...)``."""
    assert isinstance(call.func, cst.Attribute)
    if call.func.attr.value in ("update", "add") and _MEASURES.search(_leaf(call.func.value)):
        return call
    return None


def _leaf(node: cst.CSTNode) -> str:
    while isinstance(node, (cst.Call, cst.Subscript)):
        node = node.func if isinstance(node, cst.Call) else node.value
    return leaf_name(node)


def _root(node: cst.CSTNode) -> str:
    while isinstance(node, (cst.Subscript, cst.Attribute)):
        node = node.value
    return node.value if isinstance(node, cst.Name) else ""


def _targets(node: cst.CSTNode) -> Iterator[str]:
    if isinstance(node, cst.Name):
        yield node.value
    elif isinstance(node, (cst.Tuple, cst.List)):
        for element in node.elements:
            yield from _targets(element.value)
    elif isinstance(node, cst.Subscript):
        name = _root(node)
        if name and name != "self":
            yield name


# --- training --------------------------------------------------------------------------------------------------------


def trained_by(follower: Follower, around: Iterable[tuple[cst.Call, Env]]) -> tuple[Step, frozenset[Made]] | None:
    """The optimizer step of the training loop that a scope is part of, and the models whose parameters it updates.

    The loop stands in the scope itself, or in one that calls it.
    """
    for number, (_, current) in enumerate(itertools.islice(around, _MAX_CALLERS)):
        index = follower.index(current.module)
        own = [call for call in index.calls_of("grad") if index.scope_of(call) is current.scope]
        if (
            number == 0
            and own
            and not any(index.scope_of(call) is current.scope for call in index.calls_of("backward"))
        ):
            return None  # gradients for something else than the optimizer: an attack, a penalty
        if any(index.scope_of(call) is current.scope for call in index.calls_of("backward")):
            for call in index.calls_of("step"):
                if index.scope_of(call) is current.scope:
                    models = frozenset(_stepped(follower, call, current))
                    if models:
                        return Step(current.module, call), models
            return None
    return None


def _stepped(follower: Follower, call: cst.Call, env: Env) -> Iterator[Made]:
    """The models that an optimizer was given: ``optimizer.step()``, ``scaler.step(optimizer)``."""
    nodes = [call.func.value] if isinstance(call.func, cst.Attribute) else []
    nodes.extend(arg.value for arg in call.args)
    for node in nodes:
        for origin in follower.items(follower.origins(node, env)):
            if isinstance(origin, Made) and origin.kind != "model" and isinstance(origin.node, cst.Call):
                for arg in origin.node.args:
                    yield from _parameters(follower, arg.value, origin.env)


def _parameters(follower: Follower, node: cst.BaseExpression, env: Env) -> Iterator[Made]:
    """The models whose ``parameters()`` are in an expression, or in what it stands for."""
    for part in walk(node):
        name = part.func.attr.value if isinstance(part, cst.Call) and isinstance(part.func, cst.Attribute) else ""
        if name in ("parameters", "named_parameters"):
            yield from _models(follower.origins(part, env), follower)
    if isinstance(node, (cst.Name, cst.Attribute)):
        yield from _models(follower.origins(node, env), follower)


def _models(found: tuple[Origin, ...], follower: Follower) -> Iterator[Made]:
    for origin in follower.items(found):
        if isinstance(origin, State) and origin.model is not None:
            yield origin.model


def tunes_statistics(around: Iterable[tuple[cst.Call, Env]]) -> bool:
    """Whether the function around a forward, or the one that calls it, handles BatchNorm's statistics on purpose."""
    return any(
        isinstance(env.scope.node, cst.FunctionDef) and env.module.derive(FileIndex).holds(env.scope.node, _TUNING)
        for _, env in itertools.islice(around, 2)
    )
