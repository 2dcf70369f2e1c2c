"""U-Nets, autoencoders, GANs, recurrent, audio and attention models."""
import math
from typing import Dict, List, Sequence, Tuple, Union

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class DoubleConv(nn.Module):
    """(convolution => [BN] => ReLU) * 2"""

    def __init__(self, in_channels, out_channels, mid_channels=None):
        super().__init__()
        if not mid_channels:
            mid_channels = out_channels
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, mid_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(mid_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels, bilinear=True):
        super().__init__()
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = DoubleConv(in_channels, out_channels, in_channels // 2)
        else:
            self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
            self.conv = DoubleConv(in_channels, out_channels)


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, bilinear=False):
        super(UNet, self).__init__()
        self.n_channels = n_channels
        self.n_classes = n_classes
        self.bilinear = bilinear
        self.inc = (DoubleConv(n_channels, 4))
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(4, 8))
        factor = 2 if bilinear else 1
        self.down2 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(8, 16 // factor))
        self.up1 = (Up(16, 8 // factor, bilinear))
        self.up2 = (Up(8, 4, bilinear))
        self.outc = nn.Conv2d(4, n_classes, kernel_size=1)


def build_unet_bilinear():
    return UNet(3, 2, bilinear=True)


def build_unet_transposed():
    return UNet(n_channels=1, n_classes=2)


class LoopedUNet(nn.Module):
    def __init__(self, in_channels=3, out_channels=1, features=[4, 8, 16]):
        super().__init__()
        self.ups = nn.ModuleList()
        self.downs = nn.ModuleList()
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        for feature in features:
            self.downs.append(DoubleConv(in_channels, feature))
            in_channels = feature
        for feature in reversed(features):
            self.ups.append(nn.ConvTranspose2d(feature * 2, feature, kernel_size=2, stride=2))
            self.ups.append(DoubleConv(feature * 2, feature))
        self.bottleneck = DoubleConv(features[-1], features[-1] * 2)
        self.final_conv = nn.Conv2d(features[0], out_channels, kernel_size=1)


def build_unet_looped():
    return LoopedUNet()


class SkipBlock(nn.Module):
    def __init__(self, outer_nc, inner_nc, input_nc=None, submodule=None, outermost=False, innermost=False,
                 norm_layer=nn.BatchNorm2d, use_dropout=False):
        super().__init__()
        self.outermost = outermost
        use_bias = norm_layer == nn.InstanceNorm2d
        if input_nc is None:
            input_nc = outer_nc
        downconv = nn.Conv2d(input_nc, inner_nc, kernel_size=4, stride=2, padding=1, bias=use_bias)
        downrelu = nn.LeakyReLU(0.2, True)
        downnorm = norm_layer(inner_nc)
        uprelu = nn.ReLU(True)
        upnorm = norm_layer(outer_nc)
        if outermost:
            upconv = nn.ConvTranspose2d(inner_nc * 2, outer_nc, kernel_size=4, stride=2, padding=1)
            down = [downconv]
            up = [uprelu, upconv, nn.Tanh()]
            model = down + [submodule] + up
        elif innermost:
            upconv = nn.ConvTranspose2d(inner_nc, outer_nc, kernel_size=4, stride=2, padding=1, bias=use_bias)
            model = [downrelu, downconv] + [uprelu, upconv, upnorm]
        else:
            upconv = nn.ConvTranspose2d(inner_nc * 2, outer_nc, kernel_size=4, stride=2, padding=1, bias=use_bias)
            down = [downrelu, downconv, downnorm]
            up = [uprelu, upconv, upnorm]
            if use_dropout:
                model = down + [submodule] + up + [nn.Dropout(0.5)]
            else:
                model = down + [submodule] + up
        self.model = nn.Sequential(*model)


class RecursiveUNet(nn.Module):
    def __init__(self, input_nc, output_nc, num_downs, ngf=4, norm_layer=nn.BatchNorm2d):
        super().__init__()
        unet_block = SkipBlock(ngf * 8, ngf * 8, norm_layer=norm_layer, innermost=True)
        for i in range(num_downs - 5):
            unet_block = SkipBlock(ngf * 8, ngf * 8, submodule=unet_block, norm_layer=norm_layer, use_dropout=True)
        unet_block = SkipBlock(ngf * 4, ngf * 8, submodule=unet_block, norm_layer=norm_layer)
        unet_block = SkipBlock(ngf * 2, ngf * 4, submodule=unet_block, norm_layer=norm_layer)
        unet_block = SkipBlock(ngf, ngf * 2, submodule=unet_block, norm_layer=norm_layer)
        self.model = SkipBlock(output_nc, ngf, input_nc=input_nc, submodule=unet_block, outermost=True, norm_layer=norm_layer)


def build_unet_recursive():
    return RecursiveUNet(3, 3, 7)


class BuiltByRecursion(nn.Module):
    def __init__(self, depth, width):
        super().__init__()
        self.enter = nn.Conv2d(width, width * 2, 3)
        self.bn = nn.BatchNorm2d(width * 2)
        self.inner = BuiltByRecursion(depth - 1, width * 2) if depth > 1 else None
        self.leave = nn.Conv2d(width * 2, width, 3)


def build_self_similar():
    return BuiltByRecursion(4, 2)


class Autoencoder(nn.Module):
    def __init__(self, dims=(16, 8, 4), latent=2):
        super().__init__()
        encoder = []
        for i in range(len(dims) - 1):
            encoder.append(nn.Linear(dims[i], dims[i + 1]))
            encoder.append(nn.BatchNorm1d(dims[i + 1]))
        self.encoder = nn.Sequential(*encoder)
        self.mu, self.logvar = nn.Linear(dims[-1], latent), nn.Linear(dims[-1], latent)
        dims = list(dims)
        dims.reverse()
        self.decoder = nn.Sequential(nn.Linear(latent, dims[0]), *[
            layer for a, b in zip(dims, dims[1:]) for layer in [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
        ])


def build_autoencoder():
    return Autoencoder()


class VanillaVAE(nn.Module):
    def __init__(self, in_channels: int, latent_dim: int, hidden_dims: List = None, **kwargs) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        modules = []
        if hidden_dims is None:
            hidden_dims = [4, 8, 16]
        for h_dim in hidden_dims:
            modules.append(nn.Sequential(nn.Conv2d(in_channels, out_channels=h_dim, kernel_size=3, stride=2, padding=1),
                                         nn.BatchNorm2d(h_dim), nn.LeakyReLU()))
            in_channels = h_dim
        self.encoder = nn.Sequential(*modules)
        self.fc_mu = nn.Linear(hidden_dims[-1] * 4, latent_dim)
        modules = []
        self.decoder_input = nn.Linear(latent_dim, hidden_dims[-1] * 4)
        hidden_dims.reverse()
        for i in range(len(hidden_dims) - 1):
            modules.append(nn.Sequential(nn.ConvTranspose2d(hidden_dims[i], hidden_dims[i + 1], kernel_size=3, stride=2),
                                         nn.BatchNorm2d(hidden_dims[i + 1]), nn.LeakyReLU()))
        self.decoder = nn.Sequential(*modules)


def build_vae():
    return VanillaVAE(3, 10)


class Generator(nn.Module):
    def __init__(self, nz=8, ngf=4, img_shape=(1, 8, 8)):
        super().__init__()
        self.init_size = img_shape[1] // 4

        def block(in_feat, out_feat, normalize=True):
            layers = [nn.Linear(in_feat, out_feat)]
            if normalize:
                layers.append(nn.BatchNorm1d(out_feat, 0.8))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            return layers

        self.model = nn.Sequential(
            *block(nz, ngf, normalize=False),
            *block(ngf, ngf * 2),
            *block(ngf * 2, ngf * 4),
            nn.Linear(ngf * 4, math.prod(img_shape)),
            nn.Tanh(),
        )


def build_gan_generator():
    return Generator()


class Discriminator(nn.Module):
    def __init__(self, input_nc=3, ndf=4, n_layers=3, norm_layer=nn.BatchNorm2d):
        super().__init__()
        kw, padw = 4, 1
        sequence = [nn.Conv2d(input_nc, ndf, kernel_size=kw, stride=2, padding=padw), nn.LeakyReLU(0.2, True)]
        nf_mult = 1
        nf_mult_prev = 1
        for n in range(1, n_layers):
            nf_mult_prev = nf_mult
            nf_mult = min(2 ** n, 8)
            sequence += [nn.Conv2d(ndf * nf_mult_prev, ndf * nf_mult, kernel_size=kw, stride=2, padding=padw),
                         norm_layer(ndf * nf_mult), nn.LeakyReLU(0.2, True)]
        sequence += [nn.Conv2d(ndf * nf_mult, 1, kernel_size=kw, stride=1, padding=padw)]
        self.model = nn.Sequential(*sequence)


def build_gan_discriminator():
    return Discriminator()


class SentimentLSTM(nn.Module):
    def __init__(self, vocab_size=20, embed=6, hidden=5, layers=2, bidirectional=True, classes=2):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed, padding_idx=0)
        self.lstm = nn.LSTM(embed, hidden, num_layers=layers, bidirectional=bidirectional, batch_first=True, dropout=0.1)
        self.bn = nn.BatchNorm1d(hidden * (2 if bidirectional else 1))
        self.gru = nn.GRU(hidden, hidden, bias=False)
        self.cell = nn.LSTMCell(input_size=3, hidden_size=4)
        self.rnn = nn.RNN(3, 4, 1)
        self.head = nn.Linear(hidden * (1 + bidirectional), classes)


def build_lstm():
    return SentimentLSTM()


class CRNN(nn.Module):
    def __init__(self, imgH=32, nc=1, nclass=10, nh=4, leakyRelu=False):
        super().__init__()
        assert imgH % 16 == 0, "imgH has to be a multiple of 16"
        ks = [3, 3, 2]
        ps = [1, 1, 0]
        ss = [1, 1, 1]
        nm = [4, 8, 8]
        cnn = nn.Sequential()

        def convRelu(i, batchNormalization=False):
            nIn = nc if i == 0 else nm[i - 1]
            nOut = nm[i]
            cnn.add_module("conv{0}".format(i), nn.Conv2d(nIn, nOut, ks[i], ss[i], ps[i]))
            if batchNormalization:
                cnn.add_module("batchnorm{0}".format(i), nn.BatchNorm2d(nOut))
            if leakyRelu:
                cnn.add_module("relu{0}".format(i), nn.LeakyReLU(0.2, inplace=True))
            else:
                cnn.add_module("relu{0}".format(i), nn.ReLU(True))

        convRelu(0)
        cnn.add_module("pooling{0}".format(0), nn.MaxPool2d(2, 2))
        convRelu(1, True)
        convRelu(2, batchNormalization=True)
        self.cnn = cnn
        self.rnn = nn.Sequential(nn.LSTM(8, nh, bidirectional=True), nn.Linear(nh * 2, nclass))


def build_crnn():
    return CRNN()


class M5(nn.Module):
    def __init__(self, n_input=1, n_output=35, stride=16, n_channel=8):
        super().__init__()
        self.conv1 = nn.Conv1d(n_input, n_channel, kernel_size=80, stride=stride)
        self.bn1 = nn.BatchNorm1d(n_channel)
        self.pool1 = nn.MaxPool1d(4)
        self.conv2 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=3)
        self.bn2 = nn.BatchNorm1d(2 * n_channel)
        self.fc1 = nn.Linear(2 * n_channel, n_output)


def build_audio():
    return M5()


class TemporalBlock(nn.Module):
    def __init__(self, n_in, n_out, dilation):
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(n_in, n_out, 3, dilation=dilation), nn.BatchNorm1d(n_out))
        self.downsample = nn.Conv1d(n_in, n_out, 1) if n_in != n_out else None


class TCN(nn.Module):
    def __init__(self, num_inputs, num_channels):
        super().__init__()
        layers = []
        num_levels = len(num_channels)
        for i in range(num_levels):
            dilation_size = 2 ** i
            in_channels = num_inputs if i == 0 else num_channels[i - 1]
            out_channels = num_channels[i]
            layers += [TemporalBlock(in_channels, out_channels, dilation=dilation_size)]
        self.network = nn.Sequential(*layers)


def build_temporal():
    return TCN(2, [4, 4, 8])


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, max_len=10):
        super().__init__()
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, 1, d_model)
        pe[:, 0, 0::2] = torch.sin(position * div_term)
        pe[:, 0, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)


class Encoder(nn.Module):
    def __init__(self, vocab=9, d_model=8, heads=2, layers=2):
        super().__init__()
        self.embed = nn.Embedding(vocab, d_model)
        self.position = PositionalEncoding(d_model)
        layer = nn.TransformerEncoderLayer(d_model, heads, dim_feedforward=16, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.attn = nn.MultiheadAttention(d_model, heads, bias=False)
        self.norm = nn.LayerNorm(d_model)


def build_transformer():
    return Encoder()


class ViTBlock(nn.Module):
    def __init__(self, dim, mlp_ratio=2.0, qkv_bias=True, norm=nn.LayerNorm, layer_scale=None):
        super().__init__()
        self.norm1 = norm(dim)
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.ls = nn.Parameter(layer_scale * torch.ones(dim)) if layer_scale else None
        self.mlp = nn.Sequential(nn.Linear(dim, int(dim * mlp_ratio)), nn.GELU(), nn.Linear(int(dim * mlp_ratio), dim))


class ViT(nn.Module):
    def __init__(self, image=8, patch=4, dim=6, depth=2, stem_norm=True):
        super().__init__()
        num_patches = (image // patch) ** 2
        self.patch_embed = nn.Sequential(nn.Conv2d(3, dim, patch, patch), nn.BatchNorm2d(dim) if stem_norm else nn.Identity())
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, num_patches + 1, dim) * .02)
        dpr = [x.item() for x in torch.linspace(0, 0.1, depth)]
        self.blocks = nn.Sequential(*[ViTBlock(dim, layer_scale=1e-5 if i else None) for i, rate in enumerate(dpr)])
        self.norm = nn.LayerNorm(dim)
        nn.init.trunc_normal_(self.pos_embed, std=.02)


def build_vit():
    return ViT()


class ConvMixer(nn.Module):
    pass


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x) + x


def build_conv_mixer():
    dim, depth, kernel_size, patch_size, n_classes = 4, 2, 3, 2, 10
    return nn.Sequential(
        nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size),
        nn.GELU(),
        nn.BatchNorm2d(dim),
        *[nn.Sequential(
            Residual(nn.Sequential(
                nn.Conv2d(dim, dim, kernel_size, groups=dim, padding="same"),
                nn.GELU(),
                nn.BatchNorm2d(dim)
            )),
            nn.Conv2d(dim, dim, kernel_size=1),
            nn.GELU(),
            nn.BatchNorm2d(dim)
        ) for i in range(depth)],
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(dim, n_classes)
    )


class FPN(nn.Module):
    def __init__(self, in_channels_list=(4, 8, 16), out_channels=4):
        super().__init__()
        self.inner_blocks, self.layer_blocks = nn.ModuleList(), nn.ModuleList()
        for c in in_channels_list:
            if c == 0:
                raise ValueError("in_channels=0 is currently not supported")
            self.inner_blocks.append(nn.Conv2d(c, out_channels, 1))
            self.layer_blocks.append(nn.Sequential(nn.Conv2d(out_channels, out_channels, 3), nn.BatchNorm2d(out_channels)))


class Detector(nn.Module):
    def __init__(self, anchors=((10, 13), (16, 30)), classes=3):
        super().__init__()
        self.neck = FPN()
        self.na = len(anchors)
        self.no = classes + 5
        self.m = nn.ModuleList(nn.Conv2d(x, self.no * self.na, 1) for x in (4,) * 3)
        self.register_buffer("anchors", torch.tensor(anchors).float().view(1, -1, 2))
        self.stride = torch.tensor([8.0, 16.0])


def build_detector():
    return Detector()


class TabNet(nn.Module):
    """Tables: embeddings of categories beside numbers."""

    def __init__(self, embedding_sizes=((5, 3), (7, 4)), n_cont=3, layers=(8, 4), out=1, ps=None, use_bn=True):
        super().__init__()
        ps = [0] * len(layers) if ps is None else ps
        self.embeds = nn.ModuleList([nn.Embedding(ni, nf) for ni, nf in embedding_sizes])
        n_emb = sum(e.embedding_dim for e in self.embeds)
        self.bn_cont = nn.BatchNorm1d(n_cont) if use_bn else None
        sizes = [n_emb + n_cont] + list(layers) + [out]
        parts = []
        for i, (n_in, n_out, p) in enumerate(zip(sizes[:-1], sizes[1:], [0.0] + ps)):
            bn = use_bn and i != 0
            if bn:
                parts.append(nn.BatchNorm1d(n_in))
            if p != 0:
                parts.append(nn.Dropout(p))
            parts.append(nn.Linear(n_in, n_out, bias=not bn))
        self.layers = nn.Sequential(*parts)


def build_tabular():
    return TabNet()


class PointNet(nn.Module):
    def __init__(self, k=3):
        super().__init__()
        self.convs = nn.ModuleDict()
        previous = k
        for number, width in enumerate([4, 8, 16], 1):
            self.convs[f"conv{number}"] = nn.Conv1d(previous, width, 1)
            self.convs[f"bn{number}"] = nn.BatchNorm1d(width)
            previous = width
        self.register_buffer("identity", torch.eye(k).flatten().unsqueeze(0))
        self.fc = nn.Linear(previous, k * k)


def build_pointnet():
    return PointNet()
