"""``bn-audit compare`` against shifts that are known, and with a thousand parties; see README.md.

python benchmarks/compare.py graded [--seeds N] [--fail]
python benchmarks/compare.py many [--parties N] [--fail]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.digits_cnn import SmallCNN
from bn_audit.comparison import METRICS
from bn_audit.federated import FedBNAggregator, merge_state
from bn_audit.live.divergence import Options, compare
from bn_audit.live.divergence.calibration import bound, line, noise, split_half
from bn_audit.live.divergence.data import moments_of
from bn_audit.live.divergence.sources import source_of

ROUNDS, BATCH, RATE, IMAGES, SPLITS = 20, 32, 0.1, 120, 200
STRENGTHS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
Shift = Callable[[Tensor, float, torch.Generator], Tensor]
SHIFTS: dict[str, Shift] = {
    "brightness": lambda x, s, g: x + s,
    "contrast": lambda x, s, g: 0.5 + (1 - s) * (x - 0.5),
    "invert": lambda x, s, g: (1 - s) * x + s * (1 - x),
    "noise": lambda x, s, g: x + s * torch.randn(x.shape, generator=g),
    "gradient": lambda x, s, g: (1 - s) * x + s * torch.linspace(0, 1, x.shape[-1]),
}


class MLP(nn.Module):
    """Fully connected, for the bound."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 32),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Linear(32, 32),
            nn.BatchNorm1d(32),
            nn.ReLU(),
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x))
        return logits


def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


def parties_of(shift: Shift, strengths: Sequence[float], seed: int) -> list[tuple[Tensor, Tensor]]:
    images, labels = digits()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    found = []
    for number, strength in enumerate(strengths):
        own = order[number * IMAGES : (number + 1) * IMAGES]
        found.append((shift(images[own], strength, generator), labels[own]))
    return found


def train(build: Callable[[], nn.Module], data: Sequence[tuple[Tensor, Tensor]], seed: int) -> list[dict[str, Tensor]]:
    """FedBN: the parties' states after the last local training."""
    torch.manual_seed(seed)
    model = build()
    aggregator = FedBNAggregator.from_module(model)
    states = [{key: value.clone() for key, value in model.state_dict().items()} for _ in data]
    trained: list[dict[str, Tensor]] = []
    for _ in range(ROUNDS):
        trained = []
        for (images, labels), state in zip(data, states, strict=True):
            model.load_state_dict(state)
            model.train()
            optimizer = torch.optim.SGD(model.parameters(), RATE)
            for batch in torch.randperm(len(images)).split(BATCH):
                if len(batch) < 2:
                    continue
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
                optimizer.step()
            trained.append({key: value.clone() for key, value in model.state_dict().items()})
        shared = aggregator.aggregate(trained, [1.0] * len(trained))
        states = [merge_state(state, shared) for state in trained]
    return states


def frechet(shift: Shift, strengths: Sequence[float]) -> dict[tuple[int, int], float]:
    """The true shift: the Frechet distance of all shifted images, taken for normal with their whole covariance, over
    the pooled standard deviation. Of one pixel it is nW2."""
    images, _ = digits()
    found = []
    for strength in strengths:
        pixels = shift(images, strength, torch.Generator().manual_seed(0)).flatten(1).double().numpy()
        found.append((pixels.mean(axis=0), np.cov(pixels.T)))
    apart = {}
    for one in range(len(found)):
        for other in range(one + 1, len(found)):
            (mean_a, cov_a), (mean_b, cov_b) = found[one], found[other]
            values, vectors = np.linalg.eigh(cov_a)
            root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
            cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
            square = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
            apart[one, other] = float((max(square, 0) / ((np.trace(cov_a) + np.trace(cov_b)) / 2)) ** 0.5)
    return apart


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(one, other).statistic)


def graded(seeds: int, fail: bool) -> bool:
    torch.set_num_threads(1)
    ok = True
    for build in (SmallCNN, MLP):
        print(f"\n{build.__name__}: {ROUNDS} rounds, {IMAGES} images a party, batches of {BATCH}, {seeds} seeds")
        correlations: dict[tuple[str, int, str], list[float]] = {}
        above: dict[tuple[str, float], list[bool]] = {}
        by_bound: dict[tuple[str, float], list[bool]] = {}
        ratios: list[float] = []
        pooled: dict[tuple[str, int, int], tuple[list[float], list[float]]] = {}
        for kind, shift in SHIFTS.items():
            true = frechet(shift, STRENGTHS)
            for seed in range(seeds):
                data = parties_of(shift, STRENGTHS, seed)
                states = train(build, data, seed)
                found, lines, bounds = measured(build, states, data, seed)
                for place, layer in enumerate(found.layers):
                    for metric in METRICS:
                        rows = list(layer.distances[metric].rows())
                        apart, value = [true[a, b] for a, b, _ in rows], [d for *_, d in rows]
                        correlations.setdefault((metric, place, kind), []).append(spearman(apart, value))
                        both = pooled.setdefault((metric, place, seed), ([], []))
                        both[0].extend(apart)
                        both[1].extend(value)
                first = found.first.distances["nw2"]
                for number, strength in enumerate(STRENGTHS[1:], start=1):
                    above.setdefault((kind, strength), []).append(first.of(0, number) > lines[0].of(0, number))
                    by_bound.setdefault((kind, strength), []).append(first.of(0, number) > bounds.of(0, number))
        print(
            "  Spearman with the true shift within a kind: mean over kinds and seeds (the least kind's); over all kinds"
        )
        for place in (0, 1):
            cells = []
            for metric in METRICS:
                means = [float(np.mean(correlations[metric, place, kind])) for kind in SHIFTS]
                whole = [spearman(*pooled[metric, place, seed]) for seed in range(seeds)]
                cells.append(f"{metric} {np.mean(means):.3f} ({min(means):.3f}); {np.mean(whole):.3f}")
                if metric == "nw2" and place == 0 and np.mean(means) < 0.95:
                    ok = False
            print(f"    BatchNorm {place + 1}: {', '.join(cells)}")
        kinds = ", ".join(f"{kind} {np.mean(correlations['nw2', 0, kind]):.3f}" for kind in SHIFTS)
        print(f"    nw2 at BatchNorm 1 by kind: {kinds}")
        print("  power at 99 %, against the party without a shift: split-half (bound)")
        for kind in SHIFTS:
            cells = [
                f"{strength:g}: {np.mean(above[kind, strength]):.2f} ({np.mean(by_bound[kind, strength]):.2f})"
                for strength in STRENGTHS[1:]
            ]
            print(f"    {kind:10} {', '.join(cells)}")
        alarms: dict[str, list[bool]] = {"split-half, first": [], "split-half, second": [], "bound": []}
        drawn: list[float] = []
        for seed in range(seeds):
            data = parties_of(SHIFTS["brightness"], [0.0] * 10, 100 + seed)
            found, lines, bounds = measured(build, train(build, data, 100 + seed), data, seed)
            for place, name in enumerate(("split-half, first", "split-half, second")):
                layer = found.layers[place]
                alarms[name] += [d > lines[place].of(a, b) for a, b, d in layer.distances["nw2"].rows()]
            rows = list(found.first.distances["nw2"].rows())
            alarms["bound"] += [d > bounds.of(a, b) for a, b, d in rows]
            drawn += [d for *_, d in rows]
            ratios += [lines[0].of(a, b) / float(np.quantile([d for *_, d in rows], 0.99)) for a, b, _ in rows]
        print("  false alarms, 10 parties of one distribution")
        for name, flags in alarms.items():
            print(f"    {name}: {100 * np.mean(flags):.2f} % of {len(flags)} pairs")
        print(f"    nW2 of these pairs, first layer: median {np.median(drawn):.3f}, q99 {np.quantile(drawn, 0.99):.3f}")
        print(f"    split-half line over that q99: {np.median(ratios):.2f}; bound {bounds.of(0, 1):.3f}")
        if np.mean(alarms["split-half, first"]) > 0.02:
            ok = False
    return ok or not fail


def measured(build, states, data, seed):  # type: ignore[no-untyped-def]
    """The comparison, the lines of each layer by split halves, and the bound."""
    sources = [source_of(f"party {number}", state) for number, state in enumerate(states)]
    found, _ = compare(sources, Options(metrics=METRICS))
    paths = [layer.path for layer in found.layers]
    generator = np.random.default_rng(seed)
    moments = [moments_of(build(), state, [own], paths, "x") for state, own in zip(states, data, strict=True)]
    lines = [
        line(
            [
                split_half(one[path], batch_size=BATCH, momentum=0.1, batches=None, splits=SPLITS, generator=generator)
                for one in moments
            ]
        )
        for path in paths
    ]
    return found, lines, bound([noise(IMAGES, BATCH, 0.1)] * len(states))


def resnet50() -> dict[str, tuple[int, ...]]:
    """Shapes of torchvision's ResNet50, in the order of its state dict."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, outputs: int, inputs: int, kernel: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)

    def norm(name: str, features: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (features,)
        shapes[f"{name}.num_batches_tracked"] = ()

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    inputs = 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            for number, (outputs, kernel) in enumerate(((width, 1), (width, 3), (4 * width, 1)), start=1):
                conv(f"{at}.conv{number}", outputs, inputs if number == 1 else width, kernel)
                norm(f"{at}.bn{number}", outputs)
            if not block:
                conv(f"{at}.downsample.0", 4 * width, inputs, 1)
                norm(f"{at}.downsample.1", 4 * width)
            inputs = 4 * width
    shapes |= {"fc.weight": (1000, 2048), "fc.bias": (1000,)}
    return shapes


def state_of(shapes: dict[str, tuple[int, ...]], party: int) -> dict[str, Tensor]:
    """A party's state: weights are zero, so that a file has holes there; norm layers have values of its own."""
    generator = torch.Generator().manual_seed(party)
    state = {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(1000 + party)
        elif len(shape) > 1 or key == "fc.bias":
            state[key] = torch.zeros(shape)
        else:
            state[key] = torch.rand(shape, generator=generator) + 0.5
    return state


class Template:
    """A checkpoint from which others are made that differ in their norm layers only, holes where pages are zero."""

    def __init__(self, state: dict[str, Tensor], form: str) -> None:
        import io

        from safetensors.torch import save

        if form == "safetensors":
            content = save(state)
            length = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + length])
            self._places = {key: 8 + length + header[key]["data_offsets"][0] for key in state}
        else:
            buffer = io.BytesIO()
            torch.save(state, buffer)
            content = buffer.getvalue()
            buffer.seek(0)
            reader = torch._C.PyTorchFileReader(buffer)
            self._places = {key: reader.get_record_offset(f"data/{number}") for number, key in enumerate(state)}
        self.size = len(content)
        page = 4096
        padded = np.frombuffer(content + bytes(-len(content) % page), dtype=np.uint8).reshape(-1, page)
        self._held = [
            (first * page, content[first * page : last * page])
            for first, last in _runs(np.flatnonzero(padded.any(axis=1)))
        ]

    def write(self, state: dict[str, Tensor], path: Path) -> None:
        """A party's checkpoint. (The checksums of a zip archive stay the template's; nothing reads them.)"""
        with path.open("wb") as file:
            file.truncate(self.size)
            for place, part in self._held:
                file.seek(place)
                file.write(part)
            for key, value in state.items():
                file.seek(self._places[key])
                file.write(value.numpy().tobytes())


def _runs(numbers: np.ndarray) -> list[tuple[int, int]]:
    breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(numbers, breaks) if len(run)]


def many(most: int, fail: bool) -> bool:
    shapes = resnet50()
    ok = True
    for form in ("pt", "safetensors"):
        with tempfile.TemporaryDirectory() as folder:
            template = Template(state_of(shapes, 0), form)
            norms = {key: shape for key, shape in shapes.items() if len(shape) < 2 and key != "fc.bias"}
            for number in range(most):
                template.write(state_of(norms, number), Path(folder) / f"p{number:04}.{form}")
            for parties in sorted({most // 10, most // 4, most // 2, most}):
                paths = sorted(str(path) for path in Path(folder).iterdir())[:parties]
                command = [sys.executable, "-m", "bn_audit", "compare", *paths, "--output-file", f"{folder}/report.txt"]
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                begun = time.perf_counter()
                # A process of its own between this one and the command, whose peak is then the command's.
                peak = int(
                    subprocess.run(
                        [sys.executable, "-c", _PEAK, *command], check=True, capture_output=True, text=True
                    ).stdout
                )
                wall = time.perf_counter() - begun
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                (Path(folder) / "report.txt").unlink()
                print(
                    f"{form}: {parties} parties of {template.size / 2**20:.0f} MiB: {wall:.1f} s, {cpu:.1f} CPU s, "
                    f"peak {peak / 1024:.0f} MiB",
                    flush=True,
                )
                if parties == 1000 and (wall > 60 or peak > 1_000_000):
                    ok = False
    return ok or not fail


_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("graded", "many"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parties", type=int, default=1000)
    parser.add_argument("--fail", action="store_true")
    arguments = parser.parse_args()
    if arguments.what == "graded":
        good = graded(arguments.seeds, arguments.fail)
    else:
        good = many(arguments.parties, arguments.fail)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
