"""What a plan made from half a profile may say: everything it states holds for every model the profile may be of."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, event, given, settings

from bn_audit.exchange.fedbn import expectation
from bn_audit.exchange.plan import Fate, Plan, compare
from bn_audit.exchange.secretflow import SecretFlowSettings, plan
from bn_audit.profile import Gap, NormLayer, Profile, Shape, StateEntry
from tests.exchange.build import batchnorm, buffer, gap, layer, parameter, profile

_TORCH_STRATEGIES = (
    "fed_avg_w",
    "fed_avg_g",
    "fed_avg_u",
    "fed_prox",
    "fed_stc",
    "fed_scr",
    "scaffold",
    "moon",
    "fed_gen",
)
_TENSORFLOW_STRATEGIES = ("fed_avg_w", "fed_avg_g", "fed_avg_u", "fed_prox", "fed_stc", "fed_scr")
_AGGREGATORS = ("plain", "secure", "spu", "sparse", "fedgen", "server_agg_method", "none", "other")
_VERSIONS = (None, "1.4.0", "1.6.1b0", "1.13.0b0", "sfl", "1.14.0b0", "2.0")

_shapes = st.sampled_from([(), (1,), (3,), (3,), (4,), (3, 3), (2, 3), (0, 3)])
_dtypes = st.sampled_from(["float32"] * 12 + ["float64", "float16", "bfloat16", "int64", "int32", "bool", "complex64"])


@st.composite
def complete_profiles(draw: st.DrawFn) -> Profile:
    """A complete profile: layers, norm layers of every kind at any depth, odd entries, shared tensors."""
    entries: list[StateEntry] = []
    norms: list[NormLayer] = []
    for number in range(draw(st.integers(1, 6))):
        depth = draw(st.sampled_from(["", "", "block."]))
        path = f"{depth}m{number}"
        if draw(st.booleans()):
            tracked, affine = draw(st.booleans()), draw(st.booleans())
            batchnorm_ = draw(st.booleans()) or not tracked
            norms.append(NormLayer(path, "Norm", batchnorm=batchnorm_, tracked=tracked, affine=affine))
            names = ("weight", "bias") if affine else ()
            entries += [parameter(f"{path}.{name}", (3,)) for name in names]
            if tracked:
                entries += [buffer(f"{path}.{name}", (3,)) for name in ("running_mean", "running_var")]
                value = draw(st.sampled_from([None, 0, 0, 0, 1, 3, 5, -1]))
                entries.append(buffer(f"{path}.num_batches_tracked", (), "int64", value))
            continue
        for name in draw(st.sampled_from([("weight",), ("weight", "bias"), ("weight", "extra")])):
            shape, dtype = draw(_shapes), draw(_dtypes)
            kind = "parameter" if dtype.startswith(("float", "bfloat", "complex")) and draw(st.booleans()) else "buffer"
            value = draw(st.sampled_from([0, 1, 3, -2])) if shape == () and dtype.startswith("int") else None
            entry = StateEntry(f"{path}.{name}", shape, dtype, "buffer", path, value)
            entries.append(replace(entry, kind="parameter") if kind == "parameter" else entry)
    if draw(st.booleans()):
        root = parameter("gain", (3,)) if draw(st.booleans()) else buffer("mean", (3,))
        entries.insert(0, root)
    share = draw(st.booleans())
    if entries and share:
        tied = draw(st.sampled_from(entries))
        entries.append(replace(tied, key="tied.weight", module="tied", alias_of=tied.alias_of or tied.key))
    return Profile(
        tuple(entries), tuple(norms), framework=draw(st.sampled_from(["torch", "torch", "keras"])), type="Net"
    )


@st.composite
def abstractions(draw: st.DrawFn, whole: Profile) -> Profile:
    """The same model, known in part: modules dropped into gaps; shapes, dtypes, values, facts about norms blanked."""
    shared = {entry.alias_of for entry in whole.entries} | {entry.key for entry in whole.entries if entry.alias_of}
    modules = list(dict.fromkeys(entry.module for entry in whole.entries if entry.key not in shared))
    dropped = set(draw(st.lists(st.sampled_from(modules), unique=True))) if modules else set()
    dropped = {module for module in dropped if not any(e.module == module and e.key in shared for e in whole.entries)}
    norms = {norm.path for norm in whole.norms}
    entries: list[StateEntry] = []
    gaps: list[Gap] = []
    for entry in whole.entries:
        if entry.module in dropped:
            path = entry.module if entry.module and draw(st.booleans()) else ""
            gaps.append(Gap(len(entries), path, "", may_hold_norm=entry.module in norms or draw(st.booleans())))
        else:
            entries.append(draw(_blanked(entry)))
    if draw(st.integers(0, 3)) == 0:
        gaps.append(Gap(draw(st.integers(0, len(entries))), "", ""))
    kept = tuple(draw(_blanked_norm(norm)) for norm in whole.norms if norm.path not in dropped)
    return replace(whole, entries=tuple(entries), norms=kept, gaps=tuple(sorted(gaps, key=lambda one: one.index)))


@st.composite
def _blanked(draw: st.DrawFn, entry: StateEntry) -> StateEntry:
    shape: Shape | None = entry.shape
    choice = draw(st.integers(0, 9))
    if choice == 0:
        shape = None
    elif choice == 1 and shape:
        # An unknown dimension is taken to be at least 1.
        shape = tuple(None if size and draw(st.booleans()) else size for size in shape)
    value = None if draw(st.integers(0, 4)) == 0 else entry.value
    return replace(entry, shape=shape, dtype=entry.dtype if draw(st.integers(0, 7)) else None, value=value)


@st.composite
def _blanked_norm(draw: st.DrawFn, norm: NormLayer) -> NormLayer:
    known = draw(st.integers(0, 4))
    return replace(
        norm,
        batchnorm=None if known == 0 else norm.batchnorm,
        tracked=None if known == 1 else norm.tracked,
        affine=None if known == 2 else norm.affine,
    )


@st.composite
def any_settings(draw: st.DrawFn, whole: Profile) -> SecretFlowSettings:
    torch_side = whole.framework == "torch"
    return SecretFlowSettings(
        backend="torch" if torch_side else "tensorflow",
        strategy=draw(st.sampled_from(_TORCH_STRATEGIES if torch_side else _TENSORFLOW_STRATEGIES)),
        aggregator=draw(st.sampled_from(_AGGREGATORS)),
        skip_bn=draw(st.sampled_from([False, True, True, None])),
        secretflow_version=draw(st.sampled_from(_VERSIONS)),
        torch_version=draw(st.sampled_from(["2.13.0", "2.7.0", None])),
        numpy_version=draw(st.sampled_from(["2.1", "1.26", None])),
        base_module=draw(st.sampled_from([False, True, None])),
        server=draw(st.booleans()),
    )


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_what_is_certain_of_a_part_holds_for_the_whole(data: st.DataObject) -> None:
    whole = data.draw(complete_profiles())
    part = data.draw(abstractions(whole))
    chosen = data.draw(any_settings(whole))
    _assert_weaker(plan(part, chosen), plan(whole, chosen))
    of_part, of_whole = compare(expectation(part), plan(part, chosen)), compare(expectation(whole), plan(whole, chosen))
    if of_part.equal is not None:
        event(f"equal is known: {of_part.equal}")
        assert of_whole.equal is of_part.equal


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_unknown_settings_say_less(data: st.DataObject) -> None:
    whole = data.draw(complete_profiles())
    known = data.draw(any_settings(whole))
    vague = replace(
        known,
        skip_bn=data.draw(st.sampled_from([known.skip_bn, None])),
        aggregator=data.draw(st.sampled_from([known.aggregator, None])),
        torch_version=data.draw(st.sampled_from([known.torch_version, None])),
        numpy_version=data.draw(st.sampled_from([known.numpy_version, None])),
        base_module=data.draw(st.sampled_from([known.base_module, None])),
    )
    _assert_weaker(plan(whole, vague), plan(whole, known))


def _assert_weaker(vague: Plan, exact: Plan) -> None:
    """Everything the first plan states, the second states too."""
    if vague.stops is not None:
        assert exact.stops is vague.stops
    if vague.error is not None and vague.error.text_certain:
        event("the text is certain")
        assert exact.error == vague.error
    if vague.drifts is not None and not exact.stops:
        assert exact.drifts is vague.drifts
    if exact.stops:
        return
    for entry in vague.entries:
        actual = exact.entry(entry.key)
        assert actual is not None
        assert actual.possible <= entry.possible, entry.key
        if entry.source_key is not None and actual.possible == {Fate.MISPLACED}:
            assert actual.source_key == entry.source_key


def _settings(
    aggregator: str = "plain", skip_bn: bool | None = True, strategy: str = "fed_avg_w"
) -> SecretFlowSettings:
    return SecretFlowSettings("torch", strategy, aggregator, skip_bn, torch_version="2.13", base_module=False)


@pytest.mark.parametrize("skip_bn", [False, True])
def test_a_nested_norm_beside_a_gap_stops_secure_aggregation(skip_bn: bool) -> None:
    part = profile(layer("stem", (3, 1, 3, 3), (3,)), batchnorm("body.bn", 3), gap("head"))
    made = plan(part, _settings("secure", skip_bn))
    assert made.stops is True
    assert made.error is not None
    assert made.error.text == "Data should have same dtypes but got int64 float32."
    assert not made.error.text_certain, "what lies in the gap may have no NumPy dtype at all"
    assert compare(expectation(part), made).equal is False


def test_the_text_is_certain_where_all_that_is_sent_is_known() -> None:
    part = profile(layer("stem", (3, None, 3, 3), (3,)), batchnorm("body.bn", None))
    error = plan(part, _settings("secure", False)).error
    assert error is not None
    assert error.text_certain


def test_layers_behind_a_norm_go_stale_whatever_their_size() -> None:
    part = profile(gap("stem", may_hold_norm=False), batchnorm("bn", None, None), layer("fc", (10, None), (10,)))
    made = plan(part, _settings())
    difference = compare(expectation(part), made)
    assert [(one.key, one.fate) for one in difference.differences] == [
        ("fc.weight", Fate.STALE),
        ("fc.bias", Fate.STALE),
    ]


def test_layers_behind_a_norm_are_never_their_own_whatever_follows() -> None:
    part = profile(batchnorm("bn", 3), layer("conv", (3, 3), (3,)), gap("rest"))
    made = compare(expectation(part), plan(part, _settings()))
    assert made.equal is False
    assert [one.key for one in made.differences] == ["conv.weight", "conv.bias"]
    assert made.differences[0].fate is None


def test_a_norm_in_an_unknown_model_is_averaged_without_skip_bn() -> None:
    part = profile(gap(), batchnorm("encoder.bn", None, None), gap())
    for aggregator in ("plain", "secure", "sparse"):
        assert compare(expectation(part), plan(part, _settings(aggregator, False))).equal is False


def test_nothing_is_said_of_an_unknown_model() -> None:
    part = profile(gap())
    for skip_bn in (False, True):
        made = plan(part, _settings(skip_bn=skip_bn))
        assert made.stops is None
        assert compare(expectation(part), made).equal is None


def test_a_gap_that_holds_no_norm_does_not_shift_anything() -> None:
    part = profile(layer("conv", (3, 3), (3,)), gap("head", may_hold_norm=False), batchnorm("bn", 3))
    made = plan(part, _settings())
    assert [entry.fate for entry in made.entries[:2]] == [Fate.AVERAGED, Fate.AVERAGED]
    assert compare(expectation(part), made).equal is None
