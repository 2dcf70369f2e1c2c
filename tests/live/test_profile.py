"""Exact profiles of live modules, against what torch itself says of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bn_audit.exchange.fedbn import expected_fates
from bn_audit.exchange.plan import Fate
from bn_audit.federated import local_keys
from bn_audit.live.errors import TargetError
from bn_audit.live.health import health
from bn_audit.live.profile import profile, profile_of_state
from bn_audit.profile import NormLayer
from tests.live.models import MODELS, CustomNorm, Net, variants


def norms(model: nn.Module) -> dict[str, NormLayer]:
    return {norm.path: norm for norm in profile(model).norms}


@pytest.mark.parametrize("name", MODELS)
def test_entries_are_those_of_the_state_dict(name: str) -> None:
    model = MODELS[name]()
    state = model.state_dict()
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    found = profile(model)
    assert [entry.key for entry in found.entries] == list(tensors)
    for entry in found.entries:
        tensor = tensors[entry.key]
        assert entry.dtype == str(tensor.dtype).removeprefix("torch.")
        lazy = isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin)
        assert entry.shape == (None if lazy else tuple(tensor.shape))
        integer = tensor.dtype in (torch.int8, torch.int32, torch.int64)
        assert entry.value == (tensor.item() if integer and not lazy and tensor.dim() == 0 else None)
    assert len(found.gaps) == len(state) - len(tensors)
    assert all(gap.may_hold_norm is False for gap in found.gaps)


@pytest.mark.parametrize("name", MODELS)
def test_batchnorms_are_those_that_torch_counts(name: str) -> None:
    model = MODELS[name]()
    paths = [path for path, part in model.named_modules(remove_duplicate=False) if isinstance(part, _BatchNorm)]
    assert [norm.path for norm in profile(model).norms if norm.batchnorm] == paths


@pytest.mark.parametrize("name", MODELS)
def test_statistics_are_owned_by_a_norm_layer(name: str) -> None:
    found = profile(MODELS[name]())
    tracked = {norm.path for norm in found.norms if norm.tracked}
    assert {e.module for e in found.entries if e.name in ("running_mean", "running_var")} == tracked


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("scripted", "traced")])
def test_kinds_are_those_of_the_module(name: str) -> None:
    model = MODELS[name]()
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    assert {entry.key for entry in profile(model).entries if entry.kind == "parameter"} == parameters


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("lazy", "quantized", "quantization aware")])
def test_a_profile_on_meta_differs_in_values_only(name: str) -> None:
    if name in ("scripted", "traced", "exported", "unflattened"):
        pytest.skip("what was compiled for a device stays there")
    if name == "data parallel" and torch.cuda.is_available():
        pytest.skip("DataParallel moves its module to the first GPU, and torch cannot move what is on meta")
    real = profile(MODELS[name]())
    with torch.device("meta"):
        meta = profile(MODELS[name]())
    entries = tuple(replace(entry, value=None) for entry in real.entries)
    assert replace(meta, entries=tuple(replace(entry, value=None) for entry in meta.entries)) == replace(
        real, entries=entries
    )


def test_features_of_a_norm_layer() -> None:
    found = norms(variants())
    assert [norm.type for norm in found.values()] == [
        *["BatchNorm1d"] * 4,
        "BatchNorm3d",
        "SyncBatchNorm",
        "InstanceNorm2d",
        "CustomNorm",
        "Frozen",
        "MeanShift",
    ]
    assert found["0"] == NormLayer("0", "BatchNorm1d", affine=False, features=4)
    assert found["1"] == NormLayer("1", "BatchNorm1d", tracked=False, features=4)
    assert found["2"] == NormLayer("2", "BatchNorm1d", tracked=False, affine=False, features=4)
    assert found["3"] == NormLayer("3", "BatchNorm1d", features=4, momentum=None, cumulative=True)
    assert found["4"] == NormLayer("4", "BatchNorm3d", features=4, eps=1e-2)
    assert found["5"] == NormLayer("5", "SyncBatchNorm", features=4, family="sync")
    assert found["6"] == NormLayer("6", "InstanceNorm2d", batchnorm=False, features=4, family="instance")
    assert found["10"] == NormLayer("10", "CustomNorm", features=4, momentum=0.3, eps=1e-3)
    assert found["11"] == NormLayer(
        "11", "Frozen", batchnorm=False, features=4, momentum=None, eps=None, family="other"
    )
    assert found["12"].tracked and not found["12"].batchnorm


def test_fedbn_keeps_every_entry_of_a_norm_layer_local() -> None:
    found = profile(nn.Sequential(nn.Linear(4, 4), variants()))
    outside = ("0.", "1.8.", "1.9.")  # Linear, GroupNorm, LayerNorm
    assert "1.10.act.weight" in {entry.key for entry in found.entries}
    for entry, fates in zip(found.entries, expected_fates(found), strict=True):
        assert fates == {Fate.AVERAGED if entry.key.startswith(outside) else Fate.LOCAL}, entry.key


def test_a_shared_module_stands_at_every_path() -> None:
    found = profile(MODELS["shared"]())
    assert [norm.path for norm in found.norms] == ["1", "3"]
    aliases = {entry.key: entry.alias_of for entry in found.entries if entry.alias_of}
    assert aliases == {"2.weight": "0.weight"} | {
        f"3.{name}": f"1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }


def test_memory_that_is_shared_is_an_alias_though_the_parameters_are_two() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight.data = model[0].weight.data
    model[2].weight.data = model[0].weight.data.t()
    assert {entry.key: entry.alias_of for entry in profile(model).entries if entry.alias_of} == {"1.weight": "0.weight"}


def test_empty_tensors_are_no_aliases_of_each_other() -> None:
    model = nn.Module()
    model.register_buffer("a", torch.empty(0))
    model.register_buffer("b", torch.empty(0))
    assert [entry.alias_of for entry in profile(model).entries] == [None, None]


def test_a_parametrized_batchnorm_is_one_still() -> None:
    found = profile(MODELS["parametrized"]())
    assert found.norms == (NormLayer("1", "BatchNorm1d", features=4),)
    owner = {entry.key: entry.module for entry in found.entries}
    assert owner["1.parametrizations.weight.original"] == "1.parametrizations.weight"
    fates = dict(zip(owner, expected_fates(found), strict=True))
    assert fates["1.parametrizations.weight.original"] == {Fate.LOCAL}
    assert fates["0.parametrizations.weight.original0"] == {Fate.AVERAGED}


@pytest.mark.parametrize("norm", [norms(MODELS["pruned"]())["1"], norms(MODELS["parametrized"]())["1"]])
def test_a_weight_by_another_name_is_a_weight(norm: NormLayer) -> None:
    assert norm.affine is True


@pytest.mark.parametrize("name", ["scripted", "traced", "exported", "unflattened"])
def test_compiled_programs_name_what_their_layers_were(name: str) -> None:
    found = norms(MODELS[name]())
    assert {path: norm.type for path, norm in found.items()} == {"bn": "BatchNorm2d", "block.1": "BatchNorm2d"}
    for norm in found.values():
        assert (norm.batchnorm, norm.tracked, norm.features, norm.family) == (False, True, 4, "batch")
        assert norm.momentum == (0.1 if name == "scripted" else None)


def test_an_exported_part_of_a_model_is_recognised() -> None:
    found = norms(nn.ModuleDict({"encoder": MODELS["exported"](), "head": nn.Linear(2, 2)}))
    assert {path: norm.type for path, norm in found.items()} == {
        "encoder.bn": "BatchNorm2d",
        "encoder.block.1": "BatchNorm2d",
    }


def test_a_script_that_was_saved_and_loaded() -> None:
    file = io.BytesIO()
    torch.jit.save(MODELS["scripted"](), file)
    file.seek(0)
    assert [norm.type for norm in profile(torch.jit.load(file)).norms] == ["BatchNorm2d", "BatchNorm2d"]


@pytest.mark.parametrize("scripted", [torch.jit.script, lambda model: torch.jit.trace(model, torch.randn(4, 2))])
def test_a_scripted_batchnorm_without_statistics_is_local_too(scripted: Callable[[nn.Module], nn.Module]) -> None:
    """Its class is lost, its name is not; the aggregator reads it likewise."""
    model = scripted(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False), nn.LayerNorm(2), nn.Linear(2, 2)))
    made = profile(model)
    local = {
        entry.key for entry, fates in zip(made.entries, expected_fates(made), strict=True) if fates == {Fate.LOCAL}
    }
    assert local == {"0.weight", "0.bias"} == local_keys(model)


def test_lazy_layers_have_no_shape_until_they_ran() -> None:
    model = MODELS["lazy"]()
    found = profile(model)
    assert found.norms == (NormLayer("1", "LazyBatchNorm2d", lazy=True),)
    assert {e.name for e in found.entries if e.shape is None} == {"weight", "bias", "running_mean", "running_var"}
    model[:2](torch.randn(2, 3, 8, 8))
    assert profile(model).norms == (NormLayer("1", "BatchNorm2d", features=4),)


def test_a_lazy_layer_without_state_is_not_uninitialised() -> None:
    (norm,) = profile(nn.LazyBatchNorm1d(affine=False, track_running_stats=False)).norms
    assert norm.lazy is False


@pytest.mark.parametrize("name", ["data parallel", "averaged"])
def test_a_wrapped_model_is_shown_as_it_is(name: str) -> None:
    assert list(norms(MODELS[name]())) == ["module.bn", "module.block.1"]


def test_what_is_no_tensor_leaves_a_gap_where_it_stands() -> None:
    found = profile(MODELS["stateful"]())
    assert [(gap.index, gap.reason) for gap in found.gaps] == [(0, "_extra_state is no tensor but dict")]
    found = profile(MODELS["quantized"]())
    assert [(gap.index, gap.path, gap.reason) for gap in found.gaps] == [
        (2, "0._packed_params", "0._packed_params.dtype is no tensor but torch.dtype"),
        (2, "0._packed_params", "0._packed_params._packed_params is no tensor but tuple"),
    ]
    assert not found.complete


def test_extra_state_that_is_a_tensor_is_an_entry() -> None:
    class Counting(nn.Module):
        def get_extra_state(self) -> torch.Tensor:
            return torch.tensor(3)

        def set_extra_state(self, state: object) -> None:
            pass

    (entry,) = profile(nn.Sequential(Counting())).entries
    assert (entry.key, entry.module, entry.kind, entry.value) == ("0._extra_state", "0", "buffer", 3)


def test_hooks_that_hide_a_wrapper_from_the_keys() -> None:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    found = profile(nn.Sequential(checkpoint_wrapper(Net())))
    assert [norm.path for norm in found.norms] == ["0.bn", "0.block.1"]
    local = {e.key for e, fates in zip(found.entries, expected_fates(found), strict=True) if fates == {Fate.LOCAL}}
    assert len(local) == 10


@pytest.mark.filterwarnings("ignore:.*(Sparse|nested|prototype)")
def test_what_no_array_can_be_made_of_leaves_a_gap() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.register_buffer("rows", torch.eye(3).to_sparse_csr())
    model.register_buffer("nested", torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]))
    model[1].running_mean = torch.zeros(2).to_sparse()
    found = profile(model)
    assert [(gap.index, gap.path, gap.reason) for gap in found.gaps] == [
        (0, "", "rows is no dense tensor but torch.sparse_csr"),
        (0, "", "nested is no dense tensor but nested"),
        (4, "1", "1.running_mean is no dense tensor but torch.sparse_coo"),
    ]
    assert profile_of_state(model.state_dict()).gaps == found.gaps
    for tensor in (model.rows, model.nested, model[1].running_mean):
        with pytest.raises((TypeError, RuntimeError)):
            tensor.numpy()


def test_fake_tensors_are_described() -> None:
    with torch._subclasses.FakeTensorMode():
        found = profile(Net())
    assert [e.shape for e in found.entries] == [e.shape for e in profile(Net()).entries]
    # A fake tensor may remember the constant it was made from.
    assert {entry.value for entry in found.entries} <= {None, 0}


def test_a_module_that_contains_itself_is_refused() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2))
    model.add_module("again", model)
    with pytest.raises(TargetError, match="Sequential contains itself"):
        profile(model)


def test_a_batchnorm_whose_weight_was_taken_away() -> None:
    layer = CustomNorm(4)
    layer.weight = None
    layer.bias = None
    assert norms(layer)[""].affine is False


def test_a_state_dict_tells_as_much_as_its_keys() -> None:
    model = MODELS["mixed"]()
    live, bare = profile(model), profile_of_state(model.state_dict())
    assert [replace(entry, kind="buffer") for entry in live.entries] == [
        replace(entry, kind="buffer") for entry in bare.entries
    ]
    assert [(norm.path, norm.features, norm.affine) for norm in bare.norms] == [("1", 4, True), ("2", 4, True)]
    assert {norm.batchnorm for norm in bare.norms} == {None}
    assert expected_fates(live) == expected_fates(bare)


@pytest.mark.parametrize("name", MODELS)
def test_a_state_dict_has_the_norm_layers_with_statistics(name: str) -> None:
    model = MODELS[name]()
    live, bare = profile(model), profile_of_state(model.state_dict())
    expected = {_unwrapped(norm.path) for norm in live.norms if norm.tracked}
    assert {norm.path for norm in bare.norms} == expected
    assert len(bare.gaps) == len(live.gaps)


def _unwrapped(path: str) -> str:
    return ".".join(part for part in path.split(".") if part not in ("module", "_orig_mod"))


class _Renamed(nn.Module):
    """A wrapper that gives the state dict of what it wraps."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def state_dict(self, **kwargs: Any) -> Any:  # type: ignore[override]
        return self.inner.state_dict(**kwargs)


class _Without(_Renamed):
    """The same, which knows nothing of what torch calls it with."""

    def state_dict(self) -> Any:  # type: ignore[override]
        return self.inner.state_dict()


def _hooked(inner: nn.Module) -> nn.Module:
    def rename(module: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
        for key in list(state):
            state[key.replace("bn.", "normal.")] = state.pop(key)

    inner.register_state_dict_post_hook(rename)
    return inner


@pytest.mark.parametrize("wrap", [_Renamed, _Without, _hooked])
def test_a_state_dict_with_names_of_its_own_is_known_by_its_tensors(wrap: Callable[[nn.Module], nn.Module]) -> None:
    plain, found = profile(Net()), profile(wrap(Net()))
    assert found.renamed and not plain.renamed
    renamed = {e.key.replace("bn.", "normal.") if wrap is _hooked else e.key: e for e in plain.entries}
    assert [e.key for e in found.entries] == list(renamed)
    for entry, fates in zip(found.entries, expected_fates(found), strict=True):
        assert entry.kind == renamed[entry.key].kind
        assert (fates == {Fate.LOCAL}) is renamed[entry.key].module.endswith(("bn", "block.1"))


def test_a_state_dict_that_is_none_is_refused() -> None:
    class Numbered(nn.Module):
        def state_dict(self, **kwargs: Any) -> Any:  # type: ignore[override]
            return {1: torch.ones(2)}

    with pytest.raises(TargetError, match="the state dict of Numbered does not map names to values"):
        profile(Numbered())


def test_extra_state_of_the_root_is_no_attribute_of_it() -> None:
    class Counting(nn.Module):
        def get_extra_state(self) -> object:
            return torch.tensor(3)

        def set_extra_state(self, state: object) -> None:
            pass

    assert profile(Counting()).renamed
    assert not profile(nn.Sequential(Counting())).renamed


class _Stubborn(nn.BatchNorm1d):
    """Attributes whose getters raise what they like."""

    def __getattr__(self, name: str) -> Any:
        if name == "parametrizations":
            raise KeyError(name)
        return super().__getattr__(name)

    @property
    def num_features(self) -> int:  # type: ignore[override]
        raise RuntimeError("not known yet")

    @num_features.setter
    def num_features(self, value: int) -> None:
        pass


def test_getters_that_raise_say_nothing() -> None:
    (norm,) = profile(nn.Sequential(_Stubborn(4))).norms
    assert (norm.type, norm.features, norm.momentum, norm.cumulative) == ("_Stubborn", 4, 0.1, False)
    assert local_keys(_Stubborn(4)) == set(nn.BatchNorm1d(4).state_dict())


class _Guarded(torch.Tensor):
    """A tensor of which torch's operations see only what its class lets them."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return NotImplemented


def test_tensors_with_an_arithmetic_of_their_own_are_gaps() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2))
    model.register_buffer("guarded", torch.Tensor._make_subclass(_Guarded, torch.zeros(3)))
    found, bare = profile(model), profile_of_state(model.state_dict(keep_vars=True))
    assert [gap.reason for gap in found.gaps] == ["guarded is no dense tensor but _Guarded"]
    assert [gap.reason for gap in bare.gaps] == ["guarded is no dense tensor but _Guarded"]
    assert "guarded" not in [entry.key for entry in found.entries]


class _Own(nn.Module):
    """A BatchNorm written by hand, which calls its statistics as its author likes."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))
        for name in names:
            spread = name.endswith(("var", "variance", "std", "sigma"))
            self.register_buffer(name, torch.full((4,), float(spread)))


@pytest.mark.parametrize(
    "names",
    [
        ("moving_mean", "moving_var"),
        ("moving_mean", "moving_variance"),
        ("running_mean", "running_std"),
        ("running_std",),
        ("running_avg_mean", "running_avg_var"),
        ("running_mu", "running_sigma"),
    ],
)
def test_running_statistics_by_other_names(names: tuple[str, ...]) -> None:
    model = nn.Sequential(nn.Linear(4, 4), _Own(*names))
    local = {f"1.{name}" for name in ("gamma", "beta", *names)}
    assert local_keys(model) == local_keys(model.state_dict()) == local
    for found in (profile(model), profile_of_state(model.state_dict())):
        (norm,) = found.norms
        assert (norm.path, norm.features, norm.affine, norm.tracked) == ("1", 4, True, True)
        assert {e.key for e, f in zip(found.entries, expected_fates(found), strict=True) if f == {Fate.LOCAL}} == local
    assert [one.untrained for one in health(model)] == [True]
    with torch.no_grad():
        model[1].get_buffer(names[-1]).fill_(-1)
    assert [(one.negative, one.untrained) for one in health(model)] == [(4, False)]


@pytest.mark.parametrize("names", [("mean", "std"), ("pixel_mean",), ("running_loss",), ("moving_average",)])
def test_constants_and_counts_are_no_running_statistics(names: tuple[str, ...]) -> None:
    assert not profile(nn.Sequential(_Own(*names))).norms
    assert not local_keys(_Own(*names))


def test_a_module_that_was_not_made_as_one_is_refused() -> None:
    class Scheduler(nn.Module):
        def __init__(self) -> None:
            self.__dict__["steps"] = 3

    with pytest.raises(TargetError, match=r"the __init__ of Scheduler does not call that of nn.Module"):
        profile(Scheduler())
