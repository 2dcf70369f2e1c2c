"""The settings of every FLModel call are read from wherever they come, and the site stands where they are settled."""

from __future__ import annotations

from pathlib import Path

import pytest

from bn_audit.source.read import ReadOptions, read
from tests.source.projects import calls, marked, project, read_project, standing

NET_FILES = """\
=== models.py
<NET>
<PLAIN>
"""
"""Beside every project below."""

ONE = "conv-BN-fc torch fed_avg_w"

SETTINGS = {
    "defaults": (
        """
        FLModel(model=TorchModel(model_fn=Net))  # site
        """,
        "conv-BN-fc tensorflow fed_avg_w none absent",
    ),
    "every argument by position": (
        """
        FLModel("s", ["a"], TorchModel(Net), SecureAggregator("s", []), "fed_prox", 1, "torch", 7, True)  # site
        """,
        "conv-BN-fc torch fed_prox secure True",
    ),
    "skip_bn by position is False": (
        """
        FLModel("s", ["a"], TorchModel(Net), PlainAggregator("s"), "fed_avg_w", 1, "torch", 7, False)  # site
        """,
        f"{ONE} plain False",
    ),
    "unpacked positions": (
        """
        head = ("s", ["a"], TorchModel(Net))
        FLModel(*head, PlainAggregator("s"), backend="torch", skip_bn=True)  # site
        """,
        f"{ONE} plain True",
    ),
    "constants of the file": (
        """
        BACKEND, STRATEGY = "torch", "scaffold"
        SKIP = not False
        FLModel(model=TorchModel(Net), aggregator=None, backend=BACKEND, strategy=STRATEGY, skip_bn=SKIP)  # site
        """,
        "conv-BN-fc torch scaffold none True",
    ),
    "text put together": (
        """
        kind = "prox"
        FLModel(model=TorchModel(Net), backend="tor" "ch", strategy=f"fed_{kind}")  # site
        """,
        "conv-BN-fc torch fed_prox none absent",
    ),
    "a dict of settings": (
        """
        config = {"model": TorchModel(model_fn=Net), "backend": "torch", "skip_bn": True}
        FLModel(aggregator=PlainAggregator("s"), **config)  # site
        """,
        f"{ONE} plain True",
    ),
    "dict()": (
        """
        config = dict(model=TorchModel(model_fn=Net), backend="torch")
        config["skip_bn"] = True
        config.update(aggregator=PlainAggregator("s"))
        FLModel(**config)  # site
        """,
        f"{ONE} plain True",
    ),
    "merged dicts": (
        """
        base = {"backend": "torch", "skip_bn": False}
        FLModel(**{**base, "skip_bn": True, "model": TorchModel(Net)}, aggregator=PlainAggregator("s"))  # site
        """,
        f"{ONE} plain True",
    ),
    "dicts joined by |": (
        """
        base = {"backend": "torch", "skip_bn": False}
        FLModel(**(base | {"skip_bn": True, "model": TorchModel(Net)}), aggregator=PlainAggregator("s"))  # site
        """,
        f"{ONE} plain True",
    ),
    "items of a dict": (
        """
        config = {"model": {"fn": Net}, "fl": {"backend": "torch", "bn": [True, False]}}
        model = TorchModel(model_fn=config["model"]["fn"])
        agg = PlainAggregator("s")
        FLModel(model=model, aggregator=agg, backend=config["fl"]["backend"], skip_bn=config["fl"]["bn"][-1])  # site
        """,
        f"{ONE} plain False",
    ),
    "a dict that is not known": (
        """
        import yaml
        config = yaml.safe_load(open("c.yaml"))
        FLModel(model=TorchModel(Net), backend="torch", aggregator=PlainAggregator("s"), **config)  # site
        """,
        f"{ONE.replace('fed_avg_w', 'None')} plain perhaps",
    ),
    "a dict that is not known, but skip_bn is passed": (
        """
        import yaml
        config = yaml.safe_load(open("c.yaml"))
        FLModel(model=TorchModel(Net), backend="torch", skip_bn=False, strategy="fed_avg_w", **config)  # site
        """,
        f"{ONE} None False",
    ),
    "an item of a dict that is not known": (
        """
        import json
        config = json.load(open("c.json"))
        agg = PlainAggregator("s")
        FLModel(model=TorchModel(Net), backend="torch", aggregator=agg, skip_bn=config["skip_bn"])  # site
        """,
        f"{ONE} plain None",
    ),
    "None is false": (
        """
        FLModel(model=TorchModel(Net), backend="torch", aggregator=PlainAggregator("s"), skip_bn=None)  # site
        """,
        f"{ONE} plain False",
    ),
    "1 is true": (
        """
        FLModel(model=TorchModel(Net), backend="torch", aggregator=PlainAggregator("s"), skip_bn=1)  # site
        """,
        f"{ONE} plain True",
    ),
    "an environment variable": (
        """
        import os
        skip = os.environ.get("SKIP_BN") == "1"
        FLModel(model=TorchModel(Net), backend="torch", aggregator=PlainAggregator("s"), skip_bn=skip)  # site
        """,
        f"{ONE} plain None",
    ),
    "os.getenv": (
        """
        import os
        agg = PlainAggregator("s")
        FLModel(model=TorchModel(Net), backend=os.getenv("BACKEND", "torch"), aggregator=agg)  # site
        """,
        "conv-BN-fc None fed_avg_w plain absent",
    ),
    "a missing file's constant": (
        """
        from settings import SKIP_BN
        FLModel(model=TorchModel(Net), backend="torch", aggregator=PlainAggregator("s"), skip_bn=SKIP_BN)  # site
        """,
        f"{ONE} plain None",
    ),
    "not what is not known": (
        """
        from settings import SHARE_BN
        FLModel(model=TorchModel(Net), backend="torch", aggregator=PlainAggregator("s"), skip_bn=not SHARE_BN)  # site
        """,
        f"{ONE} plain None",
    ),
    "secure": (
        """
        FLModel(model=TorchModel(Net), backend="torch", aggregator=SecureAggregator("s", ["a"]))  # site
        """,
        f"{ONE} secure absent",
    ),
    "spu, by alias": (
        """
        from secretflow.security.aggregation import SPUAggregator as Aggregator
        FLModel(model=TorchModel(Net), backend="torch", aggregator=Aggregator("s"))  # site
        """,
        f"{ONE} spu absent",
    ),
    "spu, by package": (
        """
        import secretflow as sf
        FLModel(model=TorchModel(Net), backend="torch", aggregator=sf.security.SPUAggregator("s"))  # site
        """,
        f"{ONE} spu absent",
    ),
    "sparse": (
        """
        from secretflow_fl.security.aggregation import SparsePlainAggregator
        agg = SparsePlainAggregator("s")
        FLModel(model=TorchModel(Net), backend="torch", strategy="fed_stc", aggregator=agg)  # site
        """,
        "conv-BN-fc torch fed_stc sparse absent",
    ),
    "a subclass of an aggregator": (
        """
        class Mine(SecureAggregator):
            pass
        FLModel(model=TorchModel(Net), backend="torch", aggregator=Mine("s", []))  # site
        """,
        f"{ONE} secure absent",
    ),
    "a subclass that averages by itself": (
        """
        class Mine(SecureAggregator):
            def average(self, data, axis=None, weights=None):
                return data[0]
        FLModel(model=TorchModel(Net), backend="torch", aggregator=Mine("s", []))  # site
        """,
        f"{ONE} None absent",
    ),
    "an aggregator of one's own": (
        """
        class Mine:
            def average(self, data, axis=None, weights=None):
                return data[0]
        FLModel(model=TorchModel(Net), backend="torch", aggregator=Mine())  # site
        """,
        f"{ONE} None absent",
    ),
    "another library's aggregator": (
        """
        from somewhere import PlainAggregator
        FLModel(model=TorchModel(Net), backend="torch", aggregator=PlainAggregator("s"))  # site
        """,
        f"{ONE} None absent",
    ),
    "a conditional aggregator": (
        """
        import sys
        agg = SecureAggregator("s", []) if sys.argv[1] == "secure" else PlainAggregator("s")
        FLModel(model=TorchModel(Net), backend="torch", aggregator=agg)  # site
        """,
        f"{ONE} plain absent",
        f"{ONE} secure absent",
    ),
    "an aggregator picked by a setting": (
        """
        import sys
        AGGREGATORS = {"plain": PlainAggregator, "secure": SecureAggregator}
        FLModel(model=TorchModel(Net), backend="torch", aggregator=AGGREGATORS["secure"]("s", []))  # site
        """,
        f"{ONE} secure absent",
    ),
    "an aggregator from a function": (
        """
        def aggregator(kind):
            if kind == "plain":
                return PlainAggregator("s")
            return SecureAggregator("s", [])
        FLModel(model=TorchModel(Net), backend="torch", aggregator=aggregator("secure"))  # site
        """,
        f"{ONE} secure absent",
    ),
    "server_agg_method": (
        """
        def mean(parts):
            return parts[0]
        FLModel(model=TorchModel(Net), backend="torch", aggregator=None, server_agg_method=mean)  # site
        """,
        f"{ONE} server_agg_method absent",
    ),
    "server_agg_method is None": (
        """
        FLModel(model=TorchModel(Net), backend="torch", server_agg_method=None)  # site
        """,
        f"{ONE} none absent",
    ),
    "compression picks the aggregator": (
        """
        from secretflow_fl.ml.nn.fl.compress import COMPRESS_STRATEGY
        from secretflow_fl.security.aggregation import SparsePlainAggregator
        strategy = "fed_scr"
        if strategy in COMPRESS_STRATEGY:
            agg = SparsePlainAggregator("s")
        else:
            agg = SecureAggregator("s", [])
        FLModel(model=TorchModel(Net), backend="torch", strategy=strategy, aggregator=agg)  # site
        """,
        "conv-BN-fc torch fed_scr sparse absent",
    ),
    "a loop over strategies": (
        """
        for strategy in ["fed_avg_w", "fed_prox"]:
            FLModel(model=TorchModel(Net), backend="torch", strategy=strategy)  # site # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
        "conv-BN-fc torch fed_prox none absent",
    ),
    "a loop over models": (
        """
        for fn in (Net, Plain):
            FLModel(model=TorchModel(model_fn=fn), backend="torch")  # site # site
        """,
        "conv-BN-fc torch fed_avg_w none absent",
        "fc torch fed_avg_w none absent",
    ),
    "a loop over pairs": (
        """
        for name, skip in {"a": True, "b": False}.items():
            FLModel(model=TorchModel(model_fn=Net), backend="torch", skip_bn=skip)  # site # site
        """,
        "conv-BN-fc torch fed_avg_w none False",
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "a comprehension": (
        """
        models = [FLModel(model=TorchModel(model_fn=Net), backend="torch", skip_bn=skip)  # site
                  for skip in [True]]
        """,
        "conv-BN-fc torch fed_avg_w none True",
    ),
    "arguments of the model": (
        """
        FLModel(model=TorchModel(model_fn=Net, norm=False, width=3), backend="torch")  # site
        """,
        "conv-fc torch fed_avg_w none absent",
    ),
    "a class is instantiated by hand": (
        """
        FLModel(model=lambda: Net(norm=False), backend="torch")  # site
        """,
        "conv-fc torch fed_avg_w none absent",
    ),
    "a function that makes the TorchModel": (
        """
        def definition(fn, **kwargs):
            return TorchModel(model_fn=fn, loss_fn=None, **kwargs)
        FLModel(model=definition(Net, norm=False), backend="torch")  # site
        """,
        "conv-fc torch fed_avg_w none absent",
    ),
    "a model that is None": (
        """
        FLModel(model=None, backend="torch")  # site
        """,
        "unknown torch fed_avg_w none absent",
    ),
    "a model replaced before the call": (
        """
        model = TorchModel(Net)
        model = TorchModel(Plain)
        FLModel(model=model, backend="torch")  # site
        model = TorchModel(Net)
        """,
        "fc torch fed_avg_w none absent",
    ),
    "a name taken again after the call": (
        """
        skip = True
        FLModel(model=TorchModel(Plain), backend="torch", skip_bn=skip)  # site
        skip = False
        """,
        "fc torch fed_avg_w none True",
    ),
    "a name changed in a try": (
        """
        try:
            import fast
            skip = True
        except ImportError:
            skip = True
        FLModel(model=TorchModel(Plain), backend="torch", skip_bn=skip)  # site
        """,
        "fc torch fed_avg_w none True",
    ),
    "two calls in one expression": (
        """
        pair = FLModel(model=TorchModel(Net)), FLModel(model=TorchModel(Plain))  # site # site
        """,
        "conv-BN-fc tensorflow fed_avg_w none absent",
        "fc tensorflow fed_avg_w none absent",
    ),
    "argparse, both readings": (
        """
        import argparse
        args = argparse.ArgumentParser().parse_args()
        FLModel(model=TorchModel(Net, norm=args.norm), backend="torch", skip_bn=args.skip_bn)  # site
        """,
        "conv-BN-fc torch fed_avg_w none None",
        "conv-fc torch fed_avg_w none None",
    ),
    "one condition twice is one condition": (
        """
        import argparse
        args = argparse.ArgumentParser().parse_args()
        fn = Net if args.bn else Plain
        if args.bn:
            skip = True
        else:
            skip = False
        FLModel(model=TorchModel(fn), backend="torch", skip_bn=skip)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
        "fc torch fed_avg_w none False",
    ),
    "a missing file's constant is one condition": (
        """
        import settings
        fn = Net if settings.USE_BN else Plain
        skip = True if settings.USE_BN else False
        FLModel(model=TorchModel(fn), backend="torch", skip_bn=skip)  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
        "fc torch fed_avg_w none False",
    ),
    "a choice of texts": (
        """
        import argparse
        args = argparse.ArgumentParser().parse_args()
        if args.model == "net":
            fn = Net
        elif args.model == "plain":
            fn = Plain
        else:
            raise ValueError(args.model)
        FLModel(model=TorchModel(fn), backend="torch", skip_bn=args.model == "net")  # site
        """,
        "conv-BN-fc torch fed_avg_w none True",
        "fc torch fed_avg_w none False",
    ),
    "a loop of unknown length": (
        """
        import sys
        skip = False
        for arg in sys.argv:
            if arg == "--skip-bn":
                skip = True
        FLModel(model=TorchModel(Net), backend="torch", skip_bn=skip)  # site
        """,
        "conv-BN-fc torch fed_avg_w none False",
        "conv-BN-fc torch fed_avg_w none True",
    ),
}


@pytest.mark.parametrize("case", SETTINGS.values(), ids=SETTINGS)
def test_settings(case: tuple[str, ...], tmp_path: Path) -> None:
    body, *expected = case
    files = project(NET_FILES + "=== train.py\n<IMPORTS>\nfrom models import Net, Plain\n" + _dedent(body))
    result = read_project(files, tmp_path)
    assert calls(result) == sorted(expected)
    assert standing(result, tmp_path) == marked(files)


def _dedent(text: str) -> str:
    import textwrap

    return textwrap.dedent(text).lstrip("\n")


def test_contents_stand_in_for_files(tmp_path: Path) -> None:
    """What an editor holds is read in place of the file, by the scan and by what imports it."""
    files = project(
        """
        === models.py
        <PLAIN>
        === train.py
        <IMPORTS>
        from models import Plain
        model = FLModel(model=TorchModel(model_fn=Plain), aggregator=PlainAggregator("s"), backend="torch")
        === other.py
        x = 1
        """
    )
    assert calls(read_project(files, tmp_path)) == ["fc torch fed_avg_w plain absent"]
    norm = b"import torch.nn as nn\nclass Plain(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    contents = {str(tmp_path / "models.py"): norm + b"        self.bn = nn.BatchNorm1d(4)\n"}
    result = read([str(tmp_path)], options=ReadOptions(jobs=1), contents=contents)
    assert calls(result) == ["BN torch fed_avg_w plain absent"]
    train = files["train.py"]
    assert isinstance(train, str)
    moved = {str(tmp_path / "other.py"): train.encode(), str(tmp_path / "train.py"): b"", **contents}
    result = read([str(tmp_path)], options=ReadOptions(jobs=1), contents=moved)
    assert [Path(site.location.path).name for site in result.sites] == ["other.py"]
