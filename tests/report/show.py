"""Reports as a format shows them."""

from __future__ import annotations

from bn_audit.report.formats import renderer
from bn_audit.report.model import Report, View
from tests.report.reports import REPORT, excerpt, in_file

__all__ = ["render", "view"]


def view(*, color: bool = False, footer: bool = True) -> View:
    return View(excerpt, color=color, footer=footer, in_file=in_file)


def render(name: str, report: Report = REPORT, *, color: bool = False, footer: bool = True) -> str:
    write = renderer(name)
    assert write is not None
    return "".join(f"{line}\n" for line in write(report, view(color=color, footer=footer)))
