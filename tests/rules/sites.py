"""Sites made by hand: models in a few words, and calls of FLModel that train them."""

from __future__ import annotations

from typing import Any, Literal

from bn_audit.audit import Selection, Versions, audit
from bn_audit.finding import Evidence, Finding, Location
from bn_audit.profile import Gap, NormLayer, Profile, StateEntry
from bn_audit.site import FLModelCall, FLModelSite

CALL = Location("train.py", 20, 12, 30, 2)
MODEL = Location("models.py", 1, 7, 1, 10)


class ModelBuilder:
    """Grows a profile layer by layer, in the order of the state dict. Layer n stands on line n of models.py."""

    def __init__(self) -> None:
        self.entries: list[StateEntry] = []
        self.norms: list[NormLayer] = []
        self.gaps: list[Gap] = []

    def _add(self, path: str, name: str, shape: tuple[int, ...], dtype: str, *, buffer: bool = False) -> None:
        kind: Literal["parameter", "buffer"] = "buffer" if buffer else "parameter"
        key = f"{path}.{name}" if path else name
        value = 0 if name == "num_batches_tracked" else None
        self.entries.append(StateEntry(key, shape, dtype, kind, path, value))

    def linear(self, path: str, inputs: int, outputs: int, dtype: str = "float32") -> ModelBuilder:
        self._add(path, "weight", (outputs, inputs), dtype)
        self._add(path, "bias", (outputs,), dtype)
        return self

    def norm(self, path: str, features: int = 8, type: str = "BatchNorm2d", **traits: Any) -> ModelBuilder:
        line = len(self.entries) + 1
        norm = NormLayer(path, type, features=features, location=Location("models.py", line, 20, line, 40), **traits)
        self.norms.append(norm)
        if norm.affine:
            self._add(path, "weight", (features,), "float32")
            self._add(path, "bias", (features,), "float32")
        if norm.tracked:
            self._add(path, "running_mean", (features,), "float32", buffer=True)
            self._add(path, "running_var", (features,), "float32", buffer=True)
            self._add(path, "num_batches_tracked", (), "int64", buffer=True)
        return self

    def buffer(self, name: str, shape: tuple[int, ...], dtype: str) -> ModelBuilder:
        self._add("", name, shape, dtype, buffer=True)
        return self

    def gap(self, *, may_hold_norm: bool = True) -> ModelBuilder:
        self.gaps.append(Gap(len(self.entries), "", "what `build()` returns is not known", may_hold_norm=may_hold_norm))
        return self

    def build(self) -> Profile:
        return Profile(tuple(self.entries), tuple(self.norms), tuple(self.gaps), type="Net")


def reading(model: ModelBuilder | None, **settings: Any) -> FLModelCall:
    """A reading on the torch backend with fed_avg_w; ``skip_bn`` counts as passed if it is given."""
    passed = {"skip_bn_passed": "skip_bn" in settings} if settings.get("skip_bn", False) is not None else {}
    unresolved = None if model is not None else Evidence(Location("train.py", 3, 1, 3, 9), "`build` is not known")
    return FLModelCall(
        model=None if model is None else model.build(),
        model_name="" if model is None else "Net",
        model_trail=() if model is None else (Evidence(MODEL, "`Net` is defined here"),),
        unresolved=unresolved,
        **{"backend": "torch", "aggregator": "secure", "base_module": False, **passed, **settings},
    )


def site(*readings: FLModelCall, **fields: Any) -> FLModelSite:
    return FLModelSite(**{"location": CALL, "call": CALL, "readings": readings, **fields})


def judge(*readings: FLModelCall, secretflow: str | None = None, torch: str | None = "2.13.0") -> tuple[Finding, ...]:
    """The findings about one call."""
    return audit([site(*readings)], [], Selection(), lambda path: Versions(secretflow, torch))


def codes(*readings: FLModelCall, **versions: Any) -> list[str]:
    """The codes of the findings at the call itself."""
    return [finding.code for finding in judge(*readings, **versions) if finding.location == CALL]


def only(findings: tuple[Finding, ...]) -> Finding:
    (finding,) = findings
    return finding
