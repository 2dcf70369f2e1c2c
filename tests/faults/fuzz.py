"""Input that no person writes: seeds, changed at random, for each place where bytes from outside come in.

    python -m tests.faults.fuzz --seconds 600 [TARGET]...
    python -m tests.faults.fuzz --seconds 600 --engine atheris TARGET

A target takes bytes, and may refuse them by the one error that it has for it. Any other exception is a fault, and so
is more than ten seconds of processor time. ``--keep FOLDER`` writes what did it into a file there; the ones that were
found stand in tests/data/faults, and run with the tests.

The engine of our own splices seeds and words of the format, blindly but fast; ``atheris`` (pip install atheris) goes by
what parts of the code an input reaches; the target ``grammar`` takes programs from Hypothesmith, which knows Python's.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path

from tests.cli.conftest import MODELS, TRAIN

__all__ = ["TARGETS", "Fault", "fuzz", "try_one"]

SECONDS = 10.0


class Fault(Exception):
    """What an input did."""


def _parser(data: bytes) -> None:
    from bn_audit.source.parse import parse
    from bn_audit.source.text import SourceError

    with suppress(SourceError):
        parse("a.py", data)


def _reader(data: bytes) -> None:
    from bn_audit.audit import Selection, Versions, audit
    from bn_audit.source.read import ReadOptions, read

    result = read([], options=ReadOptions(jobs=1), stdin=("a.py", data))
    audit(result.sites, result.unreadable, Selection(), lambda path: Versions())


def _notebook(data: bytes) -> None:
    from bn_audit.source.parse import parse
    from bn_audit.source.text import SourceError

    with suppress(SourceError):
        parse("a.ipynb", data)


def _configuration(data: bytes) -> None:
    from bn_audit.scanning import vocabulary
    from bn_audit.settings.config import ConfigError
    from bn_audit.settings.load import load
    from bn_audit.settings.resolver import Resolver

    for name in ("bn-audit.toml", "pyproject.toml"):
        Path(name).write_bytes(data)
        try:
            load(os.path.abspath(name), vocabulary())
            settings = Resolver(vocabulary)
            settings.ignored("src/a.py")
            settings.exclusion(os.getcwd(), ["a.py"]).matches("a.py", os.path.abspath("a.py"))
        except ConfigError as error:
            if not str(error).strip():
                raise Fault("a message that says nothing") from error
        finally:
            os.remove(name)


def _pins(data: bytes) -> None:
    from bn_audit import pins

    names = ("uv.lock", "requirements.txt", "pyproject.toml", "setup.cfg", "Pipfile", "Pipfile.lock")
    name = names[len(data) % len(names)]
    Path(name).write_bytes(data)
    pins.forget()
    pins.pinned(os.path.abspath("a.py"), ("torch", "secretflow"))
    os.remove(name)


def _comments(data: bytes) -> None:
    from bn_audit.finding import Finding, Location, Severity
    from bn_audit.fix.add_noqa import annotate
    from bn_audit.fix.contents import Refused
    from bn_audit.silencing import marks_of
    from bn_audit.source.text import SourceError

    with suppress(SourceError):
        marks_of("a.py", data)
    place = Location("a.py", data.count(b"\n") // 2 + 1, 1, data.count(b"\n") // 2 + 1, 1)
    finding = Finding("BNA101", "missing-skip-bn", Severity.ERROR, "message", place)
    with suppress(SourceError, Refused):
        annotated = annotate("a.py", data, [finding])
        if annotated.added:
            marks = marks_of("a.py", annotated.data)
            if not marks.covering(finding):
                raise Fault("a comment was added that silences nothing")


def _baseline(data: bytes) -> None:
    from bn_audit.baseline import BaselineError, load

    Path("known.json").write_bytes(data)
    with suppress(BaselineError):
        load("known.json")


def _checkpoint(data: bytes) -> None:
    from bn_audit.live.checkpoint import open_checkpoint
    from bn_audit.live.errors import TargetError

    Path("a.pt").write_bytes(data)
    with suppress(TargetError), redirect_stdout(io.StringIO()):
        checkpoint = open_checkpoint(Path("a.pt"))
        for tensor in checkpoint.tensors.values():
            tensor.sum()


def _safetensors(data: bytes) -> None:
    from bn_audit.live.bare import profile_of_header
    from bn_audit.live.errors import TargetError
    from bn_audit.live.safetensors import read_header

    Path("a.safetensors").write_bytes(data)
    with suppress(TargetError):
        profile_of_header(read_header(Path("a.safetensors")))


def _cache(data: bytes) -> None:
    from bn_audit.source.codec import Malformed, decode
    from bn_audit.source.keeper import _unpacked
    from bn_audit.source.outside import digest

    # The checksum would catch nearly all that happens to a file; what somebody writes on purpose has a right one.
    body = data.partition(b"\n")[2]
    whole = b"bn-audit 1 %d %s\n" % (len(body), digest(body).encode()) + body
    try:
        memory = _unpacked(whole, "key")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return
    for result in memory.results.values() if memory is not None else ():
        with suppress(Malformed):
            decode(result.part)


Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {
    "parser": _parser,
    "reader": _reader,
    "notebook": _notebook,
    "configuration": _configuration,
    "pins": _pins,
    "comments": _comments,
    "baseline": _baseline,
    "cache": _cache,
    "safetensors": _safetensors,
    "checkpoint": _checkpoint,
}
"""``grammar`` beside them, which is ``reader`` with programs of another kind."""


# --- seeds -----------------------------------------------------------------------------------------------------------

_PROGRAM = (TRAIN.replace("from models import Net\n", "") + "\n" + MODELS).encode()
_WORDS = (
    b"\n|\r\n|\r|\t|\f|    |\\\n|#|'|\"|'''|\"\"\"|f'{|}'|rb'|\\N{|{{|:|;|,|.|...|(|)|[|]|{|}|=|:=|==|->|@|*|**|+|-|~|"
    b"//|<<|%|&|\xef\xbb\xbf|\xff|\x00|\xe2\x80\xae|\xc3\xa9|\\u0041|def |class |lambda |async |await |yield |return |"
    b"if |elif |else:|for |in |while |try:|except |finally:|with |match |case |_|type |global |nonlocal |del |not |"
    b"or |is |None|True|import |from |as |self|super()|FLModel|TorchModel|skip_bn|model_fn|nn.BatchNorm1d|state_dict|"
    b"load_state_dict|0x|1e|1_0|0b1|9999999999999999999999|# coding: |utf-16|latin-1|# noqa|# noqa: BNA101|"
    b"# bn-audit: ignore[BNA101]|%matplotlib|!ls|?|%%time\n|"
).split(b"|")
_JSON = (
    b'{|}|[|]|,|:|"|\\|null|true|NaN|Infinity|1e999|-1|0|99999999999999999999|"version"|"cells"|"source"|\\ud800|\\u0000'
).split(b"|")
_TOML = (
    b'[tool.bn-audit]\n|[[|]]|=|"|\'|"""|\\|.|,|{|}|select|ignore|exclude|extend|per-file-ignores|fail-on|"error"|jobs|'
    b"timeout|true|1|-1|1e9|1979-05-27|inf|nan|0x|ALL|BNA|BNA101|*|**|/**/|{a,b}|[!a]|models-with-batchnorm|a.b|\n|#|"
    b"99999999999999999999"
).split(b"|")


def _notebook_seeds() -> Iterator[bytes]:
    for source in (TRAIN, [line + "\n" for line in TRAIN.split("\n")], "%%time\nx = 1\n!ls\n?print"):
        cells = [{"cell_type": "code", "source": source, "outputs": []}, {"cell_type": "markdown", "source": "a"}]
        for metadata in ({}, {"kernelspec": {"language": "python"}, "language_info": {"name": "python"}}):
            yield json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4}).encode()
    yield json.dumps({"worksheets": [{"cells": [{"cell_type": "code", "input": TRAIN}]}], "nbformat": 3}).encode()


def _configuration_seeds() -> Iterator[bytes]:
    yield b'[tool.bn-audit]\nselect = ["BNA1"]\nexclude = ["a/*", "*.py"]\nper-file-ignores = {"t/*" = ["ALL"]}\n'
    yield b'select = ["ALL"]\nfail-on = "info"\njobs = 2\ntimeout = 3\nsecretflow-version = "1.13.0b0"\n'
    yield b'extend = "bn-audit.toml"\nmodels-with-batchnorm = ["a.b.c"]\nbaseline = "x.json"\noutput-format = "json"\n'


def _pins_seeds() -> Iterator[bytes]:
    yield b"torch==2.2.0\nsecretflow[a] ~= 1.3.0 ; python_version < '3' # x\n-e .\nnumpy>=1\n"
    yield b'[[package]]\nname = "torch"\nversion = "2.2.0"\n[project]\ndependencies = ["torch==2.1"]\n'
    yield b'[tool.poetry.dependencies]\ntorch = "==2.1"\n[packages]\ntorch = {version = "==2.0"}\n'
    yield b"[options]\ninstall_requires =\n  torch==2.0\n[options.extras_require]\na = torch==1\n"
    yield b'{"default": {"torch": {"version": "==2.0"}}}'


def _cache_seeds() -> Iterator[bytes]:
    part = [[], [{"Unreadable": [{"Location": ["a.py", 1, 1, 1, 1, None]}, "why"]}], ["/a.py"], ["note"], None]
    table = {
        "key": "key",
        "wanted": ["FLModel"],
        "files": {"": [["a.py", 1, 2, 3, 4, [0]]]},
        "signatures": {"/a.py": [1, 2, 3, 4]},
        "questions": [["read", "/a.py", "00"]],
        "answers": [0],
        "results": [[["look", "a.py"], part, [0]]],
    }
    yield b"head\n" + json.dumps(table).encode()


def _baseline_seeds() -> Iterator[bytes]:
    yield (Path(__file__).parent.parent / "data" / "faults" / "known.json").read_bytes()


def _safetensors_seeds() -> Iterator[bytes]:
    header = {
        "__metadata__": {"format": "pt"},
        "bn.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "bn.num_batches_tracked": {"dtype": "I64", "shape": [], "data_offsets": [8, 16]},
    }
    text = json.dumps(header).encode()
    yield struct.pack("<Q", len(text)) + text + bytes(16)


def _checkpoint_seeds() -> Iterator[bytes]:
    import torch

    state = {"bn.weight": torch.ones(2), "bn.num_batches_tracked": torch.tensor(3)}
    for value in (state, {"model": state, "epoch": 1}):
        for options in ({}, {"_use_new_zipfile_serialization": False}):
            buffer = io.BytesIO()
            torch.save(value, buffer, **options)
            yield buffer.getvalue()


SEEDS: dict[str, tuple[Callable[[], Iterator[bytes]], Sequence[bytes]]] = {
    "parser": (lambda: iter([_PROGRAM, b"x = 1\n"]), _WORDS),
    "reader": (lambda: iter([_PROGRAM]), _WORDS),
    "notebook": (_notebook_seeds, [*_JSON, *_WORDS]),
    "configuration": (_configuration_seeds, _TOML),
    "pins": (_pins_seeds, [*_TOML, b"torch", b"==", b"~=", b"[options]\n", b"install_requires", b" "]),
    "comments": (lambda: iter([_PROGRAM.replace(b")\n", b")  # noqa: BNA101, E501 # x\n")]), _WORDS),
    "baseline": (_baseline_seeds, _JSON),
    "cache": (_cache_seeds, [*_JSON, b"FLModelSite", b"Location", b"Severity", b"ERROR"]),
    "safetensors": (_safetensors_seeds, [*_JSON, b"F32", b"I64", b"shape", b"data_offsets", b"dtype"]),
    "checkpoint": (
        _checkpoint_seeds,
        [b"PK\x03\x04", b"PK\x01\x02", b"\x80\x02", b"ctorch\n", b"q\x00", b"R", b".", b"("],
    ),
}


# --- engines ---------------------------------------------------------------------------------------------------------


def changed(chance: random.Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A seed with some changes."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 3, 5, 8, 20))):
        place = chance.randrange(len(data) + 1)
        end = min(len(data), place + chance.choice((1, 1, 2, 4, 8, 30, 200)))
        kind = chance.randrange(7)
        if kind == 0 and data:
            data[min(place, len(data) - 1)] ^= 1 << chance.randrange(8)
        elif kind in (1, 2):
            data[place:place] = chance.choice(words) * chance.choice((1, 1, 1, 2, 5, 300))
        elif kind == 3:
            del data[place:end]
        elif kind == 4:
            data[place:place] = data[place:end] * chance.choice((1, 2, 50))
        elif kind == 5:
            other = chance.choice(seeds)
            start = chance.randrange(len(other) + 1)
            data[place:end] = other[start : start + chance.choice((5, 50, 500))]
        else:
            data[place:end] = bytes(chance.randrange(256) for _ in range(end - place))
    return bytes(data)


def try_one(target: Target, data: bytes) -> str | None:
    """What an input did that it may not, in words."""
    start = time.process_time()
    try:
        target(data)
    except Exception:
        return traceback.format_exc()
    seconds = time.process_time() - start
    return f"{seconds:.1f} seconds\n" if seconds > SECONDS else None


def fuzz(name: str, seconds: float, seed: int, most: int | None = None) -> Iterator[tuple[int, bytes, str]]:
    """The faults of a target: how many inputs there had been, the input, what it did. At the end, how many in all."""
    target = TARGETS[name]
    make, words = SEEDS[name]
    seeds, chance, number = list(make()), random.Random(seed), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end and (most is None or number < most):
        data = changed(chance, seeds, words)
        number += 1
        fault = try_one(target, data)
        if fault is not None:
            yield number, data, fault
    yield number, b"", ""


def grammar(seconds: float, seed: int, most: int | None = None) -> Iterator[tuple[int, bytes, str]]:
    """Programs by Python's grammar, each with a federation at its end."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesmith import from_grammar, from_node

    from tests.faults.files import federated

    number, found, end = 0, [], time.monotonic() + seconds

    while time.monotonic() < end and (most is None or number < most):
        for strategy in (from_grammar(), from_node()):

            @seeded(seed + number)
            @settings(
                max_examples=50,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=HealthCheck,
            )
            @given(strategy)
            def run(program: str) -> None:
                nonlocal number
                if time.monotonic() > end:
                    return
                number += 1
                data = federated("a.py", program.encode("utf-8", "surrogatepass"))
                for target in (_reader, _comments):
                    fault = try_one(target, data)
                    if fault is not None:
                        found.append((number, data, fault))

            run()
    yield from found
    yield number, b"", ""


def _atheris(name: str, seconds: float) -> None:
    """Does not return: libFuzzer ends the process, and prints how many inputs there were."""
    import atheris  # type: ignore[import-untyped,unused-ignore]

    target = TARGETS[name]
    make, words = SEEDS[name]
    folder = tempfile.mkdtemp()
    for number, data in enumerate(make()):
        Path(folder, str(number)).write_bytes(data)
    listed = Path(tempfile.mkdtemp(), "words")
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in words if word)
    listed.write_text("".join(f'"{word}"\n' for word in quoted), encoding="ascii")
    for module in [name for name in sys.modules if name.partition(".")[0] == "bn_audit"]:
        del sys.modules[module]  # what was imported before is not seen
    with atheris.instrument_imports(include=["bn_audit"]), suppress(Exception):
        target(next(iter(make())))
    options = [
        f"-max_total_time={int(seconds)}",
        f"-dict={listed}",
        "-timeout=60",
        "-rss_limit_mb=4096",
        "-max_len=20000",
    ]
    atheris.Setup([sys.argv[0], *options, folder], target, enable_python_coverage=True)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)}, grammar; all of them, if none"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--engine", choices=["ours", "atheris"], default="ours")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write what is found there")
    arguments = parser.parse_args()
    keep = None if arguments.keep is None else arguments.keep.resolve()
    found = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.mkdir(".git")
        for name in arguments.targets or [*TARGETS, "grammar"]:
            if arguments.engine == "atheris":
                _atheris(name, arguments.seconds)
            run = grammar if name == "grammar" else lambda *rest, name=name: fuzz(name, *rest)
            kinds: set[str] = set()
            number = 0
            for number, data, fault in run(arguments.seconds, arguments.seed):
                kind = fault.rstrip().rpartition("\n  File")[2] if fault else ""
                if not fault or kind in kinds:
                    continue
                kinds.add(kind)
                print(f"{name}: after {number:,} inputs:\n{fault}", flush=True)
                if keep is not None:
                    (keep / name).mkdir(parents=True, exist_ok=True)
                    (keep / name / hashlib.blake2b(data, digest_size=6).hexdigest()).write_bytes(data)
            found += len(kinds)
            print(f"{name}: {number:,} inputs, seed {arguments.seed}, {len(kinds)} faults", flush=True)
        os.chdir("/")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
