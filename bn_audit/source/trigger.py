"""What makes a file worth a look: the name of SecretFlow's FLModel; what takes the state of a model, or puts it back;
the client of a framework."""

from __future__ import annotations

__all__ = ["MARK", "TRIGGER", "TRIGGERS"]

TRIGGER = b"FLModel"
TRIGGERS = (
    TRIGGER,
    b"state_dict",
    b"parameters()",
    b"NumPyClient",
    b"ArrayRecord",
    b"FedMLRunner",
    b"ClientTrainer",
    b"TaskRunner",
    b"FederatedModel",
    b"fl4health",
    b"nvflare.client.lightning",
)
"""Literal bytes, one of which stands in every file that is looked into for its own sake."""

MARK = b"BNA"
"""Literal bytes that stand in every file with a suppression that names a code of ours."""
