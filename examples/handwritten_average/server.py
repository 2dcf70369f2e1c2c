import copy


def weighted_average(updates):
    total = sum(n for _, n in updates)
    average = copy.deepcopy(updates[0][0])
    for key in average:
        average[key] = average[key] * (updates[0][1] / total)
        for state, n in updates[1:]:
            average[key] = average[key] + state[key] * (n / total)
    return average


class Server:
    def __init__(self, model, clients):
        self.model = model
        self.clients = clients

    def round(self):
        updates = [client.update(copy.deepcopy(self.model)) for client in self.clients]
        self.model.load_state_dict(weighted_average(updates))
