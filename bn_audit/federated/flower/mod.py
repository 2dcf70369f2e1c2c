"""The mod for a ClientApp: whatever the app does with whole state dicts, BatchNorm stays with its node."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping

import torch
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, Context, Message, RecordDict
from torch import nn

from bn_audit.federated.errors import AggregationError
from bn_audit.federated.flower.direct import FROM_SERVER, MISSING
from bn_audit.federated.flower.form import Array, Form, Integers, form_of
from bn_audit.federated.flower.keeping import folder_of, keep, kept, node_name, record_kept
from bn_audit.federated.flower.records import NAME, checked, name_in
from bn_audit.federated.flower.statistics import STATISTICS, packed, statistics_in
from bn_audit.federated.monitor import Monitor

__all__ = ["LocalBatchNormMod"]

_TRAIN, _EVALUATE = "train", "evaluate"
_ROUND = "server-round"
"""What Flower's strategies tell in the config of a message."""
_log = logging.getLogger("flwr.bn_audit")


class LocalBatchNormMod:
    """Keeps BatchNorm with the node, for apps that load and send whole state dicts::

        app = ClientApp(mods=[LocalBatchNormMod(Net)])

    A message that comes in holds everything but BatchNorm; the app sees it with the node's own BatchNorm added, as the
    last training left it, or as the model is made with if there was none. A reply to a training is taken apart again:
    BatchNorm goes to ``context.state``, the rest to the server. It should be the last of the mods, so that others, such
    as Flower's ``LocalDpMod``, see what is sent. An app that sends what :func:`make_arrays` made may do so.

    Nothing else gets through: a reply with BatchNorm in another record, a reply to an evaluation that has some, or one
    with entries missing, of another shape or none of the model's, is an error, which Flower tells the server of.

    Args:
        model_fn: makes the model, of no argument or of the ``Context``; it is called once a run in every process.
        record: the name of the ArrayRecord with the model, if the messages have several; the strategy's
            ``arrayrecord_key``.
        integers: what becomes of integers and bools that are no BatchNorm's: ``refuse`` the model, or keep them
            ``local``.
        share_statistics: send the running statistics with every reply to a training, for the server's monitor
            (:class:`~bn_audit.federated.monitor.Monitor`). **They describe the node's data**, and a warning says so.
        party: what a monitor shall call the node, made of its context; by default the number of the node.

    Raises:
        TypeError: ``model_fn`` cannot be called.
        ValueError: no such policy for integers.
    """

    def __init__(
        self,
        model_fn: Callable[..., nn.Module],
        *,
        record: str = NAME,
        integers: Integers = "refuse",
        share_statistics: bool = False,
        party: Callable[[Context], str] | None = None,
    ) -> None:
        if not callable(model_fn) or isinstance(model_fn, nn.Module):
            raise TypeError(f"model_fn has to be something that makes a model, not {type(model_fn).__name__}")
        if integers not in ("refuse", "local"):
            raise ValueError(f'integers has to be "refuse" or "local", not {integers!r}')
        self.model_fn = model_fn
        self.record = record
        self.integers: Integers = integers
        self.share_statistics = share_statistics
        self.party = party
        self._made: tuple[int, Form, dict[str, Array]] | None = None
        self._warned: set[int] = set()

    def __call__(self, message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        """Hand a message to the app, and its reply back.

        Raises:
            AggregationError: as the class says; what the node keeps is unchanged then, unless the app kept it itself.
        """
        party = node_name(context)
        form, begun = self._form(context)
        action = message.metadata.message_type.partition(".")[0]
        before = kept(context, form)
        name = name_in(message.content, form, self.record, party, needed=action in (_TRAIN, _EVALUATE))
        if name is not None:
            received = message.content.array_records[name]
            arrays = checked(received, form.shared, party=party, missing=MISSING, extra=FROM_SERVER, known=form.local)
            whole = _whole(form, received, arrays, begun if before is None else before)
            message.content = _with(message.content, name, whole)
        held = record_kept(context)
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        if action != _TRAIN:
            _refuse_batchnorm(reply.content, form, party, but="")
            return reply
        by_app = record_kept(context) is not held
        name = name_in(reply.content, form, self.record, party, needed=True)
        assert name is not None
        _refuse_batchnorm(reply.content, form, party, but=name)
        own = _own(reply.content.array_records[name], form, party, by_app)
        sent = _sent(reply.content.array_records[name], form, party)
        if own is not None:
            keep(context, own)
        else:
            own = kept(context, form) or {}
        reply.content = _with(reply.content, name, sent)
        self._tell(message, reply, context, own, begun if before is None else before)
        return reply

    def _form(self, context: Context) -> tuple[Form, dict[str, Array]]:
        """The model's form, and the BatchNorm that it begins with."""
        if self._made is None or self._made[0] != context.run_id:
            # The app's own random numbers are to be those it would have without the mod.
            with torch.random.fork_rng(devices=[]):
                model = self.model_fn(context) if _takes_context(self.model_fn) else self.model_fn()
            if not isinstance(model, nn.Module):
                raise TypeError(f"model_fn gave no module, but {type(model).__name__}")
            form = form_of(model, self.integers)
            self._made = (context.run_id, form, form.arrays(model, form.local))
        return self._made[1:]

    def _tell(
        self, message: Message, reply: Message, context: Context, own: Mapping[str, Array], before: Mapping[str, Array]
    ) -> None:
        """What a monitor is told: the node's own, in its folder, and the server's, if that was asked for."""
        folder = folder_of(context)
        if folder is None and not self.share_statistics:
            return
        statistics = statistics_in(own)
        party = str(context.node_id) if self.party is None else self.party(context)
        if folder is not None:
            number = _round(message.content)
            try:
                monitor = Monitor(folder / f"rounds-{context.run_id}.jsonl", resume=True)
                monitor.record_own(number, party, statistics, statistics_in(before))
            except (OSError, ValueError) as error:
                _log.warning("%s: the round is not in the node's history: %s", node_name(context), error)
        if self.share_statistics:
            if context.node_id not in self._warned:
                self._warned.add(context.node_id)
                _log.warning(
                    "%s sends the running statistics of %d norm layers to the server, since share_statistics=True. "
                    "They describe the node's data.",
                    node_name(context),
                    len(statistics),
                )
            reply.content[STATISTICS] = packed(party, statistics)


def _takes_context(function: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [
        one
        for one in parameters
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) == 1


def _whole(form: Form, received: ArrayRecord, shared: Mapping[str, Array], own: Mapping[str, Array]) -> ArrayRecord:
    """The model's whole state, in its own order and dtypes as far as NumPy has them."""
    whole = ArrayRecord()
    for key in form.order:
        if key in shared:
            array = shared[key]
            native = form.shared[key].native
            # What arrived as it is need not be written anew.
            whole[key] = received[key] if array.dtype == native else FlowerArray(array.astype(native))
        else:
            whole[key] = FlowerArray(own[key].astype(form.local[key].native))
    return whole


def _own(record: ArrayRecord, form: Form, party: str, by_app: bool) -> dict[str, Array] | None:
    """The BatchNorm in a reply; None if the app has kept it itself."""
    there = {key: array for key, array in record.items() if key in form.local}
    if by_app and not there:
        return None
    arrays = checked(
        there,
        form.local,
        party=party,
        missing="missing in the reply: send the whole state dict, BatchNorm is taken out of it here; or make the "
        "record with make_arrays(model, context)",
        extra="",
    )
    return {key: array.astype(form.local[key].wire) for key, array in arrays.items()}


def _sent(record: ArrayRecord, form: Form, party: str) -> ArrayRecord:
    """What of a reply leaves the node, in the order of the model."""
    rest = {key: array for key, array in record.items() if key not in form.local}
    missing = "missing in the reply: the app has another model than model_fn makes, or sends a part of its state"
    arrays = checked(rest, form.shared, party=party, missing=missing, extra="")
    sent = ArrayRecord()
    for key, array in arrays.items():
        wire = form.shared[key].wire
        sent[key] = rest[key] if array.dtype == wire else FlowerArray(array.astype(wire))
    return sent


def _refuse_batchnorm(content: RecordDict, form: Form, party: str, but: str) -> None:
    for name, record in content.items():
        key = next((key for key in record if key in form.local), None) if name != but else None
        if key is not None:
            raise AggregationError(
                f"stays with the node, and is in the record {name!r} of the reply: leave it out",
                party=party,
                key=key,
            )


def _with(content: RecordDict, name: str, record: ArrayRecord) -> RecordDict:
    """The same content with one record in place of another. Nothing that others hold is changed."""
    whole = RecordDict(dict(content.items()))
    whole[name] = record
    return whole


def _round(content: RecordDict) -> int:
    for record in content.config_records.values():
        number = record.get(_ROUND)
        if isinstance(number, int):
            return number
    raise ValueError(f"the message does not say which round it is ({_ROUND!r} in its config)")
