"""Bodies of functions that are parsed when they are needed: but for the time, it is as if all were parsed at once."""

from __future__ import annotations

import textwrap
from pathlib import Path

import libcst as cst
import pytest

from bn_audit.source import suite as suites
from bn_audit.source.deep_stack import run_with_deep_stack
from bn_audit.source.names import NameIndex, statements
from bn_audit.source.nodes import walk
from bn_audit.source.parse import ParsedFile, parse
from bn_audit.source.positions import locate
from bn_audit.source.project import Project
from bn_audit.source.read import ReadOptions, read
from bn_audit.source.sketch import MARK, sketch
from bn_audit.source.suite import LazySuite, UnreadableBody

PACKAGE = Path(__file__).parents[2] / "bn_audit"
LONG = "\n".join(f"    value_{number} = make(value_{number - 1})" for number in range(1, 9))

LAYOUTS = {
    "comments before and after": f"""
def first(a, b):  # of the head
    # before the first statement

    # and again
{LONG}
    # after the last statement

# of the module
def second():
{LONG}
""",
    "decorators within": f"""
class Net:
    @property
    def first(self):
        @wrap
        def inner():
            return 1
{LONG.replace("    v", "        v")}

    x = 1
""",
    "head of several lines": f"""
def first(
    a,  # one
    b=(
        1,
    ),
) -> dict[str,
          int]:
{LONG}
if a:
    def second(): return 1
    async def third(self):
        '''A docstring

of several lines.'''
        {LONG.lstrip().replace("    v", "        v")}
elif b:
    def second():
{LONG.replace("    v", "        v")}
else:
    def second():
{LONG.replace("    v", "        v")}
""",
    "odd indentation": f"""
def first():
   if x:
         return 1
   text = f'{{x!r}} ä ö'
{LONG.replace("    v", "   v")}
   return x; y = 2  ;
class A:
\tdef tabs(self):
{LONG.replace("    v", chr(9) + chr(9) + "v")}
""",
    "strings that look like code": f'''
def first():
    text = """
def other():
    {LONG}
"""
{LONG}
    return """ä
    """, 'é'; x = 1
y = 1
''',
    "try, with, match and loops": f"""
try:
    def first():
{LONG.replace("    v", "        v")}
except ValueError as error:
    def second():
{LONG.replace("    v", "        v")}
else:
    def third():
{LONG.replace("    v", "        v")}
finally:
    def fourth():
{LONG.replace("    v", "        v")}
with a as b:
    for c in d:
        def fifth():
{LONG.replace("    v", "            v")}
match a:
    case 1:
        def sixth():
{LONG.replace("    v", "            v")}
""",
    "globals, and all kinds of names": f"""
def first(a, *, b=default):
    global counter, other
    counter += 1
    del a[b], c
    with open(p) as (f, g), lock:
        pass
    for h, i in zip(j, k):
        l.append([m for m, n in o if (q := r)])
    try:
        import s.t as u
    except (V, W) as x:
        raise Y from x
    z: Annotation = model.fit(data, epochs=epochs, callbacks=callbacks, **rest)
    def inner(aa, *bb, cc: C = dd, **ee):
        nonlocal ff
        return lambda gg, hh=ii: gg.jj(kk=ll)
    class D(Base, metaclass=Meta, option=mm):
        attr: int
    match nn:
        case [oo, *pp] | {{"k": qq, **rr}}:
            return f"{{ss!r:>{{tt}}}}"
        case Point(x=uu) as vv:
            first(1)
{LONG}
def second():
    first(1)
{LONG}
""",
    "no line end": f"def first():\n{LONG}",
}


def both(tmp_path: Path, text: str) -> tuple[ParsedFile, ParsedFile]:
    data = text.encode()
    return parse("code.py", data), parse("code.py", data, lazily=True)


def assert_same(whole: ParsedFile, lazy: ParsedFile) -> None:
    never_assigned = {"None", "True", "False"}  # names in libcst's tree, but not in Python's
    for one, other in zip(statements(whole.module), statements(lazy.module), strict=True):
        wanted, found = NameIndex(whole.module).names(one), NameIndex(lazy.module).names(other)
        assert found.uses - never_assigned == wanted.uses - never_assigned
        assert (found.binds, found.touches) == (wanted.binds, wanted.touches)
    assert not any(suite.whole for part in lazy.parts for suite in part.suites), "asking for names has parsed a body"
    nodes, others = list(walk(whole.module)), list(walk(lazy.module))
    assert [type(node) for node in nodes] == [_kind(node) for node in others]
    assert lazy.module.code == whole.module.code
    places, found_places = locate(whole, nodes), locate(lazy, others)
    for node, other in zip(nodes, others, strict=True):
        if not isinstance(node, (cst.BaseSuite, cst.Module)):  # these are never shown
            assert found_places.get(id(other)) == places.get(id(node)), whole.module.code_for_node(node)


def _kind(node: cst.CSTNode) -> type:
    return cst.IndentedBlock if isinstance(node, LazySuite) else type(node)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_as_parsed_at_once(layout: str, tmp_path: Path) -> None:
    whole, lazy = both(tmp_path, LAYOUTS[layout])
    assert lazy.parts[0].suites
    run_with_deep_stack(lambda: assert_same(whole, lazy))


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("source/flow/*.py")), ids=lambda path: path.name)
def test_the_same_for_real_code(path: Path, tmp_path: Path) -> None:
    run_with_deep_stack(lambda: assert_same(*both(tmp_path, path.read_text("utf-8"))))


def test_a_body_is_parsed_when_it_is_asked_for_and_no_other(tmp_path: Path) -> None:
    _, lazy = both(tmp_path, f"def first():\n{LONG}\ndef second():\n{LONG}\n")
    first, second = lazy.parts[0].suites
    assert len(first.body) == 8
    assert first.whole is not None and second.whole is None


@pytest.mark.parametrize(
    "text",
    ["def f():\n    x = (\n", f"def f():\n\f{LONG}\n", f"x = '{MARK}'\ndef f():\n{LONG}\n", "def f(): pass\n", ""],
    ids=["broken", "form feed", "the mark itself", "short", "empty"],
)
def test_parsed_at_once_where_leaving_out_might_change_something(text: str) -> None:
    assert sketch(text) is None


def test_a_body_that_libcst_cannot_parse_is_found_out_as_if_it_had_been_parsed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No text is known that Python 3.10 and 3.13 both parse and libcst does not: it is made to refuse one.
    parse_module = cst.parse_module

    def refusing(source: str, *args: object) -> cst.Module:
        if "refused" in source:
            raise ValueError("not today")
        return parse_module(source, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(suites.cst, "parse_module", refusing)
    source = textwrap.dedent(
        """
        from secretflow.ml.nn import FLModel
        from helper import Net

        def make():
            return FLModel(model=Net, strategy="fed_avg_w", backend="torch", server=server, device_list=devices,
                           aggregator=aggregator)
        """
    )
    (tmp_path / "main.py").write_text(source)
    helper = f"class Net:\n    def __init__(self):\n        refused = 1\n{LONG.replace('    v', '        v')}\n"
    (tmp_path / "helper.py").write_text(helper)
    project = Project([str(tmp_path)])
    module = project.open(str(tmp_path / "helper.py"))
    with pytest.raises(UnreadableBody):
        list(walk(module.tree))
    lazily = read([str(tmp_path)], options=ReadOptions(jobs=1))
    monkeypatch.setattr("bn_audit.source.sketch._LEAST", 1_000_000)
    assert repr(read([str(tmp_path)], options=ReadOptions(jobs=1)).sites) == repr(lazily.sites)
    assert lazily.sites


@pytest.mark.parametrize(
    "statement", ["    global net", "    a = 1; global net", "    if b: global\tnet", "    global \\\n net"]
)
def test_who_declares_a_global_is_known_before_the_body_is_parsed(statement: str) -> None:
    first = f"def first():\n    # of the global model\n{statement}\n    net = 1\n{LONG}\n"
    found = sketch(f"net = 0\n{first}def second():\n    first()\n{LONG}\n")
    assert found is not None
    assert [body.declared for body in found.bodies] == [{"first": {"net"}}, {}]
    assert found.bodies[1].called["first"] == {"second"}
