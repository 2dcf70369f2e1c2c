"""The fix of BNA101 and BNA102: pass ``skip_bn=True``, as far as the plan says that it helps.

The same argument can do three things. It can be all that is missing. It can change nothing, or help in part. And it can
turn an error that nobody overlooks into a classifier that is never synchronised while the loss goes down; then it is no
fix, and none is offered.

An edit at a helper's call reaches every FLModel the helper makes. Each of them is judged.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from bn_audit.finding import Applicability, Fix
from bn_audit.rules.case import FLModelCase, Outcome, Possibility
from bn_audit.rules.wording import consequences, model_name

__all__ = ["FIX_SAFETY", "skip_bn_fix"]

FIX_SAFETY = """\
The fix gives the call `skip_bn=True`: a new argument, or True in place of the False that is written there. Where a
helper forwards the value to FLModel, it is the call of the helper that changes, and only if the argument certainly
arrives.

It is safe if the plan after it equals FedBN's expectation in every way the call may turn out, for every FLModel that
the call makes. It is unsafe, and says why, where

- not all of the model is known: an entry registered after a BatchNorm would no longer be synchronised;
- BatchNorm is averaged in silence before, and some of it still is afterwards, but less;
- something besides BatchNorm is wrong, the call makes another FLModel for which that is not certainly right, or the
  value stands in a variable that other files may read.

No fix is offered where `skip_bn=True` changes nothing (the round stops all the same), or does harm: where entries that
are averaged now, or whose round stops with an error now, would be left out or get another entry's tensor without a
word. Nor is one where the argument would not certainly arrive: a helper that does not forward it, a `**kwargs` that may
hold it already, a value that is computed. The help line says what to do instead."""


class _Effect(enum.Enum):
    """What the edit does to one possibility."""

    RIGHT = "FedBN's expectation is met"
    BETTER = "less goes wrong than before, and nothing new"
    SAME = "it goes wrong as before"
    OPEN = "it may be right"
    HARM = "something new goes wrong, or goes wrong in silence that was an error"


def skip_bn_fix(case: FLModelCase) -> Fix | None:
    """The edit that makes the call of a case pass ``skip_bn=True``; None where there is none, or it would do harm."""
    edit = case.site.skip_bn_edit
    if edit is None or not case.possibilities:
        return None
    own = _effects(case)
    doubtful = [fellow for fellow in case.fellows if any(effect is not _Effect.RIGHT for effect in _effects(fellow))]
    if _Effect.HARM in own or all(effect is _Effect.SAME for effect in own):
        return None
    # Of what goes wrong elsewhere this finding could not warn.
    if any(_Effect.HARM in _effects(one) or one.site.location != case.site.location for one in doubtful):
        return None
    reasons = [] if all(effect is _Effect.RIGHT for effect in own) else _reasons(case)
    if doubtful:
        reasons.append(f"the same call makes an FLModel for which that is not certainly right ({_models(doubtful)})")
    if edit.shared:
        reasons.append(f"other files may read `{edit.holder}`")
    where = f" by way of `{edit.holder}`" if edit.holder else ""
    message = f"pass `{edit.argument}`{where}"
    if not reasons:
        return Fix(Applicability.SAFE, message, edit.edits)
    return Fix(Applicability.UNSAFE, f"{message}, although {' and '.join(reasons)}", edit.edits)


def _effects(case: FLModelCase) -> list[_Effect]:
    if not case.possibilities:
        return [_Effect.OPEN] if case.readings else []  # without a reading no round runs
    return [_effect(before, after) for before, after in zip(case.possibilities, case.passing, strict=True)]


def _effect(before: Possibility, after: Possibility) -> _Effect:
    old, new = before.outcome.comparison, after.outcome.comparison
    if new.equal:
        return _Effect.RIGHT
    if new.stops:
        return _Effect.SAME if old.stops else _Effect.HARM
    left = _faults(after.outcome)
    if left and (old.stops or not left <= _faults(before.outcome)):
        return _Effect.HARM
    if new.equal is None:
        return _Effect.OPEN
    return _Effect.BETTER if old.stops or left < _faults(before.outcome) else _Effect.SAME


def _faults(outcome: Outcome) -> set[object]:
    return {(one.key, one.possible) for one in outcome.comparison.differences}


def _reasons(case: FLModelCase) -> list[str]:
    """Why the plan after the edit is not certainly FedBN's."""
    reasons = []
    wrong = [way for way in case.passing if way.outcome.wrong]
    if wrong:
        reasons.append(f"even with it, {consequences(wrong).rstrip('.')}")
    if all(way.reading.wrapped is not None for way in case.passing):
        reasons.append("not all of the model is known: `local_batchnorm` may refuse it")
    elif any(way.outcome.comparison.equal is None for way in case.passing):
        reasons.append(
            "not all of the model is known: an entry registered after a BatchNorm would no longer be synchronised"
        )
    if not reasons:
        reasons.append("something besides BatchNorm goes wrong here")
    return reasons


def _models(cases: Sequence[FLModelCase]) -> str:
    return " and ".join(dict.fromkeys(model_name(case.readings[0]) for case in cases))
