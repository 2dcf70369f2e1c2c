"""What settings teach the reader: names that it could not know, or could not follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

__all__ = ["Taught", "Teacher"]


class Taught(NamedTuple):
    """Names of functions and classes, dotted from the top: as they are imported, or by the module that defines them.

    Attributes:
        models_with_batchnorm: their result is a model with a BatchNorm of torch in it that has running statistics.
        models_without_batchnorm: their result is a model without any layer that has running statistics.
        batchnorm_classes: classes that keep running statistics as BatchNorm does; a name without a dot stands for every
            class of that name.
        flmodel_wrappers: they take FLModel's parameters by name and make an FLModel.
    """

    models_with_batchnorm: frozenset[str] = frozenset()
    models_without_batchnorm: frozenset[str] = frozenset()
    batchnorm_classes: frozenset[str] = frozenset()
    flmodel_wrappers: frozenset[str] = frozenset()

    @property
    def triggers(self) -> tuple[str, ...]:
        """The names by which a file may call something that makes an FLModel, sorted."""
        return tuple(sorted({name.rpartition(".")[2] for name in self.flmodel_wrappers}))

    @property
    def summary(self) -> str:
        """All of it in one line, the same for equal ones."""
        return "; ".join(" ".join(sorted(names)) for names in self)

    def makes_model(self, names: Iterable[str]) -> bool:
        """Whether something known by these names makes a model."""
        known = self.models_with_batchnorm | self.models_without_batchnorm
        return any(name in known for name in names)

    def is_batchnorm(self, names: Iterable[str]) -> bool:
        """Whether something known by these names is a BatchNorm-like class."""
        return any(
            name in self.batchnorm_classes or name.rpartition(".")[2] in self.batchnorm_classes for name in names
        )


Teacher = Callable[[str], "Taught | None"]
"""What the settings of a file, by its path, teach the reader; None if they say nothing."""
