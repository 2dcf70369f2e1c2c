"""Averaging written by hand: its forms as plain data, and what each does with a profile."""

from __future__ import annotations

from bn_audit.exchange.handwritten.form import (
    Add,
    Arithmetic,
    Begin,
    Cast,
    Covers,
    Factor,
    Flattened,
    HandWritten,
    How,
    Library,
    Load,
    Loop,
    Number,
    Operation,
    Order,
    Rebuild,
    Reduction,
    Reductor,
    Rest,
)
from bn_audit.exchange.handwritten.plan import plan

__all__ = [
    "Add",
    "Arithmetic",
    "Begin",
    "Cast",
    "Covers",
    "Factor",
    "Flattened",
    "HandWritten",
    "How",
    "Library",
    "Load",
    "Loop",
    "Number",
    "Operation",
    "Order",
    "Rebuild",
    "Reduction",
    "Reductor",
    "Rest",
    "plan",
]
