"""The reference FedBN aggregator, and what takes a model's state apart and puts it together.

Importing it imports torch; importing ``bn_audit`` does not.
"""

from bn_audit.extras import require_torch

require_torch()

from bn_audit.federated.aggregator import FedAvg, FedBNAggregator  # noqa: E402
from bn_audit.federated.errors import AggregationError  # noqa: E402
from bn_audit.federated.files import aggregate_files  # noqa: E402
from bn_audit.federated.state import load_shared, local_keys, merge_state, split_state  # noqa: E402

__all__ = [
    "AggregationError",
    "FedAvg",
    "FedBNAggregator",
    "aggregate_files",
    "load_shared",
    "local_keys",
    "merge_state",
    "split_state",
]
