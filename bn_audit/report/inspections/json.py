"""JSON for programs. The schema lies beside this package: ``report/inspection.schema.json``, version 1."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bn_audit.exchange.plan import Fate, PlanError
from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.finding import Finding
from bn_audit.inspection import Cell, Choice, EntryFate, InspectedNorm, Inspection, Judgement, StateCount
from bn_audit.report.inspections import Look

__all__ = ["VERSION", "render"]

VERSION = 1


def render(inspection: Inspection, look: Look) -> Iterator[str]:
    """The whole inspection as one object, every entry in it. ASCII only."""
    judgement = inspection.judgement
    yield json.dumps(
        {
            "version": VERSION,
            "target": inspection.target,
            "model": inspection.profile.type or None,
            "settings": {} if judgement is None else _settings(judgement),
            "entries": [_entry(one) for one in inspection.entries],
            "error": None if inspection.error is None else _error(inspection.error),
            "verdict": None if judgement is None else judgement.verdict.value,
            "sentence": None if judgement is None else judgement.sentence,
            "ok": inspection.ok,
            "findings": [_finding(finding) for finding in inspection.findings],
            "norms": [_norm(norm) for norm in inspection.norms],
            "summary": [_count(count) for count in inspection.summary],
            "matrix": [_cell(cell) for cell in inspection.matrix],
            "choices": [_choice(choice) for choice in inspection.choices],
            "advice": inspection.advice,
            "notes": [*inspection.notes, *(() if judgement is None else judgement.plan.notes)],
        },
        indent=2,
    )


def _settings(judgement: Judgement) -> dict[str, object]:
    settings = judgement.settings
    if not isinstance(settings, SecretFlowSettings):
        return dict(settings.named())
    return {
        "framework": "secretflow",
        "secretflow_version": settings.secretflow_version,
        "torch_version": settings.torch_version,
        "backend": settings.backend,
        "strategy": settings.strategy,
        "aggregator": settings.aggregator,
        "skip_bn": settings.skip_bn,
    }


def _entry(one: EntryFate) -> dict[str, object]:
    entry = one.entry
    return {
        "key": entry.key,
        "shape": None if entry.shape is None else list(entry.shape),
        "dtype": entry.dtype,
        "kind": entry.kind,
        "module": entry.module,
        "norm": None if one.norm is None else one.norm.type,
        "alias_of": entry.alias_of,
        "expected": None if one.expected is None else one.expected.value,
        "fate": None if one.fate is None else one.fate.value,
        "possible": [fate.value for fate in Fate if fate in one.possible],
        "source_key": one.source_key,
    }


def _error(error: PlanError) -> str:
    return f"{error.type}: {error.text}"


def _norm(norm: InspectedNorm) -> dict[str, object]:
    layer, health = norm.layer, norm.health
    return {
        "path": layer.path,
        "type": layer.type,
        "batchnorm": layer.batchnorm,
        "family": layer.family,
        "features": layer.features,
        "momentum": layer.momentum,
        "cumulative": layer.cumulative,
        "eps": layer.eps,
        "affine": layer.affine,
        "tracked": layer.tracked,
        "lazy": layer.lazy,
        "depth": norm.depth,
        "health": None
        if health is None or not health.known
        else {
            "counter": health.counter,
            "nan": health.nan,
            "inf": health.inf,
            "negative": health.negative,
            "zero": health.zero,
            "untrained": health.untrained,
        },
    }


def _count(count: StateCount) -> dict[str, object]:
    return {
        "dtype": count.dtype,
        "kind": count.kind,
        "norm": count.norm,
        "entries": count.entries,
        "elements": count.elements,
    }


def _cell(cell: Cell) -> dict[str, object]:
    return {
        "strategy": cell.strategy,
        "aggregator": cell.aggregator,
        "skip_bn": cell.skip_bn,
        "verdict": cell.verdict.value,
    }


def _choice(choice: Choice) -> dict[str, object]:
    return {
        "framework": choice.framework,
        "strategies": list(choice.strategies),
        "options": dict(choice.options),
        "everything": choice.everything.value,
        "keeping": choice.keeping.value,
    }


def _finding(finding: Finding) -> dict[str, object]:
    # What stands in memory or in a checkpoint has no line and no column.
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity.value,
        "message": finding.message,
        "help": finding.help,
    }
