"""The frameworks whose clients are known: each module of this package that has a ``FRAMEWORK`` describes one.

There is nothing else to register.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil

from bn_audit.source.flow.frameworks.kinds import Framework

__all__ = ["frameworks", "held_by", "is_flow"]


@functools.cache
def frameworks() -> tuple[Framework, ...]:
    """Every framework there is, by title."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    found = [module.FRAMEWORK for module in modules if hasattr(module, "FRAMEWORK")]
    return tuple(sorted(found, key=lambda framework: framework.title))


@functools.cache
def is_flow(name: str) -> bool:
    """Whether a class of a framework, by its dotted name, is one whose steps get runs of their own flow."""
    return any(pattern.match(name) for framework in frameworks() for pattern in framework.flows)


@functools.cache
def held_by(name: str) -> tuple[tuple[str, str, int], ...]:
    """What the constructor of a framework's class keeps: attribute, argument and place; nothing for other classes."""
    return tuple(
        row
        for framework in frameworks()
        for kind in framework.clients
        if name.partition(".")[0] in framework.packages and kind.base.match(name)
        for row in kind.holds
    )
