"""Code generation that writes down where chosen nodes begin and end.

Kept apart from positions.py because it cannot be imported without libcst.
"""

from __future__ import annotations

from collections.abc import Set
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from libcst import CSTNode, Module

# The base class of libcst's own position providers; the package does not export it.
from libcst._nodes.internal import CodegenState

__all__ = ["Point", "spans"]

Point = tuple[int, int]
"""A line, from 1, and a column, from 0."""

_NOTHING: AbstractContextManager[None] = nullcontext()


def spans(module: Module, wanted: Set[int]) -> dict[int, tuple[Point, Point]]:
    """Start and end of those nodes of the module whose ``id`` is wanted."""
    recorder = _Recorder(module, wanted)
    module._codegen(recorder)
    return {identity: recorder.spans[identity] for identity in wanted if identity in recorder.spans}


class _Recorder(CodegenState):
    """Follows how far the code has come. It keeps no code.

    Attributes:
        sketched: of a body that is parsed when it is needed, what stands in its place is gone over.
    """

    sketched = True

    def __init__(self, module: Module, wanted: Set[int]) -> None:
        super().__init__(module.default_indent, module.default_newline)
        self.line = 1
        self.column = 0
        self.spans: dict[int, tuple[Point, Point]] = {}
        self._needed = set(wanted)
        self._starts: list[Point] = []

    def add_token(self, value: str) -> None:
        newlines = value.count("\n")
        if newlines:
            self.line += newlines
            self.column = len(value) - value.rindex("\n") - 1
        else:
            self.column += len(value)
        if not self.tokens:  # a module looks whether there is any, to tell an empty one
            self.tokens.append(value)

    def add_indent_tokens(self) -> None:
        for token in self.indent_tokens:
            self.column += len(token)

    def pop_trailing_newline(self) -> None:
        """There is none to take back."""

    def before_codegen(self, node: CSTNode) -> None:
        if id(node) in self._needed:
            self._starts.append((self.line, self.column))

    def after_codegen(self, node: CSTNode) -> None:
        if id(node) in self._needed:
            start = self._starts.pop()
            # A node that has a syntactic position has recorded it by now.
            self.spans.setdefault(id(node), (start, (self.line, self.column)))

    # Any context manager will do; the generator that the base class returns takes ten times as long.
    def record_syntactic_position(  # type: ignore[override]
        self, node: CSTNode, *, start_node: CSTNode | None = None, end_node: CSTNode | None = None
    ) -> AbstractContextManager[None]:
        if id(node) not in self._needed:
            return _NOTHING
        # Its bounds may be those of children, which come later and so can still be asked for.
        self._needed.update(id(child) for child in (start_node, end_node) if child is not None)
        return _SyntacticPosition(self, node, start_node, end_node)


class _SyntacticPosition(AbstractContextManager[None]):
    def __init__(
        self, recorder: _Recorder, node: CSTNode, start_node: CSTNode | None, end_node: CSTNode | None
    ) -> None:
        self.recorder = recorder
        self.node = node
        self.start_node = start_node
        self.end_node = end_node
        self.start = (recorder.line, recorder.column)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        spans = self.recorder.spans
        start = self.start if self.start_node is None else spans[id(self.start_node)][0]
        end = (self.recorder.line, self.recorder.column) if self.end_node is None else spans[id(self.end_node)][1]
        spans[id(self.node)] = (start, end)
