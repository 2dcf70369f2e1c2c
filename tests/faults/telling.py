"""What a trial that looks for faults tells, and its exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterable

__all__ = ["tell"]


def tell(faults: Iterable[str]) -> int:
    """Print faults as they are found, and at the end how many they were; 1 if there were any."""
    found = 0
    for fault in faults:
        found += 1
        print(fault, flush=True)
    print(f"{found} faults", file=sys.stderr)
    return int(found > 0)
