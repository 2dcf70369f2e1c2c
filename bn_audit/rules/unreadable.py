"""A file that could not be read or parsed. What it holds has not been judged, and that must be said."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.finding import Finding, Severity
from bn_audit.rules.rule import Example, Rule
from bn_audit.site import Unreadable

__all__ = ["RULES"]


def _check(unreadable: Unreadable) -> Iterator[Finding]:
    yield RULE.finding(
        unreadable.location,
        f"not audited: {unreadable.reason}",
        help="mend it, or leave it out with --extend-exclude",
    )


RULE = Rule(
    code="BNA901",
    name="unreadable",
    severity=Severity.ERROR,
    summary="A file, or a cell of a notebook, could not be read or parsed",
    finds="""\
A file that mentions something bn-audit would follow and is no Python that can be parsed (a syntax error, an encoding
that does not fit, a NUL byte), or a notebook that is no JSON or holds a cell that does not parse. Only the broken
cell of a notebook is left out.""",
    why="What cannot be read cannot be judged: the findings of a scan are incomplete, and the exit status must say so.",
    remedy="Mend the file; or exclude it, if it is not meant to be Python.",
    silent="The file mentions nothing that bn-audit follows: such files are not parsed at all.",
    fix_safety="No edit is offered.",
    references=("PEP 263, Defining Python Source Code Encodings", "nbformat 4, the notebook file format"),
    bad=(
        Example(
            (
                (
                    "train.py",
                    "from secretflow_fl.ml.nn import FLModel\n\nfl_model = FLModel(server=charlie, "
                    "device_list=[alice, bob]\n",
                ),
            )
        ),
    ),
    good=(Example((("train.py", "from secretflow_fl.ml.nn import FLModel\n"),)),),
    judges=Unreadable,
    check=_check,
)

RULES = (RULE,)
