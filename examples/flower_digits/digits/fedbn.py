"""FedBN: the same app, with a mod that keeps BatchNorm with its node, and a strategy that knows of it."""

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from bn_audit.federated.flower import FedBN, LocalBatchNormMod
from digits.data import load_party
from digits.model import Net, accuracy, fit

client = ClientApp(mods=[LocalBatchNormMod(Net)])


@client.train()
def train(message, context):
    model = Net()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    (images, labels), _ = load_party(context)
    fit(model, images, labels, seed=message.content["config"]["server-round"])
    metrics = MetricRecord({"num-examples": len(images)})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


@client.evaluate()
def evaluate(message, context):
    model = Net()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    _, (images, labels) = load_party(context)
    metrics = MetricRecord({"num-examples": len(images), "accuracy": accuracy(model, images, labels)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def strategy():
    return FedBN(model=Net())
