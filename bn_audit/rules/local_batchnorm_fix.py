"""The fix that leaves a model as it is: have ``local_batchnorm`` make it, and pass ``skip_bn=True``.

It goes through FedBN whatever the model holds, as far as strategy and release permit, and is unsafe all the same: every
party then runs code that it did not run before, and needs bn-audit installed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from bn_audit.finding import Applicability, Edit, Fix
from bn_audit.rules.case import FLModelCase, beside_fedbn
from bn_audit.wrapping import Wrapping

__all__ = ["FIX_SAFETY", "local_batchnorm_fix"]

FIX_SAFETY = """\
The fix has `local_batchnorm` of `bn_audit.federated.secretflow` make the model: it is written around the `model` of the
FLModel call and imported, and `skip_bn=True` is passed. The model stays as it is. The fix is unsafe: it is right, but
every party then needs bn-audit installed, as it needs torch.

It is offered where the call of FLModel itself is the place, its `model` stands in it, and nothing that is known of the
model, the strategy or the release speaks against it: no integers besides BatchNorm's, no strategy that exchanges or
pairs all parameters."""


def local_batchnorm_fix(case: FLModelCase) -> Fix | None:
    """The edits after which ``local_batchnorm`` makes the model of a case and is heeded; None where that is not right.

    Other FLModels that the same call makes have to be right as well.
    """
    site = case.site
    if not site.wrap_edits or not _right(case) or not all(_right(fellow) for fellow in case.fellows):
        return None
    message = "have `local_batchnorm` make the model"
    edits = list(site.wrap_edits)
    if not all(reading.skip_bn for reading in case.readings):
        passing = site.skip_bn_edit
        if passing is None or passing.holder or passing.shared:
            return None
        edits += passing.edits
        message += f", and pass `{passing.argument}`"
    return Fix(Applicability.UNSAFE, f"{message}; every party then needs bn-audit installed", _joined(edits))


def _right(case: FLModelCase) -> bool:
    """Whether nothing goes wrong with the wrapper, as far as is known."""
    if not case.possibilities:
        return not case.readings  # without a reading no round runs
    for way in case.possibilities:
        settings = dataclasses.replace(way.outcome.settings, skip_bn=True, wrapped=Wrapping())
        found = beside_fedbn(way.profile, settings)
        if found.equal is False:
            return False
    return True


def _joined(edits: Iterable[Edit]) -> tuple[Edit, ...]:
    """The edits in source order; what is written at one place as one, the wrapper's parenthesis first."""
    found: dict[tuple[int, int, int, int], Edit] = {}
    for edit in edits:
        place = (edit.line, edit.column, edit.end_line, edit.end_column)
        before = found.get(place)
        found[place] = edit if before is None else dataclasses.replace(edit, content=before.content + edit.content)
    return tuple(found[place] for place in sorted(found))
