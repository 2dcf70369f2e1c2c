"""What is written out at a call decides conditions, and nothing else does."""

from __future__ import annotations

from collections.abc import Mapping

import libcst as cst
import pytest

from bn_audit.source.flow.given import settled

VALUES: Mapping[str, object] = {"name": "Small", "attack": False, "width": 4, "nothing": None}


@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        ("name == 'Small'", True),
        ("name != 'Small'", False),
        ("'small' == name.lower()", True),
        ("name.strip().upper() == 'LARGE'", False),
        ("name in ('Small', 'Large')", True),
        ("name not in ['Large']", True),
        ("'mal' in name", True),
        ("attack", False),
        ("not attack", True),
        ("nothing is None", True),
        ("nothing is not None", False),
        ("name is 'Small'", None),
        ("width == 4.0", True),
        ("width > 2", None),
        ("1 < width < 5", None),
        ("other", None),
        ("attack and other", False),
        ("attack or other", None),
        ("not attack or other", True),
        ("other == 'Small'", None),
        ("name == other", None),
        ("name in (other, 'Small')", None),
        ("name.lower() == other.lower()", None),
        ("True", None),
    ],
)
def test_conditions(test: str, outcome: bool | None) -> None:
    assert settled(cst.parse_expression(test), VALUES) is outcome


def test_without_values_nothing_is_settled() -> None:
    assert settled(cst.parse_expression("name == 'Small'"), {}) is None
