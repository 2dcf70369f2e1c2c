"""NVFlare: the client API (`flare.receive`, `flare.send`), executors and learners. Read in nvflare 2.9.0.

States travel by key. The aggregators average whatever they are sent, unless `exclude_vars`, or a filter of that name in
a job's configuration, says otherwise.
"""

from __future__ import annotations

import re

from bn_audit.source.flow.frameworks.kinds import ClientClass, Engine, Framework, Hook, Job, Kit, Wrapper, names

FRAMEWORK = Framework(
    title="NVFlare",
    mark="nvflare",
    packages=("nvflare",),
    clients=(
        ClientClass(names("nvflare..Executor"), (Hook("execute", message=1, initial=True),)),
        ClientClass(
            names("nvflare..Learner", "nvflare..ModelLearner"),
            (Hook("train", message=0, initial=True), Hook("validate", message=0)),
        ),
    ),
    wrappers=(
        Wrapper(names("nvflare..FLModel"), "params", 1),
        Wrapper(names("nvflare..DXO"), "data", 1),
    ),
    kits=(
        # Its callback sends `pl_module.state_dict()` of whatever Lightning's trainer trains, and loads what comes back.
        Kit(names("nvflare.client.lightning..patch"), "trainer", 0, "state", hands=("fit",)),
    ),
    # MONAI's client takes its model from a bundle. Read in monai 1.6.1: filters may be named in a file of their own.
    engines=(Engine(names("monai.fl.client..MonaiAlgo"), "get_weights", unless=("config_filters_filename",)),),
    jobs=(
        Job(names("nvflare..FedAvgRecipe", "nvflare..FedOptRecipe", "nvflare..FedProxRecipe"), "model", "train_script"),
    ),
    receivers=(names("nvflare.client.receive", "nvflare.client.api.receive"),),
    # The best model of a site, from a file, for the others to be measured on.
    aside=re.compile(r"_?submit_model\Z"),
    aggregates=("aggregate", "accept", "aggregate_fn"),
    switches=(b"exclude_vars", b"ExcludeVars"),
    switched=re.compile(
        rb"ExcludeVars|exclude_vars[\"']?(?:\s*:\s*[\w.\[\], |]+?)?\s*[:=](?!=)\s*"
        rb"(?!None\b|null\b|(?:self\.)?_?exclude_vars\b|\[\s*\]|\"\"|''|[A-Za-z][\w.\[\], |]*=\s*None\b)[^\s,)}]"
    ),
)
