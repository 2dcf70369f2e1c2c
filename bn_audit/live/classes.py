"""What a model's class tells without being run: where it is defined, and whether it is SecretFlow's."""

from __future__ import annotations

import inspect
import os

from bn_audit.finding import Location

__all__ = ["defined_at", "is_base_module"]


def defined_at(model: type) -> Location:
    """The line that begins a class; the class's name as path where there is no source (made in a shell, compiled)."""
    try:
        file = inspect.getsourcefile(model)
        _, line = inspect.getsourcelines(model)
    except (TypeError, OSError):
        file, line = None, 1
    if file is None:
        return Location(model.__qualname__, 1, 1, 1, 1)
    path = os.path.relpath(file)
    return Location(file if path.startswith(os.pardir) else path, line, 1, line, 1)


def is_base_module(model: type) -> bool:
    """Whether a class derives from SecretFlow's BaseModule, wherever the release keeps it. Errors of its
    ``load_state_dict`` then name the class itself."""
    return any(
        base.__name__ == "BaseModule" and base.__module__.partition(".")[0] in ("secretflow", "secretflow_fl", "sfl")
        for base in model.__mro__
    )
