"""What bn-audit can do without, by extra, and what to install where it is missing.

Messages name these packages and not ``bn-audit[...]``: bn-audit may have come from a checkout, and an index that does
not know it could one day have something else under its name.
"""

from __future__ import annotations

import importlib.util

__all__ = ["EXTRAS", "MissingExtra", "install", "require_torch"]

EXTRAS: dict[str, tuple[str, ...]] = {
    "torch": ("numpy>=1.26", "safetensors>=0.4", "torch>=2.2"),
    "train": ("matplotlib>=3.8", "scikit-learn>=1.3"),
    "compare": ("jinja2>=3.1", "matplotlib>=3.8", "scipy>=1.11"),
    "lsp": ("pygls>=2,<3",),
    "watch": ("watchfiles>=1,<2",),
    "monitor": ("tensorboard>=2.14",),
    "flower": ("flwr>=1.22,<2",),
}
"""The extras of pyproject.toml; those that need torch hold the extra ``torch`` besides."""


class MissingExtra(ImportError):
    """An optional dependency that the work at hand needs is not installed."""


def install(extra: str) -> str:
    """The command that installs what an extra holds, torch left out if the extra is another."""
    return "pip install " + " ".join(f"'{requirement}'" for requirement in EXTRAS[extra])


def require_torch() -> None:
    """Make sure that torch can be imported, without importing it.

    Raises:
        MissingExtra: if torch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra(f"this needs PyTorch, which is not installed: {install('torch')}")
