"""The interpreter's modules as profiles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bn_audit.profile import SOMEWHERE, Gap, NormLayer, Profile, StateEntry
from bn_audit.running import is_statistic
from bn_audit.source.interpreter import classes, keras_graph
from bn_audit.source.interpreter.values import Module, RegistryGap, Step, TensorVal, uncertain_name
from bn_audit.source.state import NormTraits

__all__ = ["RawProfile", "to_profile"]


MAX_MODULES = 20_000
"""Modules of a model that are looked at, each as often as it is registered: shared ones can be so in any number."""


@dataclass(slots=True)
class RawProfile:
    """A profile whose locations are still nodes: ``norm_steps`` and ``gap_steps`` go with its norms and gaps."""

    profile: Profile
    norm_steps: list[Step | None] = field(default_factory=list)
    gap_steps: list[Step | None] = field(default_factory=list)


class _Builder:
    def __init__(self) -> None:
        self.entries: list[StateEntry] = []
        self.norms: list[NormLayer] = []
        self.gaps: list[Gap] = []
        self.norm_steps: list[Step | None] = []
        self.gap_steps: list[Step | None] = []
        self.first: dict[int, tuple[str, TensorVal]] = {}
        """By tensor: what it is called first. Kept with it, for no other may take its place."""
        self.path_ids: set[int] = set()
        self.left = MAX_MODULES
        self.cut = False

    def gap(self, path: str, gap: RegistryGap, may_hold_norm: bool) -> None:
        self.gaps.append(Gap(len(self.entries), path, gap.reason, None, may_hold_norm))
        self.gap_steps.append(gap.step)

    def entry(self, path: str, name: str, tensor: TensorVal, kind: str) -> None:
        key = f"{path}.{name}" if path else name
        first, _ = self.first.setdefault(id(tensor), (key, tensor))
        self.entries.append(
            StateEntry(
                key,
                tensor.shape,
                tensor.dtype,
                kind,  # type: ignore[arg-type]
                path,
                tensor.number,
                first if first != key else None,
            )
        )

    def child(self, name: str, child: Module | RegistryGap | None, path: str) -> None:
        if isinstance(child, Module):
            self.module(child, f"{path}.{name}" if path else name)
        elif isinstance(child, RegistryGap):
            label = path if uncertain_name(name) else (f"{path}.{name}" if path else name)
            self.gap(label, child, True)

    def somewhere(self, path: str, gap: RegistryGap) -> None:
        """A BatchNorm with running statistics that lies somewhere in a module; more is not known of it."""
        place = f"{path}.{SOMEWHERE}" if path else SOMEWHERE
        self.norms.append(NormLayer(place, "BatchNorm", affine=None, momentum=None, cumulative=None, eps=None))
        self.norm_steps.append(gap.step)
        for name in ("running_mean", "running_var"):
            self.entry(place, name, TensorVal((None,), "float32"), "buffer")
        self.entry(place, "num_batches_tracked", TensorVal((), "int64", number=0), "buffer")

    def trained_first(self, start: int) -> None:
        """Reorder the entries from ``start`` on as a Keras layer or list has them, other than a model: what is trained,
        then what is not."""
        part = self.entries[start:]
        self.entries[start:] = sorted(part, key=lambda entry: entry.kind != "parameter")
        for number, gap in enumerate(self.gaps):
            if start < gap.index < start + len(part):
                # What is not known may belong to either half.
                before = sum(entry.kind == "parameter" for entry in part[: gap.index - start])
                self.gaps[number] = replace(gap, index=start + before)
                self.gaps.append(replace(gap, index=start + len(part)))
                self.gap_steps.append(self.gap_steps[number])

    def module(self, module: Module, path: str) -> None:
        if id(module) in self.path_ids:
            return  # a module inside itself: torch would not return from state_dict() either
        if self.left == 0:
            if not self.cut:
                self.cut = True
                self.gap("", RegistryGap("it has more layers than are followed"), True)
            return
        self.left -= 1
        self.path_ids.add(id(module))
        start = len(self.entries)
        traits = _as_it_stands(module, module.norm) if module.norm is not None else _own_statistics(module)
        if traits is not None:
            self.norms.append(
                NormLayer(
                    path, traits.type, traits.batchnorm, traits.tracked, traits.affine, traits.features,
                    traits.momentum,
                    traits.cumulative, traits.eps, traits.lazy, traits.family,
                )
            )  # fmt: skip
            self.norm_steps.append(module.origin)
        for name, parameter in module.params.items():
            if isinstance(parameter, TensorVal):
                self.entry(path, name, parameter, "parameter" if module.extra.get("trainable", True) else "buffer")
            elif isinstance(parameter, RegistryGap):
                self.gap(path, parameter, False)
        for name, buffer in module.buffers.items():
            if isinstance(buffer, RegistryGap):
                self.gap(path, buffer, False)
            elif buffer is not None and name in module.persistent:
                self.entry(path, name, buffer, "buffer")
        holds = _still_holds(module)
        for name, child in module.children.items():
            if holds and isinstance(child, RegistryGap):
                holds = False
                self.child(name, child, path)
                self.somewhere(path, child)
            tracked = child.extra.get("tracked") if isinstance(child, Module) else None
            if tracked is None:
                self.child(name, child, path)
                continue
            inside = len(self.entries)
            for label, part in keras_graph.tracked(name.removesuffix(".*"), tracked):
                self.child(label, part, path)
            self.trained_first(inside)
        if module.framework == "keras" and module.cls is not None and not classes.is_keras_model(module.cls):
            self.trained_first(start)
        self.path_ids.discard(id(module))


_NO_STAND_IN = frozenset({"Linear", "Bilinear", "Embedding", *(f"Conv{rank}d" for rank in (1, 2, 3))})
"""Layers that are set in a model in place of one like them, never in place of a BatchNorm or of blocks that hold it."""


def _still_holds(module: Module) -> bool:
    """Whether a model of which it is known only that it has BatchNorm has it still, after what was set in it since."""
    return "holds_batchnorm" in module.extra and all(
        isinstance(child, RegistryGap) or (isinstance(child, Module) and child.type_name in _NO_STAND_IN)
        for child in module.children.values()
    )


def _as_it_stands(module: Module, norm: NormTraits) -> NormTraits:
    """The traits of a norm layer whose statistics or affine parameters may have been taken away since it was made."""
    if module.framework != "torch":
        return norm
    statistics = [module.buffers.get(name) for name in ("running_mean", "running_var")]
    if norm.tracked and not any(statistics):
        norm = replace(norm, tracked=False)
    if norm.affine and not module.params.get("weight") and not module.params.get("bias"):
        norm = replace(norm, affine=False)
    return norm


def _own_statistics(module: Module) -> NormTraits | None:
    """A module of the user's own that keeps running statistics is BatchNorm-like, whatever its name."""
    tracked = [name for name, buffer in module.buffers.items() if is_statistic(name) and isinstance(buffer, TensorVal)]
    if not tracked:
        return None
    buffer = module.buffers[tracked[0]]
    shape = buffer.shape if isinstance(buffer, TensorVal) else None
    features = shape[0] if shape and len(shape) == 1 else None
    affine = any(isinstance(parameter, TensorVal) for parameter in module.params.values())
    return NormTraits(module.type_name, False, True, affine, features, None, None, None, False, "other")


def to_profile(module: Module) -> RawProfile:
    """The profile of a module as it stands now."""
    builder = _Builder()
    builder.module(module, "")
    profile = Profile(
        tuple(builder.entries),
        tuple(builder.norms),
        tuple(builder.gaps),
        "keras" if module.framework == "keras" else "torch",
        module.type_name,
    )
    return RawProfile(profile, builder.norm_steps, builder.gap_steps)
