"""From the places where a file loads states into models to the federations behind them.

A federation is: the states of several live parties are combined, and the result is loaded back into the model they
share. So the search begins where something is loaded: what it comes from tells whether states were combined on the way,
and the model that takes it says what was combined.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from bn_audit.source.flow.averaging import Averaging, by_position
from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.index import arguments_of
from bn_audit.source.flow.marks import Marks
from bn_audit.source.flow.models import ModelReader, ModelReading
from bn_audit.source.flow.options import Options
from bn_audit.source.flow.values import Combined, Env, Filter, Loaded, Made, Origin, State, Stepped
from bn_audit.source.interpreter.values import Step
from bn_audit.source.nodes import walk
from bn_audit.source.project import PyModule

__all__ = ["Federation", "Hunter"]


@dataclass(slots=True)
class Federation:
    """States that are combined and loaded back.

    Attributes:
        averaging: where and how they are combined.
        env: the run of the scope that does it.
        load: where the result is loaded into a model; the averaging itself if it works in place.
        readings: the models that take part, each as it may turn out.
        states: where the parties' states are taken.
        what: ``state`` or ``parameters``: what the parties hand over.
        filters: conditions that entries pass on their way from the parties, or back into the model.
        steps: what else is done to entries on this way: noise, a server's momentum.
    """

    averaging: Averaging
    env: Env
    load: Step
    readings: tuple[ModelReading, ...]
    states: tuple[Step, ...]
    what: str
    filters: tuple[Filter, ...] = ()
    steps: tuple[Stepped, ...] = ()


class Hunter:
    """Finds the federations of files."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self.reader = ModelReader(follower.project, Options(follower.project, follower.finder))

    def federations(self, module: PyModule) -> Iterator[Federation]:
        """Those whose result is loaded in a file, or that work in place there."""
        for node, receiver, value in self._loads(module):
            env = self.follower.env(module, node)
            origins = self.follower.origins(value, env)
            combined = [row for row in origins if isinstance(row, Combined)]
            if not combined:
                continue
            models = list(self._models(receiver, env))
            stepped = [row for row in origins if isinstance(row, Stepped)]
            for row in combined:
                found = self._federation(row, models, Step(module, node, "the result is loaded here"))
                if found is not None:
                    found.steps = (*stepped, *found.steps)
                    yield found
        for averaging in module.derive(Marks).all_averagings():
            found = self._in_place(module, averaging)
            if found is not None:
                yield found

    def _loads(self, module: PyModule) -> Iterator[tuple[cst.CSTNode, cst.BaseExpression, cst.BaseExpression]]:
        """Where a file puts values into a model: (where, the model, the value)."""
        index = self.follower.index(module)
        for call in index.calls_of("load_state_dict"):
            positional, keywords, _ = arguments_of(call)
            value = positional[0] if positional else keywords.get("state_dict")
            if value is not None and isinstance(call.func, cst.Attribute):
                yield call, call.func.value, value
        for call in index.calls_of("vector_to_parameters"):
            positional, _, _ = arguments_of(call)
            if len(positional) > 1:
                yield call, positional[1], positional[0]
        for call in index.calls_of("copy_"):
            if call.args and isinstance(call.func, cst.Attribute):
                yield call, call.func.value, call.args[0].value

    def _models(self, node: cst.BaseExpression, env: Env) -> Iterator[Made]:
        for origin in self.follower.items(self.follower.origins(node, env)):
            if isinstance(origin, Made) and origin.kind == "model":
                yield origin
            elif isinstance(origin, State) and origin.model is not None:
                yield origin.model

    def _federation(self, row: Combined, models: list[Made], load: Step) -> Federation | None:
        averaging, env = row.averaging, row.env
        origins = tuple(self.follower.items(self.follower.origins(averaging.state, env)))
        if by_position(averaging):
            # A state dict has no places; what was made a list of has.
            origins = tuple(origin for origin in origins if not isinstance(origin, State) or self._listed(origin))
        if not _live(origins) or self._from_files(averaging, env):
            return None
        models = [*models, *(origin.model for origin in origins if isinstance(origin, State) and origin.model)]
        models.extend(origin for origin in origins if isinstance(origin, Made) and origin.kind == "model")
        readings = tuple(reading for made in dict.fromkeys(models) for reading in self.reader.readings(made))
        states = tuple(
            Step(origin.env.module, origin.node, "a party's state is taken here")
            for origin in origins
            if isinstance(origin, State)
        )
        whats = {origin.what for origin in origins if isinstance(origin, State)} or {averaging.what}
        what = "parameters" if "state" not in whats or averaging.what == "parameters" else "state"
        filters = {id(one.node): one for one in row.filters}
        for origin in origins:
            if isinstance(origin, State):
                filters.update({id(one.node): one for one in origin.filters})
        steps = tuple(origin for origin in origins if isinstance(origin, Stepped))
        return Federation(averaging, env, load, readings, states, what, tuple(filters.values()), steps)

    def _listed(self, state: State) -> bool:
        """Whether a state's values are put into a list where it is taken."""
        if state.what == "parameters":
            return True
        for above in self.follower.index(state.env.module).above(state.node):
            if isinstance(above, (cst.ListComp, cst.GeneratorExp)):
                return True
            if isinstance(above, cst.Call) and isinstance(above.func, cst.Attribute):
                if above.func.attr.value == "values":
                    return True
            elif isinstance(above, cst.BaseSmallStatement):
                break
        return False

    def _in_place(self, module: PyModule, averaging: Averaging) -> Federation | None:
        """``for s, c in zip(server.parameters(), client.parameters()): s.data += c.data * w``."""
        if averaging.slot is None or averaging.what != "parameters":
            return None
        if any(isinstance(part, cst.Subtract) for part in _operators(averaging.added)):
            return None  # differences gather in something that is no model: a control variate, a momentum
        env = self.follower.env(module, averaging.node)
        models = list(self._models(averaging.slot, env))
        if not models:
            return None
        return self._federation(Combined(averaging, env), models, Step(module, averaging.node))

    def _from_files(self, averaging: Averaging, env: Env) -> bool:
        """Whether the parties' states are checkpoints: a model that takes one after the other."""
        if averaging.parties is None:
            return False
        index = self.follower.index(env.module)
        for call in index.calls_of("load_state_dict"):
            if averaging.parties.node in index.above(call) and call.args:
                found = self.follower.origins(call.args[0].value, env)
                if found and all(isinstance(origin, Loaded) for origin in found):
                    return True
        return False


def _live(origins: tuple[Origin, ...]) -> bool:
    """Whether what is combined is seen to be taken from live models, and none of it read from files.

    What only came in a message is not enough: the party that sent it may have kept BatchNorm back.
    """
    return any(
        isinstance(origin, State) or (isinstance(origin, Made) and origin.kind == "model") for origin in origins
    ) and not any(isinstance(origin, Loaded) for origin in origins)


def _operators(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    return (part.operator for part in walk(node) if isinstance(part, cst.BinaryOperation))
