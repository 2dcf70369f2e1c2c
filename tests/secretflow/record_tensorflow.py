"""Record what SecretFlow's TensorFlow backend does: a table of models and settings for ``test_tensorflow_record.py``.

TensorFlow 2.12, the release SecretFlow 1.13 asks for, wants a Python of its own (3.8 to 3.11) and NumPy 1.23, so it is
run by hand and its outcome kept::

    python3.11 -m venv tf && tf/bin/pip install tensorflow-cpu==2.12.1 'numpy<1.24' pandas scipy sparse tqdm
    tf/bin/python -m tests.secretflow.record_tensorflow secretflow-1.13.0b0-...whl tests/data/tensorflow_cells.json

As in ``measure.py``, parties begin with different states, and the fate of a weight is read off its value.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count, groupby
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from bn_audit.live.secretflow_runtime import PYU, Call, FedNdarray, PYUObject, Runtime, loaded, observing

keras: Any = tf.keras
layers: Any = tf.keras.layers

_PARTIES = {"alice": 8, "bob": 12}
_STEPS, _EPOCHS = 2, 2
_RATE = 0.01
_TOLERANCE = 2e-3


class Subclassed(keras.Model):  # type: ignore[misc]
    """Layers as attributes, and a weight of the model's own."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__(name="subclassed")
        self.gain = self.add_weight(name="gain", shape=(3,), initializer="ones")
        self.conv = layers.Conv2D(3, 3, name="conv")
        self.norm = layers.BatchNormalization(name="bn") if norm else layers.LayerNormalization(name="ln")
        self.flat = layers.Flatten(name="flat")
        self.fc = layers.Dense(2, name="fc")

    def call(self, x: Any, training: bool = False) -> Any:
        return self.fc(self.flat(self.norm(self.conv(x) * self.gain, training=training)))


class Residual(layers.Layer):  # type: ignore[misc, name-defined]
    """A layer of the user's with a BatchNormalization inside."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.conv = layers.Conv2D(1, 3, padding="same", name="conv")
        self.bn = layers.BatchNormalization(name="bn")

    def call(self, x: Any, training: bool = False) -> Any:
        return x + self.bn(self.conv(x), training=training)


class Counting(layers.Layer):  # type: ignore[misc, name-defined]
    """A layer that keeps an integer."""

    def build(self, shape: Any) -> None:
        self.count = self.add_weight(name="count", shape=(), dtype="int64", trainable=False, initializer="zeros")

    def call(self, x: Any) -> Any:
        return x


class Scaling(layers.Layer):  # type: ignore[misc, name-defined]
    """A learned 0-d weight."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def call(self, x: Any) -> Any:
        return x * self.scale


def _stack(*parts: Any) -> Any:
    return keras.Sequential([layers.Input((4, 4, 1)), *parts], name="model")


def _conv(name: str = "conv", **kwargs: Any) -> Any:
    return layers.Conv2D(3, 3, name=name, **kwargs)


def _bn(name: str = "bn", **kwargs: Any) -> Any:
    return layers.BatchNormalization(name=name, **kwargs)


def _head() -> tuple[Any, Any]:
    return layers.Flatten(name="flat"), layers.Dense(2, name="fc")


def _built(model: Any) -> Any:
    model(np.zeros((1, 4, 4, 1), dtype=np.float32))
    return model


def _frozen(layer: Any) -> Any:
    layer.trainable = False
    return layer


def _branches() -> Any:
    inputs = layers.Input((4, 4, 1))
    a = layers.Conv2D(2, 3, name="a")(inputs)
    b = _bn()(layers.Conv2D(2, 3, name="b")(inputs))
    out = layers.Dense(2, name="fc")(layers.Flatten(name="flat")(layers.Concatenate(name="both")([a, b])))
    return keras.Model(inputs, out, name="model")


MODELS: dict[str, Callable[[], Any]] = {
    "no norm": lambda: _stack(_conv(), *_head()),
    "layer norm": lambda: _stack(_conv(), layers.LayerNormalization(name="ln"), *_head()),
    "norm in the middle": lambda: _stack(_conv(), _bn(), *_head()),
    "norm last": lambda: _stack(_conv(), *_head(), _bn()),
    "norm first": lambda: _stack(_bn(), _conv(), *_head()),
    "two norms": lambda: _stack(_conv(), _bn("bn1"), layers.Conv2D(3, 1, name="mix"), _bn("bn2"), *_head()),
    "norm without gamma and beta": lambda: _stack(_conv(), _bn(center=False, scale=False), *_head()),
    "functional, branches": _branches,
    "nested": lambda: _stack(keras.Sequential([_conv(), _bn()], name="body"), *_head()),
    "nested without norm": lambda: _stack(keras.Sequential([_conv()], name="body"), *_head()),
    "nested and top": lambda: _stack(keras.Sequential([_conv(), _bn()], name="body"), _bn("top"), *_head()),
    "residual layer": lambda: _stack(Residual("block"), *_head()),
    "sync norm": lambda: _stack(_conv(), layers.experimental.SyncBatchNormalization(name="bn"), *_head()),
    "frozen layer": lambda: _stack(_frozen(_conv()), *_head()),
    "frozen layer and norm": lambda: _stack(_frozen(_conv()), _bn(), *_head()),
    "frozen norm": lambda: _stack(_conv(), _frozen(_bn()), *_head()),
    "integer": lambda: _stack(_conv(), Counting(name="counting"), *_head()),
    "integer and norm": lambda: _stack(_conv(), Counting(name="counting"), _bn(), *_head()),
    "scalar": lambda: _stack(Scaling(name="scaling"), _conv(), *_head()),
    "scalar after norm": lambda: _stack(_conv(), _bn(), Scaling(name="scaling"), *_head()),
    "a float64 part": lambda: _stack(_conv(), layers.Flatten(name="flat"), layers.Dense(2, name="fc", dtype="float64")),
    "subclassed": lambda: _built(Subclassed()),
    "subclassed without norm": lambda: _built(Subclassed(norm=False)),
    "norms only": lambda: _stack(
        layers.Reshape((8, 2), name="rows"), layers.GlobalAveragePooling1D(name="mean"), _bn("a"), _bn("b")
    ),
}


@dataclass
class _Watch:
    """Takes down the parties' weights around every exchange, as in ``measure.py``."""

    strategy: str
    sent: Sequence[int]
    trained: dict[int, int] = field(default_factory=dict)
    before: dict[int, list[Any]] = field(default_factory=dict)
    after: dict[int, list[Any]] = field(default_factory=dict)
    bases: dict[int, Any] = field(default_factory=dict)
    exchanges: list[list[list[int | None]]] = field(default_factory=list)

    def __call__(self, call: Call) -> None:
        number = id(call.worker)
        if call.method == "train_step" and not call.done:
            self.trained[number] = self.trained.get(number, 0) + 1
        if call.method not in ("set_weights", "apply_weights"):
            return
        now = [np.array(weight) for weight in call.worker.model.get_weights()]
        (self.after if call.done else self.before)[number] = now
        if not call.done and call.method == "apply_weights" and self.strategy in ("fed_avg_u", "fed_stc"):
            self.bases[number] = call.worker.model_weights
        if call.done and len(self.after) == len(_PARTIES):
            self.exchanges.append(list(self._judge(call)))
            self.before, self.after, self.bases = {}, {}, {}

    def _judge(self, call: Call) -> Iterator[list[int | None]]:
        """For each weight the indices of those whose value it may hold now; None: its own of before."""
        arrays = [item.todense() if hasattr(item, "todense") else np.asarray(item) for item in call.arguments[0]]
        gradients = call.method == "apply_weights" and self.strategy == "fed_avg_g"
        sources = list(self.sent)
        if gradients:
            names = [id(variable) for variable in call.worker.model.weights]
            sources = [names.index(id(variable)) for variable in call.worker.model.trainable_variables]
        values: list[list[Any]] = []
        for number, before in self.before.items():
            base: Sequence[Any] | None = self.bases.get(number)
            scale = -_RATE if gradients else 1.0
            if gradients or (call.method == "apply_weights" and self.strategy == "fed_scr"):
                base = [before[source] for source in sources]
            values.append(arrays if base is None else [b + scale * a for a, b in zip(arrays, base, strict=True)])
        befores, afters = list(self.before.values()), list(self.after.values())
        for index in range(len(befores[0])):
            found: list[int | None] = []
            if all(np.array_equal(b[index], a[index]) for b, a in zip(befores, afters, strict=True)):
                found.append(None)
            for position, source in enumerate(sources):
                if all(_holds(a[index], value[position]) for a, value in zip(afters, values, strict=True)):
                    found.append(source)
            yield found


def _holds(weight: Any, value: Any) -> bool:
    if weight.shape != np.shape(value):
        return False
    return bool(np.allclose(weight, np.asarray(value).astype(weight.dtype), rtol=_TOLERANCE, atol=_TOLERANCE))


def profile(model: Any) -> dict[str, Any]:
    """Entries in ``get_weights()`` order and norm layers, as JSON with the field names of ``bn_audit.profile``."""
    owners: dict[int, str] = {}
    norms = []
    for path, layer in _walk(model, ""):
        own = layer._trainable_weights + layer._non_trainable_weights
        owners.update({id(variable): path for variable in own})
        if isinstance(layer, (layers.BatchNormalization, layers.experimental.SyncBatchNormalization)):
            plain = isinstance(layer, layers.BatchNormalization)
            norms.append({"path": path, "type": type(layer).__name__, "batchnorm": plain, "tracked": True})
    trainable = {id(variable) for variable in model.trainable_weights}
    entries = []
    for variable in model.weights:
        path, name = owners[id(variable)], variable.name.rpartition("/")[2].partition(":")[0]
        entries.append(
            {
                "key": f"{path}.{name}" if path else name,
                "shape": variable.shape.as_list(),
                "dtype": variable.dtype.name,
                "kind": "parameter" if id(variable) in trainable else "buffer",
                "module": path,
            }
        )
    return {"type": model.name, "entries": entries, "norms": norms}


def _walk(layer: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, layer
    for child in layer._flatten_layers(recursive=False, include_self=False):
        yield from _walk(child, f"{path}.{child.name}" if path else child.name)


def _builder(make: Callable[[], Any]) -> Callable[[], Any]:
    """Gives each party a state of its own; 0-d integers are left."""
    numbers = count(1)

    def build() -> Any:
        rng = np.random.default_rng(next(numbers))
        model = make()
        weights = model.get_weights()
        model.set_weights([rng.random(np.shape(w)) + 0.1 if np.asarray(w).dtype.kind == "f" else w for w in weights])
        model.compile(keras.optimizers.SGD(_RATE), keras.losses.CategoricalCrossentropy(from_logits=True))
        return model

    return build


@cache
def _secure(factory: Callable[..., Any], parties: tuple[PYU, ...]) -> Any:
    return factory(parties[0], list(parties))


def measure(runtime: Runtime, make: Callable[[], Any], strategy: str, aggregator: str, skip_bn: bool) -> dict[str, Any]:
    """One cell: two epochs of two rounds."""
    parties = [PYU(name) for name in _PARTIES]
    aggregators = {
        "plain": lambda: runtime.PlainAggregator(parties[0]),
        "secure": lambda: copy.deepcopy(_secure(runtime.SecureAggregator, tuple(parties))),
        "sparse": lambda: runtime.SparsePlainAggregator(parties[0]),
    }
    model = make()
    tops = {layer.name for layer in model.layers if isinstance(layer, layers.BatchNormalization)}
    names = {layer.name for layer in model.layers} - tops
    keys = [entry["key"] for entry in profile(model)["entries"]]
    sent = [i for i, key in enumerate(keys) if not skip_bn or ("." in key and key.partition(".")[0] in names)]
    rng = np.random.default_rng(3)
    sizes = dict(zip(parties, _PARTIES.values(), strict=True))
    x = {party: rng.random((size, 4, 4, 1)).astype(np.float32) for party, size in sizes.items()}
    y = {party: np.eye(2)[rng.integers(0, 2, len(data))] for party, data in x.items()}
    federated = runtime.FLModel(
        server=parties[0],
        device_list=parties,
        model=_builder(make),
        aggregator=aggregators[aggregator](),
        strategy=strategy,
        backend="tensorflow",
        skip_bn=skip_bn,
    )
    watch = _Watch(strategy, sent)
    error = None
    with observing(watch), contextlib.redirect_stdout(io.StringIO()):
        try:
            federated.fit(_placed(x), _placed(y), batch_sampling_rate=1 / _STEPS, epochs=_EPOCHS, verbose=0)
        except Exception as raised:
            error = [type(raised).__name__, _without_data(str(raised)), max(watch.trained.values(), default=0)]
    states = [worker.data.model.get_weights() for worker in federated._workers.values()]
    differ = [not np.array_equal(states[0][index], states[1][index]) for index in range(len(keys))]
    return {
        "strategy": strategy,
        "aggregator": aggregator,
        "skip_bn": skip_bn,
        "error": error,
        # The first is of weights for every strategy; of the later ones each kind once.
        "exchanges": watch.exchanges[:1] + [e for e, _ in groupby(watch.exchanges[1:])],
        "differ": differ,
    }


def _without_data(text: str) -> str:
    """An error's text up to where weights are printed."""
    head, found, _ = text.partition("Provided weights: ")
    return (head + found).partition("\n\nFirst structure: ")[0]


def _placed(data: Mapping[PYU, Any]) -> FedNdarray:
    return FedNdarray({party: PYUObject(party, array) for party, array in data.items()})


def main() -> None:
    wheel, target = map(Path, sys.argv[1:])
    record: dict[str, Any] = {
        "secretflow": wheel.name,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "models": [],
    }
    with tempfile.TemporaryDirectory() as folder, loaded(wheel, Path(folder), "tensorflow") as runtime:
        for name, make in MODELS.items():
            cells = [
                measure(runtime, make, strategy, aggregator, skip_bn)
                for strategy in ("fed_avg_w", "fed_avg_g", "fed_avg_u", "fed_prox", "fed_stc", "fed_scr")
                for aggregator in ("plain", "secure", "sparse")
                for skip_bn in (False, True)
            ]
            record["models"].append({"name": name, "profile": profile(make()), "cells": cells})
            print(name, file=sys.stderr, flush=True)
    lines = (
        json.dumps(record, separators=(",", ":"))
        .replace('{"name"', '\n{"name"')
        .replace('{"strategy"', '\n {"strategy"')
    )
    target.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
