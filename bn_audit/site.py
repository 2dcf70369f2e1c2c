"""Sites: places in the source where something federated happens, as plain data.

The source reader makes them and knows no rule; a rule judges them and knows no syntax tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bn_audit.finding import Edit, Evidence, Location
from bn_audit.profile import Profile
from bn_audit.wrapping import Wrapping

__all__ = ["Aggregator", "FLModelCall", "FLModelSite", "SkipBnEdit", "Unreadable"]

Aggregator = Literal["plain", "secure", "spu", "sparse", "server_agg_method", "none"]
"""What combines the parties' arrays; ``none``: neither an aggregator nor a ``server_agg_method``, so that no round
runs."""


@dataclass(frozen=True, slots=True)
class FLModelCall:
    """One possible reading of an FLModel call: every setting None where it is not known.

    Attributes:
        model: the model's profile, partial or not; None where the trail to the model broke.
        model_name: what a message calls the model (``ConvNetBN``, ``torchvision.models.resnet18``); "" if it has no
        name.
        model_trail: from the argument to the model's definition, in order.
        unresolved: if ``model`` is None, the step at which the trail ended and why.
        backend: ``torch``, ``tensorflow``, or another string as written; None if unknown.
        strategy: as written; None if unknown.
        aggregator: None if unknown.
        skip_bn: its value; None if unknown.
        skip_bn_passed: whether the call passes ``skip_bn`` at all; None if it may come in through ``**kwargs``.
        settings_trail: where settings that are not literals in the call itself come from.
        base_module: whether the model derives from SecretFlow's BaseModule, whose errors name the model's own class;
        None if
            unknown.
        wrapped: how ``local_batchnorm`` was called to make the model; None if it was not.
            Known even where the model is not.
        trains_after_eval: for BNA303: the ``fit`` with validation data, or the evaluation before another ``fit``, on
        this very
            FLModel; empty if there is none.
        conditions: what had to be assumed for this reading, in words (``args.bn is true``); empty if nothing.
    """

    model: Profile | None
    model_name: str = ""
    model_trail: tuple[Evidence, ...] = ()
    unresolved: Evidence | None = None
    backend: str | None = "tensorflow"
    strategy: str | None = "fed_avg_w"
    aggregator: Aggregator | None = None
    skip_bn: bool | None = False
    skip_bn_passed: bool | None = False
    settings_trail: tuple[Evidence, ...] = ()
    base_module: bool | None = None
    wrapped: Wrapping | None = None
    trains_after_eval: tuple[Evidence, ...] = ()
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SkipBnEdit:
    """What to write so that a call passes ``skip_bn=True``. Nothing else that the reader sees of the call changes.

    The edits lie in the file, and the cell, of the site's ``location``: in the call there, or where the one variable
    that it takes the value from is assigned.

    Attributes:
        edits: in source order. Line ends in their content are ``\\n``; the file's own take their place.
        argument: how the call then says it: ``skip_bn=True``, or ``fedbn=True`` where a helper names it so.
        holder: the variable whose value is changed; "" if the edits lie in the call.
        shared: whether other files may read that variable.
    """

    edits: tuple[Edit, ...]
    argument: str = "skip_bn=True"
    holder: str = ""
    shared: bool = False


@dataclass(frozen=True, slots=True)
class FLModelSite:
    """A call of SecretFlow's FLModel, or of a helper that forwards the model or ``skip_bn`` to one.

    Attributes:
        location: the outermost call that settles model and ``skip_bn``: where a finding stands.
        call: the FLModel call itself; the same as ``location`` unless a helper lies between.
        through: the calls between the two, outermost first.
        skip_bn_edit: what to write so that the call passes ``skip_bn=True``; None if it may do so already, if the model
            has nothing to skip, or where no edit is certain to do just that.
        wrap_edits: what to write so that ``local_batchnorm`` makes the model, its import among it, in source order;
            empty where the model is wrapped already, has no norm layer, or it cannot be told what to wrap.
        readings: the possible readings of the call, of which one is true. A rule speaks only if it would in each of
        them.
    """

    location: Location
    call: Location
    readings: tuple[FLModelCall, ...]
    through: tuple[Evidence, ...] = ()
    skip_bn_edit: SkipBnEdit | None = None
    wrap_edits: tuple[Edit, ...] = ()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file, or a notebook's cell, that could not be read or parsed (BNA901)."""

    location: Location
    reason: str
