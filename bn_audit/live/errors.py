"""What goes wrong between a TARGET and its profile, in words for the person who named it."""

from __future__ import annotations

from bn_audit import extras

__all__ = ["MissingExtra", "TargetError", "require_torch"]


class TargetError(Exception):
    """A TARGET that cannot be read: the command line prints the text and exits with status 2.

    Attributes:
        traceback: the traceback of the user's own code, ready to print, where that code raised; else "".
    """

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class MissingExtra(TargetError, extras.MissingExtra):
    """An optional dependency that the work at hand needs is not installed."""


def require_torch() -> None:
    """Make sure that torch can be imported, without importing it.

    Raises:
        MissingExtra: if torch is not installed.
    """
    try:
        extras.require_torch()
    except extras.MissingExtra as error:
        raise MissingExtra(str(error)) from None
