"""Records what the models of tests/data/keras_models hold when real Keras builds them.

Run with a Python that has the TensorFlow to record (SecretFlow's own is 2.12.1):

    python scripts/record_keras_models.py tests/data/keras_models/styles.py > tests/data/keras_models/styles.json

For every function ``build_*``, in the order of ``get_weights()``: the weight's own name, its shape and whether it is
trained. Names of layers are left out, since Keras numbers them over the whole process.
"""

from __future__ import annotations

import json
import runpy
import sys


def main() -> None:
    """Build every model of a file and print its weights."""
    import tensorflow as tf

    found = {}
    for name, build in runpy.run_path(sys.argv[1]).items():
        if name.startswith("build_"):
            model = build()
            trained = {id(weight) for weight in model.trainable_weights}
            found[name.removeprefix("build_")] = [
                [weight.name.rpartition("/")[2].removesuffix(":0"), list(weight.shape), id(weight) in trained]
                for weight in model.weights
            ]
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(weights)}" for name, weights in found.items())
    print(f'{{"tensorflow": {json.dumps(tf.__version__)},\n"models": {{\n{rows}\n}}}}')


if __name__ == "__main__":
    main()
