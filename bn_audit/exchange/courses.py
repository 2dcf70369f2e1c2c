"""Which of the errors that entries may run into comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bn_audit.exchange.arithmetic.dtypes import KNOWN, NOT_NUMPY
from bn_audit.exchange.cover import covered
from bn_audit.exchange.plan import PlanError
from bn_audit.exchange.steps import PASSED, UNKNOWN, Phase
from bn_audit.loading import Covers
from bn_audit.profile import Profile

__all__ = ["UNINITIALISED", "Course", "first_error", "gathered", "with_gaps"]


UNINITIALISED = (
    "ValueError",
    "Attempted to use an uninitialized parameter in <method 'numpy' of 'torch._C.TensorBase' objects>. This error "
    "happens when you are using a `LazyModule` or explicitly manipulating `torch.nn.parameter.UninitializedParameter` "
    "objects. When using LazyModules Call `forward` with a dummy batch to initialize the parameters before calling "
    "torch functions",
)
"""What torch raises where an array is to be made of a lazy layer's parameter: type and text."""


@dataclass(frozen=True, slots=True)
class Course:
    """What may happen to an entry, or to those of a gap, on the way through a pass or more.

    Attributes:
        key: the entry's; None for a gap.
        errors: step, type and text of all errors that it may run into.
        passes: whether it may come through.
        known: False if errors are possible that are not listed.
    """

    key: str | None
    errors: frozenset[tuple[int, str, str]] = frozenset()
    passes: bool = True
    known: bool = True

    @property
    def earliest(self) -> int:
        """The first step at which it may fail."""
        return 0 if not self.known else min(step for step, _, _ in self.errors)


def first_error(courses: Sequence[Course], by_step: bool, ordered: bool = True, round_: int = 1) -> Phase:
    """All entries' courses as one phase.

    Args:
        courses: in the order in which the entries are handled.
        by_step: whether a step is taken for all entries before the next one is, or all steps for an entry before the
            next entry's.
        ordered: whether the order is that of the run.
        round_: of the error.
    """
    failing = [number for number, course in enumerate(courses) if course.errors or not course.known]
    certain = [number for number in failing if courses[number].known and not courses[number].passes]
    if not certain:
        return UNKNOWN if failing else PASSED

    def rank(number: int) -> tuple[int, int]:
        step = courses[number].earliest
        return (step, number) if by_step else (number, step)

    first = min(certain, key=rank)
    course = courses[first]
    _, type_, text = min(course.errors)
    alone = len(course.errors) == 1 and all(rank(first) <= rank(other) for other in failing)
    # Where the order is not known, the text is if all that may fail say the same; which entry is at fault is not.
    same = len({error[1:] for number in failing for error in courses[number].errors}) == 1
    sure = alone and (ordered or (same and len(failing) == 1))
    return Phase(True, PlanError(type_, text, sure, course.key, round_))


def with_gaps(profile: Profile, courses: Sequence[Course]) -> list[Course]:
    """The courses of all entries, and among them those of entries that are not seen, of which nothing is known."""
    placed: list[Course] = []
    gaps = sorted(gap.index for gap in profile.gaps)
    for number in range(len(courses) + 1):
        while gaps and gaps[0] <= number:
            gaps.pop(0)
            placed.append(Course(None, known=False))
        placed.extend(courses[number : number + 1])
    return placed


def gathered(profile: Profile, covers: Covers, round_: int) -> Phase:
    """``tensor.cpu().numpy()`` of all that is sent."""
    courses = []
    for entry in profile.entries:
        which = covered(entry, covers)
        if which is not False and entry.lazy:
            courses.append(Course(entry.key, frozenset({(0, *UNINITIALISED)}), passes=which is None))
        elif which is not False and entry.dtype in NOT_NUMPY:
            error = (0, "TypeError", f"Got unsupported ScalarType {NOT_NUMPY[entry.dtype]}")
            courses.append(Course(entry.key, frozenset({error}), passes=which is None))
        else:
            courses.append(Course(entry.key, known=which is False or entry.dtype in KNOWN))
    return first_error(with_gaps(profile, courses), False, profile.ordered, round_)
