"""Where an edit that makes a call pass ``skip_bn=True`` is certain, and where none is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bn_audit.fix.edits import apply_edits
from bn_audit.site import FLModelSite, SkipBnEdit
from bn_audit.source.read import ReadOptions, read
from bn_audit.source.taught import Taught
from tests.source.projects import IMPORTS, read_project

PROGRAM = (
    IMPORTS
    + """
import secretflow as sf
import torch.nn as nn

class Net(nn.Module):
    def __init__(self, skip_bn=False):
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.bn = nn.BatchNorm1d(8)

class Other(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.bn = nn.BatchNorm1d(8)

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 8)

secure = SecureAggregator(None, [])

def base(net, **further):
    return FLModel(model=TorchModel(model_fn=net), aggregator=secure, backend="torch", **further)

"""
)


def look(helpers: str, call: str, tmp_path: Path, name: str = "train.py") -> list[SkipBnEdit | None]:
    """The edits of the sites in the last lines of a program, in order."""
    lines = (PROGRAM + helpers).count("\n")
    files: dict[str, str | bytes] = {name: PROGRAM + helpers + call}
    result = read_project(files, tmp_path)
    assert not result.unreadable
    return [site.skip_bn_edit for site in result.sites if site.location.line > lines]


def after(helpers: str, call: str, tmp_path: Path) -> str:
    (found,) = look(helpers, call, tmp_path)
    assert found is not None
    return apply_edits(PROGRAM + helpers + call, found.edits).removeprefix(PROGRAM + helpers)


@pytest.mark.parametrize(
    ("helpers", "call", "fixed"),
    [
        ("", "base(Net)\n", "base(Net, skip_bn=True)\n"),
        (
            "def two(net, **kw):\n    kw.setdefault('random_seed', 1)\n    return base(net, **kw)\n",
            "two(Net)\n",
            "two(Net, skip_bn=True)\n",
        ),
        (
            "def inner(net, fedbn=False):\n    return base(net, skip_bn=fedbn)\n"
            "def outer(net, **kw):\n    return inner(net, **kw)\n",
            "outer(Net)\n",
            "outer(Net, fedbn=True)\n",
        ),
        (
            "def keyword(*, net, fedbn=False):\n    return base(net, skip_bn=fedbn)\n",
            "keyword(net=Net)\n",
            "keyword(net=Net, fedbn=True)\n",
        ),
        (
            "class Trainer:\n    def __init__(self, net, local=False):\n        self.net, self.local = net, local\n"
            "    def build(self):\n        self.model = base(self.net, skip_bn=self.local)\n",
            "trainer = Trainer(Net)\ntrainer.build()\n",
            "trainer = Trainer(Net, local=True)\ntrainer.build()\n",
        ),
        (
            "class Own(FLModel):\n    def __init__(self, net, **kw):\n"
            "        super().__init__(model=TorchModel(model_fn=net), aggregator=secure, backend='torch', **kw)\n",
            "Own(Net)\n",
            "Own(Net, skip_bn=True)\n",
        ),
        ("", "base(Net, **dict(skip_bn=False))\n", "base(Net, **dict(skip_bn=True))\n"),
        (
            "",
            "def run():\n    options = {'skip_bn': False}\n    return base(Net, **options)\n",
            "def run():\n    options = {'skip_bn': True}\n    return base(Net, **options)\n",
        ),
    ],
)
def test_it_goes_where_it_certainly_arrives(helpers: str, call: str, fixed: str, tmp_path: Path) -> None:
    assert after(helpers, call, tmp_path) == fixed


@pytest.mark.parametrize(
    ("helpers", "call"),
    [
        pytest.param("def deaf(net):\n    return base(net)\n", "deaf(Net)\n", id="a helper that takes none"),
        pytest.param(
            "def lost(net, **kw):\n    return base(net)\n", "lost(Net)\n", id="a helper that does not hand it on"
        ),
        pytest.param(
            "def positional(net, skip=False, /):\n    return base(net, skip_bn=skip)\n",
            "positional(Net)\n",
            id="a parameter that takes no keyword",
        ),
        pytest.param(
            "def printing(net, **kw):\n    print(**kw)\n    return base(net, **kw)\n",
            "printing(Net)\n",
            id="a function besides that is handed the same",
        ),
        pytest.param(
            "def strict(net, **kw):\n    for name in kw:\n        assert name == 'mu'\n    return base(net, **kw)\n",
            "strict(Net)\n",
            id="a helper that goes over its arguments",
        ),
        pytest.param(
            "def guarded(net, fedbn=False):\n    if fedbn:\n        raise NotImplementedError\n"
            "    return base(net, skip_bn=fedbn)\n",
            "guarded(Net)\n",
            id="a helper that refuses it",
        ),
        pytest.param(
            "def asserting(net, fedbn=False):\n    assert not fedbn\n    return base(net, skip_bn=fedbn)\n",
            "asserting(Net)\n",
            id="a helper that asserts against it",
        ),
        pytest.param(
            "def choosing(net, fedbn=False):\n    return base(Other if fedbn else net, skip_bn=fedbn)\n",
            "choosing(Net)\n",
            id="a helper that takes another model then",
        ),
        pytest.param(
            "def switching(net, fedbn=False):\n    return base(net, strategy='fed_prox' if fedbn else 'fed_avg_w',"
            " skip_bn=fedbn)\n",
            "switching(Net)\n",
            id="a helper that takes another strategy then",
        ),
        pytest.param(
            "def contrary(net, share=False):\n    return base(net, skip_bn=not share)\n",
            "contrary(Net, share=True)\n",
            id="a value that is computed",
        ),
        pytest.param("", "base(Net, skip_bn=not True)\n", id="a value that is computed in the call"),
        pytest.param(
            "",
            "options = {'skip_bn': False}\nbase(Net, **options)\nbase(Other, **options)\n",
            id="a dict that two calls take",
        ),
        pytest.param(
            "", "flag = False\nprint(flag)\nbase(Net, skip_bn=flag)\n", id="a variable that is read elsewhere"
        ),
        pytest.param(
            "class Config:\n    skip_bn = False\n", "base(Net, skip_bn=Config.skip_bn)\n", id="an attribute of a class"
        ),
        pytest.param(
            "def both(net, **kw):\n    return FLModel(model=TorchModel(model_fn=net, **kw), aggregator=secure,"
            " backend='torch', **kw)\n",
            "both(Other)\n",
            id="a model that is handed the same and takes no such argument",
        ),
        pytest.param("", "base(Plain)\n", id="nothing to skip"),
        pytest.param(
            "class Own(FLModel):\n    def __init__(self, model, aggregator=None, skip_bn=False):\n"
            "        self.model = model\n",
            "Own(TorchModel(model_fn=Net), secure)\n",
            id="a subclass that does FLModel's work itself",
        ),
        pytest.param(
            "import sys\n",
            "FLModel(model=TorchModel(model_fn=Net), aggregator=secure, backend='torch', **vars(sys.argv))\n",
            id="unpacked arguments that may hold it",
        ),
        pytest.param("", "base(Net, skip_bn=True)\n", id="it is passed"),
    ],
)
def test_there_is_none_where_it_is_not_certain(helpers: str, call: str, tmp_path: Path) -> None:
    found = look(helpers, call, tmp_path)
    assert found, "the call was not seen"
    assert not any(found)


def test_a_variable_of_a_module_is_shared(tmp_path: Path) -> None:
    (found,) = look("", "options = dict(skip_bn=False)\nbase(Net, **options)\n", tmp_path)
    assert found is not None
    assert (found.holder, found.shared) == ("options", True)


def test_a_default_is_not_changed_for_all(tmp_path: Path) -> None:
    helper = "def named(net, fedbn=False):\n    return base(net, skip_bn=fedbn)\n"
    (tmp_path / "helpers.py").write_text(PROGRAM + helper, encoding="utf-8")
    calls = "from helpers import Net, Other, named\n\na = named(Net)\nb = named(Other)\n"
    result = read_project({"train.py": calls}, tmp_path)
    edits = [site.skip_bn_edit for site in result.sites if site.location.path.endswith("train.py")]
    assert [edit.edits[0].line for edit in edits if edit is not None] == [3, 4]
    assert {edit.argument for edit in edits if edit is not None} == {"fedbn=True"}


def test_both_worlds_must_agree(tmp_path: Path) -> None:
    """One branch passes it, the other does not: a second argument would be an error in one of them."""
    call = "import os\n\noptions = {}\nif os.environ.get('X'):\n    options['skip_bn'] = False\nbase(Net, **options)\n"
    found = look("", call, tmp_path)
    assert found == [None]


@pytest.mark.parametrize(
    ("definition", "fixed"),
    [
        (
            "from inhouse.fl import federate\n",
            "federate(model=TorchModel(model_fn=Net), backend='torch', skip_bn=True)",
        ),
        (
            "def federate(model, backend, skip_bn=False):\n    return start(model, backend, skip_bn)\n",
            "federate(model=TorchModel(model_fn=Net), backend='torch', skip_bn=True)",
        ),
        (
            "def federate(model, backend, **further):\n    return start(model, backend, further)\n",
            "federate(model=TorchModel(model_fn=Net), backend='torch', skip_bn=True)",
        ),
        ("def federate(model, backend):\n    return start(model, backend)\n", None),
        ("def federate(model, backend, skip_bn=False, /):\n    return start(model, backend, skip_bn)\n", None),
    ],
)
def test_a_wrapper_that_the_settings_name(definition: str, fixed: str | None, tmp_path: Path) -> None:
    """It takes FLModel's parameters by name, as far as its signature, where there is one, does not say otherwise."""
    text = f"{PROGRAM}{definition}federate(model=TorchModel(model_fn=Net), backend='torch')"
    (tmp_path / "train.py").write_text(text, encoding="utf-8")
    taught = Taught(flmodel_wrappers=frozenset({"inhouse.fl.federate", "train.federate"}))
    result = read([str(tmp_path)], options=ReadOptions(jobs=1, teacher=lambda path: taught))
    last = text.count("\n") + 1
    (site,) = [one for one in result.sites if isinstance(one, FLModelSite) and one.location.line == last]
    if fixed is None:
        assert site.skip_bn_edit is None
    else:
        assert site.skip_bn_edit is not None
        assert apply_edits(text, site.skip_bn_edit.edits).endswith(fixed)
