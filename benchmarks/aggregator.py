"""Measure the FedBN aggregator beside one reading of the states, Flower's aggregation and SecretFlow's. See README.md.

Ten state dicts of ResNet50's size, one thread. CPU time is given as a ratio to reading every tensor once
(``Tensor.sum``), taken in the same round, and counts until the result is there; memory as the growth of the process's
peak in units of one state dict, each in a process of its own. The formulas of Flower and SecretFlow are written out as
their sources have them, over the same entries. ``--device cuda`` measures on a GPU instead, by the clock.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bn_audit.federated import FedBNAggregator, aggregate_files
from bn_audit.source import zoo
from bn_audit.source.state import ModuleState

State = dict[str, Tensor]

MAX_TIME = {"aggregate": 1.6, "aggregate exact": 6.0}
MAX_MEMORY = 1.15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parties", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fail", action="store_true", help="status 1 if a goal is missed")
    parser.add_argument("--device", default="cpu", help="cuda: on the GPU, by the clock, beside torch's own mean")
    parser.add_argument("--memory-of", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory_of:
        print(memory_of(arguments.memory_of[0], Path(arguments.memory_of[1]), arguments.parties))
        return 0
    if arguments.device != "cpu":
        on_device(arguments.parties, arguments.rounds, torch.device(arguments.device))
        return 0
    good = memories(arguments.parties)  # first: a process starts with the peak of the one that started it
    good &= times(arguments.parties, arguments.rounds)
    return 1 if arguments.fail and not good else 0


def resnet50(seed: int) -> State:
    """A state dict with ResNet50's keys and shapes and random values."""
    model = zoo.model("torchvision.models.resnet50", (), {})
    if not isinstance(model, ModuleState):
        raise SystemExit(f"the zoo does not know ResNet50: {model}")
    generator = torch.Generator().manual_seed(seed)
    return dict(entries(model, "", generator))


def entries(module: ModuleState, prefix: str, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    for slot in module.slots:
        if slot.dtype == "float32":
            yield prefix + slot.name, torch.randn([size or 1 for size in slot.shape or ()], generator=generator) * 0.02
        else:
            yield prefix + slot.name, torch.tensor(100)
    for name, child in module.children:
        yield from entries(child, f"{prefix}{name}.", generator)


def read(states: Sequence[State], weights: Sequence[int]) -> None:
    for state in states:
        for value in state.values():
            value.sum()


def added(states: Sequence[State], weights: Sequence[int], exact: bool = False) -> State:
    aggregator = FedBNAggregator.from_state(states[0], exact=exact)
    for state, weight in zip(states, weights, strict=True):
        aggregator.add(state, weight)
    return aggregator.result()


def aggregated(states: Sequence[State], weights: Sequence[int], exact: bool = False) -> State:
    return FedBNAggregator.from_state(states[0], exact=exact).aggregate(states, weights)


def flower(states: Sequence[State], weights: Sequence[int]) -> list[np.ndarray]:
    """Flower's ``aggregate`` (flwr/server/strategy/aggregate.py, 1.0 to 1.41)."""
    results = [
        ([value.numpy() for value in state.values()], weight) for state, weight in zip(states, weights, strict=True)
    ]
    num_examples_total = sum(num_examples for (_, num_examples) in results)
    weighted_weights = [[layer * num_examples for layer in weights] for weights, num_examples in results]
    return [reduce(np.add, layer_updates) / num_examples_total for layer_updates in zip(*weighted_weights, strict=True)]


def secretflow(states: Sequence[State], weights: Sequence[int]) -> list[np.ndarray]:
    """PlainAggregator.average (secretflow/security/aggregation/plain_aggregator.py, 1.13)."""
    data = [[value.numpy() for value in state.values()] for state in states]
    results = []
    for elements in zip(*data, strict=True):
        average = np.average(elements, axis=0, weights=weights)
        results.append(average.astype(elements[0].dtype))
    return results


def times(parties: int, rounds: int) -> bool:
    states = [resnet50(seed) for seed in range(parties)]
    weights = list(range(100, 100 + parties))
    size = sum(value.nbytes for value in states[0].values())
    print(f"{parties} state dicts of {size / 2**20:.0f} MiB, {rounds} rounds, 1 thread, torch {torch.__version__}")
    runs: dict[str, Callable[[], object]] = {
        "read once": lambda: read(states, weights),
        "aggregate": lambda: aggregated(states, weights),
        "add, result": lambda: added(states, weights),
        "aggregate exact": lambda: aggregated(states, weights, exact=True),
        "add, result exact": lambda: added(states, weights, exact=True),
        "Flower": lambda: flower(states, weights),
        "SecretFlow": lambda: secretflow(states, weights),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.thread_time()
            result = run()
            seconds[name].append(time.thread_time() - start)
            del result
    good = True
    print(f"  {'':18} {'ms, least':>10}   ratio to one reading: minimum, median, maximum")
    for name, values in seconds.items():
        ratios = [a / b for a, b in zip(values[1:], seconds["read once"][1:], strict=True)]
        median = statistics.median(ratios)
        goal = MAX_TIME.get(name)
        good &= goal is None or median <= goal
        note = "" if goal is None else f"   goal {goal}"
        print(f"  {name:18} {min(values[1:]) * 1e3:10.0f}   {min(ratios):6.2f} {median:6.2f} {max(ratios):6.2f}{note}")
    return good


def stacked(states: Sequence[State], weights: Sequence[int]) -> State:
    """The mean of every entry as it is written with torch in one line: all parties' values beside each other."""
    shares = torch.tensor(weights, dtype=torch.float32, device=next(iter(states[0].values())).device) / sum(weights)
    return {key: torch.tensordot(shares, torch.stack([state[key] for state in states]).float(), 1) for key in states[0]}


def on_device(parties: int, rounds: int, device: torch.device) -> None:
    """Ten ResNet50s, which are many small tensors, and one tensor of 100 million numbers a party."""
    many = [{key: value.to(device) for key, value in resnet50(seed).items()} for seed in range(parties)]
    large = [{"weight": torch.randn(100_000_000, device=device)} for _ in range(parties)]
    weights = list(range(100, 100 + parties))
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, {parties} parties, {rounds} rounds")
    for name, states in (("ResNet50", many), ("100,000,000 numbers", large)):
        size = sum(value.nbytes for value in states[0].values())
        print(f"  {name:20} ms, median   peak in state dicts of {size / 2**20:.0f} MiB")
        runs: dict[str, Callable[[], object]] = {
            "read once": lambda states=states: read(states, weights),
            "torch, stacked": lambda states=states: stacked(states, weights),
            "aggregate": lambda states=states: aggregated(states, weights),
            "add, result": lambda states=states: added(states, weights),
            "aggregate exact": lambda states=states: aggregated(states, weights, exact=True),
        }
        seconds: dict[str, list[float]] = {label: [] for label in runs}
        peaks = dict.fromkeys(runs, 0)
        for _ in range(rounds + 1):
            for label, run in runs.items():
                torch.cuda.synchronize(device)
                torch.cuda.reset_peak_memory_stats(device)
                before = torch.cuda.memory_allocated(device)
                start = time.perf_counter()
                result = run()
                torch.cuda.synchronize(device)
                seconds[label].append(time.perf_counter() - start)
                peaks[label] = torch.cuda.max_memory_allocated(device) - before
                del result
        for label, values in seconds.items():
            print(f"    {label:18} {statistics.median(values[1:]) * 1e3:10.1f} {peaks[label] / size:10.2f}")


def memories(parties: int) -> bool:
    """Peaks in processes of their own; twice the parties from files, whose memory must not grow with them."""
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for party in range(2 * parties):
            torch.save(resnet50(party), f"{folder}/{party}.pt")
        one = sum(value.nbytes for value in resnet50(0).values())
        largest = max(value.nbytes for value in resnet50(0).values())
        print(f"growth of the peak in state dicts (the largest tensor is {largest / one:.2f})")
        for name, count in [
            ("aggregate", parties),
            ("add, result", parties),
            ("Flower", parties),
            ("SecretFlow", parties),
            ("files", parties),
            ("files", 2 * parties),
            ("aggregate exact", parties),
            ("files exact", parties),
            ("files exact", 2 * parties),
        ]:
            command = [sys.executable, __file__, "--parties", str(count), "--memory-of", name, folder]
            growth = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            ours = name not in ("Flower", "SecretFlow")
            goal = MAX_MEMORY + ("exact" in name) * largest / one
            good &= not ours or growth / one <= goal
            print(f"  {name:18} {count:3} parties {growth / one:6.2f}" + (f"   goal {goal:.2f}" if ours else ""))
    return good


def memory_of(name: str, folder: Path, parties: int) -> float:
    """How many bytes the peak grows while one of them runs."""
    paths = [folder / f"{party}.pt" for party in range(parties)]
    weights = list(range(100, 100 + parties))
    warm = [{"weight": torch.randn(100_000), "bn.running_mean": torch.zeros(3)} for _ in range(2)]
    exact = name.endswith("exact")
    aggregated(warm, [1, 1], exact)  # what torch sets up at its first use is not the aggregator's
    torch.save(warm[0], folder / "warm.pt")
    aggregate_files([folder / "warm.pt"], [1], exact=exact)
    states = [] if name.startswith("files") else [torch.load(path, weights_only=True) for path in paths]
    runs: dict[str, Callable[[], object]] = {
        "aggregate": lambda: aggregated(states, weights),
        "add, result": lambda: added(states, weights),
        "Flower": lambda: flower(states, weights),
        "SecretFlow": lambda: secretflow(states, weights),
        "files": lambda: aggregate_files(paths, weights),
        "aggregate exact": lambda: aggregated(states, weights, exact=True),
        "files exact": lambda: aggregate_files(paths, weights, exact=True),
    }
    before = peak()
    kept = runs[name]()
    growth = peak() - before
    del kept
    return growth


def peak() -> float:
    """The process's peak of resident memory, in bytes; a file's pages count while they are mapped.

    Linux hands ``ru_maxrss`` on from the process that started this one, so that its own count is asked for there.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    sys.exit(main())
