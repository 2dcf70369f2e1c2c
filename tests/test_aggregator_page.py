"""docs/aggregator.md is run: FedAvg as it stands there, and FedBN in its place."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import bn_audit.federated as federated  # noqa: E402

PAGE = (Path(__file__).parents[1] / "docs" / "aggregator.md").read_text(encoding="utf-8")


def test_the_program_does_what_the_page_says() -> None:
    by_hand, fedbn = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    clients = {name: copy.deepcopy(model) for name in ("alice", "bob")}
    sizes = {"alice": 1, "bob": 3}
    for number, client in enumerate(clients.values()):
        for parameter in client.parameters():
            parameter.data.fill_(number)
        client(torch.randn(8, 3) + number)
    before = {name: copy.deepcopy(client.state_dict()) for name, client in clients.items()}
    names: dict[str, object] = {"model": model, "clients": clients, "sizes": sizes}
    exec(fedbn, names)
    for name, client in clients.items():
        for key, value in client.state_dict().items():
            own = before[name][key]
            assert torch.equal(value, own if key.startswith("1.") else torch.full_like(own, 0.75)), key

    exec(by_hand, names)
    mean = names["average"](list(before.values()), list(sizes.values()))  # type: ignore[operator]
    assert set(mean) == set(before["alice"])
    assert torch.equal(mean["2.weight"], torch.full((2, 3), 0.75))


def test_the_page_lists_what_there_is() -> None:
    missing = [name for name in federated.__all__ if name not in PAGE]
    assert missing == []
