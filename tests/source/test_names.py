"""The class of a model is found wherever Python would find it, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.source.projects import calls, marked, project, read_project, readings, standing

BN = "conv-BN-fc torch fed_avg_w plain absent"
"""What every project of FOUND comes to."""

FOUND = {
    "same file": """
        === train.py
        <IMPORTS>
        <NET>
        <CALL>
        """,
    "beside": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        from models import Net
        <CALL>
        """,
    "alias": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        from models import Net as Other
        Net = Other
        <CALL>
        """,
    "module attribute": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        import models
        Net = models.Net
        <CALL>
        """,
    "submodule": """
        === a/__init__.py
        === a/b.py
        <NET>
        === train.py
        <IMPORTS>
        import a.b
        Net = a.b.Net
        <CALL>
        """,
    "submodule alias": """
        === a/__init__.py
        === a/b/__init__.py
        === a/b/d.py
        <NET>
        === train.py
        <IMPORTS>
        import a.b as c
        import a.b.d
        Net = c.d.Net
        <CALL>
        """,
    "from package import module": """
        === a/__init__.py
        === a/b.py
        <NET>
        === train.py
        <IMPORTS>
        from a import b
        Net = b.Net
        <CALL>
        """,
    "relative, level 1": """
        === pkg/__init__.py
        === pkg/models.py
        <NET>
        === pkg/train.py
        <IMPORTS>
        from .models import Net
        <CALL>
        """,
    "relative, level 1, module": """
        === pkg/__init__.py
        === pkg/models.py
        <NET>
        === pkg/train.py
        <IMPORTS>
        from . import models
        Net = models.Net
        <CALL>
        """,
    "relative, level 2": """
        === pkg/__init__.py
        === pkg/models.py
        <NET>
        === pkg/sub/__init__.py
        === pkg/sub/train.py
        <IMPORTS>
        from ..models import Net
        <CALL>
        """,
    "relative, level 3": """
        === pkg/__init__.py
        === pkg/nets/__init__.py
        from .cnn import Net
        === pkg/nets/cnn.py
        <NET>
        === pkg/sub/__init__.py
        === pkg/sub/deep/__init__.py
        === pkg/sub/deep/train.py
        <IMPORTS>
        from ...nets import Net
        <CALL>
        """,
    "relative without __init__": """
        === pkg/models.py
        <NET>
        === pkg/train.py
        <IMPORTS>
        from .models import Net
        <CALL>
        """,
    "re-exports": """
        === pkg/__init__.py
        from .nets import *
        === pkg/nets/__init__.py
        from .cnn import Small as Net
        === pkg/nets/cnn.py
        <NET>
        Small = Net
        === train.py
        <IMPORTS>
        from pkg import Net
        <CALL>
        """,
    "star": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        from models import *
        <CALL>
        """,
    "star of star": """
        === models.py
        <NET>
        === more.py
        from models import *
        === train.py
        <IMPORTS>
        from more import *
        <CALL>
        """,
    "star with __all__": """
        === models.py
        __all__ = ["Net"]
        <NET>
        === train.py
        <IMPORTS>
        from models import *
        <CALL>
        """,
    "the last of two stars": """
        === plain.py
        import torch.nn as nn
        class Net(nn.Module):
            pass
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        from plain import *
        from models import *
        <CALL>
        """,
    "star does not override a later name": """
        === plain.py
        import torch.nn as nn
        class Net(nn.Module):
            pass
        === train.py
        <IMPORTS>
        from plain import *
        <NET>
        <CALL>
        """,
    "star that __all__ keeps away": """
        === plain.py
        __all__ = ["other"]
        other = 1
        class Net:
            pass
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        from models import *
        from plain import *
        <CALL>
        """,
    "star of an __all__ that grows": """
        === pkg/__init__.py
        from . import cnn
        from .cnn import *
        __all__ = []
        __all__ += cnn.__all__
        === pkg/cnn.py
        __all__ = ["Net"]
        <NET>
        === train.py
        <IMPORTS>
        from pkg import *
        <CALL>
        """,
    "in a function": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        def main():
            from models import Net
            <CALL>
        """,
    "in a builder function": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        def model():
            import models
            return models.Net()
        Net = model
        <CALL>
        """,
    "try, first works": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        try:
            from models import Net
        except ImportError:
            from missing import Net
        <CALL>
        """,
    "try, second works": """
        === pkg/__init__.py
        === pkg/models.py
        <NET>
        === pkg/train.py
        <IMPORTS>
        try:
            from nowhere.models import Net
        except ImportError:
            from .models import Net
        <CALL>
        """,
    "try, relative first": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        try:
            from .nets import Net
        except ImportError:
            from models import Net
        <CALL>
        """,
    "namespace package": """
        === space/models.py
        <NET>
        === train.py
        <IMPORTS>
        from space.models import Net
        <CALL>
        """,
    "namespace package, nested": """
        === space/deep/models.py
        <NET>
        === train.py
        <IMPORTS>
        import space.deep.models as m
        Net = m.Net
        <CALL>
        """,
    "namespace package, from": """
        === space/models.py
        <NET>
        === train.py
        <IMPORTS>
        from space import models
        Net = models.Net
        <CALL>
        """,
    "src layout": """
        === pyproject.toml
        === src/mine/__init__.py
        === src/mine/models.py
        <NET>
        === scripts/train.py
        <IMPORTS>
        from mine.models import Net
        <CALL>
        """,
    "from a test beside the package": """
        === mine/__init__.py
        === mine/models.py
        <NET>
        === tests/test_train.py
        <IMPORTS>
        from mine.models import Net
        def test_it():
            <CALL>
        """,
    "from the root of the project": """
        === setup.py
        === nets/models.py
        <NET>
        === jobs/daily/train.py
        <IMPORTS>
        from nets.models import Net
        <CALL>
        """,
    "circular": """
        === models.py
        import train
        <NET>
        === train.py
        <IMPORTS>
        import models
        Net = models.Net
        <CALL>
        """,
    "circular, from": """
        === a.py
        from b import helper
        <NET>
        === b.py
        from a import Net
        def helper():
            return Net()
        === train.py
        <IMPORTS>
        from b import helper as Net
        <CALL>
        """,
    "a stub beside the source": """
        === models.pyi
        class Net: ...
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        from models import Net
        <CALL>
        """,
    "a missing import beside": """
        === models.py
        import missing
        from missing.more import Layer
        <NET>
        === train.py
        <IMPORTS>
        from models import Net
        <CALL>
        """,
    "a broken file beside": """
        === broken.py
        def (:
        === models.py
        from broken import thing
        <NET>
        === train.py
        <IMPORTS>
        from models import Net
        <CALL>
        """,
    "a package and a module of one name": """
        === models.py
        Net = None
        === models/__init__.py
        <NET>
        === train.py
        <IMPORTS>
        from models import Net
        <CALL>
        """,
    "a folder without code of the name": """
        === models/readme.txt
        === lib/models.py
        <NET>
        === lib/train.py
        <IMPORTS>
        from models import Net
        <CALL>
        """,
    "assignments": """
        === train.py
        <IMPORTS>
        <NET>
        first = second = Net
        Net = second
        <CALL>
        """,
    "tuple": """
        === models.py
        <NET>
        nets = (Net, 3)
        === train.py
        <IMPORTS>
        from models import nets
        Net, number = nets
        <CALL>
        """,
    "starred tuple": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        import models
        first, *_, Net = 1, 2, 3, models.Net
        <CALL>
        """,
    "function": """
        === train.py
        <IMPORTS>
        <NET>
        def get():
            return Net
        Net = get()
        <CALL>
        """,
    "builder": """
        === models.py
        <NET>
        def build():
            net = Net()
            return net
        === train.py
        <IMPORTS>
        from models import build as Net
        <CALL>
        """,
    "lambda": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        import models
        Net = lambda: models.Net(4)
        <CALL>
        """,
    "partial": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        import functools, models
        Net = functools.partial(models.Net, 16)
        <CALL>
        """,
    "partial of partial": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        from functools import partial
        import models
        Net = partial(partial(models.Net, width=3), width=4)
        <CALL>
        """,
    "closure": """
        === models.py
        <NET>
        def maker(width):
            def make():
                return Net(width)
            return make
        === train.py
        <IMPORTS>
        from models import maker
        Net = maker(32)
        <CALL>
        """,
    "static method": """
        === models.py
        <NET>
        class Zoo:
            @staticmethod
            def small():
                return Net()
        === train.py
        <IMPORTS>
        from models import Zoo
        Net = Zoo.small
        <CALL>
        """,
    "class method": """
        === models.py
        <NET>
        class Zoo:
            net = Net
            @classmethod
            def small(cls):
                return cls.net()
        === train.py
        <IMPORTS>
        from models import Zoo
        Net = Zoo.small
        <CALL>
        """,
    "bound method": """
        === models.py
        <NET>
        class Zoo:
            def __init__(self, width):
                self.width = width
            def small(self):
                return Net(self.width)
        === train.py
        <IMPORTS>
        from models import Zoo
        Net = Zoo(4).small
        <CALL>
        """,
    "an object that is called": """
        === models.py
        <NET>
        class Maker:
            def __call__(self):
                return Net()
        === train.py
        <IMPORTS>
        from models import Maker
        Net = Maker()
        <CALL>
        """,
    "conditional on a constant": """
        === settings.py
        SMALL = True
        === train.py
        <IMPORTS>
        import settings
        if settings.SMALL:
            from models import Net
        else:
            Net = None
        <CALL>
        === models.py
        <NET>
        """,
    "conditional expression": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        import models
        DEEP = 3
        Net = models.Net if DEEP > 2 else None
        <CALL>
        """,
    "a dict of models": """
        === models.py
        <NET>
        MODELS = {"net": Net, "other": None}
        === train.py
        <IMPORTS>
        from models import MODELS
        Net = MODELS["net"]
        <CALL>
        """,
    "a dict of models, get": """
        === models.py
        <NET>
        MODELS = dict(net=Net)
        MODELS["other"] = None
        === train.py
        <IMPORTS>
        from models import MODELS
        Net = MODELS.get("net")
        <CALL>
        """,
    "a registry filled by a decorator": """
        === registry.py
        MODELS = {}
        def register(name):
            def keep(cls):
                MODELS[name] = cls
                return cls
            return keep
        === train.py
        <IMPORTS>
        from registry import register
        import models
        @register("net")
        class Net(models.Net):
            pass
        <CALL>
        === models.py
        <NET>
        """,
    "getattr of a module": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        import models
        Net = getattr(models, "Net")
        <CALL>
        """,
    "globals": """
        === train.py
        <IMPORTS>
        <NET>
        def main():
            Net = globals()["Net"]
            <CALL>
        """,
    "importlib": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        import importlib
        Net = importlib.import_module("models").Net
        <CALL>
        """,
    "base in another file": """
        === base.py
        <NET>
        class Base(Net):
            pass
        === train.py
        <IMPORTS>
        import base
        class Net(base.Base):
            def forward(self, x):
                return x
        <CALL>
        """,
    "mixins": """
        === base.py
        <NET>
        class Mixin:
            def helper(self):
                return 1
        === train.py
        <IMPORTS>
        import base, abc
        class Net(base.Mixin, base.Net, abc.ABC):
            pass
        <CALL>
        """,
    "diamond": """
        === base.py
        <NET>
        class Left(Net):
            pass
        class Right(Net):
            pass
        === train.py
        <IMPORTS>
        from base import Left, Right
        class Net(Left, Right):
            def __init__(self):
                super().__init__()
        <CALL>
        """,
    "a decorator that keeps the class": """
        === base.py
        <NET>
        def keep(cls):
            cls.kept = True
            return cls
        === train.py
        <IMPORTS>
        import base, total
        @total.unknown
        @base.keep
        class Net(base.Net):
            pass
        <CALL>
        """,
    "a decorator that wraps a builder": """
        === models.py
        import functools
        <NET>
        def timed(f):
            @functools.wraps(f)
            def inner(*args, **kwargs):
                return f(*args, **kwargs)
            return inner
        @timed
        def build():
            return Net()
        === train.py
        <IMPORTS>
        from models import build as Net
        <CALL>
        """,
    "a cached builder": """
        === models.py
        import functools
        <NET>
        @functools.lru_cache(maxsize=None)
        def build():
            return Net()
        === train.py
        <IMPORTS>
        from models import build as Net
        <CALL>
        """,
    "a class inside a function": """
        === train.py
        <IMPORTS>
        import torch.nn as nn
        def make():
            class Inner(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.conv = nn.Conv2d(3, 8, 3)
                    self.bn = nn.BatchNorm2d(8)
                    self.fc = nn.Linear(8, 10)
            return Inner
        Net = make()
        <CALL>
        """,
    "a class inside a class": """
        === models.py
        <NET>
        class Zoo:
            class Net(Net):
                pass
        === train.py
        <IMPORTS>
        from models import Zoo
        Net = Zoo.Net
        <CALL>
        """,
    "walrus": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        import models
        if (Net := models.Net) is not None:
            print(Net)
        <CALL>
        """,
    "global": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        import models
        Net = None
        def choose():
            global Net
            Net = models.Net
        choose()
        <CALL>
        """,
    "attribute of a module set from outside": """
        === settings.py
        Net = None
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        import models, settings
        settings.Net = models.Net
        Net = settings.Net
        <CALL>
        """,
    "an attribute of a settings class": """
        === models.py
        <NET>
        === settings.py
        from models import Net
        class Settings:
            net = Net
        === train.py
        <IMPORTS>
        from settings import Settings
        Net = Settings.net
        <CALL>
        """,
    "a dataclass of settings": """
        === settings.py
        from dataclasses import dataclass
        <NET>
        @dataclass
        class Settings:
            width: int = 3
            net: type = Net
        === train.py
        <IMPORTS>
        from settings import Settings
        Net = Settings(width=4).net
        <CALL>
        """,
    "match": """
        === models.py
        <NET>
        def build(name="net"):
            match name:
                case "net":
                    return Net()
                case _:
                    raise ValueError(name)
        === train.py
        <IMPORTS>
        from models import build as Net
        <CALL>
        """,
    "with": """
        === models.py
        <NET>
        def build():
            with open("log") as log:
                return Net()
        === train.py
        <IMPORTS>
        from models import build as Net
        <CALL>
        """,
    "the last definition": """
        === train.py
        <IMPORTS>
        class Net:
            pass
        <NET>
        <CALL>
        """,
    "deleted and imported again": """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        Net = 1
        del Net
        from models import Net
        <CALL>
        """,
    "conftest": """
        === tests/conftest.py
        <NET>
        === tests/test_it.py
        <IMPORTS>
        from conftest import Net
        def test_it():
            <CALL>
        """,
    "from __future__ and type checking": """
        === models.py
        <NET>
        === train.py
        from __future__ import annotations
        from typing import TYPE_CHECKING
        <IMPORTS>
        if TYPE_CHECKING:
            from missing import Net
        else:
            from models import Net
        <CALL>
        """,
}


@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND)
def test_class_is_found(text: str, tmp_path: Path) -> None:
    files = project(text)
    result = read_project(files, tmp_path)
    assert standing(result, tmp_path) == marked(files)
    assert calls(result) == [BN]


LOST = {
    "missing module": (
        """
        === train.py
        <IMPORTS>
        from missing import Net
        <CALL>
        """,
        "missing.Net is not known",
    ),
    "missing name": (
        """
        === models.py
        <PLAIN>
        === train.py
        <IMPORTS>
        from models import Net
        <CALL>
        """,
        "Net is not found in models.py",
    ),
    "circle": (
        """
        === a.py
        from b import Net
        === b.py
        from a import Net
        === train.py
        <IMPORTS>
        from a import Net
        <CALL>
        """,
        "Net is imported in a circle",
    ),
    "star circle": (
        """
        === a.py
        from b import *
        === b.py
        from a import *
        === train.py
        <IMPORTS>
        from a import Net
        <CALL>
        """,
        "Net is not found in a.py",
    ),
    "undefined": (
        """
        === train.py
        <IMPORTS>
        <CALL>
        """,
        "Net is not defined in what could be read",
    ),
    "broken file": (
        """
        === models.py
        class Net(:
        === train.py
        <IMPORTS>
        from models import Net
        <CALL>
        """,
        "models.Net is not known",
    ),
    "a known library's name": (
        """
        === timm.py
        <NET>
        === train.py
        <IMPORTS>
        from timm import Net
        <CALL>
        """,
        "timm.Net is not known",
    ),
    "a private name behind a star": (
        """
        === models.py
        <NET>
        _Net = Net
        === train.py
        <IMPORTS>
        from models import *
        Net = _Net
        <CALL>
        """,
        "_Net is not defined in what could be read",
    ),
}


@pytest.mark.parametrize(("text", "reason"), LOST.values(), ids=LOST)
def test_lost_class_says_where(text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = project(text)
    result = read_project(files, tmp_path)
    assert standing(result, tmp_path) == marked(files)
    (reading,) = readings(result)
    assert reading.model is None
    assert reading.unresolved is not None
    assert reading.unresolved.message == reason
