"""Putting a module template together from entries of which some may not be certain."""

from __future__ import annotations

from typing import Literal

from bn_audit.profile import Shape
from bn_audit.source.state import ModuleState, NormTraits, Slot

__all__ = ["Builder"]


class Builder:
    """Collects what a module registers, in order, up to the first thing that is not certain.

    A template whose ``complete`` is False lists an exact beginning of what the module holds: an entry that may or may
    not exist hides all that follow, so that nobody takes their order for known.
    """

    def __init__(self, type_name: str, dtype: str | None = "float32") -> None:
        self.type = type_name
        self.dtype = dtype
        self.norm: NormTraits | None = None
        self.complete = True
        self._slots: list[Slot] = []
        self._children: list[tuple[str, ModuleState]] = []

    def parameter(self, name: str, shape: Shape | None, exists: bool | None = True) -> Builder:
        """A parameter of the module's dtype; ``exists`` None if it may or may not be there."""
        return self._entry(name, shape, self.dtype, "parameter", exists)

    def buffer(
        self, name: str, shape: Shape | None, dtype: str | None, exists: bool | None = True, value: int | None = None
    ) -> Builder:
        """A persistent buffer."""
        return self._entry(name, shape, dtype, "buffer", exists, value)

    def child(self, name: str, module: ModuleState) -> Builder:
        """A submodule."""
        if self.complete:
            self._children.append((name, module))
        return self

    def open(self) -> Builder:
        """From here on more may be registered."""
        self.complete = False
        return self

    def _entry(
        self,
        name: str,
        shape: Shape | None,
        dtype: str | None,
        kind: Literal["parameter", "buffer"],
        exists: bool | None,
        value: int | None = None,
    ) -> Builder:
        if exists is None:
            self.complete = False
        elif exists and self.complete:
            self._slots.append(Slot(name, shape, dtype, kind, value))
        return self

    def build(self) -> ModuleState:
        """The template. Parameters were added before buffers, as a state dict lists them."""
        return ModuleState(self.type, tuple(self._slots), tuple(self._children), self.norm, self.complete)
