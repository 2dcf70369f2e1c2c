"""The zoo: what the models of well-known libraries hold, by the call that builds them.

The files beside this module are written by scripts/build_zoo.py from the real libraries;
:mod:`~bn_audit.source.zoo.codec` says how. This module finds the model a call names and decides, from the call's
arguments, which of the recorded trees it is.
"""

from __future__ import annotations

from bn_audit.source.zoo.models import model, versions

__all__ = ["model", "versions"]
