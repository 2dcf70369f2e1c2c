"""The schema for editors: it says what the loader says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

import bn_audit
from bn_audit.scanning import vocabulary
from bn_audit.settings.config import ConfigError
from bn_audit.settings.keys import KEYS, Source
from bn_audit.settings.load import read_table
from bn_audit.settings.schema import schema
from tests.golden import same_as

SCHEMA = Path(bn_audit.__file__).with_name("config.schema.json")
VALIDATOR = Draft7Validator(schema(vocabulary()))


def accepted(table: dict[str, Any]) -> bool:
    try:
        read_table(table, Source("/", "/", vocabulary()))
    except ConfigError:
        return False
    return True


def test_the_file_is_what_the_keys_say() -> None:
    same_as(SCHEMA, json.dumps(schema(vocabulary()), indent=2) + "\n")
    Draft7Validator.check_schema(json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_every_key_is_described() -> None:
    for name, entry in VALIDATOR.schema["properties"].items():
        assert re.fullmatch(r"[A-Z][^\n]*\.", entry["description"]), name


def test_defaults_are_accepted() -> None:
    defaults = {name: row["default"] for name, row in VALIDATOR.schema["properties"].items() if "default" in row}
    assert len(defaults) > len(KEYS) / 2
    assert accepted(defaults) and VALIDATOR.is_valid(defaults)


WORDS = st.sampled_from(
    [
        *(
            "",
            "ALL",
            "all",
            "BNA",
            "b",
            "BNA1",
            "bna101",
            "BNA1010",
            "BNA999",
            " BNA1",
            "BNA1\n",
            "error",
            "json",
            "xml",
        ),
        *("1.13", "1.13.0b0", " v1.5\n", "latest", "a.b", "a", "a.", ".a", "a.b\n", "Ünï.cöde", "x/y*", "~"),
    ]
)
# Floats without whole numbers: to JSON Schema 1.0 is an integer, to TOML it is none.
VALUES = st.recursive(
    st.one_of(WORDS, st.text(max_size=3), st.booleans(), st.integers(-2, 9), st.floats(0.1, 0.9), st.none()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=5,
)
TABLES = st.dictionaries(st.sampled_from([*KEYS, "path", "Select"]), VALUES | st.lists(WORDS, max_size=3), max_size=2)


@given(TABLES)
def test_the_schema_and_the_loader_agree(table: dict[str, Any]) -> None:
    assert accepted(table) is VALIDATOR.is_valid(table)


@pytest.mark.parametrize(
    ("table", "good"),
    [
        ({}, True),
        ({"select": ["BNA1", "all"]}, True),
        ({"select": ["BNA7"]}, False),
        ({"select": "BNA1"}, False),
        ({"per-file-ignores": {"a*": ["BNA1"]}}, True),
        ({"per-file-ignores": {"a*": "BNA1"}}, False),
        ({"per-file-ignores": ["a*"]}, False),
        ({"fail-on": "info", "jobs": 0, "force-exclude": False, "output-format": "json"}, True),
        ({"fail-on": "never"}, False),
        ({"jobs": -1}, False),
        ({"jobs": True}, False),
        ({"output-format": "xml"}, False),
        ({"secretflow-version": "1.13.0b0", "extend": "../base.toml"}, True),
        ({"secretflow-version": 1.13}, False),
        ({"extend": ""}, False),
        ({"selct": []}, False),
    ],
)
def test_good_and_bad(table: dict[str, Any], good: bool) -> None:
    assert (accepted(table), VALIDATOR.is_valid(table)) == (good, good)
