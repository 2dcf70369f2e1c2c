"""Every form is written out as Python, run on real models, and laid beside its plan: fates, errors and their texts.

``BN_AUDIT_FORMS=20000`` tries all pairs of choices there are, and as many drawn forms; the default is a sample.
"""

from __future__ import annotations

import os
import random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("numpy")

from bn_audit.handwritten import Add, Factor, HandWritten, Load, Number, Operation, Reduction, Reductor  # noqa: E402
from bn_audit.loading import Covers, How  # noqa: E402
from tests.exchange.handwritten.forms import drawn, pairwise  # noqa: E402
from tests.exchange.handwritten.models import COMPOSED, MODELS, SINGLE  # noqa: E402
from tests.exchange.handwritten.run import disagreements  # noqa: E402
from tests.exchange.handwritten.test_wild import _RUN, _STOP  # noqa: E402
from tests.exchange.handwritten.write import source_of  # noqa: E402
from tests.secretflow.profiles import profile_of  # noqa: E402

_FORMS = int(os.environ.get("BN_AUDIT_FORMS", "96"))
_CHUNKS = 8
_PROFILES = {name: profile_of(build()) for name, build in MODELS.items()}

pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13), reason="the texts are those of torch 2.13"
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", [*_STOP, *_RUN])
def test_forms_in_the_wild(name: str) -> None:
    form = _RUN[name] if name in _RUN else _STOP[name][0]
    for number, (model, build) in enumerate(MODELS.items()):
        parties = (2, 3, 5)[number % 3]
        found = list(disagreements(form, _PROFILES[model], build, parties))
        assert not found, f"{model}, {parties} parties: {found}\n{source_of(form)}"


@pytest.mark.parametrize("chunk", range(_CHUNKS))
@pytest.mark.parametrize("kind", ["pairs", "drawn"])
def test_plan_and_run_agree(kind: str, chunk: int) -> None:
    rng = random.Random(chunk)
    forms = pairwise() if kind == "pairs" else drawn(_FORMS, seed=1)
    random.Random(0).shuffle(forms)
    for form in forms[chunk:_FORMS:_CHUNKS]:
        for model in [*COMPOSED, *rng.sample(sorted(SINGLE), 8)]:
            parties = rng.choice([2, 3, 5])
            found = list(disagreements(form, _PROFILES[model], MODELS[model], parties))
            assert not found, f"{model}, {parties} parties: {found}\n{form}\n{source_of(form)}"


@pytest.mark.parametrize("model", ["tied", "shared norm"])
def test_differences_added_in_place_to_a_tensor_with_two_keys(model: str) -> None:
    # Of a tensor that has two keys only the first is loaded here, and it has been added to twice all the same.
    form = HandWritten(
        Reduction(Reductor.SUM, scale=Factor(Operation.OVER, Number.INT)),
        onto=Add.IN_PLACE,
        covers=Covers(floating=True),
        load=Load(How.COPY, names=Covers(parameters=True)),
    )
    found = list(disagreements(form, _PROFILES[model], MODELS[model], 3))
    assert not found, f"{found}\n{source_of(form)}"


def test_there_are_enough_forms() -> None:
    assert len(pairwise()) > 15000
