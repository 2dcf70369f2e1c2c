"""Run a job on NVFlare's own classes, and say what became of every entry."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from bn_audit.exchange.cover import covered
from bn_audit.exchange.fedbn import expected_fates
from bn_audit.exchange.nvflare import NVFlareSettings, plan
from bn_audit.exchange.plan import Fate
from bn_audit.loading import How
from bn_audit.profile import Profile

__all__ = ["disagreements"]

State = Mapping[str, torch.Tensor]
Outcome = tuple["Fate | None", "str | None"]
_WEIGHED, _UNWEIGHED = (1.0, 2.0, 3.0), (1.0, 1.0, 1.0)
_ROUNDS = 2


@dataclass
class Measured:
    """The error and how often the clients had trained, or every entry's outcomes in each exchange."""

    error: tuple[str, str, int] | None = None
    exchanges: list[Mapping[str, frozenset[Outcome]]] = field(default_factory=list)


class Client:
    """A script as NVFlare's examples have it, on the in-process client API's own conversions."""

    def __init__(self, nvflare: Any, model: nn.Module, profile: Profile, settings: NVFlareSettings) -> None:
        self.nvflare, self.model, self.settings = nvflare, model, settings
        self.sends = {entry.key for entry in profile.entries if covered(entry, settings.sends)}
        takes = settings.takes
        self.takes = None if takes is None else {e.key for e in profile.entries if covered(e, takes)}
        self.state: dict[str, Any] = {}
        self.received: Any = None

    def receive(self, params: Mapping[str, Any]) -> None:
        params = self.nvflare.converter.convert_params(dict(params), self.settings.exchange, "pytorch", self.state)
        self.received = self.nvflare.model.FLModel(params=params)
        own = {k: v for k, v in params.items() if self.takes is None or k in self.takes}
        if self.settings.load is How.COPY:
            for key, value in own.items():
                self.model.state_dict()[key].copy_(value)
        else:
            self.model.load_state_dict(own, strict=self.settings.load is How.STATE_DICT)

    def send(self) -> Any:
        state = self.model.state_dict()
        model = self.nvflare.model.FLModel(params={k: v.clone() for k, v in state.items() if k in self.sends})
        if self.settings.transfer == "diff":
            api = SimpleNamespace(
                client_config=SimpleNamespace(get_exchange_format=lambda: "pytorch"), fl_model=self.received
            )
            model = self.nvflare.api.InProcessClientAPI._prepare_param_diff(api, model)
        model.params = self.nvflare.converter.convert_params(
            model.params, "pytorch", self.settings.exchange, self.state
        )
        return model


def measure(nvflare: Any, settings: NVFlareSettings, profile: Profile, build: Callable[[], nn.Module]) -> Measured:
    """Two rounds of three clients."""
    found, trained = Measured(), 0
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        clients = [Client(nvflare, _party(build, number), profile, settings) for number in range(3)]
        server = _party(build, 7).state_dict()
        begun = {key: tensor.clone() for key, tensor in server.items()}
        try:
            params = _first(nvflare, settings, server)
            for number in range(_ROUNDS + 1):
                before = [_snapshot(client.model) for client in clients]
                for client in clients:
                    client.receive(params)
                if number:
                    after = [_snapshot(client.model) for client in clients]
                    found.exchanges.append(_judge(clients[0].model, before, after, begun, _steps(settings)))
                if number == _ROUNDS:
                    break
                trained += 1
                for party, client in enumerate(clients):
                    _move(client.model, party, number + 1)
                whole = settings.strategy == "scatter_and_gather"
                update = _scatter_and_gather if whole else _fedavg
                params = update(nvflare, settings, params, [client.send() for client in clients], number)
        except Exception as raised:
            found.error = (type(raised).__name__, str(raised), trained)
    return found


def _first(nvflare: Any, settings: NVFlareSettings, server: State) -> dict[str, Any]:
    manager = nvflare.persistence.PTModelPersistenceFormatManager(
        dict(server), allow_numpy_conversion=settings.exchange == "numpy"
    )
    pattern = re.compile(settings.hold_back) if settings.hold_back else None
    return dict(manager.to_model_learnable(pattern)["weights"])


def _fedavg(
    nvflare: Any, settings: NVFlareSettings, params: dict[str, Any], results: Sequence[Any], number: int
) -> dict[str, Any]:
    """What the controller does with results, without the controller's tasks."""
    module = nvflare.fedavg
    controller = module.FedAvg.__new__(module.FedAvg)
    helper = module.WeightedAggregationHelper
    vars(controller).update(
        aggregator=None,
        aggregation_weights=None,
        current_round=number,
        fl_ctx=None,
        stop_cond=None,
        stop_condition=None,
        _aggr_helper=helper(settings.exclude_vars, settings.weigh_by_local_iter),
        _aggr_metrics_helper=helper(),
        _all_metrics=False,
        _received_count=0,
        _expected_count=3,
        _params_type=None,
        _site_metric_weights={},
        info=lambda *_: None,
    )
    for site, (result, steps) in enumerate(zip(results, _steps(settings), strict=True)):
        result.meta = {"client_name": f"site-{site}", "NUM_STEPS_CURRENT_ROUND": steps}
        controller._aggregate_one_result(result)
    aggregated = controller._get_aggregated_result()
    model = nvflare.model.FLModel(params=params)
    return dict(nvflare.utils.FLModelUtils.update_model(model, aggregated).params)


def _scatter_and_gather(
    nvflare: Any, settings: NVFlareSettings, params: dict[str, Any], results: Sequence[Any], number: int
) -> dict[str, Any]:
    """What the aggregator and the shareable generator do with results."""
    constant, kinds = nvflare.constant.AppConstants, nvflare.dxo.DataKind
    kind = kinds.WEIGHT_DIFF if settings.transfer == "diff" else kinds.WEIGHTS
    context = nvflare.context.FLContext()
    context.set_prop(constant.CURRENT_ROUND, number)
    context.set_prop(constant.GLOBAL_MODEL, nvflare.learnable.make_model_learnable(params, {}))
    aggregator = nvflare.aggregator.InTimeAccumulateWeightedAggregator(
        settings.exclude_vars, None, kind, settings.weigh_by_local_iter
    )
    aggregator._initialize(None, settings.exclude_vars, kind)
    for site, (result, steps) in enumerate(zip(results, _steps(settings), strict=True)):
        dxo = nvflare.dxo.DXO(kind, data=result.params, meta={nvflare.dxo.MetaKey.NUM_STEPS_CURRENT_ROUND: steps})
        shareable = dxo.to_shareable()
        shareable.set_peer_props({nvflare.aggregator.ReservedKey.IDENTITY_NAME: f"site-{site}"})
        shareable.add_cookie(constant.CONTRIBUTION_ROUND, number)
        assert aggregator.accept(shareable, context)
    shareable = aggregator.aggregate(context)
    generator = nvflare.generator.FullModelShareableGenerator()
    return dict(generator.shareable_to_learnable(shareable, context)["weights"])


def disagreements(
    nvflare: Any, settings: NVFlareSettings, profile: Profile, build: Callable[[], nn.Module]
) -> Iterator[str]:
    """What the plan says and a run denies, in words; nothing if they agree."""
    planned, measured = plan(profile, settings), measure(nvflare, settings, profile, build)
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
        yield f"should run, and stops with {measured.error}"
        return
    if planned.stops is None:
        yield "a complete profile, and the plan leaves open whether the round stops"
    rows = zip(profile.entries, expected_fates(profile), planned.entries, strict=True)
    for entry, expected, part in rows:
        kept = Fate.LOCAL if Fate.LOCAL in expected else Fate.STALE
        if part.fate is None and Fate.CORRUPT not in part.possible:
            yield f"{entry.key}: a complete profile, and the fate is open: {part.possible}"
        for number, exchange in enumerate(measured.exchanges, 1):
            met = {(kept if fate is None else fate, source) for fate, source in exchange[entry.key]}
            if part.fate is not None and (part.fate, part.source_key) not in met:
                yield f"{entry.key}: plan {part.fate} from {part.source_key}, run {met} in exchange {number}"


def _party(build: Callable[[], nn.Module], number: int) -> nn.Module:
    model = build()
    _move(model, number, 0)
    return model


def _move(model: nn.Module, party: int, round_: int) -> None:
    """Other values in every entry, party and round; each entry has a size of its own."""
    generator = torch.Generator().manual_seed(1000 * round_ + party)
    for place, tensor in enumerate({id(t): t for t in model.state_dict(keep_vars=True).values()}.values()):
        if tensor.is_floating_point() or tensor.is_complex():
            drawn = (torch.rand(tensor.shape, generator=generator) + 0.5 + party) * 1.3**place
            tensor.copy_(torch.complex(drawn, -drawn) if tensor.is_complex() else drawn)
        elif tensor.dtype is torch.bool:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) < 0.5)
        else:
            top, step = (5, 2) if tensor.dtype.itemsize < 4 else (400, 200)
            tensor.copy_(torch.randint(1, top, tensor.shape, generator=generator) + step * party)


def _snapshot(model: nn.Module) -> State:
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}


def _judge(
    model: nn.Module, before: Sequence[State], after: Sequence[State], begun: State, steps: Sequence[float]
) -> Mapping[str, frozenset[Outcome]]:
    aliases = {key: id(tensor) for key, tensor in model.state_dict(keep_vars=True).items()}
    judged = {}
    for key in before[0]:
        found: set[Outcome] = set()
        values = [state[key] for state in after]
        if all(torch.equal(a[key], b) for a, b in zip(before, values, strict=True)):
            found.add((None, None))
        if all(torch.equal(value, begun[key]) for value in values):
            found.add((Fate.STALE, None))
        for source in before[0]:
            mean = _mean([state[source] for state in before], steps)
            if all(_close(value, mean) for value in values):
                same = aliases[source] == aliases[key]
                found.add((Fate.AVERAGED, None) if same else (Fate.MISPLACED, source))
        if not found or not values[0].numel():
            found.add((Fate.CORRUPT, None))
        judged[key] = frozenset(found)
    return judged


def _steps(settings: NVFlareSettings) -> Sequence[float]:
    """How many steps the clients report; what is not weighed by them has been weighed by the client."""
    return _WEIGHED if settings.weigh_by_local_iter else _UNWEIGHED


def _mean(tensors: Sequence[torch.Tensor], steps: Sequence[float]) -> torch.Tensor:
    wide = torch.complex128 if tensors[0].is_complex() else torch.float64
    terms = [tensor.to(wide) * weight for tensor, weight in zip(tensors, steps, strict=True)]
    return torch.stack(terms).sum(0) / sum(steps)


def _close(tensor: torch.Tensor, mean: torch.Tensor) -> bool:
    if tensor.shape != mean.shape or (mean.is_complex() and not tensor.is_complex()):
        return False
    if tensor.dtype is torch.bool:
        return torch.equal(tensor, mean.abs() > 0) or torch.equal(tensor, mean.abs() >= 0.999)
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return bool(((tensor.to(mean.dtype) - mean).abs() <= 1.001).all())
    tolerance = {torch.float16: 1e-2, torch.bfloat16: 6e-2}.get(tensor.dtype, 1e-3)
    return bool(((tensor.to(mean.dtype) - mean).abs() <= tolerance * mean.abs() + 1e-6).all())
