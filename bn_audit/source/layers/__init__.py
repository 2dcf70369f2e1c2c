"""Known layers: what a layer of torch.nn, or a well-known norm layer of another library, registers when it is built."""

from __future__ import annotations

from bn_audit.source.layers.external import FUNCTIONAL_NORMS, external_layer
from bn_audit.source.layers.torch_nn import layer_settings, torch_layer
from bn_audit.source.layers.values import REST, REST_KEYWORDS, UNKNOWN, DType, Unknown

__all__ = [
    "FUNCTIONAL_NORMS",
    "REST",
    "REST_KEYWORDS",
    "UNKNOWN",
    "DType",
    "Unknown",
    "external_layer",
    "layer_settings",
    "torch_layer",
]
