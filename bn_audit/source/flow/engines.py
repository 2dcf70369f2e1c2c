"""Clients of a library that a script drives: they bring a model of their own along, from a folder that holds no source.

Which model that is, the job says that starts the script: what it gives the server has the keys of what the clients
send, or nothing could be averaged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import libcst as cst

from bn_audit.filters import EVERYTHING
from bn_audit.source.flow.cargo import Cargo, Part
from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.frameworks.kinds import Engine, Job
from bn_audit.source.flow.index import arguments_of
from bn_audit.source.flow.values import Env, Made
from bn_audit.source.interpreter.values import External
from bn_audit.source.nodes import root_name
from bn_audit.source.project import PyModule
from bn_audit.source.text import SourceError

__all__ = ["RECEIVED", "given_by_engine", "models_of_job", "sent_whole"]

_MAX_JOBS = 3
"""Files with jobs that are looked into for one script."""
RECEIVED = Cargo("dict", (Part("message"),))
"""What an engine loads: every entry that arrives."""


def given_by_engine(engine: Engine, node: cst.CSTNode, env: Env, follower: Follower) -> cst.Call | None:
    """The call of an engine's method from which what is sent comes: ``algo.get_weights()`` of ``algo.get_weights()
    .weights``, be it by way of a name; None if it comes from elsewhere, or the engine is told to keep something back.
    """
    call = _call_in(node, env)
    if call is None or not isinstance(call.func, cst.Attribute) or call.func.attr.value != engine.gives or call.args:
        return None
    makers = [row for row in follower.items(follower.origins(call.func.value, env)) if isinstance(row, Made)]
    made = [row.node for row in makers if engine.name.match(row.name) and isinstance(row.node, cst.Call)]
    if len(made) != 1 or len(makers) != 1 or any(word in arguments_of(made[0])[1] for word in engine.unless):
        return None
    return call


def _call_in(node: cst.CSTNode, env: Env) -> cst.Call | None:
    """The call that an expression is an attribute of, or the name in it was given."""
    while isinstance(node, cst.Attribute):
        node = node.value
    if isinstance(node, cst.Name):
        value = env.scope.sole_value(root_name(node) or "")
        return value if isinstance(value, cst.Call) else None
    return node if isinstance(node, cst.Call) else None


def sent_whole(call: cst.Call, env: Env, models: tuple[Made, ...]) -> Cargo:
    """What an engine sends: its model's whole state."""
    return Cargo("dict", (Part("model", EVERYTHING, "state", models, call, env),))


def models_of_job(job: Job, script: PyModule, follower: Follower) -> Iterator[Made]:
    """The models of the jobs that start a script, by its name."""
    name = os.path.basename(script.path)
    for word in job.words:
        for path in follower.finder(word, script)[:_MAX_JOBS]:
            try:
                module = follower.project.open(path)
            except SourceError:
                continue
            if module.folder != script.folder:
                continue
            index = follower.index(module)
            for call in index.calls_of(word):
                keywords = arguments_of(call)[1]
                model, given = keywords.get(job.model), keywords.get(job.script)
                if model is None or given is None or _last(index.code(given)) != name:
                    continue
                env = follower.env(module, call)
                called = follower.lookup.dotted(call.func, env)
                if not isinstance(called, External) or not job.name.match(called.name):
                    continue
                for origin in follower.items(follower.origins(model, env)):
                    if isinstance(origin, Made) and origin.kind == "model":
                        yield origin


def _last(code: str) -> str:
    """The last part of a path as it is written: ``"client.py"`` of ``os.path.join(here, "client.py")``."""
    return code.replace("/", ",").rpartition(",")[2].strip(" )\"'")
