"""What an editor asks and is told.

A project is looked at as a whole, since a trail may lead through any of its files: when the editor opens it, some time
after something was typed, and at once when something was saved. One look runs at a time, in a thread; what is typed
while it runs asks for another one after it. The pause before a look grows with how long the last one took, so that a
large workspace does not keep the machine busy.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Sequence

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from bn_audit import __version__
from bn_audit.codes import CODES
from bn_audit.finding import Applicability, Finding
from bn_audit.fix.edits import compatible
from bn_audit.server import convert
from bn_audit.server.look import Look, content, look, silenced
from bn_audit.settings.config import ConfigError
from bn_audit.source.root import whole_root
from bn_audit.source.text import SourceError, decode

__all__ = ["BnAuditServer", "create"]

PAUSE = 0.4
"""Seconds without a key pressed before a look begins."""
FIX_ALL = "source.fixAll.bn-audit"
CONFIGURATION = ("pyproject.toml", "bn-audit.toml")
_CODE = re.compile(r"BNA\d{3}")


class BnAuditServer(LanguageServer):
    """The server, and what it knows of the workspace."""

    def __init__(self) -> None:
        super().__init__("bn-audit", __version__, text_document_sync_kind=types.TextDocumentSyncKind.Incremental)
        self.seen = Look()
        self._shown: set[str] = set()
        self._told: set[str] = set()
        self._wanted = asyncio.Event()
        self._at_once = False
        self._took = 0.0
        self._task: asyncio.Task[None] | None = None

    def contents(self) -> dict[str, bytes]:
        """What the editor holds, by absolute path."""
        held: dict[str, bytes] = {}
        for uri, document in self.workspace.text_documents.items():
            path = to_fs_path(uri)
            if path is not None:
                held[os.path.abspath(path)] = document.source.encode("utf-8", "surrogatepass")
        return held

    def lines(self, path: str) -> Sequence[str]:
        """The lines of a file as the editor has it, else as it is on disk."""
        data = content(path, self.contents())
        try:
            return () if data is None else decode(data).text.splitlines()
        except SourceError:
            return ()

    def paths(self) -> list[str]:
        """What to look at: the workspace's folders, else the projects around the open files."""
        folders = [to_fs_path(folder.uri) for folder in self.workspace.folders.values()]
        if not any(folders) and self.workspace.root_path:
            folders = [self.workspace.root_path]
        if not any(folders):
            folders = [whole_root(path) for path in self.contents()]
        return sorted({os.path.abspath(folder) for folder in folders if folder})

    def ask(self, *, at_once: bool = False) -> None:
        """Have the workspace looked at, after a pause or at once."""
        self._at_once = self._at_once or at_once
        self._wanted.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            await self._wanted.wait()
            while not self._at_once:
                self._wanted.clear()
                try:
                    await asyncio.wait_for(self._wanted.wait(), max(PAUSE, 2 * self._took))
                except asyncio.TimeoutError:
                    break
            self._wanted.clear()
            self._at_once = False
            await self._look()

    async def _look(self) -> None:
        paths, contents = self.paths(), self.contents()
        if not paths:
            return
        began = time.monotonic()
        try:
            seen = await asyncio.to_thread(look, paths, contents)
        except ConfigError as error:
            self._tell(str(error), types.MessageType.Error)
            return
        except Exception as error:  # the editor goes on, with what was known before
            self._tell(f"internal error: {type(error).__name__}: {error}", types.MessageType.Error)
            return
        finally:
            self._took = time.monotonic() - began
        self.seen = seen
        for note in seen.notes:
            self._tell(note, types.MessageType.Warning)
        self._publish()

    def _tell(self, text: str, kind: types.MessageType) -> None:
        """Show a message once, and log it each time."""
        message = f"bn-audit: {text}"
        if message not in self._told:
            self._told.add(message)
            self.window_show_message(types.ShowMessageParams(type=kind, message=message))
        self.window_log_message(types.LogMessageParams(type=kind, message=message))

    def _publish(self) -> None:
        found = {
            path for path, findings in self.seen.findings.items() if any(f.location.cell is None for f in findings)
        }
        for path in sorted(found | self._shown):
            findings = [row for row in self.seen.findings.get(path, ()) if row.location.cell is None]
            self.text_document_publish_diagnostics(
                types.PublishDiagnosticsParams(
                    uri=convert.to_uri(path), diagnostics=[convert.diagnostic(row, self.lines) for row in findings]
                )
            )
        self._shown = found

    def findings(self, uri: str) -> list[Finding]:
        """What is known about a file that is no notebook."""
        path = to_fs_path(uri)
        rows = self.seen.findings.get(os.path.abspath(path), ()) if path is not None else ()
        return [row for row in rows if row.location.cell is None]

    def actions(self, uri: str, place: types.Range, only: Sequence[str] | None) -> list[types.CodeAction]:
        """What can be done about the findings in a range: their fixes, and comments that silence them."""
        path = os.path.abspath(to_fs_path(uri) or "")
        rows = self.lines(path)
        found: list[types.CodeAction] = []
        for finding in self.findings(uri):
            span = convert.to_range(finding.location, self.lines)
            if span.end.line < place.start.line or span.start.line > place.end.line:
                continue
            about = convert.diagnostic(finding, self.lines)
            if finding.fix is not None and _wants(only, types.CodeActionKind.QuickFix):
                safe = finding.fix.applicability is Applicability.SAFE
                title = f"{finding.fix.message} ({finding.code}{'' if safe else ', unsafe'})"
                edits = [convert.edit(change, rows) for change in finding.fix.edits]
                found.append(_action(title, types.CodeActionKind.QuickFix, uri, edits, [about], preferred=safe))
            if _wants(only, types.CodeActionKind.QuickFix):
                data = content(path, self.contents())
                quiet = None if data is None else silenced(path, data, finding)
                if quiet is not None:
                    edits = convert.whole(rows, decode(quiet).text.splitlines())
                    title = f"Silence {finding.code} on this line"
                    found.append(_action(title, types.CodeActionKind.QuickFix, uri, edits, [about]))
        if _wants(only, FIX_ALL):
            safe_ones = compatible(self.findings(uri))
            changes = dict.fromkeys(change for row in safe_ones if row.fix is not None for change in row.fix.edits)
            if changes:
                edits = [convert.edit(change, rows) for change in changes]
                found.append(_action("Apply all safe fixes of bn-audit", FIX_ALL, uri, edits, []))
        return found

    def page(self, uri: str, position: types.Position) -> str | None:
        """The page of the rule that speaks at a position, or that is named there."""
        rows = self.lines(os.path.abspath(to_fs_path(uri) or ""))
        text = rows[position.line] if position.line < len(rows) else ""
        codes = [match[0] for match in _CODE.finditer(text) if match.start() <= position.character <= match.end()]
        for finding in self.findings(uri):
            span = convert.to_range(finding.location, self.lines)
            if (
                (span.start.line, span.start.character)
                <= (position.line, position.character)
                <= (
                    span.end.line,
                    span.end.character,
                )
            ):
                codes.append(finding.code)
        from bn_audit.rules import catalogue
        from bn_audit.rules.page import page

        pages = [page(catalogue()[code]) for code in dict.fromkeys(codes) if code in CODES]
        return "\n\n---\n\n".join(pages) or None


def _wants(only: Sequence[str] | None, kind: str) -> bool:
    """Whether an editor that asks for some kinds of actions wants this one."""
    return only is None or any(kind == wanted or kind.startswith(f"{wanted}.") for wanted in only)


def _action(
    title: str,
    kind: types.CodeActionKind | str,
    uri: str,
    edits: list[types.TextEdit],
    diagnostics: list[types.Diagnostic],
    *,
    preferred: bool = False,
) -> types.CodeAction:
    return types.CodeAction(
        title=title,
        kind=kind,
        diagnostics=diagnostics or None,
        edit=types.WorkspaceEdit(changes={uri: edits}),
        is_preferred=preferred or None,
    )


def create() -> BnAuditServer:
    """A server with all it answers to."""
    server = BnAuditServer()

    @server.feature(types.INITIALIZED)
    async def initialized(params: types.InitializedParams) -> None:
        server.ask(at_once=True)

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    async def opened(params: types.DidOpenTextDocumentParams) -> None:
        server.ask(at_once=True)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    async def changed(params: types.DidChangeTextDocumentParams) -> None:
        server.ask()

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    async def saved(params: types.DidSaveTextDocumentParams) -> None:
        server.ask(at_once=True)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    async def closed(params: types.DidCloseTextDocumentParams) -> None:
        server.ask()

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    async def watched(params: types.DidChangeWatchedFilesParams) -> None:
        server.ask(at_once=True)

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def configured(params: types.DidChangeConfigurationParams) -> None:
        server.ask(at_once=True)

    @server.feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)
    async def moved(params: types.DidChangeWorkspaceFoldersParams) -> None:
        server.ask(at_once=True)

    @server.feature(
        types.TEXT_DOCUMENT_CODE_ACTION,
        types.CodeActionOptions(code_action_kinds=[types.CodeActionKind.QuickFix, FIX_ALL]),
    )
    def acted(params: types.CodeActionParams) -> list[types.CodeAction]:
        return server.actions(params.text_document.uri, params.range, params.context.only)

    @server.feature(types.TEXT_DOCUMENT_HOVER)
    def hovered(params: types.HoverParams) -> types.Hover | None:
        text = server.page(params.text_document.uri, params.position)
        if text is None:
            return None
        return types.Hover(contents=types.MarkupContent(kind=types.MarkupKind.Markdown, value=text))

    return server
