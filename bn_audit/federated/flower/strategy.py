"""FedBN as a strategy of Flower's message API, alone or in front of another strategy."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result
from torch import nn

from bn_audit.federated.errors import AggregationError
from bn_audit.federated.flower.form import Integers, form_of
from bn_audit.federated.flower.records import checked, name_in
from bn_audit.federated.flower.statistics import STATISTICS, unpacked
from bn_audit.federated.monitor import LayerStatistics, Monitor
from bn_audit.running import role_of

__all__ = ["FedBN", "Rejected"]

BadReplies = Literal["raise", "leave-out"]
_log = logging.getLogger("flwr.bn_audit")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A reply that was not taken.

    Attributes:
        round: its number.
        node: that sent it.
        reason: what was wrong with it, the node named.
    """

    round: int
    node: int
    reason: str


class FedBN(FedAvg):
    """Federated averaging of everything but BatchNorm, which stays with its node::

        strategy = FedBN(model=Net(), fraction_train=0.5)
        result = strategy.start(grid, initial_arrays=ArrayRecord(Net().state_dict()), num_rounds=30)

    Li et al., FedBN: Federated Learning on Non-IID Features via Local Batch Normalization, ICLR 2021. The nodes use
    :class:`LocalBatchNormMod`, or :func:`load_arrays` and :func:`make_arrays`.

    In front of another strategy derived from FedAvg it makes FedBN of that one, with its arguments::

        class FedBNAdam(FedBN, FedAdam): ...
        strategy = FedBNAdam(model=Net(), eta=0.01)

    What it adds: BatchNorm is taken out of the initial arrays; what is sent is what the model shares, no more and no
    less; replies are looked at before any of them is used, and held in one order, since some strategies pair by
    position; and what comes of an aggregation is in the dtypes that were sent. ``Result.arrays`` and the arrays that
    ``evaluate_fn`` is given hold no BatchNorm, because there is none that is common to all.

    Args:
        *args, **kwargs: the arguments of FedAvg, or of the strategy behind this one.
        model: as the nodes have it; only its keys, shapes and dtypes count. It may be on the meta device.
        integers: what becomes of integers and bools that are no BatchNorm's: ``refuse`` the model, or keep them
            ``local``; the same as the nodes have.
        bad_replies: whether a reply that is not as it should be (a key missing or one too many, BatchNorm among them,
            another shape, another kind of dtype) ends the run, or is left out and told in the log. The node is named.
        monitor: is told the statistics of the nodes that share them.

    Raises:
        AggregationError: the model has entries that can neither travel nor stay, or that the strategy has no
            arithmetic for.
        ValueError: no such policy.

    Attributes:
        rejected: the replies that were left out.
    """

    def __init__(
        self,
        *args: Any,
        model: nn.Module,
        integers: Integers = "refuse",
        bad_replies: BadReplies = "raise",
        monitor: Monitor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if bad_replies not in ("raise", "leave-out"):
            raise ValueError(f'bad_replies has to be "raise" or "leave-out", not {bad_replies!r}')
        self.form = form_of(model, integers)
        # FedAdam and its like keep moments, of which complex numbers have others.
        complex_key = next((key for key, entry in self.form.shared.items() if entry.dtype.is_complex), None)
        if hasattr(self, "beta_1") and complex_key is not None:
            raise AggregationError(f"complex, which {type(self).__name__} has no arithmetic for", key=complex_key)
        on_meta = any(value.device.type == "meta" for value in model.state_dict().values())
        self._begun = {} if on_meta else self.form.arrays(model, self.form.local)
        self.bad_replies = bad_replies
        self.monitor = monitor
        self.rejected: list[Rejected] = []
        self._told = False

    def summary(self) -> None:
        """Log what is shared and what is not, and the strategy's own summary."""
        _log.info(
            "\t├──> FedBN: %d entries shared, %d stay with the nodes", len(self.form.shared), len(self.form.local)
        )
        super().summary()

    def start(self, grid: Grid, initial_arrays: ArrayRecord, *args: Any, **kwargs: Any) -> Result:
        """Run the federation; see Flower's ``Strategy.start``.

        Args:
            initial_arrays: a whole state, or what :func:`make_arrays` makes of one.

        Raises:
            AggregationError: they are not the model's. Nothing has been sent then.
        """
        shared = self._shared(initial_arrays)
        other = next((key for key in self._begun if key in initial_arrays and self._differs(key, initial_arrays)), None)
        if other is not None:
            _log.warning(
                "%s of the initial arrays is not the model's, and is not sent: BatchNorm stays with the nodes, which "
                "begin with what their own model is made with. Let model_fn make one that has it",
                other,
            )
        return super().start(grid, shared, *args, **kwargs)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Flower's, of what is shared."""
        messages = list(super().configure_train(server_round, self._shared(arrays), config, grid))
        self._check_outgoing(messages)
        return messages

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Flower's, of what is shared."""
        messages = list(super().configure_evaluate(server_round, self._shared(arrays), config, grid))
        self._check_outgoing(messages)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Flower's, of the replies that are as they should be.

        Raises:
            AggregationError: one is not, unless such are left out; or all of them.
        """
        statistics: dict[str, dict[str, LayerStatistics]] = {}
        taken = self._taken(server_round, replies, lambda reply: self._take(reply, statistics))
        self._record(server_round, statistics, taken)
        arrays, metrics = super().aggregate_train(server_round, taken)
        return None if arrays is None else self._restored(arrays), metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Flower's, of the replies that hold no BatchNorm."""
        return super().aggregate_evaluate(
            server_round, self._taken(server_round, replies, lambda reply: self._refuse_batchnorm(reply, but=""))
        )

    def _shared(self, arrays: ArrayRecord) -> ArrayRecord:
        """What of these arrays is sent."""
        rest = {key: array for key, array in arrays.items() if key not in self.form.local}
        found = checked(
            rest,
            self.form.shared,
            party="the server's arrays",
            missing="missing: make them with make_arrays(model), of the model that FedBN was given",
            extra="",
        )
        return self._in_wire(rest, found)

    def _differs(self, key: str, arrays: ArrayRecord) -> bool:
        """Whether it is other BatchNorm than that of the model FedBN was given: trained, most likely."""
        return not np.array_equal(arrays[key].numpy(), self._begun[key])

    def _in_wire(self, arrays: dict[str, FlowerArray], values: dict[str, Any]) -> ArrayRecord:
        shared = ArrayRecord()
        for key, value in values.items():
            wire = self.form.shared[key].wire
            shared[key] = arrays[key] if value.dtype == wire else FlowerArray(value.astype(wire))
        return shared

    def _restored(self, arrays: ArrayRecord) -> ArrayRecord:
        """What a strategy made of the replies, in the dtypes that were sent."""
        found = checked(
            arrays,
            self.form.shared,
            party=type(self).__name__,
            missing="lost in the aggregation: the strategy behind FedBN does not hand out what it was given",
            extra="",
        )
        return self._in_wire(dict(arrays.items()), found)

    def _check_outgoing(self, messages: Iterable[Message]) -> None:
        for message in messages:
            for record in message.content.array_records.values():
                key = next((key for key in record if key in self.form.local), None)
                if key is not None:
                    raise AggregationError(
                        f"stays with the nodes, and {type(self).__name__} would send it",
                        party=f"node {message.metadata.dst_node_id}",
                        key=key,
                    )

    def _taken(self, server_round: int, replies: Iterable[Message], take: Callable[[Message], None]) -> list[Message]:
        """The replies that are errors already, for Flower to tell of, and those that can be taken."""
        taken: list[Message] = []
        rejected: list[Rejected] = []
        for reply in replies:
            if not reply.has_error():
                try:
                    take(reply)
                except AggregationError as error:
                    rejected.append(Rejected(server_round, reply.metadata.src_node_id, str(error)))
                    continue
            taken.append(reply)
        if not rejected:
            return taken
        reasons = "; ".join(one.reason for one in rejected)
        nothing_left = all(reply.has_error() for reply in taken)
        if self.bad_replies == "raise" or nothing_left:
            remedy = "" if nothing_left else ' (bad_replies="leave-out" goes on without)'
            raise AggregationError(f"round {server_round}: {reasons}{remedy}")
        self.rejected.extend(rejected)
        for one in rejected:
            _log.error("round %d: a reply is left out: %s", server_round, one.reason)
        return taken

    def _take(self, reply: Message, statistics: dict[str, dict[str, LayerStatistics]]) -> None:
        """Look at a reply, and put its arrays into the order and the dtypes in which all have them."""
        node = f"node {reply.metadata.src_node_id}"
        content = reply.content
        told = content.config_records.get(STATISTICS)
        own = None
        if told is not None:
            own = self._statistics(told, node, statistics)
            del content[STATISTICS]
        name = name_in(content, self.form, self.arrayrecord_key, node, needed=True)
        assert name is not None
        self._refuse_batchnorm(reply, but=name)
        record = content.array_records[name]
        found_arrays = checked(
            record,
            self.form.shared,
            party=node,
            missing="missing in its reply: the node has another model, or sends a part of its state",
            extra="BatchNorm, which stays with the node, and was in its reply: use LocalBatchNormMod(model_fn) in the "
            "ClientApp, or make the reply with make_arrays(model, context)",
            known=self.form.local,
        )
        content[name] = self._in_wire(dict(record.items()), found_arrays)
        if own is not None:
            statistics[own[0]] = own[1]

    def _statistics(
        self, told: ConfigRecord, node: str, others: Collection[str]
    ) -> tuple[str, dict[str, LayerStatistics]]:
        party, found = unpacked(told, node)
        for path, layer in found.items():
            means = [key for key in self.form.local if _is_mean(key, path)]
            if layer.mean.size not in {math.prod(self.form.local[key].shape) for key in means}:
                raise AggregationError(
                    f"statistics of {layer.mean.size} channels, unlike the model's",
                    party=node,
                    key=next(iter(means), path),
                )
        if party in others:
            raise AggregationError(f"another node calls itself {party!r} too", party=node)
        return party, found

    def _refuse_batchnorm(self, reply: Message, but: str) -> None:
        for name, record in reply.content.items():
            key = next((key for key in record if key in self.form.local), None) if name != but else None
            if key is not None:
                raise AggregationError(
                    f"BatchNorm, which stays with the node, and was in the record {name!r} of its reply",
                    party=f"node {reply.metadata.src_node_id}",
                    key=key,
                )

    def _record(
        self, server_round: int, statistics: dict[str, dict[str, LayerStatistics]], taken: list[Message]
    ) -> None:
        if self.monitor is None:
            return
        silent = sum(not reply.has_error() for reply in taken) - len(statistics)
        if silent > 0 and not self._told:
            self._told = True
            _log.warning(
                "%d nodes share no statistics, and are not in %s: LocalBatchNormMod(..., share_statistics=True) does",
                silent,
                self.monitor.path,
            )
        self.monitor.record(server_round, statistics)


def _is_mean(key: str, path: str) -> bool:
    """Whether a key is that of a layer's running mean."""
    above, _, name = key.rpartition(".")
    return above == path and role_of(name) == "mean"
