"""DenseNet, MobileNet, VGG, Inception, SE, ShuffleNet, EfficientNet-like tables."""
import copy
import math
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from functools import partial
from typing import Any, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn


class _DenseLayer(nn.Module):
    def __init__(self, num_input_features, growth_rate, bn_size, drop_rate):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(num_input_features)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(num_input_features, bn_size * growth_rate, kernel_size=1, stride=1, bias=False)
        self.norm2 = nn.BatchNorm2d(bn_size * growth_rate)
        self.conv2 = nn.Conv2d(bn_size * growth_rate, growth_rate, kernel_size=3, stride=1, padding=1, bias=False)
        self.drop_rate = float(drop_rate)


class _DenseBlock(nn.ModuleDict):
    def __init__(self, num_layers, num_input_features, bn_size, growth_rate, drop_rate):
        super().__init__()
        for i in range(num_layers):
            layer = _DenseLayer(num_input_features + i * growth_rate, growth_rate, bn_size, drop_rate)
            self.add_module("denselayer%d" % (i + 1), layer)


class _Transition(nn.Sequential):
    def __init__(self, num_input_features, num_output_features):
        super().__init__()
        self.norm = nn.BatchNorm2d(num_input_features)
        self.relu = nn.ReLU(inplace=True)
        self.add_module("conv", nn.Conv2d(num_input_features, num_output_features, 1, bias=False))
        self.add_module("pool", nn.AvgPool2d(kernel_size=2, stride=2))


class DenseNet(nn.Module):
    def __init__(self, growth_rate=4, block_config=(2, 3), num_init_features=8, bn_size=2, drop_rate=0, num_classes=10):
        super().__init__()
        self.features = nn.Sequential(OrderedDict([
            ("conv0", nn.Conv2d(3, num_init_features, kernel_size=7, stride=2, padding=3, bias=False)),
            ("norm0", nn.BatchNorm2d(num_init_features)),
            ("relu0", nn.ReLU(inplace=True)),
        ]))
        num_features = num_init_features
        for i, num_layers in enumerate(block_config):
            block = _DenseBlock(num_layers, num_features, bn_size, growth_rate, drop_rate)
            self.features.add_module(f"denseblock{i + 1}", block)
            num_features = num_features + num_layers * growth_rate
            if i != len(block_config) - 1:
                self.features.add_module(f"transition{i + 1}", _Transition(num_features, num_features // 2))
                num_features = num_features // 2
        self.features.add_module("norm5", nn.BatchNorm2d(num_features))
        self.classifier = nn.Linear(num_features, num_classes)


def build_densenet():
    return DenseNet()


cfgs = {
    "A": [8, "M", 16, "M", 32, 32, "M"],
    "B": [8, 8, "M", 16, 16, "M"],
}


def make_layers(cfg: List, batch_norm: bool = False) -> nn.Sequential:
    layers: List[nn.Module] = []
    in_channels = 3
    for v in cfg:
        if v == "M":
            layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
        else:
            conv2d = nn.Conv2d(in_channels, v, kernel_size=3, padding=1)
            if batch_norm:
                layers += [conv2d, nn.BatchNorm2d(v), nn.ReLU(inplace=True)]
            else:
                layers += [conv2d, nn.ReLU(inplace=True)]
            in_channels = v
    return nn.Sequential(*layers)


class VGG(nn.Module):
    def __init__(self, features, num_classes=10, init_weights=True):
        super(VGG, self).__init__()
        self.features = features
        last = [m for m in features if isinstance(m, nn.Conv2d)][-1].out_channels
        self.classifier = nn.Sequential(nn.Linear(last * 7 * 7, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, num_classes))
        if init_weights:
            self._initialize_weights()

    def _initialize_weights(self):
        for m in self.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.weight.data.fill_(1)
                m.bias.data.zero_()


def _vgg(arch, cfg, batch_norm, **kwargs):
    return VGG(make_layers(cfgs[cfg], batch_norm=batch_norm), **kwargs)


def build_vgg_bn():
    return _vgg("vgg11_bn", "A", True, num_classes=4)


def build_vgg():
    return _vgg("vgg13", "B", False)


class VGGNamed(nn.Module):
    def __init__(self, vgg_name):
        super().__init__()
        self.features = self._make_layers(cfgs[vgg_name])
        self.classifier = nn.Linear(32, 10)

    def _make_layers(self, cfg):
        layers = []
        in_channels = 3
        for x in cfg:
            if x == 'M':
                layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
            else:
                layers += [nn.Conv2d(in_channels, x, kernel_size=3, padding=1), nn.BatchNorm2d(x), nn.ReLU(inplace=True)]
                in_channels = x
        layers += [nn.AvgPool2d(kernel_size=1, stride=1)]
        return nn.Sequential(*layers)


def build_vgg_named():
    return VGGNamed("A")


def _make_divisible(v, divisor=8, min_value=None):
    if min_value is None:
        min_value = divisor
    new_v = max(min_value, int(v + divisor / 2) // divisor * divisor)
    if new_v < 0.9 * v:
        new_v += divisor
    return new_v


class InvertedResidual(nn.Module):
    def __init__(self, inp, oup, stride, expand_ratio):
        super().__init__()
        assert stride in [1, 2]
        hidden_dim = round(inp * expand_ratio)
        self.identity = stride == 1 and inp == oup
        layers = []
        if expand_ratio != 1:
            layers.append(conv_bn(inp, hidden_dim, 1, 1))
        layers.extend([
            conv_bn(hidden_dim, hidden_dim, 3, stride, groups=hidden_dim),
            nn.Conv2d(hidden_dim, oup, 1, 1, 0, bias=False),
            nn.BatchNorm2d(oup),
        ])
        self.conv = nn.Sequential(*layers)


def conv_bn(inp, oup, kernel, stride, groups=1):
    return nn.Sequential(
        nn.Conv2d(inp, oup, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(oup),
        nn.ReLU6(inplace=True),
    )


class MobileNetV2(nn.Module):
    def __init__(self, n_class=10, width_mult=1.0):
        super().__init__()
        input_channel, last_channel = 8, 64
        setting = [
            # t, c, n, s
            [1, 8, 1, 1],
            [6, 12, 2, 2],
            [6, 16, 3, 2],
        ]
        input_channel = _make_divisible(input_channel * width_mult, 4 if width_mult == 0.1 else 8)
        self.last_channel = _make_divisible(last_channel * width_mult) if width_mult > 1.0 else last_channel
        self.features = [conv_bn(3, input_channel, 3, 2)]
        for t, c, n, s in setting:
            output_channel = _make_divisible(c * width_mult) if t > 1 else c
            for i in range(n):
                if i == 0:
                    self.features.append(InvertedResidual(input_channel, output_channel, s, expand_ratio=t))
                else:
                    self.features.append(InvertedResidual(input_channel, output_channel, 1, expand_ratio=t))
                input_channel = output_channel
        self.features.append(conv_bn(input_channel, self.last_channel, 1, 1))
        self.features = nn.Sequential(*self.features)
        self.classifier = nn.Linear(self.last_channel, n_class)


def build_mobilenet_v2():
    return MobileNetV2()


def build_mobilenet_v2_wide():
    return MobileNetV2(width_mult=1.4)


class SqueezeExcite(nn.Module):
    def __init__(self, channel, reduction=4):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channel, channel // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channel // reduction, channel, bias=False),
            nn.Sigmoid(),
        )


@dataclass
class MBConvConfig:
    expand_ratio: float
    kernel: int
    stride: int
    input_channels: int
    out_channels: int
    num_layers: int = 1
    use_se: bool = True
    extra: list = field(default_factory=list)

    @property
    def hidden(self) -> int:
        return self.adjust_channels(self.input_channels, self.expand_ratio)

    @staticmethod
    def adjust_channels(channels: int, mult: float, min_value: Optional[int] = None) -> int:
        return _make_divisible(channels * mult, 8, min_value)


class MBConv(nn.Module):
    def __init__(self, cnf: MBConvConfig, norm_layer=nn.BatchNorm2d):
        super().__init__()
        layers: List[nn.Module] = []
        if cnf.hidden != cnf.input_channels:
            layers.append(nn.Conv2d(cnf.input_channels, cnf.hidden, 1, bias=False))
            layers.append(norm_layer(cnf.hidden))
        layers += [nn.Conv2d(cnf.hidden, cnf.hidden, cnf.kernel, cnf.stride, groups=cnf.hidden, bias=False), norm_layer(cnf.hidden)]
        if cnf.use_se:
            layers.append(SqueezeExcite(cnf.hidden, reduction=max(1, cnf.input_channels // 4)))
        layers.append(nn.Conv2d(cnf.hidden, cnf.out_channels, 1))
        self.block = nn.Sequential(*layers)


class EfficientNet(nn.Module):
    def __init__(self, settings: List[MBConvConfig], norm_layer: Optional[Any] = None):
        super().__init__()
        if not settings:
            raise ValueError("The inverted_residual_setting should not be empty")
        if norm_layer is None:
            norm_layer = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        stages = []
        for cnf in settings:
            stage: List[nn.Module] = []
            for _ in range(cnf.num_layers):
                block_cnf = copy.copy(cnf)
                if stage:
                    block_cnf.input_channels = block_cnf.out_channels
                    block_cnf.stride = 1
                stage.append(MBConv(block_cnf, norm_layer))
            stages.append(nn.Sequential(*stage))
        self.features = nn.Sequential(*stages)
        self.head = nn.Linear(settings[-1].out_channels, 10)


def build_efficientnet_dataclass():
    return EfficientNet([MBConvConfig(1, 3, 1, 8, 8, use_se=False), MBConvConfig(6, 3, 2, 8, 16, 2), MBConvConfig(4, 5, 2, 16, 24, num_layers=1)])


def build_efficientnet_partial():
    bneck_conf = partial(MBConvConfig, 4, 3)
    return EfficientNet([bneck_conf(1, 8, 16), bneck_conf(2, 16, 24, num_layers=2)], norm_layer=partial(nn.BatchNorm2d, momentum=None))


BlockArgs = namedtuple("BlockArgs", ["repeats", "inp", "out", "bn"])


class NamedTupleNet(nn.Module):
    def __init__(self):
        super().__init__()
        table = [BlockArgs(1, 3, 8, True), BlockArgs(repeats=2, inp=8, out=16, bn=False), BlockArgs(1, 16, 16, bn=True)]
        self.blocks = nn.ModuleList()
        for args in table:
            for r in range(args.repeats):
                a = args._replace(inp=args.out) if r else args
                self.blocks.append(nn.Conv2d(a.inp, a.out, 3))
                if a.bn:
                    self.blocks.append(nn.BatchNorm2d(a.out))


def build_namedtuple():
    return NamedTupleNet()


class Stage(NamedTuple):
    width: int
    depth: int
    norm: bool = True


def build_typed_namedtuple():
    layers, previous = [], 1
    for width, depth, norm in [Stage(4, 2), Stage(8, 1, norm=False), Stage(depth=1, width=2)]:
        for _ in range(depth):
            layers.append(nn.Linear(previous, width))
            if norm:
                layers.append(nn.BatchNorm1d(width))
            previous = width
    return nn.Sequential(*layers)


class InceptionBranch(nn.Module):
    def __init__(self, in_channels, out_channels, **kwargs):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **kwargs)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)


class Inception(nn.Module):
    def __init__(self, in_planes, n1x1, n3x3red, n3x3, pool_planes, conv_block=None):
        super().__init__()
        if conv_block is None:
            conv_block = InceptionBranch
        self.b1 = conv_block(in_planes, n1x1, kernel_size=1)
        self.b2 = nn.Sequential(conv_block(in_planes, n3x3red, kernel_size=1), conv_block(n3x3red, n3x3, kernel_size=3, padding=1))
        self.b3 = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_block(in_planes, pool_planes, kernel_size=(1, 7), padding=(0, 3)))


class GoogLeNet(nn.Module):
    def __init__(self, aux_logits=True, blocks=None):
        super().__init__()
        if blocks is None:
            blocks = [InceptionBranch, Inception]
        assert len(blocks) == 2
        conv_block, inception_block = blocks[0], blocks[1]
        self.pre = conv_block(3, 8, kernel_size=3, padding=1)
        self.a3 = inception_block(8, 4, 4, 8, 2)
        self.b3 = inception_block(4 + 8 + 2, 4, 4, 4, 4)
        if aux_logits:
            self.aux = nn.Linear(14, 2)
        else:
            self.aux = None
        self.linear = nn.Linear(12, 10)


def build_inception():
    return GoogLeNet()


def build_inception_no_aux():
    return GoogLeNet(aux_logits=False)


DECODED = ["ds_r1_k3_s1_e1_c8", "ir_r2_k5_s2_e4_c16_se0.25"]


def decode(block_str):
    ops = block_str.split("_")
    options = {}
    for op in ops[1:]:
        digits = op.lstrip("abcdefghijklmnopqrstuvwxyz")
        options[op[: len(op) - len(digits)]] = digits
    return ops[0], options


def build_string_configs():
    layers, inp = [], 3
    for kind, o in map(decode, DECODED):
        for _ in range(int(o["r"])):
            out = int(o["c"])
            if kind == "ir":
                mid = inp * int(o["e"])
                layers.append(nn.Sequential(nn.Conv2d(inp, mid, 1), nn.BatchNorm2d(mid), nn.Conv2d(mid, out, int(o["k"]))))
            else:
                layers.append(nn.Sequential(nn.Conv2d(inp, out, int(o["k"])), nn.BatchNorm2d(out)))
            if "se" in o:
                layers.append(nn.Conv2d(out, max(1, int(out * float(o["se"]))), 1))
                layers.append(nn.Conv2d(max(1, int(out * float(o["se"]))), out, 1))
            inp = out
    return nn.Sequential(*layers)


class ShuffleUnit(nn.Module):
    def __init__(self, inp: int, oup: int, stride: int) -> None:
        super().__init__()
        if not (1 <= stride <= 3):
            raise ValueError("illegal stride value")
        self.stride = stride
        branch_features = oup // 2
        assert (self.stride != 1) or (inp == branch_features << 1)
        if self.stride > 1:
            self.branch1 = nn.Sequential(self.depthwise_conv(inp, inp, 3, self.stride, 1), nn.BatchNorm2d(inp),
                                         nn.Conv2d(inp, branch_features, 1, bias=False), nn.BatchNorm2d(branch_features))
        else:
            self.branch1 = nn.Sequential()
        self.branch2 = nn.Sequential(
            nn.Conv2d(inp if (self.stride > 1) else branch_features, branch_features, 1, bias=False),
            nn.BatchNorm2d(branch_features), self.depthwise_conv(branch_features, branch_features, 3, self.stride, 1))

    @staticmethod
    def depthwise_conv(i: int, o: int, kernel_size: int, stride: int = 1, padding: int = 0, bias: bool = False) -> nn.Conv2d:
        return nn.Conv2d(i, o, kernel_size, stride, padding, bias=bias, groups=i)


class ShuffleNet(nn.Module):
    def __init__(self, stages_repeats, stages_out_channels):
        super().__init__()
        input_channels = stages_out_channels[0]
        self.conv1 = nn.Conv2d(3, input_channels, 3)
        self.stage2: nn.Sequential
        self.stage3: nn.Sequential
        stage_names = [f"stage{i}" for i in [2, 3]]
        for name, repeats, output_channels in zip(stage_names, stages_repeats, stages_out_channels[1:]):
            seq = [ShuffleUnit(input_channels, output_channels, 2)]
            for i in range(repeats - 1):
                seq.append(ShuffleUnit(output_channels, output_channels, 1))
            setattr(self, name, nn.Sequential(*seq))
            input_channels = output_channels
        self.fc = nn.Linear(stages_out_channels[-1], 10)


def build_shufflenet():
    return ShuffleNet([2, 1], [4, 8, 16])


class Fire(nn.Module):
    def __init__(self, inplanes, squeeze_planes, expand1x1_planes, expand3x3_planes):
        super().__init__()
        self.squeeze = nn.Conv2d(inplanes, squeeze_planes, 1)
        self.expand = nn.ModuleList(nn.Conv2d(squeeze_planes, p, k, padding=k // 2)
                                    for k, p in ((1, expand1x1_planes), (3, expand3x3_planes)))


def build_squeezenet():
    return nn.Sequential(nn.Conv2d(3, 8, 7), *[Fire(8, 2, 4, 4) for _ in range(2)], nn.BatchNorm2d(8), nn.Conv2d(8, 10, 1))


class GhostTable(nn.Module):
    CFG = {
        "stage1": dict(repeat=1, width=8, se=False),
        "stage2": dict(repeat=2, width=16, se=True),
    }

    def __init__(self, width_mult=0.5):
        super().__init__()
        previous = 3
        for stage, options in sorted(self.CFG.items()):
            width = math.ceil(options["width"] * width_mult)
            units = nn.Sequential()
            for number in range(options.get("repeat", 1)):
                units.add_module(f"{stage}_unit{number + 1}", nn.Sequential(nn.Conv2d(previous, width, 1), nn.BatchNorm2d(width)))
                previous = width
            if options["se"]:
                units.add_module("se", SqueezeExcite(previous, 2))
            self.add_module(stage, units)
        self.last = max(o["width"] for o in self.CFG.values())
        self.total = sum(o["repeat"] for o in self.CFG.values())
        self.fc = nn.Linear(previous, self.last + self.total)


def build_dict_configs():
    return GhostTable()
