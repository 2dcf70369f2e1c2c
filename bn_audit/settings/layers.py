"""One configuration over another: a file over the one it extends, flags over files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from bn_audit.settings.config import Config

__all__ = ["inherit", "override"]

_ABOUT = frozenset(["path", "root", "files", "origins"])
_SELECTION = ("select", "extend_select", "ignore")


def inherit(parent: Config, child: Config) -> Config:
    """A configuration over the one it extends: its values take the place of the parent's, ``extend-*`` are added."""
    merged = _over(parent, child, frozenset())
    merged["files"] = (*child["files"], *(file for file in parent["files"] if file not in child["files"]))
    return merged


def override(config: Config, flags: Config) -> Config:
    """Flags over a configuration. ``select`` begins the choice of rules anew, ``ignore`` adds to what is ignored."""
    if not flags:
        return config
    if "select" in flags:
        left = {key: value for key, value in config.items() if key not in _SELECTION}
        origins = config.get("origins", {})
        left["origins"] = {key: value for key, value in origins.items() if key.replace("-", "_") not in _SELECTION}
        config = cast("Config", left)
    return _over(config, flags, frozenset(["ignore"]))


def _over(below: Config, above: Config, added: frozenset[str]) -> Config:
    merged: dict[str, Any] = {**below, **above}
    origins = {**below.get("origins", {}), **above.get("origins", {})}
    for key, value in below.items():
        if key in above and key not in _ABOUT and (key.startswith("extend_") or key in added):
            merged[key] = (*cast("tuple[object, ...]", value), *merged[key])
            name = key.replace("_", "-")
            sources = (*below["origins"][name], *above["origins"][name])
            origins[name] = tuple(dict.fromkeys(sources))
    merged["origins"] = origins
    return cast("Config", merged)
