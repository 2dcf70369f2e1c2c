"""What arithmetic does to dtypes: which one comes out, and which error if none does.

``torch`` knows tensors, ``numpy`` arrays and NumPy's scalars; ``dtypes`` holds the names both use. Only what decides
about an exchange is known of a value: its dtype, whether it is 0-d, and whether it is an array, a scalar or a number of
Python's. Read off torch 2.13 and NumPy 2.4 by running them, and tested beside them.
"""

from __future__ import annotations

from bn_audit.exchange.arithmetic.dtypes import KNOWN
from bn_audit.exchange.arithmetic.values import Kind, Refused, Unsettled, Value

__all__ = ["KNOWN", "Kind", "Refused", "Unsettled", "Value"]
