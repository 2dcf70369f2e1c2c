"""A page for people: the verdict, findings, what the settings come to, and the model as a tree with norms and fates.

It is no format of ``--output-format``, but written beside the report, by ``--html``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bn_audit.inspection import EntryFate, InspectedNorm, Inspection, Judgement
from bn_audit.report.groups import expected_words, fate_words, health_words, matrix_rows
from bn_audit.report.inspections.text import LEGEND, NONE_RIGHT, entries, settings_words
from bn_audit.report.pages import page
from bn_audit.report.settings_words import FRAMEWORKS, option_words
from bn_audit.report.words import count, printable, sentence

__all__ = ["render"]

_OPEN = 3
"""Levels of the tree that are open at first; branches with something wrong are, at any depth."""


@dataclass(slots=True)
class _Node:
    name: str
    entries: list[EntryFate] = field(default_factory=list)
    children: dict[str, _Node] = field(default_factory=dict)


def render(inspection: Inspection, version: str) -> str:
    """The page, whole.

    Args:
        version: bn-audit's own.

    Raises:
        ImportError: jinja2 is not installed.
    """
    kind = f"{printable(inspection.profile.type)}, " if inspection.profile.type else ""
    used = {verdict for row in inspection.matrix for verdict in (row.verdict,)}
    used |= {verdict for one in inspection.choices for verdict in (one.everything, one.keeping)}
    values: dict[str, object] = {
        "title": f"Inspected: {printable(inspection.target)}",
        "version": version,
        "summary": f"{kind}{entries(len(inspection.entries))}, {count(len(inspection.norms), 'norm layer')}",
        "judgement": None if inspection.judgement is None else _judgement(inspection.judgement),
        "notes": [sentence(printable(note)) for note in inspection.notes],
        "findings": [
            {
                "code": one.code,
                "name": one.name,
                "severity": one.severity.value,
                "message": printable(one.message),
                "help": printable(one.help or ""),
            }
            for one in inspection.findings
        ],
        "matrix": matrix_rows(inspection.matrix),
        "choices": [
            {
                "options": f"{FRAMEWORKS[one.framework]}, {option_words(one.options)}",
                "strategies": ", ".join(one.strategies),
                "everything": one.everything.value,
                "keeping": one.keeping.value,
            }
            for one in inspection.choices
        ],
        "legend": [(verdict.value, meaning) for verdict, meaning in LEGEND.items() if verdict in used],
        "advice": "" if inspection.advice is None else f"{NONE_RIGHT} {printable(inspection.advice)}",
        "root": _tree(inspection),
    }
    return page("inspection", values)


def _judgement(judgement: Judgement) -> dict[str, str]:
    error = judgement.comparison.error
    text = "" if error is None else f"{error.type}: {error.text}"
    return {
        "settings": printable(settings_words(judgement)),
        "verdict": judgement.verdict.value,
        "sentence": sentence(printable(judgement.sentence)),
        "error": "\n".join(printable(line.expandtabs(4)) for line in text.splitlines()),
    }


def _tree(inspection: Inspection) -> dict[str, object]:
    classes = dict(inspection.modules)
    norms = {norm.layer.path: norm for norm in inspection.norms}
    root = _Node(inspection.profile.type or "the model")
    for path in classes:
        _at(root, path)
    for one in inspection.entries:
        _at(root, one.entry.module).entries.append(one)
    for path in norms:  # One without state stands nowhere else if only the state is known.
        _at(root, path)
    return _branch(root, "", classes, norms, 0)


def _at(root: _Node, path: str) -> _Node:
    node = root
    for name in path.split(".") if path else ():
        node = node.children.setdefault(name, _Node(name))
    return node


def _branch(
    node: _Node, path: str, classes: Mapping[str, str], norms: Mapping[str, InspectedNorm], depth: int
) -> dict[str, object]:
    children = [
        _branch(child, f"{path}.{name}" if path else name, classes, norms, depth + 1)
        for name, child in node.children.items()
    ]
    wrong = sum(one.wrong for one in node.entries)
    below = any(child["open"] and child["troubled"] for child in children)
    norm = norms.get(path)
    kind = classes.get(path, "") if path else ""
    if not kind and norm is not None:
        kind = norm.layer.type
    return {
        "name": printable(node.name),
        "kind": printable(kind),
        "norm": "" if norm is None else _norm_words(norm),
        "bad": f"{entries(wrong)} not as FedBN has it" if wrong else "",
        "open": depth < _OPEN or bool(wrong) or below,
        "troubled": bool(wrong) or below,
        "entries": [_entry(one) for one in node.entries],
        "children": children,
    }


def _norm_words(norm: InspectedNorm) -> str:
    """Size and statistics: ``of 64 channels, untrained``."""
    size = "" if norm.layer.features is None else f"of {count(norm.layer.features, 'channel')}, "
    return f"{size}statistics {health_words(norm)}"


def _entry(one: EntryFate) -> dict[str, object]:
    shape = "?" if one.entry.shape is None else f"[{', '.join('?' if n is None else str(n) for n in one.entry.shape)}]"
    fate = fate_words(one)
    if fate and one.source_key is not None:
        fate += f" (of {one.source_key})"
    wanted = expected_words(one)
    told = f"{fate}, FedBN wants {wanted}" if one.wrong else fate
    return {
        "name": printable(one.entry.name),
        "form": f"{one.entry.dtype or '?'} {shape}",
        "fate": printable(told),
        "bad": one.wrong,
    }
