from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are made where a run is."""
    try:
        from flwr.supercore.task_identity import TaskIdentity
    except ModuleNotFoundError:
        return  # older releases do not ask
    for name, value in (("_task_id", 1), ("_run_id", 7), ("_node_id", 99)):
        monkeypatch.setattr(TaskIdentity, name, value)


@pytest.fixture(autouse=True)
def _flower_says_nothing() -> Iterator[None]:
    logger = logging.getLogger("flwr")
    handlers, logger.handlers = logger.handlers, []
    yield
    logger.handlers = handlers
