"""Flower's records and a model's entries: what is sent, and what arrives and is looked at before it is believed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, RecordDict

from bn_audit.federated.errors import AggregationError
from bn_audit.federated.flower.form import Array, Entry, Form

__all__ = ["NAME", "checked", "name_in", "record_of"]

NAME = "arrays"
"""What Flower's strategies call the record that holds the model."""


def record_of(arrays: Mapping[str, Array]) -> ArrayRecord:
    """A record of arrays, in their order."""
    return ArrayRecord({key: FlowerArray(array) for key, array in arrays.items()})


def checked(
    record: Mapping[str, FlowerArray],
    part: Mapping[str, Entry],
    *,
    party: str,
    missing: str,
    extra: str,
    known: Collection[str] = (),
) -> dict[str, Array]:
    """The arrays of a record, in the order of ``part``, every one of them as the model has it.

    Args:
        record: what arrived.
        part: what it has to hold, and nothing besides.
        party: whose fault it is, for the error.
        missing: what to say of an entry that is not there.
        extra: what to say of an entry in ``known`` that is there and should not be.
        known: entries of the model that are not in ``part``.

    Raises:
        AggregationError: it holds something else; the first such entry is named, and how many more there are.
    """
    lacking = [key for key in part if key not in record]
    forbidden = [key for key in record if key in known and key not in part]
    strange = [key for key in record if key not in known and key not in part]
    for keys, message in ((forbidden, extra), (lacking, missing), (strange, "the model has no such entry")):
        if keys:
            more = f" (and {len(keys) - 1} more such)" if len(keys) > 1 else ""
            raise AggregationError(f"{message}{more}", party=party, key=keys[0])
    found = {}
    for key, entry in part.items():
        try:
            array = record[key].numpy()
        except Exception as error:
            # Bytes from elsewhere that are no array, in whatever way.
            raise AggregationError(f"no array: {type(error).__name__}: {error}", party=party, key=key) from error
        problem = entry.problem(array)
        if problem:
            raise AggregationError(problem, party=party, key=key)
        found[key] = array
    return found


def name_in(content: RecordDict, form: Form, name: str, party: str, *, needed: bool) -> str | None:
    """The name of the record that holds the model: the one of that name, or the only one.

    Raises:
        AggregationError: it is needed, and there is none.
    """
    records = content.array_records
    if name in records:
        return name
    if any(one.startswith(("fitins.", "evaluateins.", "fitres.", "evaluateres.")) for one in records):
        raise AggregationError(
            "this app is a NumPyClient, whose arrays have no keys: use load_ndarrays and make_ndarrays in it instead "
            "of the mod",
            party=party,
        )
    if len(records) == 1:
        (only,) = records
        if needed or any(key in form.shared for key in records[only]):
            return str(only)
        return None
    if needed:
        there = f"there are {', '.join(sorted(records))}" if records else "there is none"
        raise AggregationError(
            f"no ArrayRecord {name!r}; {there}. Pass the strategy's arrayrecord_key as record=...", party=party
        )
    return None
