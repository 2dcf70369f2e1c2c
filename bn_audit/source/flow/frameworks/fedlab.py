"""FedLab: trainers and clients that keep a model and serialise it. Read in fedlab 1.3.0.

`SerializationTool.serialize_model` lines up `parameters()` in one vector: buffers never travel.
"""

from __future__ import annotations

from bn_audit.source.flow.frameworks.kinds import Framework, Kit, names

FRAMEWORK = Framework(
    title="FedLab",
    mark="fedlab",
    packages=("fedlab",),
    kits=(
        Kit(
            names(
                "fedlab..SGDClientTrainer",
                "fedlab..SGDSerialClientTrainer",
                "fedlab..SerialClientTrainer",
                "fedlab..ClientTrainer",
                "fedlab..SerialModelMaintainer",
                "fedlab..ModelMaintainer",
            ),
            "model",
            0,
            "parameters",
        ),
    ),
)
