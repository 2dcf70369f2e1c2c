"""Where a node keeps its BatchNorm: in Flower's ``context.state``, which stays with the node, and in a folder of its
own if its operator names one.

Flower keeps ``context.state`` as long as the SuperNode's process lives. A SuperNode that is started with

    flower-supernode --node-config 'bn-audit-folder="/srv/alice"' ...

has its BatchNorm in that folder as well, a file a run, and finds it there when it has been started anew. The folder is
one SuperNode's: nothing else tells nodes apart that come back under another number.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context

from bn_audit.federated.errors import AggregationError
from bn_audit.federated.flower.form import Array, Form
from bn_audit.federated.flower.records import checked, record_of

__all__ = ["FOLDER", "folder_of", "keep", "kept", "node_name", "record_kept"]

FOLDER = "bn-audit-folder"
"""The key in the node's configuration."""
_STATE = "bn_audit.batchnorm"
"""The record in ``context.state``."""


def node_name(context: Context) -> str:
    """What errors call a node."""
    return f"node {context.node_id}"


def folder_of(context: Context) -> Path | None:
    """The node's own folder, if it has one.

    Raises:
        AggregationError: it is no folder's name.
    """
    named = context.node_config.get(FOLDER)
    if named is None:
        return None
    if not isinstance(named, str) or not named:
        raise AggregationError(f"{FOLDER} is {named!r}, not the path of a folder", party=node_name(context))
    return Path(named)


def record_kept(context: Context) -> ArrayRecord | None:
    """What :func:`keep` kept last in this process or in Flower's, as it is."""
    return context.state.array_records.get(_STATE)


def kept(context: Context, form: Form) -> dict[str, Array] | None:
    """What the node keeps of a run, or None if it has kept nothing yet.

    Raises:
        AggregationError: an entry has vanished, or changed its shape or dtype, since it was kept.
    """
    party = node_name(context)
    remedy = "the model has changed during the run: make the same in every round, or start a new run"
    record = record_kept(context)
    if record is None:
        stored = _stored(context)
        if stored is None:
            return None
        record = record_of(stored)
    try:
        return checked(
            record,
            form.local,
            party=party,
            missing="the node has kept no such entry, and the model has one",
            extra="the node has kept it for itself, and now it would be shared",
            known=form.shared,
        )
    except AggregationError as error:
        what = str(error).removeprefix(f"{party}: {error.key}: ")
        raise AggregationError(f"{what}; {remedy}", party=party, key=error.key) from error


def keep(context: Context, arrays: Mapping[str, Array]) -> None:
    """Keep what is the node's own.

    Raises:
        OSError: the node's folder cannot be written to.
    """
    path = _path(context)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # By another name than an argument of savez could have.
        entries: dict[str, Any] = {f"entry {key}": array for key, array in arrays.items()}
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with beside.open("wb") as file:
                np.savez(file, **entries)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    context.state[_STATE] = record_of(arrays)


def _path(context: Context) -> Path | None:
    folder = folder_of(context)
    return None if folder is None else folder / f"batchnorm-{context.run_id}.npz"


def _stored(context: Context) -> dict[str, Array] | None:
    path = _path(context)
    if path is None or not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name.removeprefix("entry "): archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise AggregationError(
            f"{path} cannot be read ({error}); remove it to begin with the model's own BatchNorm",
            party=node_name(context),
        ) from error
