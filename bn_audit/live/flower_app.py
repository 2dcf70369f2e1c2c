"""A Flower app on a model's state, as its settings have it: what the flower engine runs in a process of its own.

``python -m bn_audit.live.flower_app FOLDER`` runs Flower's simulation on the job in a folder. The clients are written
as Flower's tutorials have them; what they keep to themselves is kept in the folder, and so is what each held before and
after every exchange, and the first error. Training is a stand-in, the one of the contract engine.
"""

from __future__ import annotations

import json
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from bn_audit.exchange.cover import covered
from bn_audit.exchange.flower import FlowerSettings
from bn_audit.handwritten import Rebuild
from bn_audit.live.errors import require_torch
from bn_audit.live.execute import State, party_states, training_steps
from bn_audit.loading import Covers, How
from bn_audit.profile import Profile

require_torch()

import torch  # noqa: E402
from torch import nn  # noqa: E402

__all__ = ["ERROR", "JOB", "Job", "loaded_path", "trained_path", "weight"]

JOB, ERROR = "job", "error.json"
_SERVER = 7
"""The seed of what the server begins with: nobody else's."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to run.

    Attributes:
        model: whose state is exchanged; every party has a copy.
        profile: of the model.
        settings: of the app, all of them known, with what the client keeps taken out of what it sends and takes.
    """

    model: nn.Module
    profile: Profile
    settings: FlowerSettings
    parties: int
    rounds: int


def trained_path(folder: Path, party: int, round_: int) -> Path:
    """What a party held after the training of a round."""
    return folder / f"trained-{party}-{round_}.pt"


def loaded_path(folder: Path, party: int, round_: int) -> Path:
    """What it held after it loaded what came of that round."""
    return folder / f"loaded-{party}-{round_}.pt"


def weight(party: int) -> int:
    """How many examples a party says it has: another number for each."""
    return 2 + party


@lru_cache(maxsize=1)
def _job(folder: Path) -> Job:
    from ray import cloudpickle

    with (folder / JOB).open("rb") as file:
        job = cloudpickle.load(file)
    assert isinstance(job, Job)
    return job


class _Party:
    """A client, as it is between two messages."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number
        self.job = _job(folder)
        self.model = self.job.model
        self._own = folder / f"party-{number}.pt"
        self.put(torch.load(self._own) if self._own.exists() else party_states(self.job.profile, number + 1)[number])

    def put(self, state: State) -> None:
        with torch.no_grad():
            for key, tensor in self.model.state_dict().items():
                tensor.copy_(state[key])

    def held(self, path: Path) -> None:
        """Take down what the model holds: for the judge, and for this party's next message."""
        for place in (path, self._own):
            beside = place.with_suffix(".part")
            torch.save(self.model.state_dict(), beside)
            beside.replace(place)

    def train(self, round_: int) -> None:
        step = training_steps(self.job.profile, self.job.parties, round_)[self.number]
        with torch.no_grad():
            for key, tensor in {id(t): (k, t) for k, t in self.model.state_dict(keep_vars=True).items()}.values():
                if tensor.dtype is not torch.bool:
                    tensor.add_(step[key])
        self.held(trained_path(self.folder, self.number, round_))

    def keys(self, covers: Covers | None) -> list[str]:
        return _keys(self.job, self.job.settings.sends if covers is None else covers)

    def arrays(self) -> list[Any]:
        state = self.model.state_dict()
        return [state[key].cpu().numpy() for key in self.keys(None)]

    def record(self) -> OrderedDict[str, Any]:
        state = self.model.state_dict()
        return OrderedDict((key, state[key]) for key in self.keys(None))

    def load_arrays(self, arrays: Sequence[Any]) -> None:
        ways: dict[Rebuild, Callable[[Any], torch.Tensor]] = {
            Rebuild.TENSOR: torch.tensor,
            Rebuild.TENSOR_CLASS: torch.Tensor,
            Rebuild.FROM_NUMPY: torch.from_numpy,
        }
        rebuild = ways[self.job.settings.rebuild]
        keys = self.keys(self.job.settings.takes)
        self.load(OrderedDict((key, rebuild(array)) for key, array in zip(keys, arrays, strict=False)))

    def load_record(self, state: Mapping[str, torch.Tensor]) -> None:
        keys = set(self.keys(self.job.settings.takes))
        self.load(OrderedDict((key, value) for key, value in state.items() if key in keys))

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        if self.job.settings.load is How.COPY:
            own = self.model.state_dict()
            with torch.no_grad():
                for key, value in state.items():
                    own[key].copy_(value)
        else:
            self.model.load_state_dict(state, strict=self.job.settings.load is How.STATE_DICT)


def _keys(job: Job, covers: Covers) -> list[str]:
    return [entry.key for entry in job.profile.entries if covered(entry, covers)]


def _initial(job: Job) -> OrderedDict[str, torch.Tensor]:
    """What the server begins with."""
    settings = job.settings
    covers = settings.initial
    if covers is None:
        covers = settings.sends if settings.api == "numpy" else Covers()
    state = party_states(job.profile, 1, seed=_SERVER)[0]
    return OrderedDict((key, state[key]) for key in _keys(job, covers))


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """The first error is taken down, with how often the parties had begun to train."""
    try:
        yield
    except Exception as error:
        rounds = [int(path.name.rpartition("-")[2].removesuffix(".pt")) for path in folder.glob("trained-*.pt")]
        told = {"type": type(error).__name__, "text": str(error), "round": max(rounds, default=0)}
        try:
            with (folder / ERROR).open("x", encoding="utf-8") as file:
                json.dump(told, file)
        except FileExistsError:
            pass
        raise


def _message_apps(folder: Path, job: Job) -> tuple[Any, Any]:
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp
    from flwr.serverapp import strategy as strategies

    client, server = ClientApp(), ServerApp()
    rounds = job.rounds

    def received(message: Any, context: Any) -> tuple[_Party, int]:
        party = _Party(folder, int(context.node_config["partition-id"]))
        party.load_record(message.content["arrays"].to_torch_state_dict())
        return party, int(message.content["config"]["server-round"])

    @client.train()
    def train(message: Message, context: Any) -> Message:
        with _told(folder):
            party, round_ = received(message, context)
            party.held(loaded_path(folder, party.number, round_ - 1))
            party.train(round_)
            metrics = MetricRecord({"num-examples": weight(party.number)})
            return Message(RecordDict({"arrays": ArrayRecord(party.record()), "metrics": metrics}), reply_to=message)

    @client.evaluate()
    def evaluate(message: Message, context: Any) -> Message:
        with _told(folder):
            if message.content["config"]["server-round"] == rounds:
                party, round_ = received(message, context)
                party.held(loaded_path(folder, party.number, round_))
            return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1})}), reply_to=message)

    @server.main()
    def main(grid: Any, context: Any) -> None:
        with _told(folder):
            here = _job(folder)
            kind: Any = strategies.FedProx if here.settings.strategy == "fedprox" else strategies.FedAvg
            more = {"proximal_mu": 0.1} if here.settings.strategy == "fedprox" else {}
            everybody = dict.fromkeys(("min_train_nodes", "min_evaluate_nodes", "min_available_nodes"), here.parties)
            kind(**everybody, **more).start(grid, ArrayRecord(_initial(here)), num_rounds=here.rounds)

    return client, server


def _numpy_apps(folder: Path, job: Job) -> tuple[Any, Any]:
    from flwr.client import ClientApp, NumPyClient
    from flwr.common import ndarrays_to_parameters
    from flwr.server import ServerApp, ServerAppComponents, ServerConfig
    from flwr.server import strategy as strategies

    rounds = job.rounds

    class Client(NumPyClient):
        def __init__(self, number: int) -> None:
            self.number = number

        def fit(self, parameters: Any, config: Any) -> Any:
            with _told(folder):
                party = _Party(folder, self.number)
                party.load_arrays(parameters)
                party.held(loaded_path(folder, party.number, config["round"] - 1))
                party.train(config["round"])
                return party.arrays(), weight(party.number), {}

        def evaluate(self, parameters: Any, config: Any) -> Any:
            with _told(folder):
                if config["round"] == rounds:
                    party = _Party(folder, self.number)
                    party.load_arrays(parameters)
                    party.held(loaded_path(folder, party.number, rounds))
                return 0.0, 1, {}

    def server_fn(context: Any) -> Any:
        with _told(folder):
            here = _job(folder)
            settings = here.settings
            kind = strategies.FedProx if settings.strategy == "fedprox" else strategies.FedAvg
            everybody = dict.fromkeys(
                ("min_fit_clients", "min_evaluate_clients", "min_available_clients"), here.parties
            )
            more = {"proximal_mu": 0.1} if settings.strategy == "fedprox" else {}

            class Told(kind):  # type: ignore[misc, valid-type]
                def aggregate_fit(self, *arguments: Any) -> Any:
                    with _told(folder):
                        return super().aggregate_fit(*arguments)

            strategy = Told(
                **everybody,
                **more,
                initial_parameters=ndarrays_to_parameters([value.numpy() for value in _initial(here).values()]),
                on_fit_config_fn=lambda round_: {"round": round_},
                on_evaluate_config_fn=lambda round_: {"round": round_},
            )
            strategy.inplace = bool(settings.in_place)
            return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=here.rounds))

    client = ClientApp(client_fn=lambda context: Client(int(context.node_config["partition-id"])).to_client())
    return client, ServerApp(server_fn=server_fn)


def main(folder: Path) -> None:
    """Run the job in a folder."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    from flwr.simulation import run_simulation

    job = _job(folder)
    client, server = (_message_apps if job.settings.api == "message" else _numpy_apps)(folder, job)
    run_simulation(
        server_app=server,
        client_app=client,
        num_supernodes=job.parties,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            # One process for all parties: it takes longer to start another than to do their work.
            "init_args": {"num_cpus": 1, "include_dashboard": False},
        },
    )


if __name__ == "__main__":
    # By its name, so that what is pickled here is found by the workers.
    from bn_audit.live import flower_app

    flower_app.main(Path(sys.argv[1]))
