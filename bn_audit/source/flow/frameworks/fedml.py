"""FedML: ClientTrainer, and the trainer that FedMLRunner and its simulators bring along. Read in fedml 0.9.6.

States travel by key. Its own trainers send `state_dict()`, and its aggregator averages every entry.
"""

from __future__ import annotations

from bn_audit.source.flow.frameworks.kinds import WHOLE, ClientClass, Framework, Hook, Kit, names
from bn_audit.source.interpreter.libraries import FEDML_AVERAGES, FEDML_OPTIMIZER

FRAMEWORK = Framework(
    title="FedML",
    mark="fedml",
    packages=("fedml",),
    clients=(
        ClientClass(
            names("fedml..ClientTrainer"),
            (Hook("get_model_params", sends=WHOLE), Hook("set_model_params", message=0, initial=True)),
            holds=(("model", "model", 0),),
        ),
    ),
    kits=(
        Kit(
            names("fedml..FedMLRunner", "fedml..SimulatorMPI", "fedml..SimulatorSingleProcess", "fedml..SimulatorNCCL"),
            "model",
            3,
            "state",
            unless=("client_trainer", "server_aggregator"),
            setting=FEDML_OPTIMIZER,
            values=FEDML_AVERAGES,
        ),
    ),
)
