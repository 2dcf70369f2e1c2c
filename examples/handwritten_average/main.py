import argparse

from client import Client
from server import Server

from data import loaders
from model import MLP, DigitNet


def build(name):
    if name == "cnn":
        return DigitNet()
    return MLP()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=["cnn", "mlp"], default="cnn")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    server = Server(build(args.model), [Client(loader, lr=0.05) for loader in loaders()])
    for _ in range(args.rounds):
        server.round()
