"""An app for real runs, in Ray's processes or on SuperNodes: what each side saw lies in the folder ``BN_AUDIT_RUN``.

Nodes leave what they held after each training and at each evaluation; the server leaves every message that it sent and
got, as bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage

from bn_audit.federated import local_keys
from bn_audit.federated.flower import LocalBatchNormMod, make_arrays
from tests.federated.flower.models import Net, moved

__all__ = ["assert_no_batchnorm", "begun", "client_app", "folder", "last", "read"]


def folder() -> Path:
    return Path(os.environ["BN_AUDIT_RUN"])


def client_app(*, fails: tuple[int, int] = (-1, -1), lies: tuple[int, int] = (-1, -1)) -> ClientApp:
    """An app that loads and sends whole state dicts, below the mod.

    Args:
        fails: a party that fails after its training in a round.
        lies: a party that goes round the mod in a round, and sends its whole state.
    """

    def liar(message: Message, context: Context, call_next: Any) -> Message:
        reply = call_next(message, context)
        if message.metadata.message_type == "train" and lies == _where(message, context):
            reply.content["arrays"] = ArrayRecord(Net().state_dict())
        return reply

    app = ClientApp(mods=[liar, LocalBatchNormMod(Net)])

    def loaded(message: Message) -> Any:
        model = Net()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        return model

    @app.train()
    def train(message: Message, context: Context) -> Message:
        model = loaded(message)
        party, round_ = _where(message, context)
        moved(model, party, round_)
        if fails == (party, round_):
            raise RuntimeError("power cut")
        torch.save(model.state_dict(), folder() / f"trained-{party}-{round_:03}.pt")
        metrics = MetricRecord({"num-examples": 10 + party})
        return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        party, _ = _where(message, context)
        torch.save(loaded(message).state_dict(), folder() / f"seen-{party}.pt")
        return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1})}), reply_to=message)

    return app


def _where(message: Message, context: Context) -> tuple[int, int]:
    return int(context.node_config["partition-id"]), int(message.content["config"]["server-round"])


def read(grid: Any) -> Any:
    """The same grid, whose messages are left in the folder."""
    send = grid.send_and_receive

    def send_and_receive(messages: Iterable[Message], **options: Any) -> Iterable[Message]:
        sent = list(messages)
        replies = list(send(messages=sent, **options))
        for message in [*sent, *replies]:
            number = len(list(folder().glob("message-*")))
            (folder() / f"message-{number:04}").write_bytes(message_to_proto(message).SerializeToString())
        return replies

    grid.send_and_receive = send_and_receive
    return grid


def begun() -> ArrayRecord:
    torch.manual_seed(1)
    return make_arrays(Net())


# --- what a test asks of the folder -------------------------------------------------------------------------------


def last(run: Path, party: int) -> dict[str, Any]:
    """What a party held after its last training."""
    return dict(torch.load(max(run.glob(f"trained-{party}-*.pt"))))


def assert_no_batchnorm(run: Path) -> list[Message]:
    """No message has a key of BatchNorm, nor the bytes of a value that a node's BatchNorm had; all of them."""
    local = local_keys(Net())
    secret = {
        value.numpy().tobytes()
        for path in run.glob("trained-*.pt")
        for key, value in torch.load(path).items()
        if key in local and value.numel() > 1
    }
    assert len(secret) > 10
    messages = []
    for path in sorted(run.glob("message-*")):
        written = path.read_bytes()
        assert not any(value in written for value in secret), path.name
        assert not any(key.encode() in written for key in local), path.name
        messages.append(message_from_proto(ProtoMessage.FromString(written)))
    assert messages
    return messages
