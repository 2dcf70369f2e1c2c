"""What a user says of a client of Flower or NVFlare, and the settings it comes to."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from bn_audit.exchange.flower import FlowerSettings
    from bn_audit.exchange.keep import Keep
    from bn_audit.exchange.nvflare import NVFlareSettings
    from bn_audit.loading import How

__all__ = ["OWN", "REBUILDS", "ClientOptions", "checked", "flower_settings", "nvflare_settings"]

REBUILDS = ("torch.tensor", "torch.Tensor", "torch.from_numpy")

_SHARED = ("keep_norms", "keep_local", "strict")
OWN = {
    "flower": ("api", "rebuild", "flwr_version", *_SHARED),
    "nvflare": ("exchange", "transfer", "exclude_vars", "nvflare_version", *_SHARED),
}
"""The options that mean something to a framework, besides the strategy."""


class ClientOptions(TypedDict, total=False):
    """What may be said; None is what is not said.

    Attributes:
        api: Flower: ``numpy`` for lists of arrays (NumPyClient), the default, or ``message`` for records by key.
        rebuild: Flower: how a NumPyClient makes tensors of arrays, ``torch.tensor`` by default.
        flwr_version: Flower's release; the newest by default.
        exchange: NVFlare: the format that the server expects, ``numpy`` by default.
        transfer: NVFlare: whole parameters (``full``, the default) or the difference from what was received.
        exclude_vars: NVFlare: of the aggregator, a regular expression: keys it does not average.
        nvflare_version: NVFlare's release; the newest by default.
        keep_norms: whether every client keeps its norm layers to itself, picked by module.
        keep_local: words; every client keeps what has one of them in its key.
        strict: of ``load_state_dict``; by default True, unless something is kept.
    """

    api: Literal["numpy", "message"] | None
    rebuild: Literal["torch.tensor", "torch.Tensor", "torch.from_numpy"] | None
    flwr_version: str | None
    exchange: Literal["numpy", "pytorch"] | None
    transfer: Literal["full", "diff"] | None
    exclude_vars: str | None
    nvflare_version: str | None
    keep_norms: bool | None
    keep_local: Sequence[str]
    strict: bool | None


def checked(framework: str | None, options: Mapping[str, object]) -> None:
    """See to it that every option that is said is one of the framework's.

    Raises:
        TypeError: there is no such option.
        ValueError: it is one of another framework, or has a value that it cannot have.
    """
    known = list(dict.fromkeys(name for own in OWN.values() for name in own))
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, [*known, "aggregator", "skip_bn", "strategy"], n=1)
            raise TypeError(f"there is no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if value is None:
            continue
        if name not in OWN.get(framework or "", ()):
            whose = " and ".join(repr(other) for other, own in OWN.items() if name in own)
            raise ValueError(f"{name} is for {whose}, and the framework is {framework!r}")
        choices = _CHOICES.get(name)
        if choices is not None and value not in choices:
            raise ValueError(f"{name} is one of {', '.join(choices)}, and not {value!r}")


_CHOICES = {
    "api": ("numpy", "message"),
    "rebuild": REBUILDS,
    "exchange": ("numpy", "pytorch"),
    "transfer": ("full", "diff"),
}


def flower_settings(strategy: str | None, options: ClientOptions) -> FlowerSettings:
    """The settings of a Flower app.

    Raises:
        ValueError: a strategy that is not known, or a way to rebuild arrays where none travel.
    """
    from bn_audit.exchange.flower import STRATEGIES, FlowerSettings
    from bn_audit.handwritten import Rebuild

    written = options.get("rebuild")
    if options.get("api") == "message" and written is not None:
        raise ValueError("rebuild is for the api numpy; an ArrayRecord has to_torch_state_dict()")
    rebuild = dict(zip(REBUILDS, (Rebuild.TENSOR, Rebuild.TENSOR_CLASS, Rebuild.FROM_NUMPY), strict=True))
    return FlowerSettings(
        api=options.get("api") or "numpy",
        strategy=_strategy(strategy, "Flower", STRATEGIES),
        rebuild=rebuild[written or REBUILDS[0]],
        keeps=_keep(options),
        load=_load(options),
        flwr_version=_version(options.get("flwr_version")),
    )


def nvflare_settings(strategy: str | None, options: ClientOptions) -> NVFlareSettings:
    """The settings of an NVFlare job.

    Raises:
        ValueError: a strategy that is not known, or a regular expression that is none.
    """
    import re

    from bn_audit.exchange.nvflare import STRATEGIES, NVFlareSettings

    pattern = options.get("exclude_vars")
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise ValueError(f"exclude_vars {pattern!r} is no regular expression: {error}") from error
    return NVFlareSettings(
        strategy=_strategy(strategy, "NVFlare", STRATEGIES),
        exchange=options.get("exchange") or "numpy",
        transfer=options.get("transfer") or "full",
        exclude_vars=pattern,
        keeps=_keep(options),
        load=_load(options),
        nvflare_version=_version(options.get("nvflare_version")),
    )


def _strategy(asked: str | None, name: str, known: Sequence[str]) -> str:
    strategy = asked or "fedavg"
    if strategy not in known:
        raise ValueError(f"of {name}'s strategies {', '.join(known)} are known, and {strategy!r} is not")
    return strategy


def _version(text: str | None) -> str | None:
    from bn_audit.settings.versions import parse_version

    return None if text is None else parse_version(text)


def _keep(options: ClientOptions) -> Keep:
    from bn_audit.exchange.keep import Keep

    words = options.get("keep_local") or ()
    # One word is a sequence of letters, which nobody means.
    return Keep(bool(options.get("keep_norms")), (words,) if isinstance(words, str) else tuple(words))


def _load(options: ClientOptions) -> How:
    from bn_audit.loading import How

    strict = options.get("strict")
    return How.STATE_DICT if (not _keep(options) if strict is None else strict) else How.LENIENT
