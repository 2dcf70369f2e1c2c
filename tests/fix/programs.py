"""A federation with one BNA101 that is safe to fix, and what a scan of it in memory says."""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.audit import Selection, Versions, audit
from bn_audit.fix.rounds import Judgement, lasting
from bn_audit.source.read import ReadOptions, read

__all__ = ["CALL", "HEAD", "PROGRAM", "judge", "judge_program"]

HEAD = """\
import secretflow as sf
from secretflow.security.aggregation import SecureAggregator
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.bn = nn.BatchNorm1d(8)


charlie, devices = sf.PYU("charlie"), [sf.PYU("alice"), sf.PYU("bob")]
model, secure = TorchModel(model_fn=Net), SecureAggregator(charlie, devices)
settings = {"server": charlie, "device_list": devices, "backend": "torch"}
"""
CALL = """\
fl_model = FLModel(
    server=charlie,
    device_list=devices,
    model=model,
    aggregator=secure,
    backend="torch",
)
"""
PROGRAM = HEAD + CALL


def judge_program(data: bytes, name: str = "train.py") -> Judgement:
    """What is found in one program, which stands in no file."""
    result = read([], options=ReadOptions(jobs=1), stdin=(name, data))
    return _judgement(result.sites, result.unreadable)


def judge(paths: list[str], contents: Mapping[str, bytes] | None = None) -> Judgement:
    """What is found in files, some of them with other contents."""
    result = read(paths, options=ReadOptions(jobs=1), contents=contents)
    return _judgement(result.sites, result.unreadable)


def _judgement(sites: object, unreadable: object) -> Judgement:
    found = audit(sites, unreadable, Selection(), lambda path: Versions(torch="2.13.0"))  # type: ignore[arg-type]
    return Judgement(found, found, lasting(sites))  # type: ignore[arg-type]
