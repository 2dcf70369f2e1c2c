"""What the source reader says of a model beside what torch builds from the same text.

Every file of tests/data/models is read twice. Each function ``build_*`` in it is called with real torch; and an FLModel
that takes the function as its model is read through :func:`bn_audit.source.read.read`. The two are compared entry by
entry. A file's ``PARTIAL`` names the functions whose model cannot be known as a whole, each with the keys that are
known all the same: then every certain statement must hold, and what is missing must lie in a gap.
"""

from __future__ import annotations

import functools
import re
import sys
import types
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bn_audit.profile import NormLayer, Profile, StateEntry
from bn_audit.source.read import ReadOptions, read

torch = pytest.importorskip("torch")

MODELS = Path(__file__).parent.parent / "data" / "models"
CASES = [
    pytest.param(path.stem, line.split("(")[0].removeprefix("def "), id=f"{path.stem}-{line.split('(')[0][10:]}")
    for path in sorted(MODELS.glob("*.py"))
    for line in path.read_text(encoding="utf-8").splitlines()
    if line.startswith("def build_")
]


STATISTICS = ("running_mean", "running_var", "moving_mean", "moving_variance", "running_std")


@functools.cache
def namespace(stem: str) -> dict[str, Any]:
    """What running a file of models defines."""
    module = types.ModuleType(stem)
    sys.modules[stem] = module  # dataclasses look their module up
    exec(compile((MODELS / f"{stem}.py").read_text(encoding="utf-8"), f"{stem}.py", "exec"), module.__dict__)
    return module.__dict__


@functools.cache
def profiles(stem: str, folder: Path) -> dict[str, list[Profile | str]]:
    """The possible profiles of each model of a file, as the reader sees them; a text where a trail ended."""
    names = [case.values[1] for case in CASES if case.values[0] == stem]
    (folder / "models.py").write_text((MODELS / f"{stem}.py").read_text(encoding="utf-8"), encoding="utf-8")
    for name in names:
        (folder / f"{name}.py").write_text(
            f"from models import {name}\nfrom secretflow.ml.nn import FLModel\n"
            f"FLModel(device_list=[], model={name}, backend='torch')\n",
            encoding="utf-8",
        )
    found: dict[str, list[Profile | str]] = {}
    for site in read([str(folder)], options=ReadOptions(jobs=1)).sites:
        found[Path(site.location.path).stem] = [
            reading.model
            if reading.model is not None
            else reading.unresolved.message
            if reading.unresolved is not None
            else ""
            for reading in site.readings
        ]
    return found


def real_profile(model: Any) -> Profile:
    """The exact profile of a live module."""
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.lazy import LazyModuleMixin
    from torch.nn.parameter import is_lazy

    first: dict[int, str] = {}
    entries = []
    for key, tensor in model.state_dict(keep_vars=True).items():
        path = key.rpartition(".")[0]
        shape = None if is_lazy(tensor) else tuple(tensor.shape)
        scalar = shape == () and not tensor.is_floating_point() and tensor.dtype != torch.bool
        alias = first.setdefault(id(tensor), key)
        entries.append(
            StateEntry(
                key,
                shape,
                str(tensor.dtype)[6:],
                "parameter" if isinstance(tensor, torch.nn.Parameter) else "buffer",
                path,
                int(tensor) if scalar else None,
                alias if alias != key else None,
            )
        )
    norms = []
    for path, module in model.named_modules(remove_duplicate=False):
        buffers = module._buffers
        statistics = [name for name in STATISTICS if buffers.get(name) is not None]
        if not isinstance(module, _BatchNorm) and not statistics:
            continue
        lazy = isinstance(module, LazyModuleMixin)
        norms.append(
            NormLayer(
                path,
                type(module).__name__,
                isinstance(module, _BatchNorm),
                bool(statistics),
                any(parameter is not None for parameter in module._parameters.values()),
                None if lazy else getattr(module, "num_features", len(buffers[statistics[0]] if statistics else ())),
                getattr(module, "momentum", None),
                None,
                getattr(module, "eps", None),
                lazy,
            )
        )
    return Profile(tuple(entries), tuple(norms), (), "torch", type(model).__name__)


def entry_errors(claimed: StateEntry, real: StateEntry) -> list[str]:
    """What an entry claims that does not hold; None claims nothing."""
    found = []
    if claimed.shape is not None:
        same_rank = real.shape is not None and len(claimed.shape) == len(real.shape)
        if not same_rank or any(a not in (None, b) for a, b in zip(claimed.shape, real.shape or (), strict=True)):
            found.append(f"{real.key}: shape {claimed.shape}, not {real.shape}")
    for name in ("dtype", "value"):
        if getattr(claimed, name) not in (None, getattr(real, name)):
            found.append(f"{real.key}: {name} {getattr(claimed, name)}, not {getattr(real, name)}")
    certain = ("kind", "module", "alias_of") if claimed.key == real.key else ("kind",)
    for name in certain:
        if getattr(claimed, name) != getattr(real, name):
            found.append(f"{real.key}: {name} {getattr(claimed, name)}, not {getattr(real, name)}")
    return found


def norm_errors(claimed: NormLayer, real: NormLayer) -> list[str]:
    """What a norm layer claims that does not hold."""
    found = [
        f"{real.path}: {name} {getattr(claimed, name)}, not {getattr(real, name)}"
        for name in ("batchnorm", "tracked", "affine", "features", "momentum", "eps")
        if getattr(claimed, name) not in (None, getattr(real, name))
    ]
    if claimed.cumulative and real.momentum is not None:
        found.append(f"{real.path}: cumulative, but momentum is {real.momentum}")
    if (claimed.type, claimed.lazy) != (real.type, real.lazy):
        found.append(f"{real.path}: {claimed.type}, not {real.type}")
    return found


def unsound(claimed: Profile, real: Profile) -> list[str]:
    """Everything a profile claims that does not hold of the real one: nothing may be listed."""
    found = []
    last = -1
    for index, entry in enumerate((*claimed.entries, None)):
        number = len(real.entries) if entry is None else place(entry, real, last)
        if number is None:
            found.append(f"{entry.key if entry else ''} does not exist, or stands too late")
            continue
        paths = [gap.path for gap in claimed.gaps if gap.index == index]
        found.extend(
            f"{missing.key} is missing"
            for missing in real.entries[last + 1 : number]
            if not any(below(missing.key, path) for path in paths)
        )
        if entry is not None:
            found.extend(entry_errors(entry, real.entries[number]))
        last = number
    left = list(real.norms)
    doubtful = [gap.path for gap in claimed.gaps if gap.may_hold_norm]
    for norm in claimed.norms:
        pattern = unknown_parts(norm.path)
        number = next(
            (n for n, r in enumerate(left) if r.path == norm.path or (pattern and pattern.fullmatch(r.path))), -1
        )
        if number < 0:
            found.append(f"{norm.path} is no norm layer, or stands too late")
            continue
        found.extend(norm_errors(norm, left[number]))
        skipped, left = left[:number], left[number + 1 :]
        found.extend(missing_norms(skipped, doubtful))
    return found + missing_norms(left, doubtful)


def missing_norms(norms: list[NormLayer], doubtful: list[str]) -> list[str]:
    return [f"norm layer {n.path} is missing" for n in norms if not any(below(n.path, prefix) for prefix in doubtful)]


def place(entry: StateEntry, real: Profile, last: int) -> int | None:
    """Where a claimed entry stands after a place; a key may have parts that are not known."""
    pattern = unknown_parts(entry.key)
    for number in range(last + 1, len(real.entries)):
        there = real.entries[number]
        if there.key == entry.key or (pattern and pattern.fullmatch(there.key) and not entry_errors(entry, there)):
            return number
    return None


def unknown_parts(key: str) -> re.Pattern[str] | None:
    """What a key with ``?``, ``4+`` or ``{name}`` in it may be; None for one that is known."""
    parts = [re.sub(r"\\\?|\\\{.*\\\}|\d+\\\+", "[^.]+", re.escape(part)) for part in key.split(".")]
    pattern = re.compile(r"\.".join(parts))
    return None if pattern.fullmatch(key) and re.escape(key) == pattern.pattern else pattern


def below(path: str, prefix: str) -> bool:
    return not prefix or path == prefix or path.startswith(prefix + ".")


def vague(claimed: Profile, real: Profile) -> list[str]:
    """What a profile leaves open."""
    found = [f"gap at {gap.index} below {gap.path!r}: {gap.reason}" for gap in claimed.gaps]
    uninitialised = {entry.key for entry in real.entries if entry.shape is None}
    for entry in claimed.entries:
        if entry.key not in uninitialised and (entry.shape is None or None in entry.shape):
            found.append(f"{entry.key}: shape {entry.shape}")
        if entry.dtype is None:
            found.append(f"{entry.key}: dtype unknown")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A fresh folder for each file of models."""
    return functools.cache(lambda stem: tmp_path_factory.mktemp(stem))


@pytest.mark.parametrize(("stem", "name"), CASES)
def test_reader_agrees_with_torch(stem: str, name: str, folder: Any) -> None:
    claims = profiles(stem, folder(stem)).get(name)
    assert claims is not None, "the call of FLModel was not found"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        real = real_profile(namespace(stem)[name]())
    known = namespace(stem).get("PARTIAL", {}).get(name)
    if known is not None:  # of the possible readings, one is true
        claims = [claim for claim in claims if isinstance(claim, str) or not unsound(claim, real)][:1] or claims[:1]
    assert len(claims) == 1
    (claimed,) = claims
    assert isinstance(claimed, Profile), claimed
    assert unsound(claimed, real) == []
    assert claimed.type == real.type
    if known is None:
        assert vague(claimed, real) == []
        assert [entry.key for entry in claimed.entries] == [entry.key for entry in real.entries]
    else:
        assert len(profiles(stem, folder(stem))[name]) > 1 or vague(claimed, real)
        assert [entry.key for entry in claimed.entries] == list(known)


def test_there_are_enough_models() -> None:
    assert len(CASES) >= 200
    assert all(
        name in [case.values[1] for case in CASES if case.values[0] == path.stem]
        for path in MODELS.glob("*.py")
        for name in namespace(path.stem).get("PARTIAL", {})
    )


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda p: replace(p, entries=p.entries[:-1]), "bias is missing"),
        (lambda p: replace(p, entries=p.entries[::-1]), "or stands too late"),
        (lambda p: replace(p, entries=(replace(p.entries[0], key="x"), *p.entries)), "x does not exist"),
        (lambda p: replace(p, entries=(replace(p.entries[0], shape=(9,)), *p.entries[1:])), "shape (9,)"),
        (lambda p: replace(p, entries=(replace(p.entries[0], dtype="int8"), *p.entries[1:])), "dtype int8"),
        (lambda p: replace(p, norms=()), "norm layer bn is missing"),
        (lambda p: replace(p, norms=(replace(p.norms[0], affine=False),)), "affine False"),
    ],
)
def test_comparison_sees_what_is_wrong(change: Any, error: str) -> None:
    """The comparison itself is worth something only if it objects."""
    model = torch.nn.Sequential()
    model.add_module("bn", torch.nn.BatchNorm2d(2))
    model.add_module("fc", torch.nn.Linear(2, 2))
    real = real_profile(model)
    assert unsound(real, real) == []
    assert any(error in text for text in unsound(change(real), real))
