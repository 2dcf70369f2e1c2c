"""Run an app on Flower's own classes, and say what became of every entry.

The parties' states are laid beside what the same strategy makes of each entry in double precision: a value tells whose
it is.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from bn_audit.exchange.cover import covered
from bn_audit.exchange.fedbn import expected_fates
from bn_audit.exchange.flower import FlowerSettings, plan
from bn_audit.exchange.flower.strategies import ADAPTIVE
from bn_audit.exchange.plan import Fate
from bn_audit.handwritten import Rebuild
from bn_audit.loading import Covers, How
from bn_audit.profile import Profile

__all__ = ["disagreements"]

State = Mapping[str, torch.Tensor]
Outcome = tuple["Fate | None", "str | None"]
_EXAMPLES = (10, 20, 30)
_INTEGERS = ("int64", "int32", "int16", "int8", "uint8")
_ROUNDS = 2


@dataclass
class Measured:
    """What a run did: the error and how often the parties had trained, or every entry's outcomes in each exchange."""

    error: tuple[str, str, int] | None = None
    exchanges: list[Mapping[str, frozenset[Outcome]]] = field(default_factory=list)


class Client:
    """A party, written as Flower's tutorials have it."""

    def __init__(self, flower: Any, model: nn.Module, profile: Profile, settings: FlowerSettings) -> None:
        self.flower, self.model, self.settings = flower, model, settings
        takes = settings.sends if settings.takes is None else settings.takes
        self.sends = _keys(profile, settings.sends)
        self.takes = _keys(profile, takes)

    def get_parameters(self, covers: Sequence[str] | None = None) -> list[np.ndarray[Any, Any]]:
        keys = self.sends if covers is None else covers
        return [v.cpu().numpy() for k, v in self.model.state_dict().items() if k in keys]

    def set_parameters(self, parameters: Sequence[np.ndarray[Any, Any]]) -> None:
        keys = [k for k in self.model.state_dict() if k in self.takes]
        rebuild: Callable[[Any], torch.Tensor] = {
            Rebuild.TENSOR: torch.tensor,
            Rebuild.TENSOR_CLASS: torch.Tensor,
            Rebuild.FROM_NUMPY: torch.from_numpy,
        }[self.settings.rebuild]
        self._load(OrderedDict({k: rebuild(v) for k, v in zip(keys, parameters, strict=False)}))

    def get_record(self) -> Any:
        state = self.model.state_dict()
        return self.flower.app.ArrayRecord(OrderedDict({k: v for k, v in state.items() if k in self.sends}))

    def set_record(self, record: Any) -> None:
        self._load(OrderedDict({k: v for k, v in record.to_torch_state_dict().items() if k in self.takes}))

    def _load(self, state: Mapping[str, torch.Tensor]) -> None:
        if self.settings.load is How.STATE_DICT:
            self.model.load_state_dict(state)
        elif self.settings.load is How.LENIENT:
            self.model.load_state_dict(state, strict=False)
        else:
            own = self.model.state_dict()
            for key, value in state.items():
                own[key].copy_(value)


def _keys(profile: Profile, covers: Covers) -> set[str]:
    return {entry.key for entry in profile.entries if covered(entry, covers)}


def disagreements(
    flower: Any, settings: FlowerSettings, profile: Profile, build: Callable[[], nn.Module]
) -> Iterator[str]:
    """What the plan says and a run denies, in words; nothing if they agree."""
    planned, measured = plan(profile, settings), measure(flower, settings, profile, build)
    corrupt = any(Fate.CORRUPT in part.possible for part in planned.entries)
    # A number of examples does not fit into a byte; and FedAvgM has no momentum of nothing.
    narrow = any(entry.dtype in ("int8", "uint8", "int16") for entry in profile.entries)
    nothing = not any(covered(entry, settings.sends) for entry in profile.entries)
    open_ = planned.stops is None and (corrupt or narrow or nothing)
    if planned.error is not None:
        error = planned.error
        if measured.error is None:
            yield f"should stop with {error}, and runs"
        elif measured.error != (error.type, error.text, error.round):
            yield f"should stop with {(error.type, error.text, error.round)}, and stops with {measured.error}"
        elif not error.text_certain:
            yield f"the text is exact, and not taken for certain: {error.text}"
        return
    if measured.error is not None:
        if not open_:
            yield f"should run, and stops with {measured.error}"
        return
    if planned.stops is None and not open_:
        yield "a complete profile, and the plan leaves open whether the round stops"
    rows = zip(profile.entries, expected_fates(profile), planned.entries, strict=True)
    for entry, expected, part in rows:
        kept = Fate.LOCAL if Fate.LOCAL in expected else Fate.STALE
        for number, exchange in enumerate(measured.exchanges, 1):
            met = {(kept if fate is None else fate, source) for fate, source in exchange[entry.key]}
            if settings.strategy in ADAPTIVE and entry.dtype in _INTEGERS:
                # Steps of a tenth are lost in an integer, in whichever direction they go.
                met.add((Fate.CORRUPT, None))
            if part.fate is None:
                if not open_ and Fate.CORRUPT not in part.possible:
                    yield f"{entry.key}: a complete profile, and the fate is open: {part.possible}"
            elif (part.fate, part.source_key) not in met:
                yield f"{entry.key}: plan {part.fate} from {part.source_key}, run {met} in exchange {number}"


def measure(flower: Any, settings: FlowerSettings, profile: Profile, build: Callable[[], nn.Module]) -> Measured:
    """Two rounds of three parties."""
    found = Measured()
    trained = 0
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        clients = [Client(flower, _party(build, number), profile, settings) for number in range(3)]
        server = Client(flower, _party(build, 7), profile, settings)
        try:
            driver = (
                _Legacy(flower, settings, server) if settings.api == "numpy" else _Message(flower, settings, server)
            )
            oracle = _Oracle(flower, settings, server.model.state_dict())
            for number in range(_ROUNDS + 1):
                before = [_snapshot(client.model) for client in clients]
                for client in clients:
                    driver.hand_out(client)
                if number:
                    after = [_snapshot(client.model) for client in clients]
                    found.exchanges.append(_judge(clients[0].model, oracle.value, before, after))
                if number == _ROUNDS:
                    break
                trained += 1
                for party, client in enumerate(clients):
                    _train(client.model, party, number)
                sent = [_snapshot(client.model) for client in clients]
                driver.collect(number + 1, clients)
                oracle.collect(number + 1, sent)
        except Exception as raised:
            found.error = (type(raised).__name__, str(raised), trained)
    return found


class _Legacy:
    """``flwr.server.Server``: parameters as a list."""

    def __init__(self, flower: Any, settings: FlowerSettings, server: Client) -> None:
        self.flower = flower
        initial = None if settings.initial is None else _keys_of(server, settings.initial)
        self.parameters = flower.common.ndarrays_to_parameters(server.get_parameters(initial))
        self.strategy = _strategy(flower.legacy, settings, initial_parameters=self.parameters)

    def hand_out(self, client: Client) -> None:
        client.set_parameters(self.flower.common.parameters_to_ndarrays(self.parameters))

    def collect(self, number: int, clients: Sequence[Client]) -> None:
        arrays = [client.get_parameters() for client in clients]
        self.parameters = self.aggregated(number, arrays)

    def aggregated(self, number: int, arrays: Sequence[Sequence[np.ndarray[Any, Any]]]) -> Any:
        common = self.flower.common
        results = [
            (
                None,
                common.FitRes(
                    status=None,
                    parameters=common.ndarrays_to_parameters(list(one)),
                    num_examples=examples,
                    metrics={},
                ),
            )
            for one, examples in zip(arrays, _EXAMPLES, strict=True)
        ]
        return self.strategy.aggregate_fit(number, results, [])[0]


class _Message:
    """``flwr.serverapp``: parameters by key. The messages themselves are not made."""

    def __init__(self, flower: Any, settings: FlowerSettings, server: Client) -> None:
        self.flower = flower
        initial = _keys_of(server, settings.initial or Covers())
        state = OrderedDict({k: v for k, v in server.model.state_dict().items() if k in initial})
        self.arrays = flower.app.ArrayRecord(state)
        self.strategy = _strategy(flower.message, settings)
        self.strategy._construct_messages = lambda *_: []
        self.number = 1

    def hand_out(self, client: Client) -> None:
        client.set_record(self.arrays)

    def collect(self, number: int, clients: Sequence[Client]) -> None:
        self.arrays = self.aggregated(number, [client.get_record() for client in clients])

    def aggregated(self, number: int, records: Sequence[Any]) -> Any:
        app = self.flower.app
        grid = SimpleNamespace(get_node_ids=lambda: [1, 2, 3])
        self.strategy.configure_train(number, self.arrays, app.ConfigRecord(), grid)
        replies = [
            SimpleNamespace(
                has_error=lambda: False,
                content=app.RecordDict({"arrays": record, "metrics": app.MetricRecord({"num-examples": examples})}),
            )
            for record, examples in zip(records, _EXAMPLES, strict=True)
        ]
        return self.strategy.aggregate_train(number, replies)[0]


def _keys_of(server: Client, covers: Covers) -> list[str]:
    from tests.secretflow.profiles import profile_of

    return sorted(_keys(profile_of(server.model), covers))


def _strategy(module: Any, settings: FlowerSettings, **arguments: Any) -> Any:
    names = {
        "fedavg": "FedAvg",
        "fedprox": "FedProx",
        "fedavgm": "FedAvgM",
        "fedadam": "FedAdam",
        "fedyogi": "FedYogi",
        "fedadagrad": "FedAdagrad",
        "fedmedian": "FedMedian",
        "fedtrimmedavg": "FedTrimmedAvg",
    }
    legacy = settings.api == "numpy"
    match settings.strategy:
        case "fedprox":
            arguments["proximal_mu"] = 0.1
        case "fedavgm":
            arguments["server_momentum"] = 0.9 if settings.server_step else 0.0
        case "fedavg" if legacy:
            arguments["inplace"] = settings.in_place
    strategy = getattr(module, names[settings.strategy or ""])(**arguments)
    if legacy and not settings.in_place:
        strategy.inplace = False
    return strategy


class _Oracle:
    """The same strategy on every entry of every party, in double precision, unfiltered and averaged as it should be."""

    def __init__(self, flower: Any, settings: FlowerSettings, server: State) -> None:
        self.keys = list(server)
        self.settings = settings
        arrays = [_wide(server[key]) for key in self.keys]
        parameters = flower.common.ndarrays_to_parameters(arrays)
        self.legacy = _Legacy.__new__(_Legacy)
        self.legacy.flower = flower
        self.legacy.strategy = _strategy(
            flower.legacy,
            FlowerSettings(strategy=settings.strategy, server_step=settings.server_step, in_place=True),
            initial_parameters=parameters,
        )
        if settings.api == "message":
            # The newer API has other defaults.
            newer = _strategy(flower.message, settings)
            for name in ("eta", "eta_l", "tau", "beta_1", "beta_2", "server_momentum", "server_learning_rate"):
                if hasattr(newer, name):
                    setattr(self.legacy.strategy, name, getattr(newer, name))
        self.values: list[np.ndarray[Any, Any]] = arrays
        self.sizes = {key: np.abs(array) for key, array in zip(self.keys, arrays, strict=True)}

    def collect(self, number: int, states: Sequence[State]) -> None:
        arrays = [[_wide(state[key]) for key in self.keys] for state in states]
        common = self.legacy.flower.common
        self.values = common.parameters_to_ndarrays(self.legacy.aggregated(number, arrays))

    def value(self, key: str) -> np.ndarray[Any, Any]:
        return self.values[self.keys.index(key)]


def _wide(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    return tensor.reshape(-1).to(torch.complex128 if tensor.is_complex() else torch.float64).numpy().copy()


def _party(build: Callable[[], nn.Module], number: int) -> nn.Module:
    model = build()
    _move(model, number, 0)
    return model


def _train(model: nn.Module, party: int, round_: int) -> None:
    _move(model, party, round_ + 1)


def _move(model: nn.Module, party: int, round_: int) -> None:
    """Other values in every entry, party and round; each entry has a size of its own."""
    generator = torch.Generator().manual_seed(1000 * round_ + party)
    for place, tensor in enumerate({id(t): t for t in model.state_dict(keep_vars=True).values()}.values()):
        if tensor.is_floating_point() or tensor.is_complex():
            drawn = (torch.rand(tensor.shape, generator=generator) + 0.5 + party) * 1.3**place
            tensor.copy_(torch.complex(drawn, -drawn) if tensor.is_complex() else drawn)
        elif tensor.dtype is torch.bool:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) < 0.5)
        elif round_:
            top, step = (5, 2) if tensor.dtype.itemsize < 4 else (400, 200)
            tensor.copy_(torch.randint(1, top, tensor.shape, generator=generator) + step * party)


def _snapshot(model: nn.Module) -> State:
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}


def _judge(
    model: nn.Module, value: Callable[[str], np.ndarray[Any, Any]], before: Sequence[State], after: Sequence[State]
) -> Mapping[str, frozenset[Outcome]]:
    aliases = {key: id(tensor) for key, tensor in model.state_dict(keep_vars=True).items()}
    judged = {}
    for key in before[0]:
        found: set[Outcome] = set()
        if all(torch.equal(a[key], b[key]) for a, b in zip(before, after, strict=True)):
            found.add((None, None))
        for source in before[0]:
            wide = torch.from_numpy(value(source))
            if all(_close(state[key], wide, before[0][source]) for state in after):
                same = aliases[source] == aliases[key]
                found.add((Fate.AVERAGED, None) if same else (Fate.MISPLACED, source))
        if not found or not after[0][key].numel():
            found.add((Fate.CORRUPT, None))
        judged[key] = frozenset(found)
    return judged


def _close(tensor: torch.Tensor, wide: torch.Tensor, source: torch.Tensor) -> bool:
    if source.dim() > tensor.dim() and not (tensor.dim() == 0 and source.shape == (1,)):
        return False
    try:
        wide = wide.reshape(source.shape).broadcast_to(tensor.shape) if tensor.dim() else wide.reshape(-1)[0]
    except RuntimeError:
        return False
    if tensor.dtype is torch.bool:
        return torch.equal(tensor, wide != 0) or torch.equal(tensor, wide.real >= 0.999)
    if wide.is_complex() and not tensor.is_complex():
        return False
    if not (source.is_floating_point() or source.is_complex()):
        return bool(((tensor.to(wide.dtype) - wide).abs() <= 2).all())
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return bool(((tensor.to(wide.dtype) - wide).abs() <= 1).all())
    tolerance = {torch.float16: 2e-2, torch.bfloat16: 6e-2}.get(tensor.dtype, 1e-3)
    tolerance = max(tolerance, 2e-2 if source.dtype is torch.float16 else 0)
    largest = float(wide.abs().max()) if wide.numel() else 0.0
    size = wide.abs() + 10 * largest * (tolerance > 1e-3)
    return bool(((tensor.to(wide.dtype) - wide).abs() <= tolerance * size + 1e-6).all())
