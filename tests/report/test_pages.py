"""Pages in a real browser: they need no network, react to a click and to keys, and show names as they are.

``BN_AUDIT_UPDATE=1`` writes the screenshots in docs/images, for a person to look at.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("jinja2")

from bn_audit.comparison import Channel, ComparedLayer, Comparison
from bn_audit.exchange.plan import Fate
from bn_audit.inspection import Inspection, inspect
from bn_audit.parties import PartiesReport, PartyEntry, Standing
from bn_audit.profile import StateEntry
from bn_audit.report.comparisons.html import render
from bn_audit.report.inspections.html import render as render_inspection
from bn_audit.report.verifications import Subject
from bn_audit.report.verifications.html import render as render_verification
from bn_audit.verification import Contrast, Stop, Verdict, VerifiedEntry
from tests.exchange.build import batchnorm, layer, profile
from tests.report.chromium import opened
from tests.report.reports import CLEAN, REPORT
from tests.report.reports import HOSTILE as HOSTILE_SCAN
from tests.report.show import render as render_scan
from tests.report.test_comparisons import FOUR, MANY, TWO, pairs
from tests.report.test_inspections import FINDING, settings
from tests.report.test_trainings import VERIFIED

MARK = "<i>"
VERIFIED_ENTRIES = tuple(
    VerifiedEntry(
        StateEntry(f"layer{number}.{MARK}{name}", (2,), "float32", "parameter", f"layer{number}"),
        "BatchNorm2d" if local else None,
        frozenset({Fate.LOCAL if local else Fate.AVERAGED}),
        frozenset({fate}),
        None,
        (fate,),
        0.0 if right else 0.25,
        right,
    )
    for number in range(8)
    for name, local, fate, right in (
        ("weight", False, Fate.AVERAGED, True),
        ("bn.running_mean", True, Fate.LOCAL if number < 5 else Fate.AVERAGED, number < 5),
        ("fc.weight", False, Fate.STALE if number == 2 else Fate.AVERAGED, number != 2),
    )
)
WRONG = replace(VERIFIED, entries=VERIFIED_ENTRIES, target=f"model.py:{MARK}")
FIXED = replace(
    WRONG,
    entries=tuple(
        replace(one, measured=tuple(one.expected), planned=one.expected, right=True) for one in VERIFIED_ENTRIES
    ),
    verdict=Verdict.RIGHT,
)
STOPPED = replace(WRONG, verdict=Verdict.STOPS, stop=Stop("RuntimeError", f"size {MARK} mismatch\n\tof <b>", 1))
ROUND = PartiesReport(
    (MARK, "bob"),
    False,
    (
        PartyEntry("fc.weight", (2,), "float32", None, Standing.NOT_SYNCHRONISED, 0.5, f"{MARK} differs"),
        PartyEntry("bn.weight", (2,), "float32", "BatchNorm2d", Standing.LOCAL),
    ),
    ("were the checkpoints saved in time?",),
)
VERIFICATIONS: dict[str, Subject] = {"contrast": Contrast(WRONG, FIXED), "stopped": STOPPED, "round": ROUND}
IMAGES = Path(__file__).parents[2] / "docs" / "images"
MARKUP = "</script><script>window.broken = 1</script><img src=x onerror='window.broken=1'>\" & {{ 7*7 }}"
HOSTILE = replace(
    FOUR,
    parties=(MARKUP, "b<b>ob", "carol'\"", "dave\u202e"),
    layers=tuple(replace(layer, path=f"{layer.path}<i>{MARKUP}") for layer in FOUR.layers),
    history=(),
    notes=(MARKUP,),
)
ALL = {"two": TWO, "four": FOUR, "many": MANY, "hostile": HOSTILE}


def written(comparison: Comparison) -> str:
    return render(comparison, "1.2.3")


class Elements(HTMLParser):
    """Elements that are closed, and those that ask for something."""

    VOID = ("meta", "input", "link", "img", "br", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.asked += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href", "action")]
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", ALL)
def test_pages_are_whole_and_ask_for_nothing(name: str) -> None:
    text = written(ALL[name])
    elements = Elements()
    elements.feed(text)
    assert elements.open == [] and elements.asked == []
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
    assert text == written(ALL[name])


def test_a_party_keeps_its_name_at_the_beginning_of_a_sentence() -> None:
    text = written(FOUR)
    assert "<p>dave lies apart" in text and "Dave" not in text
    assert "<p>Farthest apart: " in text


def test_names_on_the_map_cover_no_other_name(tmp_path: Path) -> None:
    """Measured as the browser draws them, where two parties lie close and one at the right edge."""
    places = ((0.0, 0.0), (0.05, 0.01), (0.4, 0.1), (1.2, 0.0))
    path = tmp_path / "report.html"
    path.write_text(written(replace(FOUR, places=places)), encoding="utf-8")
    with opened(path) as page:
        boxes = page.value(
            "JSON.stringify([...document.querySelectorAll('svg[aria-label^=\"The parties\"] text')].map((one) => {"
            " const box = one.getBBox(); return [box.x, box.y, box.x + box.width, box.y + box.height]; }))"
        )
    found = json.loads(boxes)
    assert len(found) == 4
    for number, one in enumerate(found):
        assert one[0] >= 0 and one[2] <= 520
        for other in found[:number]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_click_shows_the_channels(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(written(FOUR), encoding="utf-8")
    with opened(path) as page:
        assert page.value("document.getElementById('channel-view').hidden") is True
        page.click("#show-channels")
        assert page.value("document.getElementById('channel-view').hidden") is False
        assert page.value("document.querySelectorAll('#channel-bars rect').length") == 3
        assert page.value("document.getElementById('show-channels').textContent") == "Hide 3 channels"
        page.click("#channel-bars rect:nth-child(2)")
        told = page.value("document.getElementById('channel-told').textContent")
        assert told == "channel 1: 0.500 between bob and dave; mean over pairs 0.300"
        page.click("#show-channels")
        assert page.value("document.getElementById('channel-view').hidden") is True
        assert page.errors() == []


def test_the_table_is_sorted_and_filtered(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(written(FOUR), encoding="utf-8")
    rows = (
        "[...document.querySelectorAll('#pair-table tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].textContent)"
    )
    with opened(path) as page:
        assert page.value(rows)[0] == "alice, dave"
        page.click("#pair-table thead button[data-column='2']")
        page.click("#pair-table thead button[data-column='2']")
        assert page.value(rows)[0] == "alice, bob", "the smallest nW2 comes first after the second click"
        page.click("#only")
        page.type("dave")
        assert sorted(page.value(rows)) == ["alice, dave", "bob, dave", "carol, dave"]
        assert page.value("document.getElementById('shown').textContent") == "3 of 6"
        assert page.errors() == []


def test_keys_reach_everything(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(written(FOUR), encoding="utf-8")
    with opened(path) as page:
        reached = []
        for _ in range(14):
            page.key("Tab", 9)
            active = (
                "document.activeElement.id || document.activeElement.getAttribute('aria-labelledby')"
                " || document.activeElement.textContent"
            )
            reached.append(page.value(active))
            if reached[-1] == "show-channels":
                page.key("Enter", 13, "\r")
                assert page.value("document.getElementById('channel-view').hidden") is False
            if reached[-1] == "theme":
                page.key("Enter", 13, "\r")
                assert page.value("document.documentElement.dataset.theme") == "dark"
        assert reached[:3] == ["theme", "heat", "show-channels"]
        assert {"channels", "only", "pairs", "parties", "Hellinger", "level"} <= set(reached)
        # After the region of the channels each bar has its turn, and says what it is.
        assert page.value("document.getElementById('channel-told').textContent").startswith("channel ")
        assert page.errors() == []


@pytest.mark.parametrize("name", ["hostile", "many", "two"])
def test_other_pages_in_the_browser(tmp_path: Path, name: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(written(ALL[name]), encoding="utf-8")
    with opened(path, dark=True) as page:
        assert page.value("window.broken") is None
        assert page.value("document.documentElement.dataset.theme") == "dark"
        assert page.value("document.querySelectorAll('img').length") == 0
        wide = page.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0, "tables scroll in themselves, the page does not"
        height = page.value("Math.max(...[...document.querySelectorAll('.heat tbody tr')].map(r => r.clientHeight))")
        assert height < 60, "the paths of layers stand in one line"
        if name == "hostile":
            first = page.value("[...document.querySelectorAll('.heat th[scope=col] span')][0].textContent")
            assert first == f"{MARKUP}, b<b>ob"
            page.click("#show-channels")
            assert page.value("window.broken") is None
        assert page.errors() == []


def _story() -> Comparison:
    """What the screenshots show: five parties, twelve layers."""
    random = [math.sin(1 + 37 * n) ** 2 for n in range(400)]
    layers = []
    for number in range(12):
        base = [0.06, 0.31, 0.47, 0.48, 0.28, 0.43, 0.44, 0.25, 0.58, 0.66]
        values = [
            value * (0.35 + 0.65 * 0.8**number) * (0.9 + 0.2 * random[10 * number + n]) for n, value in enumerate(base)
        ]
        layers.append(
            ComparedLayer(
                f"layer{number // 3 + 1}.{number % 3}.bn" if number else "bn1",
                16 * 2 ** (number // 3),
                True,
                {"nw2": pairs(5, *values)},
                (0.2, 0.21, 0.25, 0.3, 0.35),
                None,
                tuple(Channel(n, random[n] * 0.5, random[n] * 0.5 + 0.2, (0, 3)) for n in range(16))
                if not number
                else (),
                pairs(5, *[0.08] * 10) if not number else None,
            )
        )
    return replace(
        FOUR,
        parties=("clean", "noise", "gradient", "contrast", "invert"),
        metrics=("nw2",),
        layers=tuple(layers),
        left_out=(),
        weights=(0.0,) * 5,
        groups=((0, 1), (2, 3), (4,)),
        outliers=(),
        places=((0.04, 0.18), (0.05, 0.13), (-0.17, 0.0), (-0.28, -0.16), (0.38, -0.15)),
        history=tuple(
            replace(FOUR.history[0], number=r, centre={"bn1": tuple((0.1 + 0.08 * p) * (1 - 0.8**r) for p in range(5))})
            for r in range(1, 21)
        ),
        notes=(),
    )


@pytest.mark.parametrize("dark", [False, True])
def test_screenshots(tmp_path: Path, dark: bool) -> None:
    path = tmp_path / "report.html"
    path.write_text(written(_story()), encoding="utf-8")
    with opened(path, dark=dark) as page:
        page.click("#show-channels")
        page.value("scrollTo(0, 0)")
        shot = page.screenshot()
        ground = page.value("getComputedStyle(document.body).backgroundColor")
        light = sum(int(part) for part in re.findall(r"\d+", ground)[:3]) > 600
        assert light is not dark
        assert page.errors() == []
    assert shot.startswith(b"\x89PNG") and len(shot) > 50_000
    if os.environ.get("BN_AUDIT_UPDATE"):
        IMAGES.mkdir(exist_ok=True)
        (IMAGES / f"compare-{'dark' if dark else 'light'}.png").write_bytes(shot)


def test_print_is_light_and_without_controls(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(written(FOUR), encoding="utf-8")
    with opened(path, dark=True) as page:
        page.send("Emulation.setEmulatedMedia", media="print")
        assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.value("getComputedStyle(document.querySelector('.controls')).display") == "none"
        assert page.value("getComputedStyle(document.getElementById('theme')).display") == "none"
        assert len(page.send("Page.printToPDF", printBackground=True)["data"]) > 10_000


@pytest.mark.parametrize("name", VERIFICATIONS)
def test_pages_of_verifications(tmp_path: Path, name: str) -> None:
    text = render_verification(VERIFICATIONS[name], "1.2.3")
    elements = Elements()
    elements.feed(text)
    assert elements.open == [] and elements.asked == []
    assert MARK not in text and text == render_verification(VERIFICATIONS[name], "1.2.3")
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    with opened(path, dark=name == "stopped") as page:
        rows = "[...document.querySelectorAll('#entry-table tbody tr')].filter(r => !r.hidden).length"
        assert page.value(rows) == (2 if name == "round" else 24)
        page.click("#bad")
        assert page.value(rows) == (1 if name == "round" else 4)
        page.click("#bad")
        page.click("#only")
        page.type("fc")
        assert page.value(rows) == (1 if name == "round" else 8)
        # A rectangle for each entry in each band.
        bands = page.value("document.querySelectorAll('.side rect').length")
        assert bands == {"contrast": 48, "stopped": 24, "round": 2}[name]
        assert page.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        assert page.errors() == []
        if name == "contrast" and os.environ.get("BN_AUDIT_UPDATE"):
            page.value("document.getElementById('only').value = ''")
            page.click("#bad")
            page.value("scrollTo(0, 0)")
            IMAGES.mkdir(exist_ok=True)
            (IMAGES / "verify.png").write_bytes(page.screenshot())


def _block(number: int) -> tuple[list[StateEntry], ...]:
    at = f"body.{number}.deep.er"
    return layer(f"{at}.conv", (8, 8, 3, 3), (8,)), batchnorm(f"{at}.bn", 8)


def _inspected(**chosen: object) -> Inspection:
    model = profile(
        *(
            [*layer(f"body.{n}.deep.er.conv", (8, 8, 3, 3), (8,)), *batchnorm(f"body.{n}.deep.er.bn", 8)]
            for n in range(4)
        ),
        layer(f"head{MARK}", (10, 8), (10,)),
    )
    modules = {"": "Net", "body": "Sequential", "body.0": f"Block{MARK}"}
    return inspect(model, target=f"model.py:{MARK}", modules=modules, notes=(MARK,), **chosen)  # type: ignore[arg-type]


INSPECTIONS = {
    "matrix": _inspected(),
    "judged": _inspected(settings=settings(aggregator="spu", skip_bn=True), findings=(FINDING,)),
}


@pytest.mark.parametrize("name", INSPECTIONS)
def test_pages_of_inspections(tmp_path: Path, name: str) -> None:
    text = render_inspection(INSPECTIONS[name], "1.2.3")
    elements = Elements()
    elements.feed(text)
    assert elements.open == [] and elements.asked == []
    assert MARK not in text and text == render_inspection(INSPECTIONS[name], "1.2.3")
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    with opened(path, dark=name == "judged") as page:
        seen = "[...document.querySelectorAll('.tree details')].filter(one => one.open).length"
        every = page.value("document.querySelectorAll('.tree details').length")
        assert every == 1 + 1 + 4 * 5 + 1
        at_first = page.value(seen)
        assert 0 < at_first < every
        # The way to what is wrong is open.
        assert page.value(
            "[...document.querySelectorAll('.tree .bad')].every("
            "one => { for (let d = one.closest('details'); d; d = d.parentElement.closest('details'))"
            " if (!d.open) return false; return true; })"
        )
        page.click("#open-all")
        assert page.value(seen) == every
        assert page.value("document.querySelectorAll('.tree .norm').length") == 4
        assert page.value("document.querySelectorAll('.tree tbody tr').length") == 4 * 7 + 2
        page.click("#close-all")
        assert page.value(seen) == 0
        page.click(".tree summary")
        assert page.value(seen) == 1
        page.key("Enter", 13, "\r")
        assert page.value(seen) == 0, "the focus is on the branch that was clicked"
        assert page.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        assert page.errors() == []
        if name == "judged" and os.environ.get("BN_AUDIT_UPDATE"):
            page.click("#open-all")
            page.value("scrollTo(0, 0)")
            IMAGES.mkdir(exist_ok=True)
            (IMAGES / "inspect.png").write_bytes(page.screenshot())


@pytest.mark.parametrize("name", ["report", "hostile", "clean"])
def test_pages_of_scans(tmp_path: Path, name: str) -> None:
    report = {"report": REPORT, "hostile": HOSTILE_SCAN, "clean": CLEAN}[name]
    text = render_scan("html", report)
    elements = Elements()
    elements.feed(text)
    assert elements.open == [] and elements.asked == []
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    with opened(path) as page:
        seen = "[...document.querySelectorAll('.finding')].filter(one => !one.hidden).length"
        assert page.value(seen) == len(report.findings)
        assert page.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        if name == "clean":
            return
        code = report.findings[0].code
        choose = (
            "(value => { const s = document.getElementById('rule'); s.value = value;"
            " s.dispatchEvent(new Event('change')); })"
        )
        page.value(f"{choose}({code!r})")
        assert page.value(seen) == sum(one.code == code for one in report.findings)
        page.value(f"{choose}('')")
        page.click("#only")
        page.type("no finding says this")
        assert page.value(seen) == 0
        assert page.value("document.getElementById('shown').textContent") == f"0 of {len(report.findings)}"
        assert page.errors() == []
        if name == "report" and os.environ.get("BN_AUDIT_UPDATE"):
            page.value("document.getElementById('only').value = ''")
            page.value("document.getElementById('only').dispatchEvent(new Event('input'))")
            page.value("scrollTo(0, 0)")
            (IMAGES / "scan.png").write_bytes(page.screenshot())
