"""FL4Health: clients that make their model in `get_model`, and an exchanger that says what of it travels. Read in
fl4health 0.4.2.

Unless a client chooses another exchanger, every entry of `state_dict()` is sent, by position, and loaded.
"""

from __future__ import annotations

from bn_audit.source.flow.frameworks.kinds import Framework, Kit, names

FRAMEWORK = Framework(
    title="FL4Health",
    mark="fl4health",
    packages=("fl4health",),
    kits=(
        Kit(
            names(
                "fl4health..BasicClient",
                "fl4health..AdaptiveDriftConstraintClient",
                "fl4health..FedProxClient",
                "fl4health..ScaffoldClient",
                "fl4health..FlashClient",
            ),
            "",
            0,
            "state",
            unless=("get_parameter_exchanger", "get_parameters", "set_parameters"),
            method="get_model",
            harmless=names("fl4health..FullParameterExchanger"),
        ),
    ),
)
