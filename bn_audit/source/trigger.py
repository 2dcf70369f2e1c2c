"""What makes a file worth a look: the name of SecretFlow's FLModel, and of SecretFlow; or the state of a model that is
taken or put back, in a file that speaks of parties."""

from __future__ import annotations

import re

from bn_audit.source.raw import utf_16_or_32

__all__ = ["TRIGGER", "TRIGGERS", "may_federate", "takes_flmodel"]

TRIGGER = b"FLModel"
TRIGGERS = (TRIGGER, b"state_dict", b".parameters()", b"set_parameters", b"ArrayRecord")
"""Literal bytes, one of which stands in every file that is looked into for its own sake."""

_ORIGIN = re.compile(rb"secretflow|(?:from|import)\s+sfl\b")


def takes_flmodel(data: bytes) -> bool:
    """Whether a file that holds the trigger may take FLModel from SecretFlow itself, and not from another file."""
    # UTF-16 puts a null byte beside each letter; Python does not read it as source, which is worth an error.
    return _ORIGIN.search(data if utf_16_or_32(data) is None else data.replace(b"\0", b"")) is not None


_STATE = re.compile(
    rb"load_state_dict\s*\((?!\s*torch\.load\s*\()|copy_\s*\(|\.data\b|set_parameters|ArrayRecord|\bparams\s*="
)
_PARTIES = re.compile(
    rb"(?i)fed(?:erat|avg|bn|prox|_?learn)|client|aggregat|w_locals|w_glob|global_(?:model|weights|params|net|state)"
    rb"|local_(?:model|weights|params|state)s|\bparties\b|\bparty|participant|num_users|idxs_users|\bflwr\b|nvflare"
    rb"|average_(?:weights|models?|params|state)|avg_(?:weights|state)|all_?reduce|worker_(?:models|states)"
)


def may_federate(data: bytes) -> bool:
    """Whether a file may put combined states into a model: it does so with some state, and speaks of more than one
    party. What it calls them is no evidence, only a reason to look."""
    return _STATE.search(data) is not None and _PARTIES.search(data) is not None
