"""Run all of ``bn-audit inspect`` on every architecture of torchvision, timm and segmentation-models-pytorch.

    python benchmarks/inspect_architectures.py [torchvision] [timm] [smp] [--only GLOB] [--shard K/N] [--record FILE]
    python benchmarks/inspect_architectures.py --cost

Each is built on the meta device and goes through the command as a user's model does, once for every output format: all
entries, all norm layers, the tree, the matrix of settings. What the JSON says is compared with a count that is taken
from the module's types and its state dict, and knows nothing of our profiles: every entry, every BatchNorm, those that
are nested, other layers with running statistics, and integer entries beside them.

With ``--record`` a line of JSON for each architecture is appended to FILE, and those that are in it are not run again;
totals are those of the whole file. ``--shard 2/5`` takes every fifth architecture from the second on. The status is 1
if any architecture was refused, raised, or was counted differently. Needs what scripts/build_zoo.py needs.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "benchmarks")]

import build_zoo  # noqa: E402
import zoo_check  # noqa: E402
from click.testing import CliRunner  # noqa: E402

from bn_audit.cli.inspect import command  # noqa: E402

LIBRARIES = ("torchvision", "timm", "smp")
FORMATS = ("text", "markdown", "json")
HELD = "architecture_at_hand"
"""The name under which the command imports the model that was built."""


@dataclass
class Count:
    """What is compared: names, so that two mistakes do not cancel out."""

    entries: list[list[Any]] = field(default_factory=list)
    batchnorms: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    statistics: list[str] = field(default_factory=list)
    integers: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """What became of one architecture: ``unbuilt`` says why there was none, ``problem`` where the counts differ."""

    library: str
    name: str
    unbuilt: str = ""
    problem: str = ""
    on_meta: bool = True
    entries: int = 0
    batchnorms: int = 0
    nested: int = 0
    statistics: int = 0
    integers: int = 0
    seconds: float = 0.0


def names_of(library: str) -> list[str]:
    """Every architecture that a library lists; of smp every combination with an encoder that it lists, and DPT, which
    takes timm's alone, with its widely used transformers."""
    if library == "torchvision":
        from torchvision import models

        return list(models.list_models())
    if library == "timm":
        import timm

        return list(timm.list_models())
    import segmentation_models_pytorch as smp

    listed = [f"{made.__name__}:{encoder}" for made in smp._MODEL_ARCHITECTURES for encoder in smp.encoders.encoders]
    return [*listed, *(f"DPT:tu-{name}" for name in build_zoo.SMP_TIMM_ENCODERS if name.startswith("vit_"))]


def counted(model: Any) -> Count:
    """The count from module types and the state dict alone."""
    from torch.nn.modules.batchnorm import _BatchNorm

    modules = dict(model.named_modules(remove_duplicate=False))
    batchnorms = [path for path, module in modules.items() if isinstance(module, _BatchNorm)]
    statistics = [
        path
        for path, module in modules.items()
        if path not in batchnorms and {"running_mean", "running_var"} & dict(module.named_buffers(recurse=False)).keys()
    ]
    kept = {*batchnorms, *statistics}
    state = model.state_dict()
    return Count(
        entries=[[key, list(value.shape), str(value.dtype).partition(".")[2]] for key, value in state.items()],
        batchnorms=batchnorms,
        nested=[path for path in batchnorms if path.count(".")],
        statistics=statistics,
        integers=[
            key
            for key, value in state.items()
            if not (value.is_floating_point() or value.is_complex()) and key.rpartition(".")[0] not in kept
        ],
    )


def reported(text: str) -> Count:
    """The same as ``inspect`` says it."""
    said = json.loads(text)
    batchnorms = [norm for norm in said["norms"] if norm["batchnorm"]]
    return Count(
        entries=[[entry["key"], entry["shape"], entry["dtype"]] for entry in said["entries"]],
        batchnorms=[norm["path"] for norm in batchnorms],
        nested=[norm["path"] for norm in batchnorms if norm["depth"] > 1],
        statistics=[norm["path"] for norm in said["norms"] if not norm["batchnorm"]],
        integers=[
            entry["key"]
            for entry in said["entries"]
            if entry["norm"] is None and not entry["dtype"].startswith(("float", "bfloat", "complex"))
        ],
    )


def difference(said: Count, true: Count) -> str:
    """The first thing that is not alike; "" if there is none."""
    for name, expected in asdict(true).items():
        found = getattr(said, name)
        if found != expected:
            where = next((pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]), "one is longer")
            return f"{name}: {len(found)} instead of {len(expected)}; first: {where}"
    return ""


def inspected(model: Any, image: CliRunner) -> str:
    """Run the command on a model in every format; the JSON.

    Raises:
        RuntimeError: the command raised, refused the model, or wrote nothing.
    """
    holder = ModuleType(HELD)
    vars(holder)["model"] = model
    sys.modules[HELD] = holder
    output = ""
    try:
        for name in FORMATS:
            result = image.invoke(command, [f"{HELD}:model", "--all", "--tree", "--output-format", name])
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise RuntimeError(f"{name}: {traceback.format_exception(result.exception)[-1].strip()}")
            if result.exit_code not in (0, 1) or not result.stdout.strip():
                raise RuntimeError(f"{name}: status {result.exit_code}: {result.output.strip()[-300:]}")
            output = result.stdout
    finally:
        del sys.modules[HELD]
        gc.unfreeze()  # the command does not expect to run twice in a process
    return output


def outcome_of(library: str, name: str) -> Outcome:
    start = time.perf_counter()
    outcome = Outcome(library, name)
    try:
        model = zoo_check.build(library, name, {})[2]
    except Exception as error:
        outcome.unbuilt = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        return outcome
    outcome.on_meta = all(value.is_meta for value in model.state_dict().values())
    true = counted(model)
    try:
        outcome.problem = difference(reported(inspected(model, CliRunner())), true)
    except RuntimeError as error:
        outcome.problem = str(error)
    for one in ("entries", "batchnorms", "nested", "statistics", "integers"):
        setattr(outcome, one, len(getattr(true, one)))
    outcome.seconds = round(time.perf_counter() - start, 2)
    return outcome


def wanted(libraries: list[str], only: str, shard: str) -> Iterator[tuple[str, str]]:
    number, _, of = shard.partition("/")
    everything = [(library, name) for library in libraries for name in names_of(library) if fnmatch.fnmatch(name, only)]
    yield from everything[int(number) - 1 :: int(of)]


def recorded(path: Path | None) -> list[Outcome]:
    if path is None or not path.exists():
        return []
    return [Outcome(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def report(outcomes: list[Outcome]) -> bool:
    for one in outcomes:
        if one.problem:
            print(f"{one.library} {one.name}: {one.problem}")
    for library in LIBRARIES:
        built = [one for one in outcomes if one.library == library and not one.unbuilt]
        refused = [one for one in outcomes if one.library == library and one.unbuilt]
        if not built and not refused:
            continue
        holds = [one for one in built if one.batchnorms]
        print(
            f"{library}: {len(built)} architectures built ({sum(not one.on_meta for one in built)} not on the meta "
            f"device alone), {len(refused)} not; {len(holds)} hold BatchNorm, in "
            f"{sum(one.nested > 0 for one in holds)} it is nested\n"
            f"  {sum(one.entries for one in built)} entries, {sum(one.batchnorms for one in built)} BatchNorms, "
            f"{sum(one.nested for one in built)} nested, {sum(one.statistics for one in built)} other layers with "
            f"running statistics, {sum(one.integers for one in built)} other integer entries in "
            f"{sum(one.integers > 0 for one in built)} architectures; "
            f"{sum(bool(one.problem) for one in built)} disagreements; {sum(one.seconds for one in built):.0f} s"
        )
        reasons: dict[str, list[str]] = {}
        for one in refused:
            reasons.setdefault(one.unbuilt.replace(one.name.rpartition(":")[2], "..."), []).append(one.name)
        for reason, names in reasons.items():
            print(f"  not built: {len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}): {reason}")
    return not any(one.problem for one in outcomes)


RESNET50 = """\
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from torchvision.models import resnet50
"""
MAX_COST = 1.15


def cost(rounds: int = 5) -> bool:
    """CPU seconds of inspecting ResNet50, beside importing torch and torchvision and building it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "resnet.py").write_text(RESNET50, encoding="utf-8")
        commands = {
            "build": ["-c", "import resnet; resnet.resnet50()"],
            "inspect": ["-m", "bn_audit", "inspect", "resnet.py:resnet50"],
        }
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds + 1):
            for name, command_line in commands.items():
                before = os.times()
                done = subprocess.run(
                    [sys.executable, *command_line], cwd=folder, env=environment, capture_output=True, check=False
                )
                after = os.times()
                if done.returncode not in (0, 1):
                    raise SystemExit(done.stderr.decode())
                seconds[name].append(
                    after.children_user - before.children_user + after.children_system - before.children_system
                )
    ratios = [a / b for a, b in zip(seconds["inspect"][1:], seconds["build"][1:], strict=True)]
    median = statistics.median(ratios)
    print(
        f"inspect of ResNet50: {min(seconds['inspect'][1:]):.2f} s of CPU, importing and building "
        f"{min(seconds['build'][1:]):.2f}; ratio {min(ratios):.2f} {median:.2f} {max(ratios):.2f}, goal {MAX_COST}"
    )
    return median <= MAX_COST


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libraries", nargs="*", metavar="LIBRARY", help=f"of {', '.join(LIBRARIES)}; all if none")
    parser.add_argument("--only", default="*", help="names of architectures, as a shell pattern")
    parser.add_argument("--shard", default="1/1", metavar="K/N", help="every N-th architecture from the K-th on")
    parser.add_argument("--record", type=Path, metavar="FILE", help="append outcomes, and skip those that are there")
    parser.add_argument("--totals", action="store_true", help="only print what FILE holds")
    parser.add_argument("--cost", action="store_true", help="only measure what inspect of ResNet50 costs")
    arguments = parser.parse_args()
    arguments.libraries = arguments.libraries or list(LIBRARIES)
    if unknown := [name for name in arguments.libraries if name not in LIBRARIES]:
        parser.error(f"no library of {', '.join(LIBRARIES)}: {', '.join(unknown)}")
    if arguments.cost:
        return 0 if cost() else 1
    build_zoo.prepare_torch()
    if "torchvision" in arguments.libraries:
        build_zoo.skip_weights()
    outcomes = recorded(arguments.record)
    done = {(one.library, one.name) for one in outcomes}
    if not arguments.totals:
        for library, name in wanted(arguments.libraries, arguments.only, arguments.shard):
            if (library, name) in done:
                continue
            outcome = outcome_of(library, name)
            outcomes.append(outcome)
            if outcome.problem:
                print(f"{library} {name}: {outcome.problem}", file=sys.stderr, flush=True)
            if arguments.record is not None:
                with arguments.record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
    return 0 if report(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
