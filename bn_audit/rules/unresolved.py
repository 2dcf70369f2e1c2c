"""A federated call that could not be judged, and why.

Silence about a call may mean that it is right, or that nothing is known of its model. The two must not look alike.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.finding import Evidence, Finding, Severity
from bn_audit.rules.case import FLModelCase
from bn_audit.rules.examples import federation
from bn_audit.rules.rule import Example, Rule
from bn_audit.rules.wording import trail

__all__ = ["RULES"]


def _check(case: FLModelCase) -> Iterator[Finding]:
    ends = [reading.unresolved for reading in case.readings if reading.model is None]
    if not ends or len(ends) < len(case.readings):
        return
    known = list(dict.fromkeys(end for end in ends if end is not None))
    if all(reading.wrapped is not None for reading in case.readings):
        return  # it keeps BatchNorm with its party, whatever it holds; if it is refused, another rule says so
    reasons = " or ".join(dict.fromkeys(end.message for end in known))
    reached = {end.location for end in known}
    evidence = tuple(step for step in trail(case, lambda way: ()) if step.location not in reached)
    yield RULE.finding(
        case.site.location,
        "the model of this FLModel could not be followed, so nothing is said about its BatchNorm"
        + (f": {reasons}" if reasons else ""),
        evidence=(*evidence, *(Evidence(end.location, "the trail ends here") for end in known)),
        help="`bn-audit` reads source and runs none of it; a model that is built from files, names or "
        "arguments known only at "
        "run time stays open",
    )


RULE = Rule(
    code="BNA108",
    name="model-not-resolved",
    severity=Severity.INFO,
    summary="The model of an FLModel call could not be followed to its definition",
    finds="""\
A call of SecretFlow's `FLModel` whose model bn-audit could not follow through imports, assignments and calls to a
class or a known constructor. The evidence says where the trail ends.""",
    why="It is no defect. But no other rule could look at the call, and that should not pass for a clean bill.",
    remedy="""\
Nothing needs to be done. If the definition lies in a folder that was not scanned with, scan both; if it comes from an
installed package or is chosen at run time, look at the model yourself.""",
    silent="""\
The model is known in at least one of the ways in which the call may turn out, or no round runs; or it is made by
`local_batchnorm` of `bn_audit.federated.secretflow`, which is right whatever the model holds, or refuses it.""",
    fix_safety="No edit is offered.",
    references=(),
    bad=(
        Example(
            (
                (
                    "train.py",
                    """\
import secretflow as sf
from secretflow.security.aggregation import SecureAggregator
from secretflow_fl.ml.nn import FLModel

from in_house_models import build_model

alice, bob, charlie = sf.PYU("alice"), sf.PYU("bob"), sf.PYU("charlie")
fl_model = FLModel(
    server=charlie,
    device_list=[alice, bob],
    model=build_model("resnet"),
    aggregator=SecureAggregator(charlie, [alice, bob]),
    backend="torch",
)
""",
                ),
            )
        ),
    ),
    good=(federation("self.fc = nn.Linear(4, 2)"),),
    judges=FLModelCase,
    check=_check,
)

RULES = (RULE,)
