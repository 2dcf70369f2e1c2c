"""A SuperLink and two SuperNodes, processes on the loopback: a node is stopped, starts anew, and has its BatchNorm."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flwr", reason="runs Flower itself")

import numpy as np  # noqa: E402

from bn_audit.federated import FedBNAggregator, local_keys  # noqa: E402
from tests.federated.flower.deployed import assert_no_batchnorm, last  # noqa: E402
from tests.federated.flower.models import Net  # noqa: E402

pytestmark = pytest.mark.flower
ROOT = Path(__file__).parents[3]
_PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "twonodes"
version = "1.0.0"
license = "Apache-2.0"
dependencies = ["flwr"]

[tool.hatch.build.targets.wheel]
packages = ["twonodes"]

[tool.flwr.app]
publisher = "tests"

[tool.flwr.app.components]
serverapp = "twonodes.app:server"
clientapp = "twonodes.app:client"

[tool.flwr.app.config]
"""
_APP = """
import json
import time

from flwr.serverapp import ServerApp

from bn_audit.federated.flower import FedBN
from tests.federated.flower import deployed
from tests.federated.flower.models import Net

client = deployed.client_app()
server = ServerApp()


@server.main()
def main(grid, context):
    grid = deployed.read(grid)
    arrays = FedBN(model=Net(), fraction_evaluate=0.0).start(grid, deployed.begun(), num_rounds=1).arrays
    (deployed.folder() / "trained").touch()
    while not (deployed.folder() / "again").exists():
        time.sleep(0.1)
    FedBN(model=Net(), fraction_train=0.0).start(grid, arrays, num_rounds=1)
    told = {"fc.weight": arrays["fc.weight"].numpy().tolist(), "nodes": sorted(grid.get_node_ids())}
    (deployed.folder() / "server.json").write_text(json.dumps(told))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Machine:
    """The processes of a test, and what they wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.environment = {
            **os.environ,
            "BN_AUDIT_RUN": str(folder),
            "FLWR_HOME": str(folder / "home"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(Path(sys.executable).parent / name), *arguments],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def node(self, party: int) -> subprocess.Popen[bytes]:
        config = f'partition-id={party} bn-audit-folder="{self.folder / f"party{party}"}"'
        link = f"127.0.0.1:{self.port}"
        more = ("--node-config", config, "--port", str(free_port()))
        return self.start("flower-supernode", "--insecure", "--superlink", link, *more)

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """As an operator does; what it has started goes with it."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def wait(self, done: Callable[[], Any], seconds: float = 150) -> None:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                logs = {path.name: path.read_text(errors="replace")[-2500:] for path in self.folder.glob("*.log")}
                pytest.fail("\n".join(f"--- {name}\n{text}" for name, text in logs.items()))
            time.sleep(0.1)

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    found = Machine(tmp_path)
    with ExitStack() as stack:
        stack.callback(lambda: [found.stop(process) for process in reversed(found.processes)])
        yield found


def test_a_node_that_is_started_anew(machine: Machine) -> None:
    run = machine.folder
    (run / "home").mkdir()
    link = f'[superlink]\ndefault = "test"\n\n[superlink.test]\naddress = "127.0.0.1:{machine.port}"\ninsecure = true\n'
    (run / "home" / "config.toml").write_text(link)
    package = run / "app" / "twonodes"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "app.py").write_text(_APP)
    (run / "app" / "pyproject.toml").write_text(_PROJECT)

    place = ("--host", "127.0.0.1", "--port", str(machine.port))
    machine.start("flower-superlink", "--insecure", "--disable-runtime-dependency-installation", *place)
    machine.wait(machine.listens)
    nodes = [machine.node(party) for party in range(2)]
    submitted = machine.start("flwr", "run", str(run / "app"), "test")
    machine.wait((run / "trained").exists)
    assert submitted.wait(timeout=60) == 0

    machine.stop(nodes[1])
    machine.node(1)
    (run / "again").touch()
    machine.wait((run / "server.json").exists)

    found = json.loads((run / "server.json").read_text())
    messages = assert_no_batchnorm(run)
    assert not any(message.has_error() for message in messages)
    asked = [message.metadata.dst_node_id for message in messages if not message.metadata.reply_to_message_id]
    # Flower knows the second by another number now.
    assert len(set(asked)) == 3 and len(asked) == 4
    states = [last(run, party) for party in range(2)]
    mean = FedBNAggregator.from_module(Net()).aggregate(states, [10.0, 11.0])
    assert np.allclose(found["fc.weight"], mean["fc.weight"].numpy())
    for party, own in enumerate(states):
        seen = torch.load(run / f"seen-{party}.pt")
        assert np.allclose(seen["fc.weight"].numpy(), found["fc.weight"])
        for key in local_keys(Net()):
            assert torch.equal(seen[key], own[key]), (party, key)
