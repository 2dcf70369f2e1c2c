"""What OpenFL's plan hands the constructor of a flow."""

from __future__ import annotations

from pathlib import Path

import pytest

from bn_audit.source.flow.plans import given_by_plan
from bn_audit.source.interpreter.planned import Planned
from bn_audit.source.interpreter.values import Const
from bn_audit.source.project import Project

PLAN = """\
aggregator :
  defaults : plan/defaults/aggregator.yaml
federated_flow:
  template: src.flow.Flow
  settings:
    model:
      template: src.flow.Net
      settings:
        width: 8
        body:
          template: src.flow.Body
          settings: {}
        # the setting of a layer
        rate: 0.5
        widths: src.flow.WIDTHS
    optimizer: null
    rounds: 4
    name: mnist
    wrong:
      settings:
        width: 8
"""


def given(folder: Path, name: str, flow: str = "Flow", plan: str = PLAN) -> object:
    """What a plan hands a flow, as nested tuples."""
    (folder / "src").mkdir(exist_ok=True)
    (folder / "plan").mkdir(exist_ok=True)
    (folder / "src" / "flow.py").write_text("class Flow: pass\n")
    (folder / "plan" / "plan.yaml").write_text(plan)
    project = Project()
    return plain(given_by_plan(project, project.open(str(folder / "src" / "flow.py")), flow, name))


def plain(value: Planned | Const | None) -> object:
    if isinstance(value, Planned):
        return value.template, {key: plain(inner) for key, inner in value.settings}
    return value.value if isinstance(value, Const) else None


def test_an_object_with_what_it_is_made_with(tmp_path: Path) -> None:
    settings = {"width": 8, "body": ("src.flow.Body", {}), "rate": 0.5, "widths": ("src.flow.WIDTHS", {})}
    assert given(tmp_path, "model") == ("src.flow.Net", settings)


def test_settings_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    found = given(tmp_path, "model")
    assert isinstance(found, tuple)
    assert list(found[1]) == ["body", "rate", "width", "widths"]


@pytest.mark.parametrize(("name", "value"), [("rounds", 4), ("name", "mnist")])
def test_a_value_is_given_as_it_is(tmp_path: Path, name: str, value: object) -> None:
    assert given(tmp_path, name) == value


@pytest.mark.parametrize("name", ["optimizer", "wrong", "absent"])
def test_where_nothing_is_made(tmp_path: Path, name: str) -> None:
    assert given(tmp_path, name) is None


def test_the_plan_of_another_flow(tmp_path: Path) -> None:
    assert given(tmp_path, "model", flow="Other") is None


@pytest.mark.parametrize(
    "plan", ["", "federated_flow: src.flow.Flow\n", "federated_flow:\n  template: src.flow.Flow\n"]
)
def test_a_plan_that_says_nothing(tmp_path: Path, plan: str) -> None:
    assert given(tmp_path, "model", plan=plan) is None


def test_objects_within_objects_without_end(tmp_path: Path) -> None:
    rows = ["federated_flow:", "  template: src.flow.Flow", "  settings:", "    model:"]
    for depth in range(40):
        indent = "  " * (depth * 2 + 3)
        rows += [f"{indent}template: src.flow.Net", f"{indent}settings:", f"{indent}  inner:"]
    assert given(tmp_path, "model", plan="\n".join(rows)) is None


def test_no_plan(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text("class Flow: pass\n")
    project = Project()
    assert given_by_plan(project, project.open(str(tmp_path / "flow.py")), "Flow", "model") is None
