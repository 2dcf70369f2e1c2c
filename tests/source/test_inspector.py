"""What comes of a file depends on nothing but the answers from outside that are noted with it."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from bn_audit.source import inspector, project
from bn_audit.source.inspector import Inspector
from bn_audit.source.outside import Outside
from bn_audit.source.part import Part, Task
from bn_audit.source.residence import give_back, resident
from bn_audit.source.sources import Sources
from bn_audit.source.taught import Taught
from tests.source.projects import project as files_of

TEXT = """\
=== pyproject.toml
=== pkg/__init__.py
=== pkg/models.py
from torch import nn
<NET>
=== pkg/fl.py
<IMPORTS>
def build(model):
    return FLModel(model=TorchModel(model_fn=model), aggregator=PlainAggregator("s"), backend="torch")
=== train.py
from pkg.fl import build
from pkg.models import Net
build(Net)
=== other.py
print("nothing to do with it")
"""
TASK = Task("pkg/fl.py", ("FLModel",))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in files_of(TEXT).items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(content), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outside(folder: Path, **options: object) -> Outside:
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.py"))
    return Outside(Sources(files, [str(folder)], **options))  # type: ignore[arg-type]


def look(folder: Path) -> tuple[Part, Outside]:
    world = outside(folder)
    return Inspector(world).look_into(TASK), world


def test_the_questions_a_site_rests_on(folder: Path) -> None:
    part, world = look(folder)
    (site,) = part.sites
    assert (site.location.path, site.location.line) == ("train.py", 3)
    asked = set(world.noted())
    assert ("read", str(folder / "pkg" / "models.py")) in asked
    assert ("read", str(folder / "train.py")) in asked
    assert ("mention", "build", "fl", "") in asked
    assert ("there", str(folder / "pyproject.toml")) in asked
    assert not any("other.py" in part for query in asked for part in query)


def test_many_questions_are_answered_as_one_by_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bn_audit.source.outside._MANY", 2)
    held = {str(folder / "other.py"): b"from secretflow import FLModel"}
    one, many = (outside(folder, contents=held, teacher=lambda path: None) for _ in range(2))
    queries = [("triggers", str(path)) for path in [*sorted(folder.rglob("*.py")), folder / "gone.py"]]
    many.read_all(queries, 2)
    assert many.answers == {query: one.ask(query) for query in queries}
    assert many.signatures == one.signatures
    assert many.answers[("triggers", str(folder / "other.py"))] == "flmodel"
    assert many.asked == set()


def test_the_same_questions_again_whatever_was_looked_into_before(folder: Path) -> None:
    world = outside(folder)
    one = Inspector(world)
    first = one.look_into(TASK)
    questions = world.noted()
    one.look_into(Task("train.py", ("FLModel",)))
    assert one.look_into(TASK) == first
    assert world.noted() == questions


def test_answers_that_change_change_what_comes_of_it(folder: Path) -> None:
    _, world = look(folder)
    before = world.noted()
    (folder / "second.py").write_text("from pkg.fl import build\nbuild(None)\n", encoding="utf-8")
    part, world = look(folder)
    assert len(part.sites) == 2
    after = world.noted()
    assert before[("mention", "build", "fl", "")] != after[("mention", "build", "fl", "")]


def test_trees_are_forgotten_before_they_are_too_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = outside(folder)
    one = Inspector(world)
    first, questions = one.look_into(TASK), world.noted()
    monkeypatch.setattr(inspector, "_MAX_CHARACTERS", 0)
    assert one.look_into(TASK) == first
    assert world.noted() == questions


def test_trees_are_forgotten_where_another_project_begins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If they are many; those of its own project are kept, and what comes of a file is the same."""
    other = folder / "other"
    (other / "pkg").mkdir(parents=True)
    for name, content in files_of(TEXT).items():
        (other / name).write_text(str(content), encoding="utf-8")
    made: list[project.Project] = []

    def counted(*given: object) -> project.Project:
        made.append(project.Project(*given))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(inspector, "Project", counted)
    monkeypatch.setattr(inspector.Residence, "is_much", lambda _: False)  # whatever was tested before holds
    tasks = (TASK, Task("train.py", ("FLModel",)), Task("other/pkg/fl.py", ("FLModel",)), TASK)
    found = {}
    for most, begun in ((10_000, 1), (0, 3)):
        monkeypatch.setattr(inspector, "_MAX_OF_ANOTHER_PROJECT", most)
        made.clear()
        one = Inspector(outside(folder), in_order=True)
        found[most] = [one.look_into(task) for task in tasks]
        assert len(made) == begun
    assert found[0] == found[10_000]


@pytest.mark.skipif(not hasattr(ctypes.pythonapi, "malloc_trim"), reason="the C library keeps what it keeps")
def test_what_was_freed_is_given_back() -> None:
    blocks = [bytes(1000) for _ in range(200_000)]
    kept, before = blocks[-1], resident()
    del blocks
    give_back()
    assert len(kept) == 1000
    assert resident() < before - (100 << 20)


def test_no_more_source_is_opened_than_the_limit_allows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "_MAX_OPENED", 10)
    world = outside(folder)
    one = Inspector(world)
    part = one.look_into(TASK)
    assert part.parsed == (str(folder / "pkg" / "fl.py"),)
    assert "pkg/fl.py: more to follow than the limit allows" in part.notes
    assert one.look_into(TASK) == part  # and no more because it is known by now


def test_a_package_that_imports_all_from_everywhere(folder: Path) -> None:
    """What has hundreds of modules is not parsed for one name that two of them have."""
    package = folder / "zoo"
    package.mkdir()
    for number in range(30):
        (package / f"m{number}.py").write_text(f"class Other{number}: pass\n", encoding="utf-8")
    (package / "nets.py").write_text((folder / "pkg" / "models.py").read_text(), encoding="utf-8")
    lines = [f"from .m{number} import *\n" for number in range(30)]
    (package / "__init__.py").write_text("from .nets import *\n" + "".join(lines), encoding="utf-8")
    (folder / "train.py").write_text("from pkg.fl import build\nfrom zoo import Net\nbuild(Net)\n", encoding="utf-8")
    part, _ = look(folder)
    assert part.sites[0].readings[0].model is not None  # type: ignore[union-attr]
    names = {Path(path).name for path in part.parsed}
    assert "nets.py" in names and not any(name.startswith("m1") for name in names)


def test_what_settings_teach_is_asked_of_every_file(folder: Path) -> None:
    taught = Taught(batchnorm_classes=frozenset({"B", "A"}))
    world = outside(folder, teacher=lambda path: taught if path.endswith("train.py") else None)
    Inspector(world).look_into(TASK)
    answers = world.noted()
    assert answers[("taught", str(folder / "train.py"))] == "; ; A B; "
    assert answers[("taught", str(folder / "pkg" / "fl.py"))] == ""


def test_contents_that_stand_in_for_files(folder: Path) -> None:
    path = str(folder / "train.py")
    world = outside(folder, contents={path: b"from pkg.fl import build\nfrom pkg.models import Net\n\nbuild(Net)\n"})
    (site,) = Inspector(world).look_into(TASK).sites
    assert site.location.line == 4
    plain = look(folder)[1].noted()
    assert world.noted()[("read", path)] != plain[("read", path)]


def test_a_file_that_changes_while_it_is_read(folder: Path) -> None:
    """Two answers to one question are no answer that could ever be given again."""
    world = outside(folder)
    path = str(folder / "train.py")
    world.read(path)
    Path(path).write_text("changed\n", encoding="utf-8")
    world.read(path)
    assert world.noted()[("read", path)] == "?"
