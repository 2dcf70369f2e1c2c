"""OpenFL: task runners are models themselves. Read in openfl 1.9.

`PyTorchTaskRunner.get_tensor_dict` sends every entry of `state_dict()`, and the collaborators' tensors are averaged one
by one. In the workflow API (`FLSpec`) the program averages itself: its `join` step is handed the parties' runs of the
flow.
"""

from __future__ import annotations

from bn_audit.source.flow.frameworks.kinds import WHOLE, ClientClass, Framework, Hook, Kit, names

FRAMEWORK = Framework(
    title="OpenFL",
    mark="openfl",
    packages=("openfl",),
    clients=(
        ClientClass(
            names("openfl..TaskRunner", "openfl..PyTorchTaskRunner"),
            (Hook("get_tensor_dict", sends=WHOLE), Hook("set_tensor_dict", message=0, initial=True)),
        ),
    ),
    flows=(names("openfl..FLSpec"),),
    kits=(
        Kit(names("openfl..PyTorchTaskRunner"), "", 0, "state", unless=("get_tensor_dict", "set_tensor_dict")),
        Kit(names("openfl..ModelInterface"), "model", 0, "state"),
        Kit(names("openfl..FederatedModel"), "build_model", 0, "state"),
    ),
)
