"""What holds for a round of FedBN whatever the parties' states and weights: hypothesis looks for where it does not."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from bn_audit.federated import FedBNAggregator, load_shared, local_keys  # noqa: E402
from tests.federated.test_aggregator import Net  # noqa: E402
from tests.federated.test_means import same_bits  # noqa: E402

LOCAL = local_keys(Net())
FINITE = st.floats(-10, 10, width=32)
NUMBERS = st.one_of(FINITE, st.sampled_from([0.0, -0.0, 1e-40, float("nan"), float("inf"), -float("inf")]))
WEIGHTS = st.one_of(st.integers(1, 10**6), st.floats(1e-3, 1e3))


@st.composite
def rounds(draw: st.DrawFn, *, finite: bool = False) -> tuple[list[Any], list[float], bool]:
    """The parties' models before a round, each with values of its own; their weights; whether the mean is exact.

    BatchNorm may hold anything, NaN and infinities among it: nothing may depend on it.
    """
    count = draw(st.integers(1, 4))
    dtype = draw(st.sampled_from([torch.float32, torch.float16, torch.float64]))
    anything = torch.tensor(draw(st.lists(NUMBERS, min_size=1, max_size=8)))
    numbers = torch.tensor(draw(st.lists(FINITE, min_size=1, max_size=8))) if finite else anything
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    models = []
    for _ in range(count):
        model = Net()
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if key.endswith("num_batches_tracked"):
                    value.random_(1000, generator=generator)
                elif value.is_floating_point() and key != "mask":
                    pool = anything if key in LOCAL else numbers
                    value.copy_(pool[torch.randint(len(pool), value.shape, generator=generator)])
        models.append(model.to(dtype))
    weights = draw(st.lists(WEIGHTS, min_size=count, max_size=count))
    return models, [float(weight) for weight in weights], draw(st.booleans())


def copied(model: Any) -> dict[str, Any]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def aggregated(
    states: list[dict[str, Any]], weights: list[float], exact: bool, *, added: bool = False
) -> dict[str, Any]:
    aggregator = FedBNAggregator(LOCAL, exact=exact)
    if not added:
        return aggregator.aggregate(states, weights)
    for state, weight in zip(states, weights, strict=True):
        aggregator.add(state, weight)
    return aggregator.result()


def all_same_bits(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all(same_bits(left[key].view(-1), right[key].view(-1)) for key in left)


@settings(deadline=None, max_examples=25)
@given(rounds(), st.booleans())
def test_batchnorm_is_not_touched_by_a_bit_and_all_else_is_the_result(
    case: tuple[list[Any], list[float], bool], added: bool
) -> None:
    models, weights, exact = case
    before = [copied(model) for model in models]
    shared = aggregated([model.state_dict() for model in models], weights, exact, added=added)
    assert shared.keys() == before[0].keys() - LOCAL
    for model, old in zip(models, before, strict=True):
        assert all_same_bits(copied(model), old)  # an aggregator reads
        load_shared(model, shared)
        after = copied(model)
        assert all_same_bits({key: after[key] for key in LOCAL}, {key: old[key] for key in LOCAL})
        assert all_same_bits({key: after[key] for key in shared}, shared)


@settings(deadline=None, max_examples=20)
@given(rounds(), st.permutations(range(4)), st.integers(-30, 30))
def test_neither_order_nor_scale_of_the_weights_matters_to_the_exact_mean(
    case: tuple[list[Any], list[float], bool], permutation: list[int], scale: int
) -> None:
    models, weights, _ = case
    states = [model.state_dict() for model in models]
    order = [i for i in permutation if i < len(models)]
    expected = aggregated(states, weights, True)
    scaled = [weights[i] * 2.0**scale for i in order]
    for added in (False, True):
        assert all_same_bits(aggregated([states[i] for i in order], scaled, True, added=added), expected)


@settings(deadline=None, max_examples=20)
@given(rounds(finite=True), st.permutations(range(4)), st.floats(1e-3, 1e3), st.booleans())
def test_order_and_scale_matter_to_the_plain_mean_by_roundings_only(
    case: tuple[list[Any], list[float], bool], permutation: list[int], scale: float, added: bool
) -> None:
    models, weights, _ = case
    states = [model.state_dict() for model in models]
    order = [i for i in permutation if i < len(models)]
    expected = aggregated(states, weights, True)
    result = aggregated([states[i] for i in order], [weights[i] * scale for i in order], False, added=added)
    for key, value in result.items():
        if value.is_floating_point() and key != "mask":
            size = max(state[key].abs().max().item() for state in states)
            wide = torch.finfo(torch.float32 if value.dtype == torch.float16 else value.dtype).eps / 2 * size
            # The exact mean is rounded once as well, and a half beyond that where the two fall on different sides.
            last = 2 * torch.finfo(value.dtype).eps * max(size, 1e-4)
            assert (value.double() - expected[key].double()).abs().max() <= (len(states) + 3) * wide + last


@settings(deadline=None, max_examples=20)
@given(rounds(finite=True), st.integers(1, 5), st.booleans())
def test_equal_states_stay_what_they_are(case: tuple[list[Any], list[float], bool], count: int, added: bool) -> None:
    models, weights, exact = case
    state = models[0].state_dict()
    result = aggregated([state] * count, (weights * 5)[:count], exact, added=added)
    shared = {key: value for key, value in state.items() if key not in LOCAL}
    if added and not exact:
        assert all(torch.equal(result[key], value) for key, value in shared.items())  # a zero may lose its sign
    else:
        assert all_same_bits(result, shared)
