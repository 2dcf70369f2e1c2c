"""bn-audit: what BatchNorm does to a federated PyTorch model, before and after a round runs."""

__version__ = "0.1.0"
