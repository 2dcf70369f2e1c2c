"""Settings of Flower and NVFlare, as names and values, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["FRAMEWORKS", "option_words", "other_settings"]

FRAMEWORKS = {"secretflow": "SecretFlow", "flower": "Flower", "nvflare": "NVFlare"}
_VALUES = {
    ("api", "numpy"): "NumPyClient",
    ("api", "message"): "ArrayRecord",
    ("exchange", "numpy"): "as arrays",
    ("exchange", "pytorch"): "as tensors",
    ("transfer", "full"): "whole parameters",
    ("transfer", "diff"): "differences",
    ("load", "load_state_dict(avg)"): "strict load",
    ("load", "load_state_dict(avg, strict=False)"): "load with strict=False",
}


def option_words(options: Sequence[tuple[str, str]]) -> str:
    """``NumPyClient``; ``as arrays, differences``."""
    return ", ".join(_words(options))


def other_settings(settings: Sequence[tuple[str, str]]) -> str:
    """``Flower 1.42: fedavg, NumPyClient, torch.tensor(v), load with strict=False, clients keep norm layers``."""
    known = dict(settings)
    name = FRAMEWORKS.get(known.get("framework", ""), "")
    version = next((f" {value}" for key, value in settings if key.endswith("_version")), "")
    options = [(key, value) for key, value in settings if key not in ("framework", "strategy")]
    told = [known.get("strategy", ""), *_words([pair for pair in options if not pair[0].endswith("_version")])]
    return f"{name}{version}: {', '.join(told)}"


def _words(options: Sequence[tuple[str, str]]) -> Iterator[str]:
    for name, value in options:
        if name == "keeps":
            yield f"clients keep {value}"
        elif name == "exclude_vars":
            yield f"exclude_vars {value}"
        else:
            yield _VALUES.get((name, value), value)
