"""Models that are changed after they were built: heads, norms, dtypes, wrappers, copies."""
import copy
from collections import OrderedDict

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, num_classes)


def build_new_head():
    model = Net()
    model.fc = nn.Linear(model.fc.in_features, 2, bias=False)
    return model


def build_identity_head():
    model = Net()
    model.fc = nn.Identity()
    model.classifier = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    return model


def build_deleted():
    model = Net()
    del model.fc
    delattr(model, "pool")
    del model.features[1]
    return model


def build_nested_assignment():
    model = Net()
    model.features[3][1] = nn.GroupNorm(2, 8)
    model.features[0] = nn.Conv2d(1, 4, 5, bias=False)
    setattr(model.features, "1", nn.Identity())
    getattr(model, "features").add_module("extra", nn.BatchNorm2d(8))
    return model


def replace_bn(module):
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(2, child.num_features))
        else:
            replace_bn(child)


def build_recursive_replacement():
    model = Net()
    replace_bn(model)
    return model


def convert(module):
    output = module
    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
        output = nn.InstanceNorm2d(module.num_features, affine=True)
    for name, child in module.named_children():
        output.add_module(name, convert(child))
    return output


def build_conversion_returned():
    return convert(Net())


def build_replacement_by_modules_path():
    model = Net()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent_name, _, child_name = name.rpartition(".")
            parent = model.get_submodule(parent_name)
            setattr(parent, child_name, nn.BatchNorm2d(module.num_features, track_running_stats=False))
    return model


def build_replacement_through_registry():
    model = Net()
    for name in model.features._modules:
        if isinstance(model.features._modules[name], nn.ReLU):
            model.features._modules[name] = nn.PReLU()
    return model


def build_half():
    return Net().half()


def build_double():
    return Net().double()


def build_to_bfloat16():
    model = Net()
    model.features.to(torch.bfloat16)
    return model.to(device="cpu")


def build_to_positional():
    return nn.Sequential(Net().to("cpu", torch.float64), nn.BatchNorm1d(1).to(dtype=torch.float16))


def build_data_parallel():
    return nn.DataParallel(Net())


def build_compiled():
    return torch.compile(Net())


def build_unwrapped():
    return nn.DataParallel(Net()).module


def build_deepcopies():
    block = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    return nn.ModuleList([copy.deepcopy(block) for _ in range(3)] + [block])


def build_copy_then_changed():
    first = Net()
    second = copy.deepcopy(first)
    second.fc = nn.Linear(8, 1)
    return nn.ModuleDict({"first": first, "second": second})


def build_chained_calls():
    return Net(3).cpu().train().eval().requires_grad_(False)


def freeze(model):
    for p in model.parameters():
        p.requires_grad_(False)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
            m.momentum = 0.0
            m.track_running_stats = True
    return model


def build_frozen():
    return freeze(Net())


class Encoder(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = nn.Sequential(*list(backbone.children())[:-1])
        self.width = list(backbone.children())[-1].in_features
        self.projector = nn.Sequential(nn.Linear(self.width, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


def build_backbone_wrapped():
    return Encoder(Net())


class Siamese(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.online = base
        self.target = copy.deepcopy(base)
        self.same = base


def build_siamese():
    return Siamese(Net())


def strip(model, names=("fc",)):
    for name in names:
        delattr(model, name)
    return model


def build_stripped():
    return strip(Net(), ["fc", "pool"])


def build_split_ordered():
    model = Net()
    body = OrderedDict(list(model.named_children())[:2])
    return nn.Sequential(OrderedDict([("body", nn.Sequential(body)), ("head", nn.Linear(8, 2))]))


def init_weights(m):
    if type(m) == nn.Linear:
        torch.nn.init.xavier_uniform_(m.weight)
        m.bias.data.fill_(0.01)


def build_applied():
    model = Net()
    model.apply(init_weights)
    return model


def to_none(m):
    if isinstance(m, nn.BatchNorm2d):
        m.register_parameter("bias", None)
        m.affine = m.affine


def build_applied_change():
    model = Net()
    model.apply(to_none)
    return model


def build_bias_removed():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[0].bias = None
    model[1].weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    return model


def build_statistics_removed():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.BatchNorm1d(2))
    for m in model.modules():
        if isinstance(m, nn.BatchNorm1d):
            m.track_running_stats = False
            m.running_mean = None
            m.running_var = None
            m.num_batches_tracked = None
    return model


def build_by_name():
    model = Net()
    for name, module in model.named_modules():
        if name.endswith("3.1"):
            module.register_buffer("seen", torch.zeros((), dtype=torch.int64))
    model.register_buffer("version", torch.tensor([1, 2]))
    return model


def build_set_submodule():
    model = Net()
    model.set_submodule("features.3.0", nn.Conv2d(4, 8, 1))
    return model
