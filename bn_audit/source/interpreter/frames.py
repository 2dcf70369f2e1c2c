"""Frames: the scopes in which the interpreter evaluates."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bn_audit.source.interpreter.values import ClassVal, Func, Step, Value
    from bn_audit.source.project import PyModule

__all__ = ["Frame"]


class Frame:
    """Variables of a module, a class body, a function call or a comprehension.

    ``parent`` is the enclosing scope (where free names are looked up), ``caller`` the frame of the call, ``call`` where
    that call stands. ``wanted`` limits which statements are run (None: all).
    """

    __slots__ = (
        "call",
        "caller",
        "depth",
        "func",
        "globals",
        "kind",
        "module",
        "owner",
        "parent",
        "self_value",
        "vars",
        "wanted",
        "yields",
    )

    def __init__(
        self,
        kind: str,
        module: PyModule,
        parent: Frame | None,
        *,
        caller: Frame | None = None,
        call: Step | None = None,
        func: Func | None = None,
        owner: ClassVal | None = None,
        self_value: Value | None = None,
    ) -> None:
        self.kind = kind
        self.module = module
        self.parent = parent
        self.caller = caller
        self.call = call
        self.func = func
        self.owner = owner
        self.self_value = self_value
        self.vars: dict[str, Value] = {}
        self.globals: set[str] = set()
        self.wanted: frozenset[str] | None = None
        self.yields: list[Value] | None = None
        self.depth: int = caller.depth + 1 if caller is not None else 0
