"""Record what the models of some calls really hold, for tests/source/test_zoo.py.

    python scripts/record_zoo_calls.py LIBRARY OUT.json

The libraries are those of build_zoo.py. Other than that it builds with real weights and reads ``state_dict()``
(``get_weights()`` for Keras) itself. Of every call it keeps the number of entries, the first and the last, and a digest
of all.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

Call = tuple[str, list[Any], dict[str, Any]]
DETECTION = "torchvision.models.detection."
SEGMENTATION = "torchvision.models.segmentation."
CALLS: dict[str, list[Call]] = {
    "torchvision": [
        ("torchvision.models.resnet18", [], {}),
        ("torchvision.models.resnet.resnet18", [], {"weights": None, "num_classes": 10}),
        ("torchvision.models.get_model", ["mobilenet_v2"], {"num_classes": 3}),
        ("torchvision.models.vgg16_bn", [], {"num_classes": 2, "dropout": 0.3}),
        ("torchvision.models.densenet121", [], {"num_classes": 7, "memory_efficient": True}),
        ("torchvision.models.googlenet", [], {"aux_logits": False, "init_weights": False}),
        ("torchvision.models.inception_v3", [], {"init_weights": False, "num_classes": 4}),
        ("torchvision.models.regnet_y_400mf", [], {}),
        ("torchvision.models.swin_t", [], {"num_classes": 5}),
        ("torchvision.models.quantization.resnet18", [], {"quantize": False}),
        ("torchvision.models.video.r3d_18", [], {"num_classes": 6}),
        (f"{SEGMENTATION}deeplabv3_resnet50", [], {"weights": None, "weights_backbone": None, "num_classes": 4}),
        (f"{SEGMENTATION}fcn_resnet50", [], {"weights_backbone": None, "aux_loss": True}),
        (f"{DETECTION}fasterrcnn_resnet50_fpn", [], {"weights_backbone": None, "num_classes": 3}),
        (f"{DETECTION}ssd300_vgg16", [], {"weights_backbone": None, "num_classes": 3}),
        (f"{DETECTION}keypointrcnn_resnet50_fpn", [], {"weights_backbone": None, "num_keypoints": 5}),
    ],
    "timm": [
        ("timm.create_model", ["resnet50"], {}),
        ("timm.create_model", ["resnet18"], {"num_classes": 10, "in_chans": 1}),
        ("timm.create_model", ["efficientnet_b0"], {"num_classes": 0, "drop_rate": 0.2}),
        ("timm.create_model", ["mobilenetv3_small_100"], {"num_classes": 0, "global_pool": ""}),
        ("timm.create_model", ["convnext_tiny"], {"num_classes": 5, "drop_path_rate": 0.1}),
        ("timm.create_model", ["resnet34"], {"features_only": True, "in_chans": 4}),
        ("timm.create_model", ["vit_small_patch16_224.augreg_in21k"], {}),
        ("timm.create_model", ["swin_tiny_patch4_window7_224"], {"num_classes": 3}),
        ("timm.create_model", ["hrnet_w18_small"], {"num_classes": 2}),
        ("timm.models.resnet26", [], {"num_classes": 4}),
        ("timm.models.efficientnet.efficientnet_b1", [], {"num_classes": 4}),
    ],
    "monai": [
        ("monai.networks.nets.DenseNet121", [], {"spatial_dims": 2, "in_channels": 1, "out_channels": 6}),
        ("monai.networks.nets.densenet.DenseNet169", [3, 2, 4], {}),
        ("monai.networks.nets.DenseNet121", [2, 1, 3], {"norm": "instance"}),
        ("monai.networks.nets.resnet18", [], {"spatial_dims": 2, "n_input_channels": 1, "num_classes": 3}),
        ("monai.networks.nets.resnet50", [], {}),
        ("monai.networks.nets.SEResNet50", [], {"spatial_dims": 3, "in_channels": 2, "num_classes": 2}),
        ("monai.networks.nets.EfficientNetBN", ["efficientnet-b3"], {"pretrained": False, "num_classes": 4}),
        (
            "monai.networks.nets.UNet",
            [3, 1, 2, [16, 32, 64, 128, 256], [2, 2, 2, 2]],
            {"num_res_units": 2, "norm": "batch"},
        ),
        (
            "monai.networks.nets.UNet",
            [],
            {"spatial_dims": 2, "in_channels": 3, "out_channels": 1, "channels": [16, 32, 64], "strides": [2, 2]},
        ),
        (
            "monai.networks.nets.AttentionUnet",
            [2, 1, 2, [16, 32, 64, 128], [2, 2, 2]],
            {},
        ),
        ("monai.networks.nets.FlexibleUNet", [3, 2, "efficientnet-b0"], {}),
        ("monai.networks.nets.BasicUNet", [2, 1, 4], {"norm": "batch"}),
        ("monai.networks.nets.SegResNet", [], {"in_channels": 4, "out_channels": 3}),
        ("monai.networks.nets.VNet", [], {}),
        ("monai.networks.nets.HighResNet", [2, 1, 2], {}),
        ("monai.networks.nets.TorchVisionFCModel", [], {"model_name": "resnet18", "num_classes": 2, "bias": True}),
        ("monai.networks.nets.TorchVisionFCModel", ["resnet50", 3], {"use_conv": True}),
        ("monai.networks.nets.torchvision_fc.TorchVisionFCModel", [], {"num_classes": 4, "pool": None}),
    ],
    "fedml": [
        ("fedml.model.cv.resnet.resnet20", [10], {"pretrained": False}),
        ("fedml.model.cv.resnet.resnet56", [], {"class_num": 100}),
        ("fedml.model.cv.resnet_gn.resnet18", [], {}),
        ("fedml.model.cv.resnet_gn.resnet34", [], {"group_norm": 32, "num_classes": 4}),
        ("fedml.model.cv.resnet_cifar.resnet18_cifar", [], {"num_classes": 10}),
        ("fedml.model.cv.resnet_torch.resnet18", [], {"num_classes": 62, "in_channels": 1}),
        ("fedml.model.cv.mobilenet.mobilenet", [], {"class_num": 10}),
        ("fedml.model.cv.mobilenet_v3.MobileNetV3", ["SMALL"], {"num_classes": 10}),
        ("fedml.model.cv.vgg.vgg11_bn", [], {}),
    ],
    "flamby": [
        ("flamby.datasets.fed_isic2019.model.Baseline", [False], {}),
        ("flamby.datasets.fed_isic2019.model.Baseline", [], {"pretrained": False, "arch_name": "efficientnet-b3"}),
        ("flamby.datasets.fed_ixi.model.Baseline", [], {}),
        ("flamby.datasets.fed_ixi.model.Baseline", [2, 3], {"normalization": None}),
        ("flamby.datasets.fed_lidc_idri.model.Baseline", [], {}),
        ("flamby.datasets.fed_camelyon16.model.Baseline", [], {}),
    ],
    "efficientnet": [
        ("efficientnet_pytorch.EfficientNet.from_name", ["efficientnet-b0"], {}),
        ("efficientnet_pytorch.EfficientNet.from_name", ["efficientnet-b2"], {"num_classes": 8, "in_channels": 1}),
    ],
    "smp": [
        ("segmentation_models_pytorch.Unet", [], {"encoder_weights": None}),
        ("segmentation_models_pytorch.Unet", ["resnet18"], {"encoder_weights": None, "classes": 4, "in_channels": 1}),
        ("segmentation_models_pytorch.FPN", ["efficientnet-b0"], {"encoder_weights": None, "classes": 2}),
        (
            "segmentation_models_pytorch.DeepLabV3Plus",
            ["mobilenet_v2"],
            {"encoder_weights": None, "activation": "sigmoid"},
        ),
        ("segmentation_models_pytorch.Unet", ["vgg11_bn"], {"encoder_weights": None, "decoder_attention_type": "scse"}),
        ("segmentation_models_pytorch.create_model", ["unetplusplus", "resnet34", None, 3, 2], {}),
        ("segmentation_models_pytorch.PSPNet", ["tu-resnet18"], {"encoder_weights": None}),
    ],
    "keras": [
        ("keras.applications.ResNet50", [], {"weights": None}),
        ("keras.applications.resnet50.ResNet50", [], {"weights": None, "include_top": False, "pooling": "avg"}),
        ("keras.applications.MobileNetV2", [], {"weights": None, "input_shape": [96, 96, 1], "classes": 10}),
        ("keras.applications.VGG16", [], {"weights": None, "include_top": False, "input_shape": [64, 64, 3]}),
        ("keras.applications.EfficientNetB0", [], {"weights": None, "classes": 5}),
        ("keras.applications.DenseNet121", [False, None], {}),
    ],
}


def entries_of_torch(model: Any) -> list[str]:
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return [
        f"{key} {list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')} "
        f"{'parameter' if key in parameters else 'buffer'}"
        for key, tensor in model.state_dict().items()
    ]


def entries_of_keras(model: Any) -> list[str]:
    trained = {id(weight) for weight in model.trainable_weights}
    return [
        f"{weight.name.split(':')[0].rpartition('/')[2]} {list(weight.shape)} {weight.dtype.name} "
        f"{'parameter' if id(weight) in trained else 'buffer'}"
        for layer in model.layers
        for weight in layer.weights
    ]


def _leave_out(packages: list[str]) -> None:
    """Let modules be imported without what the packages around them import."""
    for name in packages:
        place = next(path for path in (Path(row, *name.split(".")) for row in sys.path) if path.is_dir())
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(place)]


def main(library: str, out: Path) -> None:
    if library != "keras":
        import torch

        kept: Any = vars(torch.library)["Library"]("torchvision", "DEF")
        kept.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        kept.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        if library == "fedml":
            _leave_out(["fedml", "fedml.model", "fedml.model.cv"])
        if library == "flamby":
            _leave_out([f"flamby.datasets.fed_{name}" for name in ("isic2019", "ixi", "lidc_idri", "camelyon16")])
            vars(sys.modules["flamby.datasets.fed_isic2019"])["FedIsic2019"] = None
            sys.modules["albumentations"] = types.ModuleType("albumentations")
    else:
        import tensorflow

        sys.modules["keras.applications"] = tensorflow.keras.applications
        for name in ("resnet50",):
            sys.modules[f"keras.applications.{name}"] = getattr(tensorflow.keras.applications, name)
    lines = []
    for path, args, kwargs in CALLS[library]:
        module, _, function = path.rpartition(".")
        owner, _, name = module.rpartition(".")
        home = getattr(importlib.import_module(owner), name) if name[0].isupper() else importlib.import_module(module)
        model = getattr(home, function)(*args, **kwargs)
        entries = entries_of_keras(model) if library == "keras" else entries_of_torch(model)
        digest = hashlib.sha256("\n".join(entries).encode()).hexdigest()
        lines.append(json.dumps([path, args, kwargs, len(entries), entries[0], entries[-1], digest]))
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
