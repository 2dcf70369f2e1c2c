"""What labelled cases are said to do, done: vectors joined by hand, entries packed on their way, and sums over the
processes of torch.distributed.

The functions of a case are run on a small model with BatchNorm, and what becomes of its entries is compared with the
rule that speaks of it, an error with the text that its message quotes.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from bn_audit.audit import Selection, Versions, audit
from bn_audit.source.read import ReadOptions, read
from tests.test_federated_corpus import unpack

torch = pytest.importorskip("torch")

_CASES = Path(__file__).parents[2] / "data" / "federated" / "averaging"
_PARTY = """\
import json, sys, types
import torch
import torch.distributed as dist

rank, store, names = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
rows = {}
for name in names:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        for value in model.state_dict().values():
            value.fill_(2 * rank + 3)
    module = types.ModuleType("sync")
    exec(open(name).read(), module.__dict__)
    error = ""
    try:
        module.sync(model, 2)
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    rows[name] = {"error": error, **{key: float(value.flatten()[0]) for key, value in model.state_dict().items()}}
print(json.dumps(rows))
"""
_SYNCED = {
    "all-reduce-of-parameters": "BNA207",
    "all-reduce-of-copies-of-parameters": "BNA207",
    "all-reduce-of-one-vector": "BNA207",
    "all-reduce-of-state": "BNA201",
    "all-reduce-of-state-loaded-again": "BNA202",
}
_JOINED = {
    "vectors-joined-by-hand": "BNA202",
    "vectors-joined-by-hand-of-parameters": "BNA207",
}


def _found(case: str, folder: Path) -> dict[str, str]:
    unpack(_CASES / f"{case}.txt", folder)
    result = read([str(folder)], options=ReadOptions(jobs=1))
    findings = audit(result.sites, result.unreadable, lambda _: Selection(("BNA2",)), lambda _: Versions())
    return {finding.code: finding.message for finding in findings}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, object]]]:
    """What two processes, whose entries are all 3 and all 5, hold after each case's ``sync``."""
    folder = tmp_path_factory.mktemp("processes")
    names = []
    for case in _SYNCED:
        text = (_CASES / f"{case}.txt").read_text().partition("=== sync.py\n")[2].partition("=== ")[0]
        (folder / f"{case}.py").write_text(text)
        names.append(str(folder / f"{case}.py"))
    (folder / "party.py").write_text(_PARTY)
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, str(folder / "party.py"), str(rank), str(folder / "store"), *names],
            stdout=subprocess.PIPE, text=True, env=environment,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    outputs = [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in running]
    return {Path(name).stem: [output[name] for output in outputs] for name in names}


@pytest.mark.parametrize("case", _SYNCED)
def test_a_sum_over_processes(case: str, processes: dict[str, list[dict[str, object]]], tmp_path: Path) -> None:
    found = _found(case, tmp_path)
    assert set(found) == {_SYNCED[case]}
    first, second = processes[case]
    if _SYNCED[case] == "BNA201":
        assert first["error"] == second["error"] != ""
        assert str(first["error"]) in found["BNA201"]
        return
    assert first["error"] == second["error"] == ""
    assert first["1.weight"] == second["1.weight"] == 4.0
    if _SYNCED[case] == "BNA202":
        assert first["1.running_mean"] == second["1.running_var"] == 4.0
        assert first["1.num_batches_tracked"] == 4.0
    else:
        assert (first["1.running_mean"], second["1.running_mean"]) == (3.0, 5.0)


@pytest.mark.parametrize("case", _JOINED)
def test_vectors_joined_by_hand(case: str, tmp_path: Path) -> None:
    assert set(_found(case, tmp_path)) == {_JOINED[case]}
    joining, combining = (types.ModuleType(name) for name in ("flat", "aggregate"))
    for module in (joining, combining):
        exec((tmp_path / f"{module.__name__}.py").read_text(), module.__dict__)
    server = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    clients = [copy.deepcopy(server) for _ in range(2)]
    for number, client in enumerate(clients):
        with torch.no_grad():
            for value in client.state_dict().values():
                value.fill_(2 * number + 3)
        client[1].num_batches_tracked.fill_(3 * number + 3)  # 3 and 6: their mean is cut off
    if _JOINED[case] == "BNA202":
        vectors = [joining.flatten(client) for client in clients]
        joining.unflatten(combining.aggregate(vectors, [0.5, 0.5]), server)
        assert float(server[1].running_mean[0]) == float(server[1].running_var[0]) == 4.0
        assert int(server[1].num_batches_tracked) == 4
    else:
        joining.put_parameters(combining.aggregate([joining.parameters_of(client) for client in clients]), server)
        assert float(server[1].running_mean[0]) == 0.0
        assert int(server[1].num_batches_tracked) == 0
    assert float(server[1].weight[0]) == 4.0


def _modules(folder: Path, *names: str) -> list[types.ModuleType]:
    """Files of a case, run one after the other; each can be imported by the next."""
    found = []
    for name in names:
        module = types.ModuleType(name)
        sys.modules[name] = module
        found.append(module)
        exec((folder / f"{name}.py").read_text(), module.__dict__)
    return found


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test imports of a case is gone when it is done."""
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def _filled(make: type, values: tuple[float, ...]) -> list[torch.nn.Module]:
    """One model for each value, all of whose floats are that value."""
    found = []
    for value in values:
        model = make()
        with torch.no_grad():
            for entry in model.state_dict().values():
                entry.fill_(value)
            model.fc.weight[0, 0] = value + 1  # levels need a lowest and a highest
        found.append(model)
    return found


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.usefixtures("imports")
def test_entries_packed_on_their_way_are_averaged(packed: bool, tmp_path: Path) -> None:
    assert set(_found("eight-bits-and-counters-as-they-are", tmp_path)) == {"BNA202"}
    nets, wire, main = _modules(tmp_path, "nets", "wire", "main")
    server = main.Server(wire.EightBits() if packed else None)
    clients = _filled(nets.ConvNet, (3.0, 5.0))
    for client, mean in zip(clients, (3.0, 5.0), strict=True):
        client.bn1.running_mean[:] = torch.linspace(mean, mean + 1, 8)
    mean = server.mean([client.state_dict() for client in clients])
    assert float(mean["bn1.running_mean"][0]) == pytest.approx(4.0, abs=0.01)
    assert int(mean["bn1.num_batches_tracked"]) == 3


@pytest.mark.usefixtures("imports")
def test_its_own_batchnorm_stays(tmp_path: Path) -> None:
    assert _found("its-own-batchnorm-and-the-others-entries", tmp_path) == {}
    nets, main = _modules(tmp_path, "nets", "main")
    first, second = _filled(nets.ConvNet, (3.0, 5.0))
    shared = main.mean([first.state_dict(), second.state_dict()])
    second.load_state_dict(main.merged(shared, second.state_dict()))
    assert float(second.bn1.running_mean[0]) == 5.0
    assert float(second.conv1.bias[0]) == 4.0


@pytest.mark.usefixtures("imports")
def test_a_mark_moves_no_statistics(tmp_path: Path) -> None:
    assert set(_found("noise-handed-to-who-marks-a-few-weights", tmp_path)) == {"BNA202"}
    nets, server = _modules(tmp_path, "nets", "server")
    (model,) = _filled(nets.ConvNet, (3.0,))
    marked = server.marked(model.state_dict(), [("conv1.weight", 0)], 0.5)
    assert float(marked["conv1.weight"].view(-1)[0]) == 3.5
    assert bool((marked["bn1.running_var"] == 3.0).all())


@pytest.mark.usefixtures("imports")
def test_a_name_filter_that_catches_nothing(tmp_path: Path) -> None:
    found = _found("name-filter-that-catches-nothing", tmp_path)
    assert set(found) == {"BNA203"}
    assert "`'bn' not in key` leaves nothing out, so that all of BatchNorm goes through (`norm1`) of `Net`" in str(
        found
    )
    (tmp_path / "main.py").write_text((tmp_path / "main.py").read_text().replace("\n\nmain()\n", "\n"))
    nets, main = _modules(tmp_path, "nets", "main")
    server, *clients = _filled(nets.Net, (1.0, 3.0, 5.0))
    main.communication(types.SimpleNamespace(mode="fedbn"), server, clients, [0.5, 0.5])
    assert float(server.norm1.running_mean[0]) == 4.0
