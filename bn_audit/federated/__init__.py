"""The reference FedBN aggregator, and what takes a model's state apart and puts it together.

Importing it imports torch; importing ``bn_audit`` does not.
"""

from bn_audit.federated.aggregator import FedAvg, FedBNAggregator
from bn_audit.federated.errors import AggregationError
from bn_audit.federated.files import aggregate_files
from bn_audit.federated.state import load_shared, local_keys, merge_state, split_state

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
