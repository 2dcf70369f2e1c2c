"""By which words others get at a class that they do not call by its name."""

from __future__ import annotations

import textwrap

import pytest

from bn_audit.source.flow.indirect import words_for


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('TABLE = {"avg": Avg, "prox": Prox}', ["TABLE"]),
        ('TABLE = {\n    "avg": Avg,\n}', ["TABLE"]),
        ("def server(name):\n    return Avg", ["server"]),
        ("def server(name):\n    table = {}\n    table[name] = Avg\n    return table", ["table", "server"]),
        ("class Run:\n    server_class = Avg", ["server_class"]),
        ("class Run:\n    def start(self):\n        self.server = Avg", ["server", "start"]),
        ("from servers import Avg\nserver = Avg(1)\nclass Prox(Avg):\n    pass", []),
        ("# Avg\nother = AvgOther", []),
    ],
)
def test_the_words_for_a_class(source: str, words: list[str]) -> None:
    assert words_for(source, "Avg") == words


def test_a_table_that_a_loop_fills() -> None:
    source = """
    names = {}
    for method in methods():
        module = importlib.import_module("methods." + method)
        names[method] = getattr(module, method)
    """
    assert words_for(textwrap.dedent(source), "import_module") == ["module", "names"]
