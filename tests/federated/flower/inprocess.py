"""Flower's own apps, strategies and messages in one process: only the network between them is replaced.

Every message is turned into the bytes that Flower would send, and made of them again on the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.serverapp import Grid

__all__ = ["Nodes", "Trainer", "context"]


def context(node: int, **config: Any) -> Context:
    """What a node has of its own."""
    return Context(run_id=7, node_id=node, node_config=config, state=RecordDict(), run_config={})


@dataclass
class Nodes(Grid):  # type: ignore[misc, unused-ignore]
    """Nodes with apps of their own.

    Attributes:
        app: what a node runs, or what each of them does.
        contexts: by node.
        absent: nodes that are not there at present.
        sent: all messages that went over the network, as bytes, in either direction.
    """

    app: ClientApp | Callable[[int], ClientApp]
    contexts: dict[int, Context]
    absent: set[int] = field(default_factory=set)
    sent: list[bytes] = field(default_factory=list)

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any: ...

    # A strategy calls only send_and_receive and get_node_ids; that it asks for more must not pass unseen.

    def create_message(self, *_: Any, **__: Any) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> Sequence[int]:
        return [node for node in self.contexts if node not in self.absent]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return [self._answered(self._over_the_network(message)) for message in messages]

    def messages(self) -> list[Message]:
        """What went over the network, in order."""
        return [message_from_proto(ProtoMessage.FromString(written)) for written in self.sent]

    def _over_the_network(self, message: Message) -> Message:
        written = message_to_proto(message)
        self.sent.append(written.SerializeToString())
        return message_from_proto(written)

    def _answered(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        app = self.app if isinstance(self.app, ClientApp) else self.app(node)
        try:
            reply = app(message, self.contexts[node])
        except Exception as error:
            # As a SuperNode has it.
            reply = Message(Error(code=1, reason=f"{type(error)}:<'{error}'>"), reply_to=message)
        return self._over_the_network(reply)


class Trainer(ClientApp):  # type: ignore[misc, unused-ignore]
    """An app as Flower's tutorials have it: it loads and sends the whole state dict.

    Args:
        make: the model.
        train: is given the model, the node's number and the round.
        send: what makes a record of the model; ``ArrayRecord(model.state_dict())`` by default.

    Attributes:
        seen: by node, the state that it was asked to evaluate last.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        train: Callable[[Any, int, int], None],
        *,
        mods: Sequence[Any] = (),
        record: str = "arrays",
        send: Callable[[Any, Context], ArrayRecord] | None = None,
    ) -> None:
        super().__init__(mods=list(mods))
        self.seen: dict[int, dict[str, Any]] = {}
        self.mods = list(mods)

        def loaded(message: Message) -> Any:
            model = make()
            model.load_state_dict(message.content[record].to_torch_state_dict())
            return model

        @self.train()
        def _(message: Message, own: Context) -> Message:
            model = loaded(message)
            train(model, own.node_id, message.content["config"]["server-round"])
            arrays = ArrayRecord(model.state_dict()) if send is None else send(model, own)
            metrics = MetricRecord({"num-examples": 10 * own.node_id, "size": 1.5})
            return Message(RecordDict({record: arrays, "metrics": metrics}), reply_to=message)

        @self.evaluate()
        def _(message: Message, own: Context) -> Message:
            self.seen[own.node_id] = loaded(message).state_dict()
            metrics = MetricRecord({"num-examples": 10, "loss": float(own.node_id)})
            return Message(RecordDict({"metrics": metrics}), reply_to=message)

        @self.query()
        def _(message: Message, own: Context) -> Message:
            return Message(RecordDict({"answer": ConfigRecord({"node": own.node_id})}), reply_to=message)
