"""How an averaging is written: its accumulator, what is added and how, what becomes of the sum.

What the source leaves open (is a weight an int or a float? what was in the accumulator?) gives several forms, one of
which is true.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import libcst as cst

from bn_audit.handwritten import (
    Add,
    Begin,
    Cast,
    Factor,
    Flattened,
    HandWritten,
    Library,
    Loop,
    Number,
    Operation,
    Rebuild,
    Reduction,
    Reductor,
)
from bn_audit.source.flow.combining.averaging import Averaging
from bn_audit.source.flow.filters import concerns
from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.flow.loops import conditions
from bn_audit.source.flow.numbers import numbers_of
from bn_audit.source.flow.values import Env
from bn_audit.source.nodes import dotted_name, leaf_name, walk
from bn_audit.source.project import PyModule

__all__ = ["forms"]

_KEEP = frozenset({"detach", "clone", "cpu", "cuda", "data", "to", "contiguous", "copy", "item"})
_CASTS = {"float": Cast.FLOAT, "double": Cast.DOUBLE, "long": Cast.LONG, "type_as": Cast.OWN}
_REBUILDS = {
    "from_numpy": Rebuild.FROM_NUMPY,
    "tensor": Rebuild.TENSOR,
    "as_tensor": Rebuild.TENSOR,
    "Tensor": Rebuild.TENSOR_CLASS,
    "FloatTensor": Rebuild.TENSOR_CLASS,
}
_REDUCES = frozenset({"mean", "sum", "median", "average", "nanmean", "nansum", "nanmedian", "quantile", "nanquantile"})
_REDUCTORS = {
    "mean": Reductor.MEAN,
    "sum": Reductor.SUM,
    "median": Reductor.MEDIAN,
    "nanmean": Reductor.NAN_MEAN,
    "nansum": Reductor.SUM,
    "nanmedian": Reductor.MEDIAN,
    "quantile": Reductor.QUANTILE,
    "nanquantile": Reductor.QUANTILE,
}
_CONVERTS = r"(?:\.(?:float|double|to|type)\(|[^\n=]*dtype\s*=)"
"""How a name goes on that is converted, in the text of a line."""
_MADE_TENSORS = re.compile(r"\b(?:from_numpy|as_tensor|tensor|Tensor|FloatTensor)\b(?=\s*[(,)])")
"""What makes tensors of arrays, called or handed on."""
_DTYPES = {
    "float32": Cast.FLOAT,
    "float": Cast.FLOAT,
    "get_default_dtype": Cast.FLOAT,
    "FloatTensor": Cast.FLOAT,
    "float64": Cast.DOUBLE,
    "double": Cast.DOUBLE,
    "DoubleTensor": Cast.DOUBLE,
    "int64": Cast.LONG,
    "long": Cast.LONG,
    "LongTensor": Cast.LONG,
}
"""What a dtype that is named converts to; narrower ones of either kind are not read."""


def forms(
    follower: Follower,
    averaging: Averaging,
    env: Env,
    onto: cst.BaseExpression | None = None,
    module: PyModule | None = None,
) -> tuple[HandWritten, ...]:
    """The ways in which an averaging may be meant; empty if it is written in none that is known.

    ``module`` is the file in which the result is loaded; ``onto`` is what is added there to the entries of a model, if
    it does not take their place.
    """
    reader = _Reader(follower, averaging, env, module)
    found = dict.fromkeys(reader.read())
    if reader.is_caught():
        # What raises is taken up by a handler, which does it in another way: with floats, as far as we know.
        for row in list(found):
            if isinstance(row.arithmetic, Loop):
                how = replace(row.arithmetic, begin=Begin.FLOAT_ZEROS, cast=Cast.FLOAT, add=Add.NEW)
                found[replace(row, arithmetic=how)] = None
            elif isinstance(row.arithmetic, Reduction):
                found[replace(row, arithmetic=replace(row.arithmetic, cast=Cast.FLOAT))] = None
    if onto is not None and module is not None:
        return tuple(dict.fromkeys(_added_onto(found, onto, follower.index(module))))
    return tuple(found)


def _added_onto(found: Iterable[HandWritten], onto: cst.BaseExpression, index: FileIndex) -> Iterator[HandWritten]:
    """``data.add_(total[name] * (eta / n))``: scaled where it is added, and perhaps converted."""
    result: Cast | None = None
    node: cst.BaseExpression = onto
    for _ in range(4):
        rows = index.scope_of(node).bindings.get(node.value, ()) if isinstance(node, cst.Name) else ()
        values = [row.value for row in rows if row.how == "value" and not row.path]
        if isinstance(node, cst.Name) and values and isinstance(values[-1], cst.BaseExpression):
            if len(values) > 1:
                return  # rebound on the way: what it is then is not known
            node = values[-1]
        elif isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
            name = node.func.attr.value
            cast = _casting(node, node.func)
            if name in ("tensor", "as_tensor") or any(".dtype" in index.code(arg) for arg in node.args):
                result = Cast.OWN
            elif cast is not None:
                result = cast
            elif name not in _KEEP:
                return
            node = node.args[0].value if name in ("tensor", "as_tensor") and node.args else node.func.value
        else:
            break
    scales: tuple[Factor | None, ...] = (None,)
    if isinstance(node, cst.BinaryOperation):
        operation = {cst.Multiply: Operation.TIMES, cst.Divide: Operation.OVER}.get(type(node.operator))
        if operation is None:
            return
        left = isinstance(node.left, cst.Subscript)
        scales = tuple(Factor(operation, number) for number in numbers_of(index, node.right if left else node.left))
    elif not isinstance(node, (cst.Name, cst.Subscript)):
        return
    for form in found:
        if isinstance(form.arithmetic, Loop):
            for scale in scales if form.arithmetic.scale is None else (form.arithmetic.scale,):
                yield replace(form, arithmetic=replace(form.arithmetic, scale=scale), result=result, onto=Add.IN_PLACE)


class _Reader:
    def __init__(self, follower: Follower, averaging: Averaging, env: Env, load: PyModule | None) -> None:
        self.follower = follower
        self.averaging = averaging
        self.env = env
        self.index: FileIndex = follower.index(env.module)
        self.modules = (env.module,) if load is None else (env.module, load)

    def read(self) -> Iterator[HandWritten]:
        for form in self._written():
            flattened = self.averaging.vector and isinstance(form.arithmetic, (Loop, Reduction))
            if flattened:
                yield replace(form, arithmetic=Flattened(form.arithmetic))  # type: ignore[arg-type]
            elif form.library is Library.NUMPY:
                yield from (replace(form, rebuild=rebuild) for rebuild in self._rebuilds())
            else:
                yield form

    def _rebuilds(self) -> Sequence[Rebuild | None]:
        """How the function makes tensors of arrays again, in all ways that it does; in any way, if others may do it in
        one of the files on the way."""
        within = {id(part) for part in walk(self.averaging.node)}
        found: dict[Rebuild, None] = {}
        for call in walk(self.averaging.scope.node):
            if not isinstance(call, cst.Call) or id(call) in within or not call.args:
                continue
            root, _, leaf = (dotted_name(call.func) or "").rpartition(".")
            rebuild = _REBUILDS.get(leaf) if root in ("torch", "th", "pt") else None
            if rebuild is Rebuild.FROM_NUMPY and not self._is_average(call.args[0].value):
                rebuild = Rebuild.TENSOR  # ``torch.from_numpy(np.asarray(average))``: an array, whatever it was
            if rebuild is not None:
                found[rebuild] = None
        if not found and any(self.follower.index(module).mentions(_MADE_TENSORS) for module in self.modules):
            return tuple(Rebuild)
        return tuple(found) or (None,)

    def _is_average(self, node: cst.BaseExpression) -> bool:
        """Whether an expression is the average, and nothing that is made of it; or a stack's, ``values.mean(0)``."""
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value in _REDUCES:
            stack = node.func.value
            if stack is self.averaging.node or self._resolved(stack) is self.averaging.node:
                return True
        return node is self.averaging.node or self._resolved(node) is self.averaging.node

    def _written(self) -> Iterator[HandWritten]:
        how = self.averaging.how
        if how == "all_reduce":
            # Every party's own tensor takes the sum.
            if not isinstance(self.averaging.node, cst.Call) or "AVG" in self.index.code(self.averaging.node):
                return
            for scale in self._scales(None):
                yield HandWritten(Loop(Begin.FIRST, scale=scale))
        elif how in ("+=", "+", "add_"):
            for loop in self._loops():
                yield HandWritten(loop, library=self._library())
        elif how in ("lerp", "lerp_", "mul_"):
            for loop in self._mixes():
                yield HandWritten(loop)
        elif how == "sum":
            for (term, cast), scale in itertools.product(self._terms(), self._scales(self.averaging.node)):
                begin, add = Begin.ZERO, Add.NEW
                yield HandWritten(Loop(begin, term=term, cast=cast, add=add, scale=scale), library=self._library())
        elif how in ("stack", "numpy"):
            library = Library.NUMPY if how == "numpy" else Library.TORCH
            for by, (term, cast), scale, after in itertools.product(
                self._reductors(), self._terms(), self._scales(self.averaging.node), self._casts_of_stack()
            ):
                yield HandWritten(Reduction(by, term=term, cast=cast or after, scale=scale), library=library)

    def is_caught(self) -> bool:
        """Whether the arithmetic stands in a ``try`` whose handler goes on."""
        averaging = self.averaging
        keys = averaging.keys.node if averaging.keys is not None else None
        body = keys.body if isinstance(keys, (cst.For, cst.While)) else averaging.node
        around = itertools.takewhile(lambda above: above is not averaging.scope.node, self.index.above(averaging.node))
        for part in itertools.chain(around, walk(body)):
            if isinstance(part, cst.Try) and any(not _raises_again(row) for row in part.handlers):
                return True
        return False

    def _loops(self) -> Iterator[Loop]:
        add = Add.NEW if self.averaging.how == "+" else Add.IN_PLACE
        alpha = self._alpha()
        for begin, (term, cast), scale in itertools.product(self._begins(), self._terms(), self._scales(None)):
            if alpha is not None:
                yield from (
                    Loop(begin, term=Factor(Operation.TIMES, number), cast=cast, add=Add.ALPHA_IN_PLACE, scale=scale)
                    for number in alpha
                )
            else:
                yield Loop(begin, term=term, cast=cast, add=add, scale=scale, difference=self._differs())

    def _mixes(self) -> Iterator[Loop]:
        """``x.lerp_(v, c)``, ``x = torch.lerp(x, v, c)``, ``x.mul_(c).add_(v, alpha=a)``."""
        averaging = self.averaging
        alpha = self._alpha()
        weights = [number for weight in averaging.weights for number in self._numbers(weight)]
        # The first party's is there before anything is mixed into it, whatever stands for nothing.
        begins = [Begin.COPY if row in (Begin.NOTHING, Begin.ZERO) else row for row in self._begins()]
        if averaging.how == "lerp" and self._is_cast_before():
            begins = [Begin.FLOAT_ZEROS]
        for begin, (term, cast), weight in itertools.product(dict.fromkeys(begins), self._terms(), weights):
            share = Factor(Operation.TIMES, weight)
            if averaging.how != "mul_":
                add = Add.LERP if averaging.how == "lerp" else Add.LERP_IN_PLACE
                yield Loop(begin, term=share, cast=cast, add=add)
                continue
            fade = replace(share, in_place=True)
            if alpha is None:
                yield Loop(begin, term=term, cast=cast, fade=fade)
            for number in alpha or ():
                term = Factor(Operation.TIMES, number)
                yield Loop(begin, term=term, cast=cast, fade=fade, add=Add.ALPHA_IN_PLACE)

    def _is_cast_before(self) -> bool:
        """Whether what a mean held is converted where it is mixed: ``torch.lerp(x.float(), v.float(), c)``."""
        node = self.averaging.node
        value = node.value if isinstance(node, cst.Assign) else None
        if not isinstance(value, cst.Call) or not isinstance(value.func, cst.Attribute):
            return False
        held = value.args[0].value if dotted_name(value.func) == "torch.lerp" else value.func.value
        return isinstance(held, cst.Call) and _casting(held, held.func) in (Cast.FLOAT, Cast.DOUBLE)

    def _differs(self) -> bool:
        """Whether what is added is the difference from an entry of the same key: ``value - shared[key]``."""
        node = self._resolved(self.averaging.added)
        key = self.averaging.key
        return (
            bool(key)
            and isinstance(node, cst.BinaryOperation)
            and isinstance(node.operator, cst.Subtract)
            and isinstance(node.right, cst.Subscript)
            and self.index.code(node.right).endswith(f"[{key}]")
        )

    def _library(self) -> Library:
        """NumPy where the entry is turned into an array on the way; else torch."""
        for part in walk(self.averaging.added):
            if isinstance(part, cst.Attribute) and part.attr.value == "numpy":
                return Library.NUMPY
        return Library.TORCH

    def _alpha(self) -> tuple[Number, ...] | None:
        node = self.averaging.node
        if self.averaging.how not in ("add_", "mul_") or not isinstance(node, cst.Call):
            return None
        _, keywords, _ = arguments_of(node)
        return self._numbers(keywords["alpha"]) if "alpha" in keywords else None

    # --- what is added -------------------------------------------------------------------------------------------

    def _terms(self) -> list[tuple[Factor | None, Cast | None]]:
        """What becomes of the entry before it is added: one factor at most, and a conversion before it."""
        node: cst.CSTNode = self._resolved(self.averaging.added)
        factors: list[tuple[Factor | None, Cast | None]] = [(None, None)]
        found = self._factor(node)
        if found is not None:
            inner, factors_found = found
            cast = self._cast(inner)
            factors = [(factor, cast) for factor in factors_found]
        else:
            factors = [(None, self._cast(node))]
        return factors

    def _factor(self, node: cst.CSTNode) -> tuple[cst.CSTNode, list[Factor]] | None:
        """A product or quotient: the part that holds the entry, and what it is multiplied with or divided by."""
        if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, (cst.Multiply, cst.Divide)):
            operation = Operation.TIMES if isinstance(node.operator, cst.Multiply) else Operation.OVER
            if self._holds(node.left):
                return node.left, [Factor(operation, number) for number in self._numbers(node.right)]
            if self._holds(node.right) and operation is Operation.TIMES:
                return node.right, [Factor(operation, number) for number in self._numbers(node.left)]
        if isinstance(node, cst.Call):
            name = (dotted_name(node.func) or "").rpartition(".")[2]
            if name in ("mul", "multiply", "div", "divide", "true_divide") and node.args:
                operation = Operation.TIMES if name.startswith("mul") else Operation.OVER
                positional, _, _ = arguments_of(node)
                if isinstance(node.func, cst.Attribute) and self._holds(node.func.value) and positional:
                    return node.func.value, [Factor(operation, number) for number in self._numbers(positional[0])]
                if len(positional) == 2 and self._holds(positional[0]):
                    return positional[0], [Factor(operation, number) for number in self._numbers(positional[1])]
        return None

    def _cast(self, node: cst.CSTNode) -> Cast | None:
        """The conversion that an entry goes through: ``w[k].float()``, ``w[k].to(torch.float32)``."""
        while isinstance(node, (cst.Call, cst.Attribute)):
            func = node.func if isinstance(node, cst.Call) else node
            if not isinstance(func, cst.Attribute) or not self._holds(func.value):
                return None
            cast = _casting(node, func) if isinstance(node, cst.Call) else None
            if cast is not None:
                return cast
            node = func.value
        return None

    def _holds(self, node: cst.CSTNode) -> bool:
        """Whether the party's entry is in an expression."""
        entry = self.averaging.entry
        return any(part is entry for part in walk(node)) or any(
            isinstance(part, cst.Name) and isinstance(entry, cst.Name) and part.value == entry.value
            for part in walk(node)
        )

    def _resolved(self, node: cst.BaseExpression) -> cst.CSTNode:
        """The expression that holds the entry, where the one that is added is a name bound to it."""
        current: cst.CSTNode = node
        for _ in range(4):
            if self._holds(current) or not isinstance(current, cst.Name):
                return current
            scope = self.index.scope_of(current)
            rows = [row for row in scope.bindings.get(current.value, ()) if row.how == "value" and not row.path]
            if len(rows) != 1 or rows[0].value is None:
                return current
            current = rows[0].value
        return current

    # --- numbers -------------------------------------------------------------------------------------------------

    def _numbers(self, node: cst.CSTNode) -> tuple[Number, ...]:
        return numbers_of(self.index, node)

    # --- accumulators ----------------------------------------------------------------------------------------------

    def _begins(self) -> list[Begin]:
        """What is in the slot before the first party's entry is added."""
        slot = self.averaging.slot
        if slot is None:
            return [Begin.ZERO]
        found: list[Begin] = []
        if isinstance(slot, cst.Name):
            scope = self.index.scope_of(slot)
            for row in scope.bindings.get(slot.value, ()):
                if row.how == "value" and row.value is not None and row.node is not self.averaging.node:
                    found.extend(self._begin(row.value, True))
            return list(dict.fromkeys(found)) or [Begin.COPY, Begin.ZEROS, Begin.FLOAT_ZEROS, Begin.ZERO]
        base = slot.value if isinstance(slot, (cst.Subscript, cst.Attribute)) else slot
        own = self.index.code(slot)
        # ``avg[k] = torch.zeros_like(...)`` before the loop over parties.
        scope = self.index.scope_of(slot)
        place = self.index.order(self.averaging.node)
        for target, value, node in _assigned(self.index, scope.node):
            if node is self.averaging.node or self.index.order(node) > place:
                continue
            if self.index.code(target) == own:
                found.extend(self._begin(value, True))
        if found:
            return list(dict.fromkeys(found))
        if isinstance(base, cst.Name):
            for row in scope.bindings.get(base.value, ()):
                if row.how == "value" and row.value is not None and self.index.order(row.node) < place:
                    found.extend(self._begin(row.value, False))
        return list(dict.fromkeys(found)) or [Begin.COPY, Begin.ZEROS, Begin.FLOAT_ZEROS]

    def _begin(self, node: cst.CSTNode, entry: bool) -> list[Begin]:
        """What a value is as an accumulator: that of one entry, or a dict of them."""
        if isinstance(node, (cst.Integer, cst.Float)):
            return [Begin.ZERO if isinstance(node, cst.Integer) else Begin.FLOAT_ZERO]
        if isinstance(node, cst.Name) and node.value == "None":
            return [Begin.NOTHING]
        if isinstance(node, (cst.Dict, cst.List)):
            return [Begin.NOTHING]
        if isinstance(node, (cst.DictComp, cst.ListComp, cst.GeneratorExp)):
            value = node.value if isinstance(node, cst.DictComp) else node.elt
            return self._begin(value, True)
        if isinstance(node, cst.BinaryOperation):
            # ``w[0][k] * weight`` is a new tensor of the product's dtype.
            if isinstance(node.operator, cst.Divide):
                return [Begin.FLOAT_ZEROS]
            known = [kinds for kinds in (self._numbers(node.left), self._numbers(node.right)) if len(kinds) == 1]
            if (Number.INT,) in known:
                return [Begin.CLONE]
            return [Begin.FLOAT_ZEROS] if (Number.FLOAT,) in known else [Begin.CLONE, Begin.FLOAT_ZEROS]
        if isinstance(node, cst.Call):
            name = dotted_name(node.func) or ""
            leaf = name.rpartition(".")[2]
            if leaf in ("zeros_like", "zeros", "full_like", "full"):
                return [self._zeros(node, leaf)]
            if leaf in ("float", "double") and isinstance(node.func, cst.Attribute):
                return [Begin.FLOAT_ZEROS]
            if leaf in ("deepcopy", "copy", "clone"):
                return [Begin.CLONE if entry else Begin.COPY]
            if leaf in ("OrderedDict", "dict", "defaultdict"):
                positional, _, _ = arguments_of(node)
                if positional and leaf != "defaultdict":
                    return self._begin(positional[0], entry)
                return [Begin.NOTHING]
            if leaf in ("state_dict",):
                return [Begin.FIRST]
            if isinstance(node.func, cst.Attribute) and leaf in _KEEP:
                return self._begin(node.func.value, entry)
            return [Begin.COPY, Begin.ZEROS, Begin.FLOAT_ZEROS]
        if isinstance(node, cst.Subscript):
            return [Begin.FIRST]
        return [Begin.COPY, Begin.ZEROS, Begin.FLOAT_ZEROS]

    def _zeros(self, node: cst.Call, leaf: str) -> Begin:
        named = _dtype_argument(node)
        if _DTYPES.get(named) in (Cast.FLOAT, Cast.DOUBLE):
            return Begin.FLOAT_ZEROS
        if named:
            return Begin.ZEROS
        if leaf.endswith("_like"):
            argument = node.args[0].value if node.args else None
            if isinstance(argument, cst.Call) and (dotted_name(argument.func) or "").endswith((".float", ".double")):
                return Begin.FLOAT_ZEROS
            return Begin.ZEROS
        return Begin.FLOAT_ZEROS

    # --- what becomes of the sum -------------------------------------------------------------------------------------

    def _scales(self, reduced: cst.CSTNode | None) -> list[Factor | None]:
        """What the sum is divided by or multiplied with, and whether in place."""
        if reduced is not None:
            current: cst.CSTNode = reduced
            for above in self.index.above(reduced):
                if isinstance(above, cst.BinaryOperation) and above.left is current:
                    operation = {cst.Divide: Operation.OVER, cst.Multiply: Operation.TIMES}.get(type(above.operator))
                    if operation is not None:
                        return [Factor(operation, number) for number in self._numbers(above.right)]
                if not isinstance(above, (cst.Call, cst.Attribute, cst.Arg)):
                    break
                current = above
            return [None]
        slot = self.averaging.slot
        assert slot is not None
        own = self.index.code(slot)
        scope = self.index.scope_of(slot)
        place = self.index.order(self.averaging.node)
        found: list[Factor | None] = []
        for node in walk(scope.node):
            if (self.index.place(node) or 0) <= place:
                continue
            factors = list(self._scaling(node, own))
            found.extend(factors)
            if factors and self._picks(node):
                found.append(None)
        return list(dict.fromkeys(found)) or [None]

    def _picks(self, node: cst.CSTNode) -> bool:
        """Whether it depends on the entry if a sum is scaled somewhere: ``if "num_batches_tracked" in key: continue``
        leaves the counter as it is."""
        known = {id(test) for test, _ in self.averaging.tests}
        return any(
            id(test) not in known and concerns(test, self.averaging.key)
            for test, _ in conditions(self.index, node, None)
        )

    def _scaling(self, node: cst.CSTNode, own: str) -> Iterator[Factor]:
        """``x /= n``, ``x.div_(n)``, ``x = x / n``, ``x = torch.div(x, n)``."""
        if isinstance(node, cst.AugAssign) and self.index.code(node.target) == own:
            operation = {cst.DivideAssign: Operation.OVER, cst.MultiplyAssign: Operation.TIMES}.get(type(node.operator))
            if operation is not None:
                yield from (Factor(operation, number, True) for number in self._numbers(node.value))
        elif isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
            name = node.func.attr.value
            if name in ("div_", "mul_") and node.args and self.index.code(node.func.value) == own:
                operation = Operation.OVER if name == "div_" else Operation.TIMES
                yield from (Factor(operation, number, True) for number in self._numbers(node.args[0].value))
        elif isinstance(node, cst.Assign):
            value: cst.CSTNode = node.value
            if isinstance(value, cst.BinaryOperation) and self.index.code(value.left) == own:
                operation = {cst.Divide: Operation.OVER, cst.Multiply: Operation.TIMES}.get(type(value.operator))
                if operation is not None:
                    yield from (Factor(operation, number) for number in self._numbers(value.right))
            elif isinstance(value, cst.Call):
                name = (dotted_name(value.func) or "").rpartition(".")[2]
                positional, _, _ = arguments_of(value)
                known = name in ("div", "true_divide", "mul") and len(positional) == 2
                if known and self.index.code(positional[0]) == own:
                    operation = Operation.TIMES if name == "mul" else Operation.OVER
                    yield from (Factor(operation, number) for number in self._numbers(positional[1]))

    def _casts_of_stack(self) -> Sequence[Cast | None]:
        """The conversions that a stack goes through before it is reduced, ``torch.stack(entries).float().mean(0)``, in
        each way that they may be meant."""
        current = self.averaging.node
        for above in self.index.above(self.averaging.node):
            if isinstance(above, cst.Call):
                cast = _converted_by(above) or _casting(above, current)
                if cast is not None:
                    return (cast,)
                if leaf_name(above.func) in _REDUCES:
                    return (None,)
            elif isinstance(above, cst.Assign):
                # Bound to a name first: some may convert what it stands for, where it is reduced.
                text = self.index.code(self.index.scope_of(above).node)
                names = [dotted_name(row.target) for row in above.targets]
                cast_later = any(name and re.search(rf"\b{re.escape(name)}\b{_CONVERTS}", text) for name in names)
                return (None, Cast.FLOAT) if cast_later else (None,)
            elif not isinstance(above, (cst.Attribute, cst.Arg)):
                break
            current = above
        return (None,)

    def _reductors(self) -> Sequence[Reductor]:
        """What reduces a stack: the call around it, or NumPy's own name."""
        node = self.averaging.node
        assert isinstance(node, cst.Call)
        name = (dotted_name(node.func) or "").rpartition(".")[2]
        if name in ("average", "mean", "median"):
            return ({"average": Reductor.AVERAGE, "mean": Reductor.MEAN, "median": Reductor.MEDIAN}[name],)
        around = itertools.islice(self.index.above(node), 6)
        for above in around:
            if isinstance(above, cst.Attribute):
                word = above.attr.value
            elif isinstance(above, cst.Call):
                word = (dotted_name(above.func) or "").rpartition(".")[2]
            else:
                continue
            found = _REDUCTORS.get(word)
            if found is not None:
                return (found,)
        # Bound to a name first: what reduces it stands elsewhere.
        text = self.index.code(self.index.scope_of(node).node)
        found_in = dict.fromkeys(found for word, found in _REDUCTORS.items() if f".{word}(" in text)
        return tuple(found_in) or (Reductor.MEAN, Reductor.SUM)


def _casting(call: cst.Call, current: cst.CSTNode) -> Cast | None:
    """The conversion that a method makes of what stands before it: ``stack.float()``, ``stack.to(torch.float32)``."""
    if current is not call.func or not isinstance(call.func, cst.Attribute):
        return None
    name = call.func.attr.value
    if name in _CASTS:
        return _CASTS[name]
    return _DTYPES.get(_dtype_argument(call)) if name in ("to", "type", "astype") else None


def _converted_by(call: cst.Call) -> Cast | None:
    """The conversion that a reduction makes of what it is given: ``stack.mean(0, dtype=torch.float)``."""
    if leaf_name(call.func) not in _REDUCES or "dtype" not in arguments_of(call)[1]:
        return None
    return _DTYPES.get(_dtype_argument(call), Cast.FLOAT)


def _raises_again(handler: cst.ExceptHandler) -> bool:
    return any(isinstance(part, cst.Raise) for part in walk(handler.body))


def _dtype_argument(node: cst.Call) -> str:
    """The dtype that a call names: ``dtype=torch.float32``, ``.to(torch.float)``, ``.type("torch.LongTensor")``; "" if
    none."""
    for arg in node.args:
        name = dotted_name(arg.value) or (arg.value.raw_value if isinstance(arg.value, cst.SimpleString) else "")
        leaf = name.rpartition(".")[2]
        if (arg.keyword is not None and arg.keyword.value == "dtype") or (leaf != name and leaf in _DTYPES):
            return leaf
    return ""


def _assigned(
    index: FileIndex, scope: cst.CSTNode
) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression, cst.CSTNode]]:
    for node in walk(scope):
        if isinstance(node, cst.Assign):
            for target in node.targets:
                yield target.target, node.value, node
