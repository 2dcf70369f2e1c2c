"""Reports made by hand, and source to show for them."""

from __future__ import annotations

from bn_audit.finding import Applicability, Edit, Evidence, Finding, Fix, Location, Severity
from bn_audit.report.model import Report

SOURCES = {
    "train.py": """\
import secretflow as sf

from models import ConvNetBN

fl_model = FLModel(
    server=charlie,
    device_list=[alice, bob],
    model=TorchModel(model_fn=ConvNetBN),
    aggregator=SecureAggregator(charlie, [alice, bob]),
    strategy="fed_avg_w",
    backend="torch",
    random_seed=1234,
    num_gpus=0,
)
""",
    "models.py": """\
class ConvNetBN(nn.Module):
    def __init__(self):
\tself.模型 = nn.BatchNorm2d(3)
""",
}

ERROR = Finding(
    code="BNA101",
    name="missing-skip-bn",
    severity=Severity.ERROR,
    message="`ConvNetBN` has BatchNorm and `skip_bn` is not passed: round 1 stops with AssertionError",
    location=Location("train.py", 5, 12, 14, 2),
    evidence=(
        Evidence(Location("train.py", 8, 31, 8, 40), "the model is built from `ConvNetBN`"),
        Evidence(Location("models.py", 3, 12, 3, 29), "`模型` is a BatchNorm2d"),
    ),
    help="pass `skip_bn=True`: every BatchNorm is an attribute of the root and comes after all other entries, "
    "so that it stays with its party and the rest is averaged",
    fix=Fix(Applicability.SAFE, "pass `skip_bn=True`", (Edit(13, 16, 13, 16, "\n    skip_bn=True,"),)),
)
WARNING = Finding(
    code="BNA404",
    name="sync-batchnorm",
    severity=Severity.WARNING,
    message="in a name: \x1b[2J",
    location=Location("models.py", 3, 12, 3, 29),
)
INFO = Finding(
    code="BNA108",
    name="model-not-resolved",
    severity=Severity.INFO,
    message="where `args.model` comes from is not known",
    location=Location("notebooks/a.ipynb", 2, 1, 2, 8, cell=4),
    evidence=(Evidence(Location("notebooks/a.ipynb", 1, 1, 1, 5, cell=2), "the trail ends here"),),
)
REPORT = Report((WARNING, INFO, ERROR), files=12, parsed=3, sites=2, suppressed=1)
CLEAN = Report((), files=1, parsed=0, sites=0)


def excerpt(path: str, cell: int | None, line: int) -> str | None:
    lines = SOURCES.get(path, "").split("\n")
    return lines[line - 1] if cell is None and 1 <= line < len(lines) else None
