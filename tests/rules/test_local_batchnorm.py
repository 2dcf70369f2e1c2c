"""What the rules say of an FLModel whose model ``local_batchnorm`` makes."""

from __future__ import annotations

from typing import Any

import pytest

from bn_audit.audit import Selection, Versions, audit
from bn_audit.finding import Applicability, Edit, Finding
from bn_audit.site import FLModelSite, SkipBnEdit
from bn_audit.wrapping import Wrapping
from tests.rules.sites import ModelBuilder, codes, judge, only, reading, site

EDIT = SkipBnEdit((Edit(1, 1, 1, 1, ", skip_bn=True"),))
WRAP = (Edit(1, 1, 1, 1, "local_batchnorm("), Edit(1, 9, 1, 9, ")"))


def _judged(place: FLModelSite) -> tuple[Finding, ...]:
    return audit([place], [], Selection(), lambda path: Versions(torch="2.13.0"))


def nested() -> ModelBuilder:
    return ModelBuilder().linear("conv", 3, 8).norm("layer1.0.bn1").norm("layer1.1.bn1").linear("fc", 8, 10)


def with_integers() -> ModelBuilder:
    return nested().buffer("ids", (4,), "int64")


def instance() -> ModelBuilder:
    return ModelBuilder().linear("conv", 3, 8).norm("norm", type="InstanceNorm2d", batchnorm=False, family="instance")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"skip_bn": True}, []),
        ({"skip_bn": True, "aggregator": "plain"}, []),
        ({"skip_bn": True, "aggregator": "spu"}, []),
        ({"skip_bn": True, "aggregator": None}, []),
        ({"skip_bn": None}, []),
        ({}, ["BNA101"]),
        ({"skip_bn": False}, ["BNA102"]),
        ({"skip_bn": True, "strategy": "fed_prox"}, ["BNA105"]),
        ({"skip_bn": True, "strategy": "moon"}, ["BNA105"]),
        ({"skip_bn": True, "strategy": "fed_avg_u"}, ["BNA105"]),
        ({"skip_bn": True, "strategy": "scaffold"}, ["BNA105"]),
        ({"skip_bn": True, "strategy": "fed_avg_g", "aggregator": "plain"}, ["BNA105"]),
        ({"skip_bn": True, "strategy": "fed_stc", "aggregator": None}, []),
        ({"skip_bn": True, "strategy": "of_my_own"}, []),
        ({"skip_bn": True, "wrapped": Wrapping("moon")}, ["BNA105"]),
        ({"skip_bn": True, "wrapped": Wrapping("fedavg")}, ["BNA105"]),
        ({"skip_bn": True, "wrapped": Wrapping("fed_stc")}, []),
    ],
)
def test_a_nested_model(settings: dict[str, Any], expected: list[str]) -> None:
    assert codes(reading(nested(), **{"wrapped": Wrapping(), **settings})) == expected


@pytest.mark.parametrize(("version", "expected"), [("1.13.0b0", []), ("1.7.0b0", []), ("1.6.1b0", ["BNA105"])])
def test_releases(version: str, expected: list[str]) -> None:
    assert codes(reading(nested(), skip_bn=True, wrapped=Wrapping()), secretflow=version) == expected


def test_integers_are_refused_unless_they_stay() -> None:
    refused = reading(with_integers(), skip_bn=True, aggregator="plain", wrapped=Wrapping())
    finding = only(judge(refused))
    assert finding.code == "BNA107"
    assert "ids is int64 and no BatchNorm's: it has no mean" in finding.message
    assert '`integers="local"`' in (finding.help or "")
    for integers in ("local", None):
        kept = reading(with_integers(), skip_bn=True, aggregator="plain", wrapped=Wrapping(None, integers))  # type: ignore[arg-type]
        assert codes(kept) == []


def test_what_travels_in_one_dtype_is_no_mixture() -> None:
    mixed = nested().linear("head", 8, 2, dtype="float64").linear("tail", 8, 2, dtype="bfloat16")
    assert codes(reading(mixed, skip_bn=True, aggregator="secure", wrapped=Wrapping())) == []
    assert "BNA107" in codes(reading(mixed, skip_bn=True, aggregator="secure"))


def test_instance_norms_stay_too() -> None:
    assert codes(reading(instance(), skip_bn=True, wrapped=Wrapping())) == []
    assert codes(reading(instance(), skip_bn=True)) == ["BNA103"]


def test_a_model_that_could_not_be_followed() -> None:
    assert codes(reading(None, skip_bn=True, wrapped=Wrapping())) == []
    assert codes(reading(None, wrapped=Wrapping())) == ["BNA101"]
    assert codes(reading(None, skip_bn=True, strategy="moon", wrapped=Wrapping())) == ["BNA105"]
    assert codes(reading(None, skip_bn=True, strategy="fed_prox", wrapped=Wrapping())) == []
    assert codes(reading(None, skip_bn=True)) == ["BNA108"]


def test_one_of_two_ways_wrapped() -> None:
    wrapped = reading(nested(), skip_bn=True, wrapped=Wrapping(), conditions=("args.wrap is true",))
    bare = reading(nested(), skip_bn=True, conditions=("args.wrap is false",))
    assert codes(wrapped, bare) == []


def test_the_argument_is_a_safe_fix() -> None:
    finding = only(_judged(site(reading(nested(), wrapped=Wrapping()), skip_bn_edit=EDIT)))
    assert finding.code == "BNA101"
    assert finding.fix is not None
    assert finding.fix.applicability is Applicability.SAFE
    unknown = only(_judged(site(reading(None, wrapped=Wrapping()), skip_bn_edit=EDIT)))
    assert unknown.fix is not None
    assert unknown.fix.applicability is Applicability.UNSAFE
    assert "`local_batchnorm` may refuse it" in unknown.fix.message


@pytest.mark.parametrize(
    ("settings", "code", "offered"),
    [
        ({"skip_bn": True}, "BNA103", True),
        ({"skip_bn": True, "strategy": "fed_stc", "aggregator": "sparse"}, "BNA103", True),
        ({}, "BNA101", True),
        ({"skip_bn": False}, "BNA102", True),
        ({"strategy": "fed_prox"}, "BNA101", False),
        ({"strategy": "moon"}, "BNA101", False),
    ],
)
def test_the_wrapper_is_offered_where_it_is_right(settings: dict[str, Any], code: str, offered: bool) -> None:
    edit = None if settings.get("skip_bn") else EDIT
    finding = only(_judged(site(reading(nested(), **settings), skip_bn_edit=edit, wrap_edits=WRAP)))
    assert finding.code == code
    if not offered:
        assert finding.fix is None or "local_batchnorm" not in finding.fix.message
        return
    assert finding.fix is not None
    assert finding.fix.applicability is Applicability.UNSAFE
    assert finding.fix.message.startswith("have `local_batchnorm` make the model")
    assert ("skip_bn=True" in finding.fix.message) is (edit is not None)
    first = finding.fix.edits[0].content
    assert first == ("local_batchnorm(" if edit is None else "local_batchnorm(, skip_bn=True")


def test_no_wrapper_for_a_model_that_it_refuses() -> None:
    findings = _judged(site(reading(with_integers(), skip_bn=True, aggregator="plain"), wrap_edits=WRAP))
    assert all(finding.fix is None for finding in findings)


def test_no_wrapper_where_the_argument_would_not_arrive() -> None:
    finding = only(_judged(site(reading(nested()), wrap_edits=WRAP)))
    assert finding.code == "BNA101"
    assert finding.fix is None


def test_the_argument_alone_where_that_is_right() -> None:
    last = ModelBuilder().linear("fc", 8, 10).norm("bn")
    finding = only(_judged(site(reading(last), skip_bn_edit=EDIT, wrap_edits=WRAP)))
    assert finding.fix is not None
    assert finding.fix.applicability is Applicability.SAFE
    assert "local_batchnorm" not in finding.fix.message
