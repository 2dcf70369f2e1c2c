"""A fix as lines taken away and lines put in their place, with a line of source around them.

::

       |
    12 |     aggregator=SecureAggregator(charlie, [alice, bob]),
    13 |     backend="torch",
       +     skip_bn=True,
    14 | )
       |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from bn_audit.finding import Finding
from bn_audit.fix.edits import EditError, apply_edits
from bn_audit.report.frames import shown
from bn_audit.report.model import Excerpt

__all__ = ["changed_lines"]

CONTEXT = 1
"""Lines shown above and below a change, unless they are blank."""


def changed_lines(
    finding: Finding,
    excerpt: Excerpt,
    *,
    margin: int,
    gutter: Callable[[str], str] = str,
    old: Callable[[str], str] = str,
    new: Callable[[str], str] = str,
) -> Iterator[str]:
    """Lines that show what a finding's fix changes; none if it has no fix, or its source cannot be shown.

    Args:
        finding: with its fix.
        excerpt: gives lines of source.
        margin: width of the line numbers' column.
        gutter, old, new: give colour to the frame, to lines that go, and to lines that come.
    """
    import difflib

    fix, place = finding.fix, finding.location
    if fix is None or not fix.edits:
        return
    first = max(min(edit.line for edit in fix.edits) - CONTEXT, 1)
    last = max(edit.end_line for edit in fix.edits) + CONTEXT
    found = [excerpt(place.path, place.cell, line) for line in range(first, last + 1)]
    before = [line for line in found if line is not None]
    if len(before) < len(found) - CONTEXT:
        return
    shift = first - 1
    edits = [replace(edit, line=edit.line - shift, end_line=edit.end_line - shift) for edit in fix.edits]
    try:
        after = apply_edits("\n".join(before), edits).split("\n")
    except EditError:
        return
    blank = f"{' ' * margin} {gutter('|')}"
    yield blank
    groups = difflib.SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(CONTEXT)
    for number, group in enumerate(groups):
        if number:
            yield gutter("...".rjust(margin))
        for tag, start, end, new_start, new_end in group:
            for line in range(start, end):
                label = gutter(str(first + line).rjust(margin))
                if tag != "equal":
                    yield f"{label} {old(f'- {shown(before[line])}'.rstrip())}"
                elif before[line].strip():
                    yield f"{label} {gutter('|')} {shown(before[line])}".rstrip()
            for line in range(new_start, new_end) if tag != "equal" else ():
                yield f"{' ' * margin} {new(f'+ {shown(after[line])}'.rstrip())}"
    yield blank
