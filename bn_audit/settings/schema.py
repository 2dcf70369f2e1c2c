"""The configuration as JSON Schema, for editors. ``bn_audit/config.schema.json`` is what this makes."""

from __future__ import annotations

import sys
from typing import Any

from bn_audit.settings.keys import KEYS, Key, Vocabulary

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["schema"]


def schema(vocabulary: Vocabulary) -> dict[str, Any]:
    """The schema of a bn-audit.toml, and of the table ``tool.bn-audit`` of a pyproject.toml."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "bn-audit",
        "description": "Settings of bn-audit: bn-audit.toml, or the table tool.bn-audit of pyproject.toml.",
        "type": "object",
        "additionalProperties": False,
        "properties": {key.name: _property(key, vocabulary) for key in KEYS.values()},
    }


def _property(key: Key, vocabulary: Vocabulary) -> dict[str, Any]:
    default = {"default": tomllib.loads(f"value = {key.default}")["value"]} if key.default else {}
    return {"description": key.help, **key.kind.schema(vocabulary), **default}
