"""A form, written out as the Python a person would write, to be run beside its plan."""

from __future__ import annotations

from collections.abc import Iterator

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
    Order,
    Rebuild,
    Reduction,
    Reductor,
    Rest,
)
from bn_audit.loading import Covers, How

__all__ = ["source_of"]

_NUMBERS = {
    Number.INT: "int({0})",
    Number.FLOAT: "float({0})",
    Number.TENSOR: "torch.tensor(float({0}))",
    Number.DOUBLE_TENSOR: "torch.tensor(float({0}), dtype=torch.float64)",
    Number.INT_TENSOR: "torch.tensor(int({0}))",
    Number.NUMPY_FLOAT: "np.float64({0})",
    Number.NUMPY_FLOAT32: "np.float32({0})",
    Number.NUMPY_INT: "np.int64({0})",
}


def source_of(form: HandWritten) -> str:
    """``average(states, weights, n, server)`` gives the average, ``load(model, average)`` takes it over.

    ``states`` are state dicts, ``weights`` numbers, ``n`` what a sum is divided by, ``server`` the server's state dict.
    """
    return "\n".join([*_average(form), "", "", *_load(form), ""])


def _average(form: HandWritten) -> Iterator[str]:
    yield "def average(states, weights, n, server):"
    if form.library is Library.NUMPY:
        which = _covers(form.covers)
        yield f"    states = [{{k: v.cpu().numpy() for k, v in s.items() if {which}}} for s in states]"
        yield f"    server = {{k: v.cpu().numpy() for k, v in server.items() if {which}}}"
    if isinstance(form.arithmetic, Flattened):
        yield from _flattened(form, form.arithmetic)
        return
    keys = f"[k for k in server if {_covers(form.covers)}]"
    yield f"    keys = {keys}"
    yield from _opening(form)
    if isinstance(form.arithmetic, Loop) and form.arithmetic.order is Order.PARTIES:
        loop = form.arithmetic
        if loop.begin not in (Begin.NOTHING,):
            yield "    for k in keys:"
            yield f"        acc[k] = {_accumulator(loop, form)}"
        if loop.first is not None:
            yield "    for k in keys:"
            yield f"        {_applied('acc[k]', loop.first, 'weights[0]')}"
        yield f"    for i, s in enumerate(states{'[1:]' if _first(loop) else ''}, {int(_first(loop))}):"
        yield "        for k in keys:"
        yield from _added(loop, form, " " * 12)
        yield "    for k in keys:"
        if loop.scale is not None:
            yield f"        {_applied('acc[k]', loop.scale, 'n')}"
        yield from _finished(form)
        yield "        pass"
    else:
        yield "    for k in keys:"
        if form.integers is not None:
            yield "        if not (floating(server[k]) or complex_(server[k])):"
            yield from _arithmetic(form, form.integers, " " * 12)
            yield "        else:"
            yield from _arithmetic(form, form.arithmetic, " " * 12)
        else:
            yield from _arithmetic(form, form.arithmetic, " " * 8)
        yield from _finished(form)
    yield "    return acc"


def _opening(form: HandWritten) -> Iterator[str]:
    whole = {
        Rest.ABSENT: "{}",
        Rest.OWN: "{}",
        Rest.FIRST: "dict(copy.deepcopy(states[0]))",
        Rest.SERVER: "dict(copy.deepcopy(server))",
    }[form.left]
    begin = form.arithmetic.begin if isinstance(form.arithmetic, Loop) else None
    copies = any(isinstance(one, Loop) and one.begin is Begin.COPY for one in (form.arithmetic, form.integers))
    if form.left is Rest.FIRST and begin is Begin.FIRST:
        whole = "states[0]"
    yield f"    acc = {whole}"
    if copies and form.left is not Rest.FIRST:
        yield "    begun = copy.deepcopy(states[0])"


def _covers(covers: Covers) -> str:
    parts = []
    if covers.parameters:
        parts.append("k in PARAMETERS")
    if covers.floating:
        parts.append("floating(server[k])")
    if covers.keys is not None:
        parts.append(f"k in {sorted(covers.keys)!r}")
    if covers.without:
        parts.append(f"k not in {sorted(covers.without)!r}")
    return " and ".join(parts) or "True"


def _first(loop: Loop) -> bool:
    return loop.begin in (Begin.FIRST, Begin.COPY, Begin.CLONE)


def _accumulator(loop: Loop, form: HandWritten) -> str:
    numpy = form.library is Library.NUMPY
    match loop.begin:
        case Begin.FIRST:
            return "states[0][k]"
        case Begin.COPY:
            return "acc[k]" if form.left is Rest.FIRST else "begun[k]"
        case Begin.CLONE:
            return "states[0][k].copy()" if numpy else "states[0][k].clone()"
        case Begin.ZEROS:
            return "np.zeros_like(states[0][k])" if numpy else "torch.zeros_like(states[0][k])"
        case Begin.FLOAT_ZEROS:
            return "np.zeros(states[0][k].shape)" if numpy else "torch.zeros(states[0][k].shape)"
        case Begin.ZERO:
            return "0"
        case Begin.FLOAT_ZERO:
            return "0.0"
        case Begin.NOTHING:
            return "None"


def _arithmetic(form: HandWritten, arithmetic: object, indent: str) -> Iterator[str]:
    if isinstance(arithmetic, Loop):
        yield f"{indent}acc[k] = {_accumulator(arithmetic, form)}"
        if arithmetic.first is not None:
            yield f"{indent}{_applied('acc[k]', arithmetic.first, 'weights[0]')}"
        first = _first(arithmetic)
        yield f"{indent}for i, s in enumerate(states{'[1:]' if first else ''}, {int(first)}):"
        yield from _added(arithmetic, form, indent + "    ")
        if arithmetic.scale is not None:
            yield f"{indent}{_applied('acc[k]', arithmetic.scale, 'n')}"
        return
    assert isinstance(arithmetic, Reduction)
    value = _prepared("s[k]", arithmetic, form)
    if arithmetic.term is not None and arithmetic.by is not Reductor.AVERAGE:
        if arithmetic.term.in_place:
            yield f"{indent}for i, s in enumerate(states):"
            yield f"{indent}    {_applied(value, arithmetic.term, 'weights[i]')}"
        else:
            value = _term(value, arithmetic.term)
    values = f"[{value} for i, s in enumerate(states)]"
    numpy = form.library is Library.NUMPY
    weights = "" if arithmetic.term is None else f", weights=[{_number(arithmetic.term, 'w')} for w in weights]"
    result = {
        (Reductor.MEAN, False): f"torch.stack({values}).mean(0)",
        (Reductor.SUM, False): f"torch.stack({values}).sum(0)",
        (Reductor.MEDIAN, False): f"torch.stack({values}).median(0).values",
        (Reductor.NAN_MEAN, False): f"torch.stack({values}).nanmean(0)",
        (Reductor.QUANTILE, False): f"torch.quantile(torch.stack({values}), 0.5, dim=0)",
        (Reductor.MEAN, True): f"np.mean({values}, axis=0)",
        (Reductor.SUM, True): f"np.sum({values}, axis=0)",
        (Reductor.MEDIAN, True): f"np.median({values}, axis=0)",
        (Reductor.AVERAGE, True): f"np.average({values}, axis=0{weights})",
    }[arithmetic.by, numpy]
    yield f"{indent}acc[k] = {result}"
    if arithmetic.scale is not None:
        yield f"{indent}{_applied('acc[k]', arithmetic.scale, 'n')}"


def _added(loop: Loop, form: HandWritten, indent: str) -> Iterator[str]:
    value = _prepared("s[k]", loop, form)
    if loop.fade is not None:
        yield f"{indent}acc[k].mul_({_number(loop.fade, 'weights[i]')})"
    if loop.add in (Add.LERP, Add.LERP_IN_PLACE):
        assert loop.term is not None
        weight = _number(loop.term, "weights[i]")
        new = loop.add is Add.LERP
        yield (
            f"{indent}acc[k] = torch.lerp(acc[k], {value}, {weight})"
            if new
            else (f"{indent}acc[k].lerp_({value}, {weight})")
        )
        return
    if loop.add in (Add.ALPHA, Add.ALPHA_IN_PLACE):
        assert loop.term is not None
        alpha = f"alpha={_number(loop.term, 'weights[i]')}"
        if loop.add is Add.ALPHA:
            yield f"{indent}acc[k] = torch.add(acc[k], {value}, {alpha})"
        else:
            yield f"{indent}acc[k].add_({value}, {alpha})"
        return
    yield f"{indent}term = {value}"
    if loop.term is not None:
        yield f"{indent}{_applied('term', loop.term, 'weights[i]')}"
    if loop.recast is not None:
        yield f"{indent}term = {_cast('term', loop.recast, form)}"
    add = "acc[k] += term" if loop.add is Add.IN_PLACE else "acc[k] = acc[k] + term"
    if loop.begin is Begin.NOTHING:
        yield f"{indent}if i == 0:"
        yield f"{indent}    acc[k] = term"
        yield f"{indent}else:"
        yield f"{indent}    {add}"
    else:
        yield f"{indent}{add}"


def _prepared(value: str, arithmetic: Loop | Reduction, form: HandWritten) -> str:
    def of(one: str) -> str:
        return one if arithmetic.cast is None else _cast(one, arithmetic.cast, form)

    return f"({of(value)} - {of('server[k]')})" if arithmetic.difference else of(value)


def _cast(value: str, cast: Cast, form: HandWritten) -> str:
    if form.library is Library.NUMPY:
        target = {Cast.FLOAT: "np.float32", Cast.DOUBLE: "np.float64", Cast.LONG: "np.int64"}
        return f"{value}.astype({target.get(cast, 'server[k].dtype')})"
    if cast is Cast.OWN:
        return f"{value}.type_as(server[k])"
    return value + {Cast.FLOAT: ".float()", Cast.DOUBLE: ".double()", Cast.LONG: ".long()"}[cast]


def _number(factor: Factor, weight: str) -> str:
    return _NUMBERS[factor.number].format(weight)


def _term(value: str, factor: Factor) -> str:
    return f"{value} {factor.operation.value} {_number(factor, 'weights[i]')}"


def _applied(name: str, factor: Factor, weight: str) -> str:
    number = _number(factor, weight)
    sign = factor.operation.value
    if not factor.in_place:
        return f"{name} = {name} {sign} {number}"
    method = {Operation.TIMES: "mul_", Operation.OVER: "div_"}.get(factor.operation)
    return f"{name} {sign}= {number}" if "." not in name or method is None else f"{name}.{method}({number})"


def _finished(form: HandWritten) -> Iterator[str]:
    if form.result is not None:
        yield f"        acc[k] = {_cast('acc[k]', form.result, form)}"
    if form.onto is Add.IN_PLACE:
        yield "        onto = server[k]"
        yield "        onto += acc[k]"
        yield "        acc[k] = onto"
    elif form.onto is not None:
        yield "        acc[k] = server[k] + acc[k]"
    if form.rebuild is not None:
        call = {
            Rebuild.FROM_NUMPY: "torch.from_numpy",
            Rebuild.TENSOR: "torch.tensor",
            Rebuild.TENSOR_CLASS: "torch.Tensor",
        }[form.rebuild]
        yield f"        acc[k] = {call}(acc[k])"


def _flattened(form: HandWritten, flattened: Flattened) -> Iterator[str]:
    inner = HandWritten(flattened.arithmetic, library=form.library, rest=Rest.ABSENT)
    cat = "np.concatenate" if form.library is Library.NUMPY else "torch.cat"
    yield f"    keys = [k for k in server if {_covers(form.covers)}]"
    yield f"    flat = [{{'v': {cat}([s[k].reshape(-1) for k in keys])}} for s in states]"
    yield f"    base = {{'v': {cat}([server[k].reshape(-1) for k in keys])}}"
    yield "    vector = average_vectors(flat, weights, n, base)['v']"
    yield "    acc, place = {}, 0"
    yield "    for k in keys:"
    yield "        size = np.prod(server[k].shape, dtype=int)"
    yield "        acc[k] = vector[place : place + size].reshape(server[k].shape)"
    yield "        place += size"
    yield from _finished(form)
    yield "    return acc"
    yield ""
    yield ""
    lines = list(_average(inner))
    skipped = 3 if form.library is Library.NUMPY else 1
    yield "def average_vectors(states, weights, n, server):"
    yield from lines[skipped:]


def _load(form: HandWritten) -> Iterator[str]:
    yield "def load(model, average):"
    yield "    own = model.state_dict()"
    yield "    server = own"
    if form.load.names is not None:
        yield f"    values = [average[k] for k in server if {_covers(form.covers)}]"
        yield f"    keys = [k for k in server if {_covers(form.load.names)}]"
        yield "    new = dict(zip(keys, values))"
    else:
        yield f"    new = {{k: v for k, v in average.items() if {_covers(form.load.covers)}}}"
        kept = f"not ({_covers(form.load.covers)})"
        if form.left is Rest.OWN:
            kept = f"({kept}) or k not in average"
        yield f"    new.update({{k: v for k, v in own.items() if {kept}}})"
    match form.load.how:
        case How.STATE_DICT:
            yield "    model.load_state_dict(new)"
        case How.LENIENT:
            yield "    model.load_state_dict(new, strict=False)"
        case How.COPY:
            yield "    for k, tensor in own.items():"
            yield "        if k in new:"
            yield "            tensor.data.copy_(new[k])"
        case How.ASSIGN:
            yield "    for k, tensor in model.state_dict(keep_vars=True).items():"
            yield "        if k in new:"
            yield "            tensor.data = new[k]"
