"""The forms that are met in the wild, by name, and what each does to a model with BatchNorm."""

from __future__ import annotations

import pytest

from bn_audit.exchange.fedbn import expectation
from bn_audit.exchange.handwritten import plan
from bn_audit.exchange.plan import Fate, compare
from bn_audit.handwritten import (
    Add,
    Begin,
    Cast,
    Factor,
    Flattened,
    HandWritten,
    Library,
    Load,
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
from tests.exchange.build import batchnorm, buffer, gap, layer, parameter, profile

_NET = profile(layer("conv", (3, 1, 3, 3), (3,)), batchnorm("bn", 3), layer("fc", (2, 3), (2,)))
_COUNTER = "bn.num_batches_tracked"
_BY_N = Factor(Operation.OVER, Number.INT)
_SHARE = Factor(Operation.TIMES, Number.FLOAT)
_FLOAT_INTO_LONG = ("RuntimeError", "result type Float can't be cast to the desired output type Long")
_NO_MEAN = (
    "RuntimeError",
    "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. Got: Long",
)
_NO_ALPHA = ("RuntimeError", "For integral input tensors, argument alpha must not be a floating point number.")
_NO_LERP = ("NotImplementedError", "\"lerp_kernel_scalar\" not implemented for 'Long'")
_NO_ARRAY = ("TypeError", "expected np.ndarray (got numpy.float64)")

_STOP = {
    "+= v*w": (HandWritten(Loop(first=_SHARE, term=_SHARE, order=Order.KEYS)), None),
    "*= w, += v*w": (HandWritten(Loop(first=Factor(Operation.TIMES, in_place=True), term=_SHARE)), _FLOAT_INTO_LONG),
    "deep copy, += v*w": (HandWritten(Loop(term=_SHARE)), _FLOAT_INTO_LONG),
    "+= v, /= n": (HandWritten(Loop(scale=Factor(Operation.OVER, Number.INT, True))), _FLOAT_INTO_LONG),
    "add_(v*w)": (HandWritten(Loop(Begin.CLONE, term=_SHARE)), _FLOAT_INTO_LONG),
    "add_(v, alpha=w)": (HandWritten(Loop(Begin.ZEROS, term=_SHARE, add=Add.ALPHA_IN_PLACE)), _NO_ALPHA),
    "zeros_like, += v*w": (HandWritten(Loop(Begin.ZEROS, term=_SHARE)), _FLOAT_INTO_LONG),
    "zeros_like, += v, mul_(1/n)": (
        HandWritten(Loop(Begin.ZEROS, scale=Factor(Operation.TIMES, in_place=True))),
        _FLOAT_INTO_LONG,
    ),
    "stack.mean": (HandWritten(Reduction()), _NO_MEAN),
    "stack.nanmean": (
        HandWritten(Reduction(Reductor.NAN_MEAN)),
        ("RuntimeError", "nanmean(): expected input to have floating point or complex dtype but got Long"),
    ),
    "quantile of a stack": (
        HandWritten(Reduction(Reductor.QUANTILE)),
        ("RuntimeError", "quantile() input tensor must be either float or double dtype"),
    ),
    "torch.lerp": (HandWritten(Loop(term=_SHARE, add=Add.LERP)), _NO_LERP),
    "lerp_": (HandWritten(Loop(Begin.CLONE, term=_SHARE, add=Add.LERP_IN_PLACE)), _NO_LERP),
    "lerp_ of floats into integers": (
        HandWritten(Loop(Begin.CLONE, term=_SHARE, cast=Cast.FLOAT, add=Add.LERP_IN_PLACE)),
        ("RuntimeError", "expected dtype long int for `end` but got dtype float"),
    ),
    "mul_(c).add_(v, alpha=w)": (
        HandWritten(Loop(term=_SHARE, fade=Factor(Operation.TIMES, in_place=True), add=Add.ALPHA_IN_PLACE)),
        _FLOAT_INTO_LONG,
    ),
    "np.average, from_numpy": (
        HandWritten(Reduction(Reductor.AVERAGE, _SHARE), library=Library.NUMPY, rebuild=Rebuild.FROM_NUMPY),
        _NO_ARRAY,
    ),
    "np.mean, torch.Tensor": (
        HandWritten(Reduction(), library=Library.NUMPY, rebuild=Rebuild.TENSOR_CLASS),
        ("TypeError", "new(): data must be a sequence (got numpy.float64)"),
    ),
    "np.zeros_like, += v*w": (
        HandWritten(Loop(Begin.ZEROS, term=_SHARE), library=Library.NUMPY, rebuild=Rebuild.TENSOR),
        (
            "UFuncTypeError",
            "Cannot cast ufunc 'add' output from dtype('float64') to dtype('int64') with casting rule 'same_kind'",
        ),
    ),
}
_RUN = {
    "+= v, torch.div": HandWritten(Loop(scale=_BY_N)),
    "first's own, += v, torch.div": HandWritten(Loop(Begin.FIRST, scale=_BY_N)),
    "g = p*f, then g + p*f": HandWritten(Loop(Begin.NOTHING, term=_SHARE, add=Add.NEW)),
    "sum / n": HandWritten(Loop(Begin.ZERO, add=Add.NEW, scale=_BY_N)),
    "zeros as float32, += v*w": HandWritten(Loop(Begin.FLOAT_ZEROS, term=_SHARE)),
    "lerp_ of floats": HandWritten(Loop(Begin.FLOAT_ZEROS, term=_SHARE, cast=Cast.FLOAT, add=Add.LERP_IN_PLACE)),
    "stack of float, nanmean": HandWritten(Reduction(Reductor.NAN_MEAN, cast=Cast.FLOAT)),
    "stack of float, mean": HandWritten(Reduction(cast=Cast.FLOAT)),
    "stack of float, mean, type_as": HandWritten(Reduction(cast=Cast.FLOAT), result=Cast.OWN),
    "(v*w).type_as": HandWritten(Loop(Begin.ZEROS, term=_SHARE, recast=Cast.OWN)),
    "integers in a branch": HandWritten(
        Reduction(), integers=Loop(Begin.CLONE, scale=Factor(Operation.FLOOR, Number.INT))
    ),
    "np.mean, torch.tensor": HandWritten(Reduction(), library=Library.NUMPY, rebuild=Rebuild.TENSOR),
    "flattened": HandWritten(Flattened(Loop(scale=_BY_N))),
}


@pytest.mark.parametrize("name", [name for name, (_, error) in _STOP.items() if error is not None])
def test_it_stops_at_the_counter(name: str) -> None:
    form, error = _STOP[name]
    made = plan(_NET, form)
    assert made.error is not None
    assert error is not None
    assert (made.error.type, made.error.text, made.error.key, made.error.round) == (*error, _COUNTER, 1)
    assert made.error.text_certain
    assert made.entry(_COUNTER).fate is Fate.FAILS  # type: ignore[union-attr]


@pytest.mark.parametrize("name", _RUN)
def test_it_shares_batchnorm_and_says_nothing(name: str) -> None:
    made = plan(_NET, _RUN[name])
    assert made.stops is False
    assert {entry.fate for entry in made.entries} == {Fate.AVERAGED}
    comparison = compare(expectation(_NET), made)
    assert [one.key for one in comparison.by_fate(Fate.AVERAGED)] == [e.key for e in _NET.entries if e.module == "bn"]
    assert any("loses its fraction" in note for note in made.notes)


def test_parameters_alone_leave_the_statistics_where_they_are() -> None:
    made = plan(_NET, HandWritten(Loop(term=_SHARE), covers=Covers(parameters=True), rest=Rest.OWN))
    assert made.stops is False
    fates = {entry.key: entry.fate for entry in made.entries}
    assert fates["bn.weight"] is fates["bn.bias"] is Fate.AVERAGED
    assert fates["bn.running_mean"] is fates["bn.running_var"] is fates[_COUNTER] is Fate.LOCAL


def test_a_filter_on_the_server_alone_hands_out_the_first_partys_batchnorm() -> None:
    kept = frozenset(entry.key for entry in _NET.entries if entry.module == "bn")
    made = plan(_NET, HandWritten(Loop(scale=_BY_N), covers=Covers(without=kept)))
    assert {made.entry(key).fate for key in kept} == {Fate.STALE}  # type: ignore[union-attr]
    assert any("the first party's" in note for note in made.notes)
    # The same with a party that takes over what is not BatchNorm's: FedBN as its authors write it.
    right = HandWritten(Loop(scale=_BY_N), covers=Covers(without=kept), load=Load(How.COPY, Covers(without=kept)))
    assert compare(expectation(_NET), plan(_NET, right)).equal is True


def test_what_is_left_out_of_the_dict_is_missed_unless_the_load_is_lenient() -> None:
    kept = frozenset(entry.key for entry in _NET.entries if entry.module == "bn")
    form = HandWritten(Loop(Begin.NOTHING, term=_SHARE), covers=Covers(without=kept))
    made = plan(_NET, form)
    assert made.error is not None
    assert made.error.text == (
        'Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: "bn.weight", "bn.bias", '
        '"bn.running_mean", "bn.running_var". '
    )
    lenient = HandWritten(Loop(Begin.NOTHING, term=_SHARE), covers=Covers(without=kept), load=Load(How.LENIENT))
    assert compare(expectation(_NET), plan(_NET, lenient)).equal is True


def test_values_zipped_with_the_keys_of_another_selection() -> None:
    form = HandWritten(
        Loop(Begin.NOTHING, term=_SHARE), covers=Covers(parameters=True), load=Load(How.LENIENT, names=Covers())
    )
    model = profile(layer("a", (3, 3), (3,)), batchnorm("bn", 3), layer("b", (3,), (3,)))
    made = plan(model, form)
    assert made.stops is False
    met = {entry.key: (entry.fate, entry.source_key) for entry in made.entries}
    assert met["a.weight"] == met["bn.bias"] == (Fate.AVERAGED, None)
    assert met["bn.running_mean"] == (Fate.MISPLACED, "b.weight")
    assert met["b.weight"] == (Fate.STALE, None)


def test_unknown_entries_say_what_is_certain() -> None:
    part = profile(layer("stem", (3, 1, 3, 3), (3,)), gap("body"), batchnorm("bn", 3))
    stops = plan(part, HandWritten(Loop(term=_SHARE)))
    assert stops.stops is True
    assert stops.error is not None
    assert not stops.error.text_certain
    shares = plan(part, HandWritten(Loop(scale=_BY_N)))
    assert shares.stops is None
    assert shares.entry("bn.weight").fate is Fate.AVERAGED  # type: ignore[union-attr]


def test_a_dtype_that_is_not_known_may_stop_the_round() -> None:
    model = profile(parameter("w", (3,)), buffer("table", (3,), None))
    made = plan(model, HandWritten(Loop(term=_SHARE)))
    assert made.stops is None
    assert made.entry("table").fate is Fate.AVERAGED  # type: ignore[union-attr]
    assert plan(model, HandWritten(Loop(term=_SHARE, begin=Begin.NOTHING))).stops is False


def test_arithmetic_that_is_not_known_leaves_the_round_open() -> None:
    model = profile(parameter("w", (3,)), buffer("scale", (3,), "float8_e4m3fn"))
    assert plan(model, HandWritten(Reduction())).stops is None
