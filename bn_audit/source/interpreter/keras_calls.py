"""What Keras does with layers: sequential, functional and subclassed models, and the layers on the way to a tensor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.interpreter import calls, external_calls, keras_graph, operations, torch_calls
from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.libraries import KERAS_MODELS, canonical
from bn_audit.source.interpreter.run import Run
from bn_audit.source.interpreter.values import (
    Const,
    DictVal,
    External,
    Hole,
    KerasTensor,
    ListVal,
    Module,
    RegistryGap,
    Step,
    Unknown,
    Value,
)
from bn_audit.source.keras_layers import keras_layer
from bn_audit.source.state import ModuleState

if TYPE_CHECKING:
    from bn_audit.source.interpreter.calls import Arguments

__all__ = [
    "apply",
    "attribute",
    "construct",
    "init",
    "method",
    "operation",
    "parts",
    "set_trainable",
    "track",
]


def construct(
    run: Run, name: str, args: Arguments, kwargs: dict[str, Value], open_kwargs: bool, frame: Frame, node: cst.CSTNode
) -> Value | None:
    """Call something of Keras by its canonical name; None if it is not known."""
    step = Step(frame.module, node)
    leaf = name.rpartition(".")[2]
    if leaf == "Input" and name in ("keras.Input", "keras.layers.Input"):
        return KerasTensor(None, (), step)
    if name in KERAS_MODELS:
        model = Module(leaf, None, step)
        model.framework = "keras"
        _fill_model(run, model, args, kwargs, step)
        return model
    if name == "keras.models.clone_model":
        first = calls.argument(args, kwargs, 0, "model")
        return external_calls.clone(first) if first is not None else None
    state: ModuleState | None = None
    if name.startswith("keras.layers."):
        wrapped = calls.argument(args, kwargs, 0, "layer")
        if leaf in ("TimeDistributed", "Bidirectional", "Wrapper") and isinstance(wrapped, Module):
            layer = Module(leaf, None, step)
            layer.framework = "keras"
            layer.children["forward" if leaf == "Bidirectional" else "layer"] = wrapped
            if leaf == "Bidirectional":
                twin = external_calls.clone(wrapped)
                if isinstance(twin, Module):
                    layer.children["backward"] = twin
            return _named(layer, kwargs)
        state = keras_layer(leaf, *torch_calls.plain_arguments(args, kwargs, open_kwargs))
    elif name.startswith("keras.applications."):
        from bn_audit.source import zoo

        state = zoo.model(name, *torch_calls.plain_arguments(args, kwargs, open_kwargs))
    if state is not None:
        return _named(_as_keras(Module.grow(state, step)), kwargs)
    return operation(args, kwargs, step)


def _as_keras(module: Module) -> Module:
    for _, part in module.modules():
        part.framework = "keras"
    return module


def _named(layer: Module, kwargs: dict[str, Value]) -> Module:
    name = kwargs.get("name")
    if isinstance(name, Const) and isinstance(name.value, str):
        layer.attrs["name"] = name
    return layer


def operation(args: Arguments, kwargs: dict[str, Value], step: Step) -> KerasTensor | None:
    """What a function without weights makes of Keras tensors; None if it is given none."""
    values = [*args, *kwargs.values()]
    if not any(_holds_tensor(value) for value in values):
        return None
    known = [value for value in values if isinstance(value, (KerasTensor, ListVal, DictVal))]
    return KerasTensor(None, keras_graph.gather(known, step), step)


def _holds_tensor(value: object) -> bool:
    if isinstance(value, (ListVal, DictVal)):
        return any(
            _holds_tensor(item) for item in (value.items if isinstance(value, ListVal) else value.items.values())
        )
    return isinstance(value, KerasTensor)


def apply(run: Run, layer: Module, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    """``layer(tensor)``."""
    step = Step(frame.module, node)
    given = [*args[:1], *(kwargs[key] for key in ("inputs", "input") if key in kwargs)]
    tensor = KerasTensor(layer, keras_graph.gather(given, step), step)
    layer.extra["tensor"] = tensor
    if run.uncertain:
        return KerasTensor(RegistryGap("applied in a loop of unknown length", step), (tensor,), step)
    return tensor


def init(
    run: Run, base: External, module: Module, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode
) -> None:
    """``super().__init__(...)`` of a layer or model of the project into Keras."""
    step = Step(frame.module, node)
    name = canonical(base.name)
    leaf = name.rpartition(".")[2]
    if name in KERAS_MODELS:
        _fill_model(run, module, args, kwargs, step)
    elif leaf not in ("Layer", "Wrapper", "Module"):
        state = keras_layer(leaf, *torch_calls.plain_arguments(args, kwargs))
        if state is None:
            module.add_gap(f"its base class {base.name} is not followed", step)
        else:
            module.fill(state, module.origin)
            _as_keras(module)
    _named(module, kwargs)


def _fill_model(run: Run, model: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> None:
    _named(model, kwargs)
    first, second = calls.argument(args, kwargs, 0, "inputs"), calls.argument(args, kwargs, 1, "outputs")
    if second is not None:
        outputs = keras_graph.gather([second], step)
        inputs = keras_graph.gather([first], step)
        model.extra.update(inputs=inputs, outputs=outputs)
        for layer in keras_graph.layers(outputs, inputs):
            _add(model, layer)
        return
    layers = kwargs.get("layers", first)
    if layers is not None and not (isinstance(layers, Const) and layers.value is None):
        for item in operations.iterate(run, layers):
            _add(model, item, run.repeats(model), step)
        _chain_new(model)


def _chain_new(model: Module) -> None:
    """Chain what a model holds and what is not in its chain yet."""
    done = len(keras_graph.layers(model.extra["outputs"], ())) if "outputs" in model.extra else 0
    for layer in [child for child in model.children.values() if child is not None][done:]:
        _chain(model, layer)


def _chain(model: Module, layer: Module | RegistryGap) -> None:
    """Put a layer at the end of a model whose layers follow one another."""
    if "outputs" not in model.extra:
        model.extra["inputs"] = model.extra["outputs"] = (KerasTensor(None, (), model.origin),)
    tensor = KerasTensor(layer, model.extra["outputs"], model.origin)
    model.extra["outputs"] = (tensor,)
    if isinstance(layer, Module):
        layer.extra["tensor"] = tensor


def _add(model: Module, layer: object, uncertain: bool = False, step: Step | None = None) -> None:
    if isinstance(layer, Module):
        model.children[_layer_name(model, layer)] = layer
        if uncertain:
            model.add_gap("filled in a loop of unknown length", step)
    elif isinstance(layer, RegistryGap):
        model.add_gap(layer.reason, layer.step)
    elif isinstance(layer, Hole):
        model.add_gap("holds an unknown number of further layers", step)
    elif not isinstance(layer, KerasTensor):
        reason = layer.reason if isinstance(layer, Unknown) else "a layer that is not known"
        model.add_gap(reason, layer.origin if isinstance(layer, Value) else step)


def _layer_name(model: Module, layer: Module) -> str:
    """The layer's own name, else one like Keras makes: ``batch_normalization_1``."""
    given = layer.attrs.get("name")
    if isinstance(given, Const):
        return str(given.value)
    base = re.sub(r"(?<!^)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z0-9])", "_", layer.type_name).lower().replace("_2_d", "2d")
    base = base.replace("__", "_")
    number = 0
    name = base
    while name in model.children:
        number += 1
        name = f"{base}_{number}"
    return name


def method(
    run: Run, module: Module, name: str, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode
) -> Value:
    """A method of a Keras layer or model."""
    step = Step(frame.module, node)
    if name == "add":
        item = args[0] if args else Hole()
        _add(module, item, run.repeats(module), step)
        _chain_new(module)
        return Const(None)
    if name == "pop":
        real = [key for key, child in module.children.items() if isinstance(child, Module)]
        if real:
            del module.children[real[-1]]
            module.extra.pop("outputs", None)
            _chain_new(module)
        return Const(None)
    if name == "get_layer":
        wanted = calls.argument(args, kwargs, 0, "name")
        found = module.children.get(wanted.value) if isinstance(wanted, Const) else None
        if isinstance(found, Module):
            return found
        return run.unknown("a layer that is not known", frame.module, node, called=True)
    if name == "__call__":
        return apply(run, module, args, kwargs, frame, node)
    return (
        Const(None)
        if name in ("compile", "build", "summary", "load_weights")
        else run.unknown(f"{name}() of a Keras model is not followed", frame.module, node)
    )


def track(module: Module, name: str, value: ListVal | DictVal, step: Step) -> None:
    """``self.name = [...]``: Keras finds the layers in it, those too that are put there later."""
    holder = Module("ListWrapper", None, step)
    holder.framework = "keras"
    holder.extra["tracked"] = value
    module.children[f"{name}.*"] = holder


def parts(module: Module) -> Iterator[tuple[str, Module | RegistryGap | None]]:
    """The children of a module, and the layers in the lists and dicts that are its attributes."""
    for name, child in module.children.items():
        held = child.extra.get("tracked") if isinstance(child, Module) else None
        if held is None:
            yield name, child
        else:
            yield from keras_graph.tracked(name.removesuffix(".*"), held)


def set_trainable(module: Module, trainable: bool) -> None:
    """``layer.trainable = False``: its weights count as non-trainable, where they stand among the others stays."""
    for _, part in module.modules():
        part.extra["trainable"] = trainable


def attribute(run: Run, module: Module, name: str, step: Step) -> Value | None:
    """``model.layers``, ``model.output``, ``layer.output``, ``model.input``; None for anything else."""
    if name == "layers":
        return ListVal([child if isinstance(child, Module) else Hole() for _, child in parts(module)], "list", step)
    if name in ("output", "outputs", "input", "inputs"):
        if "outputs" not in module.extra and module.children and module.cls is None:
            _chain_new(module)  # a known model, whose layers are taken to follow one another
        found = module.extra.get("inputs" if name.startswith("input") else "outputs")
        tensor = module.extra.get("tensor")
        if found is None and isinstance(tensor, KerasTensor):
            found = tensor.parents if name.startswith("input") else (tensor,)
        if found is None:
            return Unknown(f"the {name} of a layer that is not known to be in a model", step, called=True)
        return found[0] if len(found) == 1 and not name.endswith("s") else ListVal([*found], "list", step)
    return None
