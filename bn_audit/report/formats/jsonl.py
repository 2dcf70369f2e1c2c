"""JSON, a finding a line, for programs that read a stream. Each line is as in ``findings`` of the format json."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bn_audit.report.formats.json import as_data
from bn_audit.report.model import Report, View

__all__ = ["render"]


def render(report: Report, view: View) -> Iterator[str]:
    """The findings; nothing if there are none."""
    for finding in report.findings:
        yield json.dumps(as_data(finding))
