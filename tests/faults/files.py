"""Real files, the worst that there are: every Python file and notebook below some folders, CPython's own tests of
broken syntax among them.

    python -m tests.faults.files FOLDER...

Each is read as it is, and once more with a federation at its end, so that no file is passed over for having nothing to
do with us: its comments, its tree, its classes as models. An exception, or more than a minute of processor time for one
file, is a fault. Then all are read again in another order, and as a project by one process and by two, and what comes
of it has to be the same.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress

from bn_audit.silencing import marks_of
from bn_audit.source.deep_stack import OutOfTime
from bn_audit.source.inspector import Inspector
from bn_audit.source.outside import Outside
from bn_audit.source.parse import parse
from bn_audit.source.part import Limits, Part, Task
from bn_audit.source.raw import SourceError, read_bytes
from bn_audit.source.read import ReadOptions, list_files, read
from bn_audit.source.sources import Sources
from tests.faults.telling import tell

__all__ = ["faults", "federated"]

SECONDS = 60.0
TASK = ("FLModel",)
_CLASS = re.compile(rb"^class\s+(\w+)", re.MULTILINE)
_TAIL = """

from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel

for _model_fn in ({names}):
    FLModel(model=TorchModel(model_fn=_model_fn), backend="torch", skip_bn=True).fit(1)
"""


def federated(path: str, data: bytes) -> bytes:
    """A file's content with a federation of its first classes at the end. A notebook stays as it is."""
    if path.endswith(".ipynb"):
        return data
    names = [name.decode("ascii", "replace") for name in _CLASS.findall(data)][:3] or ["Model"]
    return data + _TAIL.format(names="".join(f"{name}, " for name in names)).encode()


def faults(folders: Sequence[str], seed: int, most: int | None = None) -> Iterator[str]:
    """What went wrong, in words; how much was tried goes to stderr."""
    files = list(list_files(folders, options=ReadOptions(respect_gitignore=False, exclude=("nothing",))).files)
    chance = random.Random(seed)
    if most is not None and len(files) > most:
        files = sorted(chance.sample(files, most))
    contents = {}
    for path in files:
        with suppress(SourceError):
            data = read_bytes(path)
            contents[path] = federated(path, data)
            try:
                marks_of(path, data)
                parse(path, data)
            except SourceError:
                pass
            except Exception:
                yield f"{path}: {traceback.format_exc()}"
    size = sum(map(len, contents.values()))
    print(f"{len(contents):,} files, {size / 1e6:.1f} MB", file=sys.stderr, flush=True)

    tasks = [Task(path, TASK, True) for path in contents]
    first: dict[str, Part] = {}
    slow = ("", 0.0)
    for task, part, seconds in _looked_into(folders, tasks, contents):
        if isinstance(part, str):
            yield part
        else:
            first[task.path] = part
        slow = max(slow, (task.path, seconds), key=lambda row: row[1])
    print(f"looked into; the slowest took {slow[1]:.1f} s: {slow[0]}", file=sys.stderr, flush=True)
    chance.shuffle(tasks)
    for task, part, _ in _looked_into(folders, tasks, contents):
        if not isinstance(part, str) and first.get(task.path) not in (None, part):
            yield f"{task.path}: in another order something else comes of it"
    print("looked into in another order", file=sys.stderr, flush=True)

    named = {os.path.abspath(path): data for path, data in contents.items()}
    one, two = (read(files, options=ReadOptions(jobs=jobs, force_exclude=False), contents=named) for jobs in (1, 2))
    if one != two:
        yield "two processes do not find what one finds"
    plain_one, plain_two = (read(files, options=ReadOptions(jobs=jobs)) for jobs in (1, 2))
    if plain_one != plain_two:
        yield "two processes do not find what one finds, as the files are"
    print(
        f"read by one process and by two: {one.parsed:,} parsed, {len(one.sites):,} sites, {len(one.unreadable):,} "
        f"unreadable; as they are: {plain_one.parsed:,}, {len(plain_one.sites):,}, {len(plain_one.unreadable):,}",
        file=sys.stderr,
        flush=True,
    )


def _looked_into(
    folders: Sequence[str], tasks: Sequence[Task], contents: dict[str, bytes]
) -> Iterator[tuple[Task, Part | str, float]]:
    """What came of each file, or what went wrong, and the seconds it took."""
    named = {os.path.abspath(path): data for path, data in contents.items()}
    outside = Outside(Sources(sorted(contents), [os.path.abspath(folder) for folder in folders], contents=named))
    inspector = Inspector(outside, Limits(SECONDS))
    for task in tasks:
        start = time.process_time()
        try:
            part: Part | str = inspector.look_into(task)
        except OutOfTime:
            part = f"{task.path}: more than {SECONDS:g} seconds"
        except Exception:
            part = f"{task.path}: {traceback.format_exc()}"
        if isinstance(part, Part) and part.problems:
            part = part.problems[0]
        yield task, part, time.process_time() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=1, help="of the other order")
    parser.add_argument("--most", type=int, help="of all files, try no more than so many, by chance")
    arguments = parser.parse_args()
    return tell(faults(arguments.folders, arguments.seed, arguments.most))


if __name__ == "__main__":
    sys.exit(main())
