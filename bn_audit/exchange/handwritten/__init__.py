"""Averaging written by hand: what each form of :mod:`bn_audit.handwritten` does with a profile."""

from __future__ import annotations

from bn_audit.exchange.handwritten.plan import plan

__all__ = ["plan"]
