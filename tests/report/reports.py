"""Reports made by hand, and source to show for them."""

from __future__ import annotations

from bn_audit.finding import Applicability, Edit, Evidence, Finding, Fix, Location, Severity, Silenced
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
MEANT = Finding(
    code="BNA102",
    name="skip-bn-disabled",
    severity=Severity.WARNING,
    message="`ConvNetBN` has BatchNorm and `skip_bn` is False: BatchNorm is averaged",
    location=Location("train.py", 5, 12, 14, 2),
)
KNOWN = Finding(
    code="BNA404",
    name="sync-batchnorm",
    severity=Severity.WARNING,
    message="`模型` is a SyncBatchNorm",
    location=Location("models.py", 1, 1, 1, 28),
)
REPORT = Report(
    (WARNING, INFO, ERROR),
    files=12,
    parsed=3,
    sites=2,
    silenced=(Silenced(KNOWN, "baseline"), Silenced(MEANT, "comment", "averaged on purpose")),
    paths=("models.py", "notebooks/a.ipynb", "setup.py", "train.py"),
    status=1,
    version="1.2.3",
)
CLEAN = Report((), files=1, parsed=0, sites=0, paths=("setup.py",))
INCOMPLETE = Report(
    (ERROR,), files=1, parsed=1, sites=1, paths=("train.py",), problems=("b: Permission denied",), status=2
)


def excerpt(path: str, cell: int | None, line: int) -> str | None:
    lines = SOURCES.get(path, "").split("\n")
    return lines[line - 1] if cell is None and 1 <= line < len(lines) else None


def in_file(location: Location) -> Location:
    """As if each cell of a notebook stood a hundred lines below the one before."""
    if location.cell is None:
        return location
    down = 100 * location.cell
    return Location(
        location.path, location.line + down, location.column + 4, location.end_line + down, location.end_column + 4
    )


# A file's name and what it says, as somebody would write them who wants to be read as more than text.
NASTY = "\n::error::x,y:z% 100%0A\"'<&>]]>\x1b[2J\x00\udcff\u202e[a](http://b) {0} `"
HOSTILE = Report(
    tuple(
        Finding(
            code="BNA108",
            name="model-not-resolved",
            severity=severity,
            message=f"{path}: {NASTY} {'long ' * 2000}",
            location=Location(path, 1, 1, 1, 1),
            evidence=(Evidence(Location(path, 1, 1, 1, 1), NASTY),),
            help=NASTY,
            fix=Fix(Applicability.UNSAFE, NASTY, (Edit(1, 1, 1, 1, NASTY),)),
        )
        for severity, path in (
            (Severity.ERROR, f"{NASTY}.py"),
            (Severity.WARNING, "/elsewhere/über uns/100%,a:b.py"),
            (Severity.INFO, "模型\u200d.py"),
        )
    ),
    files=3,
    parsed=3,
    sites=3,
    silenced=(Silenced(MEANT, "comment", NASTY),),
    paths=(f"{NASTY}.py", "/elsewhere/über uns/100%,a:b.py", "模型\u200d.py", f"clean{NASTY}.py"),
    problems=(NASTY,),
    status=2,
)
