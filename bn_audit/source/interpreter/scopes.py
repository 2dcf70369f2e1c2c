"""Looking names up: scopes, modules and imports.

A module's top level is not run from top to bottom. A name is resolved when it is asked for, by running the statements
that
bind or change it, and those it depends on.
"""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from bn_audit.source.interpreter import expressions, statements
from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.libraries import SECRETFLOW_CONSTANTS
from bn_audit.source.interpreter.run import Run
from bn_audit.source.interpreter.values import Const, External, ListVal, ModuleRef, NamespaceRef, Step, Unknown, Value
from bn_audit.source.names import blocks
from bn_audit.source.names import statements as flat
from bn_audit.source.nodes import dotted_name, walk
from bn_audit.source.project import Lacking, PyModule, is_secretflow

__all__ = ["global_value", "import_from", "import_module", "lookup", "run_import"]

_ZOOS = ("torchvision.models", "timm.models")
"""Modules of libraries from which models are imported by a star."""
_STAR_STEPS = 20
"""What looking for a name behind one star import costs."""


def lookup(run: Run, name: str, frame: Frame, node: cst.CSTNode | None = None) -> Value:
    """The value of a name as seen from a frame."""
    scope: Frame | None = frame
    first = True
    while scope is not None:
        if scope.kind != "class" or first:
            found = scope.vars.get(name)
            if found is not None and not (name in scope.globals and scope.kind == "function"):
                return found
        if scope.kind == "module":
            value = global_value(run, scope.module, name, scope)
            if value is not None:
                return value
            break
        first = first and scope.kind == "comprehension"
        scope = scope.parent
    value = expressions.builtin(name)
    if value is not None:
        return value
    return run.unknown(
        f"{name} is not defined in what could be read", frame.module, node, key=f"name:{name}", text=name
    )


def global_value(run: Run, module: PyModule, name: str, frame: Frame | None = None) -> Value | None:
    """The value a name has at the end of a module's top level; None if the module does not have it.

    ``frame`` may be a target's own frame of the module, in which the top level has been run up to a point: names that
    it
    lacks are taken from the module as a whole.
    """
    base = run.module_frame(module)
    if frame is not None and frame is not base and name in frame.vars:
        return frame.vars[name]
    if name in base.vars and name in run.final[module.path]:
        return base.vars[name]
    # The last one wins, as in Python: star imports that follow the name's own statements come before these.
    own = max((module.order(statement) for statement in module.touching(name)), default=-1)
    stars = [statement for statement in reversed(module.touching("*")) if module.order(statement) > own]
    if (value := _first_star(run, module, stars, name)) is not None:
        return value
    if name not in run.final[module.path] and module.binds(name):
        _resolve(run, module, name, base)
    if name in base.vars:
        return base.vars[name]
    if name in ("__file__", "__doc__", "__name__"):
        return Const("__main__") if name == "__name__" else Unknown(f"{name} is set by Python", key=name)
    stars = [statement for statement in reversed(module.touching("*")) if module.order(statement) < own]
    return _first_star(run, module, stars, name)


def definition(run: Run, module: PyModule, name: str, statement: cst.CSTNode) -> Value | None:
    """The value that a definition or an import alone gives a name, whatever else may change it later."""
    base = run.module_frame(module)
    if name not in base.vars:  # it may be noted as final by a run that came to its end before it came here
        run.final[module.path].add(name)
        _execute(run, [statement], base, frozenset({name}))
    return base.vars.get(name)


def _first_star(run: Run, module: PyModule, stars: list[cst.CSTNode], name: str) -> Value | None:
    """What the first of some star imports that has a name gives it, noted as the name's value."""
    for statement in stars:
        value = _from_star(run, module, statement, name)
        if value is not None:
            run.module_frame(module).vars[name] = value
            run.final[module.path].add(name)
            return value
    return None


def _resolve(run: Run, module: PyModule, name: str, base: Frame) -> None:
    final = run.final[module.path]
    alone = _alone(run, module, name)
    if alone is not None:
        wanted, body = frozenset({name}), [alone]
    else:
        closure = module.names.closure(module.body, {name})
        wanted = frozenset(other for other in closure if other not in final and module.binds(other))
        body = module.body
    final |= wanted
    _execute(run, body, base, wanted)


def _execute(run: Run, body: Sequence[cst.CSTNode], base: Frame, wanted: frozenset[str]) -> None:
    """Run top-level statements of a module for what they give some names."""
    previous, base.wanted = base.wanted, wanted
    # FLModel calls that the module makes on the way have roots of their own.
    arrivals, reached = len(run.arrivals), set(run.reached)
    try:
        statements.execute_block(run, body, base)
    finally:
        base.wanted = previous
        del run.arrivals[arrivals:]
        run.reached = reached


def _alone(run: Run, module: PyModule, name: str) -> cst.CSTNode | None:
    """The one statement that gives a name its value, if nothing else need be run in order."""
    touching = module.touching(name)
    if len(touching) == 1 and isinstance(touching[0], (cst.FunctionDef, cst.ClassDef, cst.Import, cst.ImportFrom)):
        return touching[0]
    # A function that is defined again, as in a notebook whose cells are run again: what it was before is gone.
    if touching and isinstance(touching[-1], (cst.FunctionDef, cst.ClassDef)) and not _needs_former(touching[-1], name):
        return touching[-1]
    binding = [statement for statement in touching if name in module.names.names(statement).binds]
    # What is done to a library, a seed or a flag that is set, does not change what its names stand for here.
    if len(binding) == 1 and isinstance(binding[0], (cst.Import, cst.ImportFrom)) and _is_external(run, binding[0]):
        return binding[0]
    return None


def _needs_former(node: cst.FunctionDef | cst.ClassDef, name: str) -> bool:
    """Whether a definition may make use of what its name stood for before: ``@area.register``, ``class Net(Net)``."""
    parts: list[cst.CSTNode] = [*node.decorators]
    if isinstance(node, cst.FunctionDef):
        parts.append(node.params)
    else:
        parts.extend((*node.bases, *node.keywords))
        for inner in flat(node.body):
            if isinstance(inner, (cst.FunctionDef, cst.ClassDef)):
                if _needs_former(inner, name):
                    return True
            else:
                parts.append(inner)
    return any(isinstance(row, cst.Name) and row.value == name for part in parts for row in walk(part))


def _is_external(run: Run, node: cst.Import | cst.ImportFrom) -> bool:
    """Whether all that a statement imports is a known library's or Python's own."""
    if isinstance(node, cst.ImportFrom):
        names = [dotted_name(node.module) if not node.relative else None]
    else:
        names = [dotted_name(alias.name) for alias in node.names]
    return all(name is not None and run.project.is_external(name.partition(".")[0]) for name in names)


def _from_star(run: Run, module: PyModule, statement: cst.CSTNode, name: str) -> Value | None:
    if name.startswith("_"):
        return None
    stack = [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, cst.ImportFrom):
            if not isinstance(node.names, cst.ImportStar):
                continue
            value = _star_member(run, module, node, name)
            if value is not None:
                return value
        elif isinstance(node, cst.BaseCompoundStatement):
            for part in blocks(node):
                stack.extend(reversed(flat(part)))
    return None


def _star_member(run: Run, module: PyModule, node: cst.ImportFrom, name: str) -> Value | None:
    # Packages that import all from hundreds of modules are to be had; most of these need not be parsed for one name.
    run.step(_STAR_STEPS)
    try:
        with run.project.wanting(name):
            source = _source_module(run, module, node)
    except Lacking:
        return None
    if isinstance(source, ModuleRef):
        target = source.module
        key = (target.path, name)
        if key in run.searched:
            return None
        exported = _all_names(run, target)
        if exported is not None and name not in exported:
            return None
        # Each module is asked once a search: where many import all of each other, the ways through are countless.
        outermost = not run.searched
        run.searched.add(key)
        try:
            value = global_value(run, target, name)
        finally:
            if outermost:
                run.searched.clear()
        if value is not None:
            run.searched.discard(key)
            note_import(run, value, module, node)
        return value
    if isinstance(source, External):
        if source.name == "torch.nn":
            exports = name[:1].isupper() or name in ("init", "functional", "utils", "parallel")
        elif source.name in _ZOOS:
            from bn_audit.source import zoo

            exports = zoo.model(f"{source.name}.{name}", (), {}) is not None
        else:
            exports = is_secretflow(source.package) and name in ("FLModel", "TorchModel")
        if exports:
            return External(f"{source.name}.{name}", Step(module, node))
    return None


def _all_names(run: Run, module: PyModule) -> set[str] | None:
    if not module.binds("__all__"):
        return None
    value = global_value(run, module, "__all__")
    if isinstance(value, ListVal) and not value.open:
        return {item.value for item in value.items if isinstance(item, Const)}
    return None


def note_import(run: Run, value: Value, module: PyModule, node: cst.CSTNode) -> None:
    """Remember where a module first imported a value: a step of the trail."""
    key = hash((id(value), module.path))
    if key not in run.imported_at:
        run.keep.append(value)
        run.imported_at[key] = Step(module, node, "")


def imported_at(run: Run, value: Value, module: PyModule) -> Step | None:
    """Where a module imports a value, if it does."""
    return run.imported_at.get(hash((id(value), module.path)))


def run_import(run: Run, node: cst.Import | cst.ImportFrom, frame: Frame) -> None:
    """Bind what an import statement binds."""
    module = frame.module
    if isinstance(node, cst.Import):
        for alias in node.names:
            name = dotted_name(alias.name) or ""
            if alias.asname is not None and isinstance(alias.asname.name, cst.Name):
                frame.vars[alias.asname.name.value] = import_module(run, module, name, node)
            else:
                top = name.partition(".")[0]
                frame.vars[top] = import_module(run, module, top, node)
        return
    if isinstance(node.names, cst.ImportStar):
        source = _source_module(run, module, node)
        if isinstance(source, ModuleRef) and frame.kind != "module":
            for statement in source.module.body:
                for name in source.module.names.names(statement).binds:
                    value = _star_member(run, module, node, name)
                    if value is not None:
                        frame.vars[name] = value
        return
    for alias in node.names:
        name = dotted_name(alias.name) or ""
        bound = name
        if alias.asname is not None and isinstance(alias.asname.name, cst.Name):
            bound = alias.asname.name.value
        if frame.wanted is not None and bound not in frame.wanted:
            continue
        value = import_from(run, module, node, name)
        note_import(run, value, module, node)
        frame.vars[bound] = value


def _source_module(run: Run, module: PyModule, node: cst.ImportFrom) -> Value:
    name = dotted_name(node.module) if node.module is not None else ""
    name = name or ""
    level = len(node.relative)
    if level:
        found = run.project.relative(name, level, module)
        if found is not None:
            return ModuleRef(found)
        folder = run.project.namespace(name, module, level)
        return NamespaceRef(folder) if folder else External("." * level + name)
    return import_module(run, module, name, node)


def import_module(run: Run, module: PyModule, name: str, node: cst.CSTNode) -> Value:
    """What ``import name`` yields: a module of the project, a namespace folder, or something external."""
    found = run.project.find(name, module)
    if found is not None:
        return ModuleRef(found)
    top = name.partition(".")[0]
    if run.project.is_external(top):
        return External(name, Step(module, node))
    folder = run.project.namespace(name, module)
    if folder is not None:
        return NamespaceRef(folder, Step(module, node))
    return External(name, Step(module, node))


def import_from(run: Run, module: PyModule, node: cst.ImportFrom, name: str) -> Value:
    """What ``from source import name`` yields."""
    source = _source_module(run, module, node)
    return member(run, source, name, module, node)


def member(run: Run, source: Value, name: str, module: PyModule, node: cst.CSTNode) -> Value:
    """An attribute of an imported module: a global of it, or a submodule."""
    if isinstance(source, ModuleRef):
        target = source.module
        if run.project.secretflow_api(target, name):
            return External(f"{target.name}.{name}", Step(module, node))
        if target is module and target.is_package:
            child = run.project.child(target, name)
            if child is not None and not target.binds(name):
                return ModuleRef(child)
        key = (target.path, name, "")
        if key in run.resolving:
            return run.unknown(f"{name} is imported in a circle", module, node)
        run.resolving.add(key)
        try:
            value = global_value(run, target, name)
        finally:
            run.resolving.discard(key)
        if value is not None and not (isinstance(value, External) and value.name.startswith(".")):
            return value
        child = run.project.child(target, name)
        if child is not None:
            return ModuleRef(child)
        if target.is_package:
            below = run.project.namespace(name, target, 1)
            if below is not None:
                return NamespaceRef(below, Step(module, node))
        return run.unknown(f"{name} is not found in {run.project.display(target.path)}", module, node, text=name)
    if isinstance(source, NamespaceRef):
        child = run.project.folder_child(source.folder, name)
        if child is not None:
            return ModuleRef(child)
        below = run.project.subfolder(source.folder, name)
        if below is not None:
            return NamespaceRef(below, Step(module, node))
        return run.unknown(f"{name} is not found in {run.project.display(source.folder)}", module, node, text=name)
    if isinstance(source, External):
        if name in SECRETFLOW_CONSTANTS and is_secretflow(source.package):
            return ListVal([Const(item) for item in SECRETFLOW_CONSTANTS[name]], "list", Step(module, node))
        return External(f"{source.name}.{name}", Step(module, node))
    return run.unknown("imported from something that is not known", module, node, text=name)
