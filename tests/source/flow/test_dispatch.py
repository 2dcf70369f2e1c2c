"""Calls that hand a function on to be called, and what its parameters get."""

from __future__ import annotations

import libcst as cst
import pytest

from bn_audit.source.flow.dispatch import dispatch_of

CODE = cst.Module([]).code_for_node


@pytest.mark.parametrize(
    ("source", "how", "given", "gives"),
    [
        ("pool.map(train, clients)", "map", ["clients"], True),
        ("pool.starmap(train, rows)", "starmap", ["rows"], True),
        ("executor.submit(train, client, 3)", "submit", ["client", "3"], True),
        ("pool.apply_async(train, (client, 3))", "apply", ["client", "3"], True),
        ("Process(target=train, args=(client, queue))", "start", ["client", "queue"], False),
        ("threading.Thread(target=train, args=[client])", "start", ["client"], False),
        ("mp.spawn(train, args=(model,), nprocs=4)", "spawn", [None, "model"], False),
        ("Pool(4, train, (queue, Client))", "start", ["queue", "Client"], False),
        ("MyPool(4, initializer=train, initargs=(queue,))", "start", ["queue"], False),
        ("ProcessPoolExecutor(initializer=train, initargs=(queue,))", "start", ["queue"], False),
    ],
)
def test_what_is_handed_on(source: str, how: str, given: list[str | None], gives: bool) -> None:
    call = cst.parse_expression(source)
    assert isinstance(call, cst.Call)
    found = dispatch_of(call)
    assert found is not None
    assert CODE(found.function) == "train"
    assert (found.how, [None if row is None else CODE(row) for row in found.given]) == (how, given)
    assert found.gives is gives


def test_what_is_handed_on_by_name() -> None:
    call = cst.parse_expression('Process(target=train, kwargs={"client": one})')
    assert isinstance(call, cst.Call)
    found = dispatch_of(call)
    assert found is not None
    assert {name: CODE(row) for name, row in found.named.items()} == {"client": "one"}


@pytest.mark.parametrize(
    "source",
    ["map(train, clients)", "net.apply(weights)", "Pool(4)", "MaxPool2d(2, 2)", "f(g, h)", "pool.map(3, rows)"],
)
def test_what_is_none(source: str) -> None:
    call = cst.parse_expression(source)
    assert isinstance(call, cst.Call)
    assert dispatch_of(call) is None
