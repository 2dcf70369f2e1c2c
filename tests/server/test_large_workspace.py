"""The language server in a workspace of 20,000 files: it says what it has to say, and goes on answering."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pygls")
pytest.importorskip("pytest_lsp")

from lsprotocol import types
from pytest_lsp import LanguageClient

from tests.server.test_server import MODEL, TRAIN, client, open_file, told, type_in, until  # noqa: F401

_FILES, _FOLDERS = 20_000, 100


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    for number in range(_FOLDERS):
        folder = tmp_path / f"package{number:03}"
        folder.mkdir()
        for part in range(_FILES // _FOLDERS):
            (folder / f"module{part}.py").write_text(
                f"def function{part}(x):\n    return x + {part}\n", encoding="utf-8"
            )
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    return tmp_path


@pytest.mark.asyncio
async def test_it_tells_and_goes_on(
    client: LanguageClient,  # noqa: F811
    workspace: Path,
) -> None:
    train = workspace / "train.py"
    await until(lambda: told(client, train) == ["BNA101"])
    open_file(client, train, TRAIN)
    type_in(client, train, TRAIN.replace('    backend="torch",\n', '    backend="torch",\n    skip_bn=True,\n'), 2)
    await until(lambda: told(client, train) == [])
    type_in(client, train, TRAIN, 3)
    await until(lambda: told(client, train) == ["BNA101"])
    hover = await client.text_document_hover_async(
        types.HoverParams(
            text_document=types.TextDocumentIdentifier(uri=train.as_uri()), position=types.Position(8, 30)
        )
    )
    assert hover is not None
