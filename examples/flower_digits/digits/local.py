"""Each party alone: it keeps its whole model, and sends nothing of it."""

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from digits.data import load_party
from digits.model import Net, accuracy, fit

client = ClientApp()


def own_model(message, context):
    """As the node left it; it begins with what the others begin with."""
    model = Net()
    model.load_state_dict(context.state.get("model", message.content["arrays"]).to_torch_state_dict())
    return model


@client.train()
def train(message, context):
    model = own_model(message, context)
    (images, labels), _ = load_party(context)
    fit(model, images, labels, seed=message.content["config"]["server-round"])
    context.state["model"] = ArrayRecord(model.state_dict())
    metrics = MetricRecord({"num-examples": len(images)})
    return Message(RecordDict({"arrays": message.content["arrays"], "metrics": metrics}), reply_to=message)


@client.evaluate()
def evaluate(message, context):
    model = own_model(message, context)
    _, (images, labels) = load_party(context)
    metrics = MetricRecord({"num-examples": len(images), "accuracy": accuracy(model, images, labels)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def strategy():
    return FedAvg()
