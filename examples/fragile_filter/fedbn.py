import copy

import torch

from model import SmallResNet


def communicate(server, clients, weights):
    with torch.no_grad():
        for key in server.state_dict():
            if "bn" not in key:
                mean = torch.zeros_like(server.state_dict()[key], dtype=torch.float32)
                for client, weight in zip(clients, weights, strict=True):
                    mean += weight * client.state_dict()[key]
                server.state_dict()[key].copy_(mean)
                for client in clients:
                    client.state_dict()[key].copy_(server.state_dict()[key])


if __name__ == "__main__":
    server = SmallResNet()
    clients = [copy.deepcopy(server) for _ in range(4)]
    communicate(server, clients, [0.25] * 4)
