"""A call whose model or settings come from parameters is judged at the callers that settle them."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.source.projects import calls, marked, project, read_project, standing

NET_FILES = """\
=== models.py
<NET>
<PLAIN>
"""
"""Beside every project below."""

HEAD = "<IMPORTS>\nfrom models import Net, Plain\nAGG = PlainAggregator('s')\n"

CALLERS = {
    "a helper that takes the model": (
        """
        def train(fn):
            return FLModel(model=TorchModel(fn), backend="torch")
        train(Net)  # site
        train(fn=Plain)  # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
        "fc torch fed_avg_w none absent",
    ),
    "a helper that takes skip_bn": (
        """
        def train(skip_bn):
            return FLModel(model=TorchModel(Net), backend="torch", skip_bn=skip_bn)
        train(True)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "defaults of a helper": (
        """
        def train(fn=Net, skip_bn=False, strategy="fed_prox"):
            return FLModel(model=TorchModel(fn), backend="torch", strategy=strategy, skip_bn=skip_bn)
        train()  # site
        train(skip_bn=True)  # site
        """,
        "conv-BN-fc torch fed_prox none False",
        "conv-BN-fc torch fed_prox none True",
    ),
    "what the caller gives does not settle it": (
        """
        def train(strategy):
            return FLModel(model=TorchModel(Net), backend="torch", strategy=strategy)  # site # site
        train("fed_prox")
        train("moon")
        """,
        "conv-BN-fc torch fed_prox none absent",
        "conv-BN-fc torch moon none absent",
    ),
    "**kwargs, depth 1": (
        """
        def train(**kwargs):
            return FLModel(backend="torch", aggregator=AGG, **kwargs)
        train(model=TorchModel(Net), skip_bn=True)  # site
        """,
        "conv-BN-fc torch fed_avg_w plain True",
    ),
    "**kwargs, depth 2": (
        """
        def inner(**kwargs):
            return FLModel(backend="torch", aggregator=AGG, **kwargs)
        def outer(fn, **kwargs):
            return inner(model=TorchModel(fn), **kwargs)
        outer(Net)  # site
        outer(Plain, skip_bn=True)  # site
        """,
        "conv-BN-fc torch fed_avg_w plain absent",
        "fc torch fed_avg_w plain True",
    ),
    "**kwargs, depth 3": (
        """
        def inner(**kwargs):
            return FLModel(backend="torch", aggregator=AGG, **kwargs)
        def middle(**kw):
            kw["strategy"] = "fed_prox"
            return inner(**kw)
        def outer(fn, **kwargs):
            return middle(model=TorchModel(fn), **kwargs)
        outer(Net, skip_bn=False)  # site
        """,
        "conv-BN-fc torch fed_prox plain False",
    ),
    "kwargs.get": (
        """
        def train(fn, **kwargs):
            return FLModel(model=TorchModel(fn), backend="torch", skip_bn=kwargs.get("skip_bn", False))
        train(Net)  # site
        train(Net, skip_bn=True)  # site
        train(Net, epochs=3)  # site
        """,
        "conv-BN-fc torch fed_avg_w none False",
        "conv-BN-fc torch fed_avg_w none False",
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "kwargs.pop": (
        """
        def train(fn, **kwargs):
            skip = kwargs.pop("skip_bn", True)
            return FLModel(model=TorchModel(fn, **kwargs), backend="torch", skip_bn=skip)
        train(Net, norm=False)  # site
        train(Net, skip_bn=False)  # site
        """,
        "conv-BN-fc torch fed_avg_w none False",
        "conv-fc torch fed_avg_w none True",
    ),
    "in kwargs": (
        """
        def train(fn, **kwargs):
            if "skip_bn" in kwargs:
                skip = kwargs["skip_bn"]
            else:
                skip = True
            return FLModel(model=TorchModel(fn), backend="torch", skip_bn=skip)
        train(Net)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "*args": (
        """
        def train(*args):
            return FLModel("s", [], *args)
        train(TorchModel(Net), AGG, "fed_avg_w", 1, "torch", None, True)  # site
        """,
        "conv-BN-fc torch fed_avg_w plain True",
    ),
    "a caller in another file": (
        """
        def train(fn, skip_bn=False):
            return FLModel(model=TorchModel(fn), backend="torch", skip_bn=skip_bn)
        === main.py
        from models import Net
        import train
        if __name__ == "__main__":
            train.train(Net, True)  # site
        === other.py
        from models import Plain as Model
        from train import train as run
        def go():
            run(fn=Model)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
        "fc torch fed_avg_w none False",
    ),
    "a caller of a caller in other files": (
        """
        def train(fn, **kwargs):
            return FLModel(model=TorchModel(fn), backend="torch", **kwargs)
        === middle.py
        from train import train
        def with_bn(skip_bn):
            from models import Net
            train(Net, skip_bn=skip_bn)
        === main.py
        from middle import with_bn
        with_bn(skip_bn=True)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "no caller": (
        """
        def train(fn, skip_bn):
            return FLModel(model=TorchModel(fn), backend="torch", skip_bn=skip_bn)  # site
        """,
        "unknown torch fed_avg_w none None",
    ),
    "a helper without a caller, model known": (
        """
        def train(skip_bn=False):
            return FLModel(model=TorchModel(Net), backend="torch", skip_bn=skip_bn)  # site
        """,
        "conv-BN-fc torch fed_avg_w none None",
    ),
    "main": (
        """
        def main():
            model = TorchModel(model_fn=Net)
            FLModel(model=model, backend="torch")  # site
        if __name__ == "__main__":
            main()
        """,
        "conv-BN-fc torch fed_avg_w none absent",
    ),
    "main with arguments": (
        """
        import argparse
        def main(args):
            FLModel(model=TorchModel(Net), backend="torch", skip_bn=args.skip_bn)  # site
        if __name__ == "__main__":
            main(argparse.ArgumentParser().parse_args())
        """,
        "conv-BN-fc torch fed_avg_w none None",
    ),
    "a namespace by hand": (
        """
        from types import SimpleNamespace
        def main(args):
            FLModel(model=TorchModel(Net), backend="torch", skip_bn=args.skip_bn)
        main(SimpleNamespace(skip_bn=True))  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "a settings object": (
        """
        class Settings:
            skip_bn = True
            def __init__(self, strategy):
                self.strategy = strategy
        def train(cfg):
            FLModel(model=TorchModel(Net), backend="torch", strategy=cfg.strategy, skip_bn=cfg.skip_bn)
        train(Settings("scaffold"))  # site
        """,
        "conv-BN-fc torch scaffold none True",
    ),
    "a dataclass of settings": (
        """
        from dataclasses import dataclass, field
        @dataclass(frozen=True)
        class Settings:
            backend: str = "torch"
            skip_bn: bool = False
            names: list = field(default_factory=lambda: ["fed_prox"])
        def train(cfg: Settings):
            FLModel(model=TorchModel(Net), backend=cfg.backend, strategy=cfg.names[0], skip_bn=cfg.skip_bn)
        train(Settings(skip_bn=True))  # site
        train(Settings())  # site
        """,
        "conv-BN-fc torch fed_prox none False",
        "conv-BN-fc torch fed_prox none True",
    ),
    "a class attribute": (
        """
        class Config:
            SKIP = True
            BACKEND = "torch"
        FLModel(model=TorchModel(Net), backend=Config.BACKEND, skip_bn=Config.SKIP)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "a lambda": (
        """
        make = lambda fn, skip_bn=True: FLModel(model=TorchModel(fn), backend="torch", skip_bn=skip_bn)
        make(Net)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "a partial of FLModel": (
        """
        from functools import partial
        Torch = partial(FLModel, backend="torch", skip_bn=True)
        Torch(model=TorchModel(Net))  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "a partial of a helper": (
        """
        from functools import partial
        def train(fn, skip_bn):
            return FLModel(model=TorchModel(fn), backend="torch", skip_bn=skip_bn)
        private = partial(train, skip_bn=True)
        private(Net)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "a method": (
        """
        class Trainer:
            def run(self, fn, skip_bn=False):
                return FLModel(model=TorchModel(fn), backend="torch", skip_bn=skip_bn)
        Trainer().run(Net, True)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "a static method": (
        """
        class Trainer:
            @staticmethod
            def run(fn, skip_bn=False):
                return FLModel(model=TorchModel(fn), backend="torch", skip_bn=skip_bn)
        Trainer.run(Net)  # site
        """,
        "conv-BN-fc torch fed_avg_w none False",
    ),
    "a class method": (
        """
        class Trainer:
            net = Net
            @classmethod
            def run(cls, skip_bn):
                return FLModel(model=TorchModel(cls.net), backend="torch", skip_bn=skip_bn)
        Trainer.run(True)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "self.model_fn set in __init__": (
        """
        class Trainer:
            def __init__(self):
                self.model_fn = Net
            def run(self):
                return FLModel(model=TorchModel(self.model_fn), backend="torch")  # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
    ),
    "self.model_fn given to __init__": (
        """
        class Trainer:
            def __init__(self, model_fn, skip_bn=False):
                self.model_fn, self.skip_bn = model_fn, skip_bn
            def run(self):
                return FLModel(model=TorchModel(self.model_fn), backend="torch", skip_bn=self.skip_bn)
        trainer = Trainer(Net, skip_bn=True)  # site
        trainer.run()
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "made in __init__": (
        """
        class Trainer:
            def __init__(self, fn):
                self.fl = FLModel(model=TorchModel(fn), backend="torch")
        Trainer(Net)  # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
    ),
    "setUp": (
        """
        import unittest
        class TestIt(unittest.TestCase):
            def setUp(self):
                self.model_fn = Net
            def test_it(self):
                FLModel(model=TorchModel(self.model_fn), backend="torch")  # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
    ),
    "setUpClass": (
        """
        import unittest
        class TestIt(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                cls.model_fn = Net
            def test_it(self):
                FLModel(model=TorchModel(self.model_fn), backend="torch")  # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
    ),
    "a method that the tests call": (
        """
        import unittest
        class TestIt(unittest.TestCase):
            def _train(self, fn, **kwargs):
                return FLModel(model=TorchModel(fn), backend="torch", skip_bn=kwargs.get("skip_bn", False))
            def test_bn(self):
                self._train(fn=Net, skip_bn=True)  # site
            def test_plain(self):
                self._train(Plain)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
        "fc torch fed_avg_w none False",
    ),
    "a method of a base class in another file": (
        """
        class Base:
            def train(self, fn):
                return FLModel(model=TorchModel(fn), backend="torch")
        === test_it.py
        from models import Net
        from train import Base
        class TestIt(Base):
            def test_bn(self):
                self.train(Net)  # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
    ),
    "a class attribute that a subclass sets": (
        """
        class Base:
            model_fn = None
            def train(self):
                return FLModel(model=TorchModel(self.model_fn), backend="torch")  # site
        """,
        "unknown torch fed_avg_w none absent",
    ),
    "a fixture": (
        """
        import pytest
        @pytest.fixture
        def model():
            return TorchModel(model_fn=Net)
        def test_it(model):
            FLModel(model=model, backend="torch")  # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
    ),
    "a fixture that yields": (
        """
        import pytest
        @pytest.fixture(scope="module")
        def net():
            yield Net
        @pytest.fixture
        def model(net):
            return TorchModel(model_fn=net)
        def test_it(model):
            FLModel(model=model, backend="torch")  # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
    ),
    "parametrize": (
        """
        import pytest
        @pytest.mark.parametrize("strategy", ["fed_avg_w", "fed_prox"])
        def test_it(strategy):
            FLModel(model=TorchModel(Net), backend="torch", strategy=strategy)  # site
        """,
        "conv-BN-fc torch None none absent",
    ),
    "an early return": (
        """
        def train(fn, dry):
            if dry:
                return None
            return FLModel(model=TorchModel(fn), backend="torch")
        train(Net, False)  # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
    ),
    "an early return that is taken": (
        """
        def train(fn, dry):
            if dry:
                return None
            return FLModel(model=TorchModel(fn), backend="torch")
        train(Net, False)  # site
        train(Plain, True)
        """,
        "conv-BN-fc torch fed_avg_w none absent",
    ),
    "a condition of the caller": (
        """
        import sys
        def train(fn):
            return FLModel(model=TorchModel(fn), backend="torch")
        if len(sys.argv) > 1:
            train(Net)  # site
        else:
            train(Plain)  # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
        "fc torch fed_avg_w none absent",
    ),
    "an unknown condition in a helper": (
        """
        def train(fn, big):
            skip = False
            if big:
                skip = True
            return FLModel(model=TorchModel(fn), backend="torch", skip_bn=skip)
        import sys
        train(Net, big=len(sys.argv) > 1)  # site
        """,
        "conv-BN-fc torch fed_avg_w none False",
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "a nested function": (
        """
        def outer(fn):
            def inner(skip_bn):
                return FLModel(model=TorchModel(fn), backend="torch", skip_bn=skip_bn)
            return inner(True)
        outer(Net)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "a decorated helper": (
        """
        import functools
        def timed(f):
            @functools.wraps(f)
            def wrapper(*args, **kwargs):
                return f(*args, **kwargs)
            return wrapper
        @timed
        def train(fn, skip_bn=False):
            return FLModel(model=TorchModel(fn), backend="torch", skip_bn=skip_bn)
        train(Net, skip_bn=True)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "a coroutine": (
        """
        import asyncio
        async def train(fn):
            return FLModel(model=TorchModel(fn), backend="torch")
        async def main():
            await train(Net)  # site
        asyncio.run(main())
        """,
        "conv-BN-fc torch fed_avg_w none absent",
    ),
    "a subclass without __init__": (
        """
        class Mine(FLModel):
            pass
        Mine(model=TorchModel(Net), backend="torch", skip_bn=True)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "a subclass with super().__init__": (
        """
        class Mine(FLModel):
            def __init__(self, fn, **kwargs):
                super().__init__(model=TorchModel(fn), backend="torch", **kwargs)
        Mine(Net, skip_bn=True)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "a subclass with FLModel.__init__": (
        """
        class Mine(FLModel):
            def __init__(self, fn, skip_bn=True):
                FLModel.__init__(self, model=TorchModel(fn), backend="torch", skip_bn=skip_bn)
        Mine(Net)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "a subclass of a subclass in another file": (
        """
        class Mine(FLModel):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, backend="torch", **kwargs)
        === main.py
        from models import Net
        from secretflow_fl.ml.nn.core.torch import TorchModel
        from train import Mine
        class Yours(Mine):
            pass
        Yours(model=TorchModel(Net))  # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
    ),
    "an alias from another file": (
        """
        Federated = FLModel
        === main.py
        from models import Net
        from secretflow_fl.ml.nn.core.torch import TorchModel
        from train import Federated as F
        F(model=TorchModel(Net), backend="torch")  # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
    ),
    "FLModel from another file": (
        """
        === main.py
        from models import Net
        from train import FLModel, TorchModel
        FLModel(model=TorchModel(Net), backend="torch")  # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
    ),
}


@pytest.mark.parametrize("case", CALLERS.values(), ids=CALLERS)
def test_callers(case: tuple[str, ...], tmp_path: Path) -> None:
    body, *expected = case
    files = project(NET_FILES + "=== train.py\n" + HEAD + textwrap.dedent(body).lstrip("\n"))
    result = read_project(files, tmp_path)
    assert calls(result) == sorted(expected)
    assert standing(result, tmp_path) == marked(files)


def _followed_by(lines: int) -> dict[str, str | bytes]:
    """A call that a method makes with what it is given, and much that is done with the FLModel afterwards."""
    ways = "".join(f"        if history[{n}]:\n            model.note({n})\n" for n in range(5))
    rest = "        model.note(model.score(history, model))\n" * lines
    return project(
        NET_FILES
        + "=== train.py\n"
        + HEAD
        + """\
class Experiment:
    def maker(self):
        return TorchModel(model_fn=Net)

    def run(self, config):
        model = FLModel(model=self.maker(), aggregator=AGG, backend="torch", strategy="fed_prox")  # site
        history = model.fit(epochs=config["rounds"])
"""
        + ways
        + rest
    )


@pytest.mark.parametrize("lines", [1, 1_500])
def test_what_follows_a_call_may_be_long(lines: int, tmp_path: Path) -> None:
    files = _followed_by(lines)
    result = read_project(files, tmp_path)
    assert calls(result) == ["conv-BN-fc torch fed_prox plain absent"]
    assert standing(result, tmp_path) == marked(files)
    assert not result.notes


def test_what_leads_to_a_call_may_not_be_too_long(tmp_path: Path) -> None:
    files = _followed_by(1_500)
    source = files["train.py"]
    assert isinstance(source, str)
    head, call, rest = source.partition("        model = FLModel(")
    before = rest.partition("\n")[2].replace("model", "other")
    files["train.py"] = head + before + call + rest.partition("\n")[0].replace("self.maker()", "other") + "\n"
    result = read_project(files, tmp_path)
    assert any("more to follow than the limit allows" in note for note in result.notes)
    assert [reading for reading in calls(result) if "conv" in reading] == []
