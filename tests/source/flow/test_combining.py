"""Which code combines the entries of several parties, told by its shape; and what only looks like it."""

from __future__ import annotations

import textwrap
from pathlib import Path

import libcst as cst
import pytest

from bn_audit.source.flow.combining.averaging import Averaging
from bn_audit.source.flow.index import FileIndex
from bn_audit.source.flow.marks import Marks
from bn_audit.source.project import Project

COMBINES = {
    "copy of the first, index loop": (
        """
        def average(w):
            avg = copy.deepcopy(w[0])
            for k in avg.keys():
                for i in range(1, len(w)):
                    avg[k] += w[i][k]
                avg[k] = torch.div(avg[k], len(w))
            return avg
        """,
        [("+=", "state", "k", "w[i]")],
    ),
    "parties outside, keys inside": (
        """
        def average(states, shares):
            total = {k: torch.zeros_like(v) for k, v in states[0].items()}
            for state, share in zip(states, shares):
                for k in state:
                    total[k] = total[k] + state[k] * share
            return total
        """,
        [("+", "state", "k", "state")],
    ),
    "items": (
        """
        for client in clients:
            for name, value in client.model.state_dict().items():
                total[name] += value * client.weight
        """,
        [("+=", "state", "name", "client.model.state_dict()")],
    ),
    "add_ with alpha": (
        """
        for k in server.state_dict():
            acc = torch.zeros_like(server.state_dict()[k])
            for net in nets:
                acc.add_(net.state_dict()[k], alpha=1 / len(nets))
            server.state_dict()[k].copy_(acc)
        """,
        [("add_", "state", "k", "net.state_dict()")],
    ),
    "the state in a local name": (
        """
        def average(clients):
            for i, client in enumerate(clients):
                local = client.net.state_dict()
                for key in avg:
                    avg[key] += local[key] / len(clients)
        """,
        [("+=", "state", "key", "local")],
    ),
    "tuples of number and state": (
        """
        (n, avg) = w_locals[0]
        for k in avg.keys():
            for i in range(len(w_locals)):
                n, local = w_locals[i]
                w = n / total
                if i == 0:
                    avg[k] = local[k] * w
                else:
                    avg[k] += local[k] * w
        """,
        [("+=", "state", "k", "local")],
    ),
    "sum of a generator": (
        "avg = {k: sum(s[k] for s in states) / len(states) for k in states[0]}",
        [("sum", "state", "k", "s")],
    ),
    "stack and mean": (
        "avg = OrderedDict((k, torch.stack([c.params[k] for c in clients]).mean(0)) for k in names)",
        [("stack", "state", "k", "c.params")],
    ),
    "stack of an appended list": (
        """
        for k in keys:
            values = []
            for s in states:
                values.append(s[k].float())
            avg[k] = torch.stack(values, 0).mean(0)
        """,
        [("stack", "state", "k", "s")],
    ),
    "NumPy": (
        "avg = {k: np.average([s[k].numpy() for s in states], axis=0, weights=shares) for k in states[0]}",
        [("numpy", "state", "k", "s")],
    ),
    "parameters in place": (
        """
        for w, client in zip(weights, models):
            for p, q in zip(server.parameters(), client.parameters()):
                p.data += q.data.clone() * w
        """,
        [("+=", "parameters", "", "client.parameters()")],
    ),
    "parameters, one party a call": (
        """
        class Server:
            def add(self, w, client):
                for p, q in zip(self.model.parameters(), client.parameters()):
                    p.data += q.data.clone() * w
        """,
        [("+=", "parameters", "", "client.parameters()")],
    ),
    "one party a call, kept in the object": (
        """
        class Server:
            def receive(self, state, share):
                for k, v in state.items():
                    self.total[k] += v * share
        """,
        [("+=", "state", "k", "state")],
    ),
}

DOES_NOT = {
    "an exponential average over time": """
        for epoch in range(epochs):
            train(model)
            for k, v in model.state_dict().items():
                ema[k] = decay * ema[k] + (1 - decay) * v
        """,
    "a sum over time of one model": """
        for epoch in range(epochs):
            train(model)
            for k, v in model.state_dict().items():
                swa[k] += v
        """,
    "noise to each party's own": """
        for state in states:
            for k in state:
                state[k] += torch.randn_like(state[k]) * sigma
        """,
    "a target network": """
        for p, q in zip(target.parameters(), online.parameters()):
            p.data.mul_(1 - tau)
            p.data.add_(q.data, alpha=tau)
        """,
    "losses": """
        for client in clients:
            total_loss += client.loss
            losses.append(client.loss)
        mean = sum(losses) / len(losses)
        """,
    "a moving total of one state": """
        for k in state:
            norm += state[k].norm() ** 2
        """,
    "gradients of one model over batches": """
        for x, y in loader:
            loss(model(x), y).backward()
            for p, g in zip(model.parameters(), grads):
                g += p.grad
        """,
}


def combined(tmp_path: Path, source: str) -> list[Averaging]:
    path = tmp_path / "code.py"
    path.write_text("import copy\nimport torch\n" + textwrap.dedent(source))
    return Project([str(tmp_path)]).open(str(path)).derive(Marks).all_averagings()


@pytest.mark.parametrize("name", COMBINES)
def test_it_is_recognised(name: str, tmp_path: Path) -> None:
    source, expected = COMBINES[name]
    found = combined(tmp_path, source)
    code = Project([str(tmp_path)]).open(str(tmp_path / "code.py")).tree.code_for_node
    assert [(row.how, row.what, row.key, code(row.state).strip()) for row in found] == expected


@pytest.mark.parametrize("name", DOES_NOT)
def test_it_is_left_alone(name: str, tmp_path: Path) -> None:
    assert combined(tmp_path, DOES_NOT[name]) == []


def test_conditions_on_the_way_are_kept(tmp_path: Path) -> None:
    source = """
        for k in keys:
            if "tracked" in k:
                continue
            if "bn" not in k:
                for s in states:
                    avg[k] += s[k]
            else:
                pass
    """
    (row,) = combined(tmp_path, source)
    code = Project([str(tmp_path)]).open(str(tmp_path / "code.py")).tree.code_for_node
    assert [(code(test).strip(), wanted) for test, wanted in row.tests] == [
        ('"bn" not in k', True),
        ('"tracked" in k', False),
    ]


@pytest.mark.parametrize(
    "line", ["total[k] = total[k] + {terms}", "total[k] = ({terms}) / {count}", "total[k] = sum([{items}])"]
)
def test_long_sums_take_no_longer_than_their_length(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in what is turned into source again, which is as long as the sum it is asked of."""
    asked: dict[int, int] = {}
    code = FileIndex.code
    for count in (50, 200):

        def counted(self: FileIndex, node: cst.CSTNode, count: int = count) -> str:
            text = code(self, node)
            asked[count] = asked.get(count, 0) + len(text)
            return text

        monkeypatch.setattr(FileIndex, "code", counted)
        terms = [f"s{number}[k]" for number in range(count)]
        text = line.format(terms=" + ".join(terms), items=", ".join(terms), count=count)
        combined(
            tmp_path,
            f"""
        def average(states):
            total = {{}}
            for k in states[0]:
                {text}
        """,
        )
    assert 0 < asked[200] < 6 * asked[50]
