"""What an app calls that loads and sends by itself, with a message API's records or a NumPyClient's lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from flwr.app import ArrayRecord, Context
from torch import nn

from bn_audit.federated.errors import AggregationError
from bn_audit.federated.flower.form import Array, Form, Integers, form_of
from bn_audit.federated.flower.keeping import keep, kept, node_name
from bn_audit.federated.flower.records import checked, record_of
from bn_audit.federated.state import load_entries

__all__ = ["FROM_SERVER", "MISSING", "load_arrays", "load_ndarrays", "make_arrays", "make_ndarrays"]

MISSING = (
    "missing in what the server sent: it has another model, or a strategy that lost it. Start the strategy from "
    "make_arrays(model)"
)
FROM_SERVER = (
    "BatchNorm's, and came from the server: BatchNorm stays with the nodes. Use FedBN as the strategy, or start it "
    "from make_arrays(model)"
)


def make_arrays(model: nn.Module, context: Context | None = None, *, integers: Integers = "refuse") -> ArrayRecord:
    """What is sent of a model: everything but BatchNorm.

    Args:
        model: a party's, or the server's for its initial arrays.
        context: a node's own; the model's BatchNorm is kept in it. The server has none.
        integers: what becomes of integers that are no BatchNorm's: ``refuse`` the model, or keep them ``local``.

    Returns:
        Arrays by key, in the order of the state dict; of float16, bfloat16 and float8 in float32.

    Raises:
        AggregationError: an entry that can neither travel nor stay.
        OSError: the node's folder cannot be written to.
    """
    form = form_of(model, integers)
    record = record_of(form.arrays(model, form.shared))
    if context is not None:
        keep(context, form.arrays(model, form.local))
    return record


def load_arrays(
    model: nn.Module, arrays: ArrayRecord, context: Context | None = None, *, integers: Integers = "refuse"
) -> None:
    """Load what arrived, and the BatchNorm that the node has kept; all of it, or nothing.

    Args:
        model: where to. Its BatchNorm stays as it is if the node has kept none yet, or there is no context.
        arrays: everything but BatchNorm, as :func:`make_arrays` makes it.
        context: the node's own.
        integers: as for :func:`make_arrays`.

    Raises:
        AggregationError: an entry is missing, or one too many; has another shape, or a dtype of another kind; a kept
            one is not the model's any more. Nothing has been loaded then.
    """
    form = form_of(model, integers)
    party = "the model" if context is None else node_name(context)
    found = checked(arrays, form.shared, party=party, missing=MISSING, extra=FROM_SERVER, known=form.local)
    _load(model, form, found, context)


def make_ndarrays(model: nn.Module, context: Context | None = None, *, integers: Integers = "refuse") -> list[Array]:
    """What a NumPyClient sends: as :func:`make_arrays`, as a list.

    A client that lives as long as the federation keeps its BatchNorm in its model and needs no context; one that
    ``client_fn`` makes for every message passes ``self.get_context()``, or what ``client_fn`` was given.

    Raises:
        AggregationError, OSError: as :func:`make_arrays`.
    """
    form = form_of(model, integers)
    arrays = list(form.arrays(model, form.shared).values())
    if context is not None:
        keep(context, form.arrays(model, form.local))
    return arrays


def load_ndarrays(
    model: nn.Module, arrays: Sequence[Array], context: Context | None = None, *, integers: Integers = "refuse"
) -> None:
    """Load what a NumPyClient is given: as :func:`load_arrays`, paired by position.

    Raises:
        AggregationError: as :func:`load_arrays`; the list is of another length.
    """
    form = form_of(model, integers)
    party = "the model" if context is None else node_name(context)
    if len(arrays) != len(form.shared):
        raise AggregationError(
            f"{len(arrays)} arrays arrived, and the model shares {len(form.shared)} entries, which are everything but "
            "BatchNorm. Start the strategy from make_ndarrays(model)",
            party=party,
        )
    found = {}
    for (key, entry), value in zip(form.shared.items(), arrays, strict=True):
        array = np.asarray(value)
        problem = entry.problem(array)
        if problem:
            raise AggregationError(problem, party=party, key=key)
        found[key] = array
    _load(model, form, found, context)


def _load(model: nn.Module, form: Form, shared: dict[str, Array], context: Context | None) -> None:
    own = None if context is None else kept(context, form)
    entries = {key: form.shared[key].tensor(array) for key, array in shared.items()}
    entries |= {key: form.local[key].tensor(array) for key, array in (own or {}).items()}
    load_entries(model, entries)
