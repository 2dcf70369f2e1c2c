"""Which releases are installed here, without importing them."""

from __future__ import annotations

__all__ = ["torch_release"]


def torch_release() -> str | None:
    """The release of torch that is installed; None if there is none.

    The parties of a federation are taken to run the same: texts of errors depend on it.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch").partition("+")[0]
    except PackageNotFoundError:
        return None
