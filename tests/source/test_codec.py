from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.federation import AveragingSite, ExchangeSite, FederatedSite
from bn_audit.finding import Location
from bn_audit.handwritten import HandWritten
from bn_audit.loading import Covers
from bn_audit.site import FLModelSite, Unreadable
from bn_audit.source.codec import Malformed, decode, encode
from bn_audit.source.part import Part

WORDS = st.sampled_from(["", "a", "fc.weight", "\ud800", "ü\0"])
# Whatever the reader makes of a file: the kinds of site, each field of any value of its type.
SITES = st.one_of(*(st.from_type(kind) for kind in (FLModelSite, *typing.get_args(FederatedSite))))


def through_json(part: Part) -> Part:
    return decode(json.loads(json.dumps(encode(part))))


def shape(value: object) -> object:
    """A value with the types of all its parts, which ``==`` does not compare; sets in order, as ``repr`` has them not,
    and numbers as they are written: NaN is like no other to ``==``."""
    if dataclasses.is_dataclass(value):
        return type(value), [shape(getattr(value, row.name)) for row in dataclasses.fields(value)]
    if isinstance(value, (tuple, list)):
        return type(value), [shape(row) for row in value]
    if isinstance(value, (frozenset, set)):
        return type(value), sorted(repr(shape(row)) for row in value)
    if isinstance(value, float):
        return type(value), repr(value)
    return type(value), value


@given(st.lists(SITES, max_size=1), st.lists(st.from_type(Unreadable), max_size=1), st.none() | st.tuples(WORDS))
def test_there_and_back(sites: list[Any], unreadable: list[Unreadable], exports: tuple[str, ...] | None) -> None:
    part = Part(tuple(sites), tuple(unreadable), ("a.py",), ("a note",), exports)
    again = through_json(part)
    assert shape(again) == shape(part)
    assert shape(through_json(again)) == shape(again)


def classes(kind: Any, seen: set[Any]) -> Iterator[Any]:
    """The classes that a type is made of."""
    for inner in typing.get_args(kind):
        yield from classes(inner, seen)
    if dataclasses.is_dataclass(kind) and kind not in seen:
        seen.add(kind)
        yield kind
        for hint in typing.get_type_hints(kind).values():
            yield from classes(hint, seen)


def test_every_class_of_a_site_is_known_by_its_name() -> None:
    """Among the classes of a union the name decides, so that no two of one union may share one."""
    found = list(classes(typing.Union[FLModelSite, FederatedSite], set()))  # noqa: UP007
    assert {AveragingSite, ExchangeSite, HandWritten, Covers} < set(found)
    for cls in found:
        for hint in typing.get_type_hints(cls).values():
            names = [choice.__name__ for choice in typing.get_args(hint) if dataclasses.is_dataclass(choice)]
            assert len(names) == len(set(names))


def test_sets_come_out_in_one_order() -> None:
    site = AveragingSite(
        Location("a.py", 1, 1, 1, 2), "state", (), forms=(HandWritten(covers=Covers(keys=frozenset("hgfedcba"))),)
    )
    part = Part((site,))
    assert through_json(part) == part
    assert '["a", "b", "c", "d", "e", "f", "g", "h"]' in json.dumps(encode(part))


LOCATION = {"Location": ["a.py", 1, 1, 1, 2, None]}


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        [[], [], [], []],
        [[], [], [], [], [], []],
        [{}, [], [], [], None],
        [[1], [], [], [], None],
        [[], [], [1], [], None],
        [[], [], [], [], [None]],
        [[], [{"Unreadable": [LOCATION]}], [], [], None],
        [[], [{"Unreadable": [LOCATION, 1]}], [], [], None],
        [[], [{"Location": LOCATION["Location"]}], [], [], None],
        [[], [{"Unreadable": [{"Location": ["a.py", 1.5, 1, 1, 2, None]}, "x"]}], [], [], None],
        [[], [{"Unreadable": [{"Location": ["a.py", True, 1, 1, 2, None]}, "x"]}], [], [], None],
        [[{"FLModelSite": []}], [], [], [], None],
        [[{"ServerStepSite": [LOCATION, "other", [], {"Covers": []}, None, None]}], [], [], [], None],
        [[{"os": ["system"]}], [], [], [], None],
    ],
)
def test_what_does_not_fit_is_refused(data: object) -> None:
    with pytest.raises(Malformed):
        decode(data)


def test_what_json_cannot_have_is_refused() -> None:
    deep: Any = "x"
    for _ in range(2000):
        deep = (deep,)
    for notes in (deep, (10**5000,)):
        with pytest.raises(Malformed):
            encode(Part(notes=notes))
