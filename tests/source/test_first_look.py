"""Which files are worth a look: the quick search says what plain expressions say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.source.first_look import may_exchange, may_federate, speaks_of_parties

STATE = (
    rb"load_state_dict\s*\((?!\s*torch\.load\s*\()|copy_\s*\(|\.data\b|set_parameters|ArrayRecord|\bparams\s*="
    rb"|vector_to_parameters"
)
PARTIES = (
    rb"federat|fed_?avg|fed_?prox|fed_?bn|\bclients?\b|client_|_client|w_locals|w_glob|\bparty|\bparties"
    rb"|global_(?:model|weights|params|net|state)|local_(?:models|weights|params|states)\b|num_users|idxs_users"
    rb"|\bflwr\b|nvflare"
)
PERHAPS = (
    rb"aggregat|participant|\bservers?\b|\baverag(?!e_?pool)\w*\(|\bavg(?!_?pool)\w*\(|weighted"
    rb"|\b(?:models|nets|states|state_dicts|workers|users)\[|\bin (?:models|nets|states|state_dicts|workers|users)\b"
)
PARTS = [
    *("load_state_dict(", "load_state_dict(torch.load(", "copy_ (", ".data", ".data_", "params =", "_params=", "x"),
    *("set_parameters", "FedAvg", "fed_bn", "client", "clients", "Client_", "my_client", "party", "aparty", "local_"),
    *("models", "local_models", "global_net", "num_users", "flwr", "_flwr", "Aggregate", "servers", "observer", "_"),
    *("average(", "my_avg(", "avg_all(", "averages", "weighted", "models[", "in nets", "begin users", " ", "\n", "("),
    *("AvgPool2d(", "average_pool(", "def get_weights(", "def _set_model_params (", "undef set_weights("),
]


def plainly(data: bytes) -> bool:
    """The same, said with one expression each."""
    if re.search(STATE, data) is None:
        return False
    text = data.lower()
    parties, perhaps = set(re.findall(PARTIES, text)), set(re.findall(PERHAPS, text))
    if all(re.search(rb"\bdef\s+_?%s_(?:\w+_)?(weights|params)\s*\(" % how, text) for how in (b"get", b"set")):
        perhaps.add(b"both")
    if len(data) < 12_000:
        return bool(parties or perhaps)
    return len(parties) > 1 or 2 * len(parties) + len(perhaps) > 2


@given(st.lists(st.sampled_from(PARTS), max_size=16).map("".join), st.booleans())
def test_what_may_federate(text: str, long: bool) -> None:
    data = text.encode() + b"\n" * 12_000 * long
    assert may_federate(data) == plainly(data)
    assert speaks_of_parties(data) == (re.search(PARTIES, data.lower()) is not None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"import flwr\nclass A(flwr.client.NumPyClient): ...", True),
        (b"from openfl.federated import TaskRunner", True),
        (b"import my_flwr\nclass A(NumPyClient): ...", False),
        (b"import flwr", False),
    ],
)
def test_what_may_exchange(text: bytes, expected: bool) -> None:
    assert may_exchange(text) is expected


REDUCED = b"for param in model.parameters():\n    dist.all_reduce(param.data)\n"
JOINED = (
    b"vector = torch.cat([p.view(-1) for p in model.parameters()])\nvector_to_parameters(vector, model.parameters())\n"
)
LONG = b"\n" * 12_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (REDUCED, True),  # whose they are, its callers may say
        (LONG + REDUCED, False),
        (LONG + REDUCED + b"clients", True),
        (b"for param in model.parameters(): ...\n" + b"x = 1\n" * 100 + b"dist.all_reduce(loss)", False),
        (JOINED, True),
        (
            JOINED.replace(b"vector = ", b"flat = ").replace(b"vector_to_parameters(vector", b"load(x).data, (flat"),
            False,
        ),
        (LONG + b"weighted, aggregated" + JOINED, True),
        # A model whose parts are flattened and joined, and whose parameters are gone through elsewhere.
        (LONG + b"weighted, aggregated" + JOINED.replace(b"model.p", LONG + b"p") + b"x.named_parameters()", False),
        (b"for name, data in net.state_dict().items():\n    data.add_(update[name])  # of all clients", True),
        (b"x.add_(y)  # of all clients", False),
    ],
)
def test_sums_over_processes_vectors_and_what_is_added(text: bytes, expected: bool) -> None:
    assert may_federate(text) is expected
