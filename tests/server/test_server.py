"""The language server, asked by a real client over stdin and stdout."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

pytest.importorskip("pygls")
pytest_lsp = pytest.importorskip("pytest_lsp")

from lsprotocol import types  # noqa: E402
from pytest_lsp import ClientServerConfig, LanguageClient  # noqa: E402

MODEL = """\
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 10)
        self.bn = nn.BatchNorm1d(8)
"""
TRAIN = """\
import secretflow as sf
from secretflow.security.aggregation import SecureAggregator
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel

from model import Net

alice, bob, charlie = sf.PYU("alice"), sf.PYU("bob"), sf.PYU("charlie")
name = "\U0001f408"; fl_model = FLModel(
    server=charlie,
    device_list=[alice, bob],
    model=TorchModel(model_fn=Net),
    aggregator=SecureAggregator(charlie, [alice, bob]),
    backend="torch",
)
"""
WAIT = 60.0


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    return tmp_path


@pytest_lsp.fixture(config=ClientServerConfig(server_command=[sys.executable, "-m", "bn_audit", "server"]))
async def client(lsp_client: LanguageClient, workspace: Path) -> AsyncIterator[None]:
    await lsp_client.initialize_session(
        types.InitializeParams(
            capabilities=pytest_lsp.client_capabilities("visual-studio-code"),
            workspace_folders=[types.WorkspaceFolder(uri=workspace.as_uri(), name="project")],
        )
    )
    yield
    await lsp_client.shutdown_session()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the client has been told something."""
    for _ in range(int(WAIT / 0.05)):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the server did not say it")


def told(client: LanguageClient, path: Path) -> list[str]:
    """The codes that the client was last told about a file."""
    return [str(row.code) for row in client.diagnostics.get(path.as_uri(), [])]


def open_file(client: LanguageClient, path: Path, text: str) -> None:
    document = types.TextDocumentItem(uri=path.as_uri(), language_id="python", version=1, text=text)
    client.text_document_did_open(types.DidOpenTextDocumentParams(text_document=document))


def type_in(client: LanguageClient, path: Path, text: str, version: int) -> None:
    client.text_document_did_change(
        types.DidChangeTextDocumentParams(
            text_document=types.VersionedTextDocumentIdentifier(uri=path.as_uri(), version=version),
            content_changes=[types.TextDocumentContentChangeWholeDocument(text=text)],
        )
    )


@pytest.mark.asyncio
async def test_diagnostics_with_evidence_across_files(client: LanguageClient, workspace: Path) -> None:
    train = workspace / "train.py"
    await until(lambda: told(client, train) == ["BNA101"])
    (found,) = client.diagnostics[train.as_uri()]
    assert found.severity == types.DiagnosticSeverity.Error
    # The cat before the call is one character, and two units of UTF-16.
    assert found.range.start == types.Position(line=8, character=len('name = "xx"; fl_model = '))
    places = {Path(row.location.uri).name for row in found.related_information or ()}
    assert places == {"train.py", "model.py"}


@pytest.mark.asyncio
async def test_what_is_typed_in_another_file_counts(client: LanguageClient, workspace: Path) -> None:
    train, model = workspace / "train.py", workspace / "model.py"
    await until(lambda: told(client, train) == ["BNA101"])
    open_file(client, model, MODEL)
    type_in(client, model, MODEL.replace("nn.BatchNorm1d(8)", "nn.GroupNorm(2, 8)"), 2)
    await until(lambda: told(client, train) == [])
    type_in(client, model, MODEL, 3)
    await until(lambda: told(client, train) == ["BNA101"])


@pytest.mark.asyncio
async def test_the_fix_and_the_comment_that_silences(client: LanguageClient, workspace: Path) -> None:
    train = workspace / "train.py"
    await until(lambda: told(client, train) == ["BNA101"])
    open_file(client, train, TRAIN)
    (found,) = client.diagnostics[train.as_uri()]
    params = types.CodeActionParams(
        text_document=types.TextDocumentIdentifier(uri=train.as_uri()),
        range=found.range,
        context=types.CodeActionContext(diagnostics=[found]),
    )
    actions = [row for row in await client.text_document_code_action_async(params) or () if row.title]
    fix, silence, every = actions
    assert isinstance(fix, types.CodeAction) and fix.is_preferred
    assert isinstance(silence, types.CodeAction) and "Silence BNA101" in silence.title
    assert isinstance(every, types.CodeAction) and every.kind == "source.fixAll.bn-audit"
    for version, action in ((2, fix), (3, silence)):
        type_in(client, train, applied(TRAIN, action, train), version)
        await until(lambda: told(client, train) == [])
        type_in(client, train, TRAIN, version + 10)
        await until(lambda: told(client, train) == ["BNA101"])


def applied(text: str, action: types.CodeAction, path: Path) -> str:
    """A text after an action's edits."""
    assert action.edit is not None and action.edit.changes is not None
    lines = text.splitlines(keepends=True)
    for change in reversed(action.edit.changes[path.as_uri()]):
        start, end = change.range.start, change.range.end
        assert isinstance(change, types.TextEdit)
        before = lines[start.line].encode("utf-16-le")[: 2 * start.character].decode("utf-16-le")
        after = lines[end.line].encode("utf-16-le")[2 * end.character :].decode("utf-16-le")
        lines[start.line : end.line + 1] = [before + change.new_text + after]
    return "".join(lines)


@pytest.mark.asyncio
async def test_the_page_of_a_rule(client: LanguageClient, workspace: Path) -> None:
    train = workspace / "train.py"
    await until(lambda: told(client, train) == ["BNA101"])
    (found,) = client.diagnostics[train.as_uri()]
    params = types.HoverParams(
        text_document=types.TextDocumentIdentifier(uri=train.as_uri()), position=found.range.start
    )
    hover = await client.text_document_hover_async(params)
    assert hover is not None and isinstance(hover.contents, types.MarkupContent)
    assert hover.contents.value.startswith("# missing-skip-bn (BNA101)")


@pytest.mark.asyncio
async def test_the_configuration_is_read_again(client: LanguageClient, workspace: Path) -> None:
    train, settings = workspace / "train.py", workspace / "bn-audit.toml"
    await until(lambda: told(client, train) == ["BNA101"])
    changed = types.DidChangeWatchedFilesParams(
        changes=[types.FileEvent(uri=settings.as_uri(), type=types.FileChangeType.Changed)]
    )
    settings.write_text('ignore = ["BNA101"]\n', encoding="utf-8")
    client.workspace_did_change_watched_files(changed)
    await until(lambda: told(client, train) == [])
    settings.write_text('ignroe = ["BNA101"]\n', encoding="utf-8")
    client.workspace_did_change_watched_files(changed)
    await until(lambda: any("unknown key `ignroe`" in message.message for message in client.messages))
    settings.unlink()
    client.workspace_did_change_watched_files(changed)
    await until(lambda: told(client, train) == ["BNA101"])


def test_it_ends_well_when_the_editor_says_good_bye(workspace: Path) -> None:
    def message(**body: object) -> bytes:
        text = json.dumps({"jsonrpc": "2.0", **body}).encode()
        return b"Content-Length: %d\r\n\r\n" % len(text) + text

    session = message(id=1, method="initialize", params={"processId": None, "rootUri": None, "capabilities": {}})
    session += message(method="initialized", params={}) + message(id=2, method="shutdown") + message(method="exit")
    done = subprocess.run(
        [sys.executable, "-m", "bn_audit", "server"],
        input=session,
        capture_output=True,
        cwd=workspace,
        timeout=WAIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
