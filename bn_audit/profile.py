"""The profile: a model as an ordered list of state entries, and the norm layers among its modules.

Both readers make profiles: the source reader one that may be partial, the torch reader an exact one. Plain data, no
torch.

What is not known is said, never guessed: a dimension, a shape or a dtype that is None is unknown, and a :class:`Gap`
stands
where entries may exist that the reader could not see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bn_audit.finding import Location
from bn_audit.running import Role, role_of

__all__ = ["SOMEWHERE", "Gap", "NormLayer", "Profile", "Reload", "Shape", "StateEntry", "tensor_groups"]

SOMEWHERE = "(BatchNorm)"
"""Stands in a path for a norm layer that lies somewhere below the module before it, nobody knows where."""

Shape = tuple[int | None, ...]
"""Dimensions in order; None for one that is unknown. ``()`` is a scalar."""


@dataclass(frozen=True, slots=True)
class StateEntry:
    """One entry of a state dict (torch) or of ``model.get_weights()`` (Keras).

    Attributes:
        key: the full key, ``layer1.0.bn1.running_mean``; for Keras the path of the layer and the weight's name.
        shape: None if even the rank is unknown.
        dtype: torch's or NumPy's name without a prefix (``float32``, ``int64``, ``bool``, ``bfloat16``); None if
        unknown.
        kind: ``parameter`` (trained: a torch Parameter, a Keras trainable weight) or ``buffer``.
        module: dotted path of the module that owns the entry; "" is the root.
        value: the value of a 0-d integer entry, where known (SecretFlow rebuilds it with ``torch.Tensor(v)``, to
        which a
            0-d integer is a size). A counter of a freshly built model is 0.
        alias_of: the key of the earlier entry that is the same tensor, for shared modules and tied weights.
        lazy: whether it is known to be a parameter that no forward has initialised.
        own: the name under which its module has it, where that is not the last component of the key.
        seen: what it follows as a running statistic, where a forward of a copy showed it and no name says it.
    """

    key: str
    shape: Shape | None
    dtype: str | None
    kind: Literal["parameter", "buffer"]
    module: str
    value: int | None = None
    alias_of: str | None = None
    lazy: bool = False
    own: str | None = None
    seen: Role | None = None

    @property
    def name(self) -> str:
        """What its module calls it, as a rule the last component of the key: ``running_mean``."""
        return self.key.rpartition(".")[2] if self.own is None else self.own

    @property
    def statistic(self) -> Role | None:
        """What it follows, if it is a running statistic; None if nothing says that it is one."""
        return role_of(self.name) if self.seen is None else self.seen

    @property
    def top(self) -> str:
        """The first component of the key: the attribute of the root that holds it."""
        return self.key.partition(".")[0]


@dataclass(frozen=True, slots=True)
class NormLayer:
    """A BatchNorm-like module: a ``_BatchNorm``, or any other layer that owns running statistics.

    Attributes:
        path: dotted path of the module, "" for the root. A module registered twice is listed once for each path.
        type: class name as its author wrote it (``BatchNorm2d``, ``BatchNormAct2d``, ``FrozenBatchNorm2d``).
        batchnorm: whether ``isinstance(module, torch.nn.modules.batchnorm._BatchNorm)`` holds (for Keras,
            ``isinstance(layer, tf.keras.layers.BatchNormalization)``); None if unknown.
        tracked: whether it keeps running statistics; None if unknown.
        affine: whether it has weight and bias; None if unknown.
        features: the number of channels; None if unknown or not applicable.
        momentum, eps: floats; ``momentum`` None with ``cumulative`` True is torch's ``momentum=None``.
        lazy: an uninitialised Lazy* module, whose entries have no shape yet.
        family: ``batch``, ``instance``, ``sync`` or ``other`` (frozen, EvoNorm, functional ``batch_norm``): what the
        rules on
            model state ask for.
        location: where the source constructs it, if read from source.
        seen: names of its running statistics, and what they follow, where a forward of a copy showed it and no name
            says it. There may be some that are in no state dict.
    """

    path: str
    type: str
    batchnorm: bool | None = True
    tracked: bool | None = True
    affine: bool | None = True
    features: int | None = None
    momentum: float | None = 0.1
    cumulative: bool | None = False
    eps: float | None = 1e-5
    lazy: bool = False
    family: Literal["batch", "instance", "sync", "other"] = "batch"
    location: Location | None = None
    seen: tuple[tuple[str, Role], ...] = ()

    @property
    def nested(self) -> bool | None:
        """Whether it lies below the top level, where SecretFlow's ``skip_bn`` does not look; None if not known."""
        return None if self.path == SOMEWHERE else "." in self.path


@dataclass(frozen=True, slots=True)
class Gap:
    """A place where entries may exist that are not known: none, some, of any kind, norm layers among them.

    Attributes:
        index: the unknown entries stand before ``entries[index]``; ``len(entries)`` is the end.
        path: the module below which they lie, "" for the root.
        reason: what the reader met, in words for a person.
        location: where.
        may_hold_norm: False if norm layers are known not to be among them.
    """

    index: int
    path: str
    reason: str
    location: Location | None = None
    may_hold_norm: bool = True


@dataclass(frozen=True, slots=True)
class Reload:
    """What became of a copy of a model that was given its own state back as a plain dict, where that is no matter of
    course.

    Attributes:
        known: whether it could be tried.
        strict, lenient: the error of ``load_state_dict`` with ``strict`` True and False, as its type's name and its
            text; None is none.
        noted: whether what is refused is taken with the versions that torch notes in a state dict, and that a plain
            dict has not.
        forgiving: whether ``load_state_dict(strict=True)`` does not mind missing keys: the model has one of its own.
        deaf: the keys of entries that stayed as they were although ``load_state_dict(strict=False)`` was given others.
    """

    known: bool = True
    strict: tuple[str, str] | None = None
    lenient: tuple[str, str] | None = None
    noted: bool = False
    forgiving: bool = False
    deaf: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Profile:
    """An ordered list of state entries, and the norm layers among the modules.

    Attributes:
        entries: in state dict order, unless ``ordered`` is False.
        norms: in module order. Listed too when they own no entry (``affine=False, track_running_stats=False``).
        gaps: ordered by index; empty for an exact profile.
        framework: ``torch`` or ``keras``.
        type: the root's class name, for messages.
        ordered: whether the order of the entries is that of the state dict. A safetensors file and a checkpoint in
            shards do not keep it, and what depends on the order is then unknown.
        renamed: whether keys are other than the paths of what they name: the model makes its state dict in a way of
            its own, or a wrapper hides in them. What goes by the attributes of the root is then unknown.
        reload: whether the model takes back what its state dict gives, where something in it says that it may not;
            None: nothing does.
    """

    entries: tuple[StateEntry, ...]
    norms: tuple[NormLayer, ...] = ()
    gaps: tuple[Gap, ...] = ()
    framework: Literal["torch", "keras"] = "torch"
    type: str = ""
    ordered: bool = True
    renamed: bool = False
    reload: Reload | None = None

    def __hash__(self) -> int:
        # Plans for a hundred settings ask what is kept for the profile; to go through all entries each time would take
        # longer than what is kept.
        return hash((self.type, len(self.entries), self.entries[-1:], len(self.norms), self.norms[-1:], self.gaps))

    @property
    def complete(self) -> bool:
        """Whether every entry's existence is known (shapes and dtypes may still be unknown)."""
        return not self.gaps

    def norm_at(self, path: str) -> NormLayer | None:
        """The norm layer at a module path, or None."""
        return next((norm for norm in self.norms if norm.path == path), None)


def tensor_groups(profile: Profile) -> list[int]:
    """For each entry the index of the first entry that is the same tensor."""
    index = {entry.key: number for number, entry in enumerate(profile.entries)}
    groups: list[int] = []
    for number, entry in enumerate(profile.entries):
        first = index.get(entry.alias_of, number) if entry.alias_of is not None else number
        groups.append(groups[first] if first < number else number)
    return groups
