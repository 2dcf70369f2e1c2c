from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bn_audit.source import workers
from bn_audit.source.inspector import Inspector
from bn_audit.source.outside import Outside
from bn_audit.source.part import Task
from bn_audit.source.sources import Sources
from bn_audit.source.workers import look_into_all, processes, share, stretches
from tests.source.projects import CALL, IMPORTS, NET


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Eleven files with a call each, of one model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.py").write_text(NET, encoding="utf-8")
    names = [f"train{number:02}.py" for number in range(11)]
    for number, name in enumerate(names):
        text = "\n" * number + IMPORTS + "from models import Net\n" + CALL
        (tmp_path / name).write_text(text, encoding="utf-8")
    return [Task(name, ("FLModel",)) for name in names]


def world(tasks: Sequence[Task]) -> Outside:
    return Outside(Sources(["models.py", *(task.path for task in tasks)], ["."]))


@pytest.mark.parametrize("count", [2, 3, 11])
def test_the_same_in_the_same_order_as_one_process(tasks: list[Task], count: int) -> None:
    one = Inspector(world(tasks))
    alone = [(one.look_into(task), one.outside.noted()) for task in tasks]
    outside = world(tasks)
    assert list(look_into_all(outside, tasks, count)) == alone
    assert str(Path("models.py").resolve()) in outside.signatures


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("number", [1, 2, 5, 16, 33, 257])
def test_stretches_are_all_the_tasks_in_order_and_end_short(number: int, count: int) -> None:
    tasks = [Task(str(one)) for one in range(number)]
    found = stretches(tasks, count)
    assert [task for _, part in found for task in part] == tasks
    firsts = [len(part) for turn, part in found if turn == 0]
    assert len(firsts) == min(number, count)
    assert max(firsts) <= max(-(-number // (2 * count)) + 1, 4)
    last = [part for (_, part), after in zip(found, [*found[1:], (0, ())], strict=True) if after[0] == 0]
    assert all(len(part) <= 4 for part in last)


@pytest.mark.parametrize(
    ("jobs", "count", "expected"), [(0, 1, 1), (5, 1, 1), (1, 50, 1), (3, 50, 3), (9, 4, 4), (0, 7, 1)]
)
def test_how_many_processes(jobs: int, count: int, expected: int) -> None:
    assert processes(jobs, [Task(str(number)) for number in range(count)]) == expected


def test_as_many_as_there_are_cores_for_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 3)
    assert processes(0, [Task(str(number)) for number in range(50)]) == 3


def _described(items: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    return os.getpid(), tuple(items)


@pytest.mark.parametrize(("jobs", "length"), [(1, 9), (2, 9), (3, 7), (3, 2)])
def test_parts_are_shared_in_order_and_the_first_stays_here(jobs: int, length: int) -> None:
    found = share(_described, range(length), jobs)
    assert len(found) == jobs
    assert [item for _, items in found for item in items] == list(range(length))
    assert found[0][0] == os.getpid()
    assert all(process != os.getpid() for process, _ in found[1:])


def _dies_elsewhere(items: Sequence[int]) -> int:
    if items[0] != 0 and multiprocessing.parent_process() is not None:
        os._exit(9)
    return sum(items)


def test_what_a_process_leaves_behind_is_done_here() -> None:
    assert share(_dies_elsewhere, range(10), 2) == [10, 35]


def _sleep(tasks: Sequence[Task]) -> object:
    time.sleep(300)
    return tasks


@pytest.mark.skipif(
    os.name == "nt" or multiprocessing.get_start_method() != "fork", reason="the workers must know of the patch"
)
def test_an_interrupt_waits_for_nobody(
    tasks: list[Task], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "_look_into", _sleep)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run where interrupts are ignored
    before = multiprocessing.active_children()
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    started = time.monotonic()
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(look_into_all(world(tasks), tasks, 2))
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, handler)
    while left := [child for child in multiprocessing.active_children() if child not in before]:
        assert time.monotonic() - started < 60, left
        time.sleep(0.05)
    assert "Traceback" not in capfd.readouterr().err
