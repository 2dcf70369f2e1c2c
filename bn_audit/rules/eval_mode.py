"""A strategy that never puts the model back into training mode.

``evaluate()`` and validation during ``fit()`` call ``model.eval()``. Some of SecretFlow's strategies call
``model.train()`` before they train, some never do; with those the model stays in eval mode from the first evaluation
on. BatchNorm then normalises training batches with its running statistics and no longer updates them.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.exchange.secretflow import strategy
from bn_audit.finding import Finding, Severity
from bn_audit.rules.case import FLModelCase
from bn_audit.rules.examples import federation
from bn_audit.rules.rule import Rule
from bn_audit.rules.wording import listed, model_name, trail
from bn_audit.site import FLModelCall

__all__ = ["RULES"]


def _check(case: FLModelCase) -> Iterator[Finding]:
    if not case.models or not all(_concerns(reading) for reading in case.readings):
        return
    first = case.readings[0]
    assert first.model is not None
    norms = [norm.path or "the root" for norm in first.model.norms if norm.tracked]
    known = dict.fromkeys(str(reading.strategy) for reading in case.readings)
    layers = listed(norms)
    evidence = trail(case, lambda way: ())
    places = {step.location for step in evidence}
    moments = tuple(step for step in first.trains_after_eval if step.location not in places)
    yield RULE.finding(
        case.site.location,
        f"after the first evaluation {model_name(first)} trains in eval mode: the strategy "
        f"{' or '.join(known)} never calls "
        f"`model.train()`, so {layers} normalise{'s' if len(norms) == 1 else ''} with running statistics "
        "that no longer change",
        evidence=(*evidence, *moments),
        help="call `self.train()` at the beginning of the model's own `training_step` (a BaseModule), use "
        "a strategy that does "
        "(fed_avg_w, scaffold, moon), or evaluate only after the last `fit`",
    )


def _concerns(reading: FLModelCall) -> bool:
    known = strategy(reading.backend, reading.strategy)
    return (
        known is not None
        and not known.calls_train
        and bool(reading.trains_after_eval)
        and reading.model is not None
        and any(norm.tracked and norm.family != "other" for norm in reading.model.norms)
    )


RULE = Rule(
    code="BNA303",
    name="strategy-trains-in-eval-mode",
    severity=Severity.WARNING,
    summary="The strategy never calls `model.train()`, and an evaluation comes before training ends",
    finds="""\
A call of SecretFlow's `FLModel` on the torch backend with a strategy that never calls `model.train()` (fed_prox,
fed_avg_g, fed_avg_u, fed_scr, fed_stc) and a model with running statistics, where `fit()` is given `validation_data`,
or the model is evaluated before another `fit()`.""",
    why="""\
Evaluation leaves the model in eval mode, and nothing ends that. From then on BatchNorm normalises training batches
with running statistics, which no longer follow the data, and dropout is off. Nothing fails; accuracy stays below what
it could be.""",
    remedy="""\
Call `self.train()` at the beginning of the model's own `training_step`; or use fed_avg_w, scaffold or moon, which call
`model.train()`; or evaluate only after the last `fit()`.""",
    silent="""\
- The strategy is not known, the backend is TensorFlow (Keras is told the mode at every forward), or no evaluation is
  seen.
- The model has no layer that is known to keep running statistics.""",
    fix_safety="No edit is offered.",
    references=("SecretFlow 1.13.0b0: `secretflow_fl/ml/nn/fl/backend/torch/strategy/`, `fl_base.py`",),
    bad=(
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.fc = nn.Linear(8 * 26 * 26, 10)",
            "self.bn = nn.BatchNorm2d(8)",
            aggregator="SparsePlainAggregator",
            settings=('strategy="fed_stc"', "skip_bn=True"),
            after="fl_model.fit(train_data, train_label, validation_data=(test_data, test_label), epochs=10)",
        ),
    ),
    good=(
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.fc = nn.Linear(8 * 26 * 26, 10)",
            "self.bn = nn.BatchNorm2d(8)",
            aggregator="PlainAggregator",
            settings=('strategy="fed_avg_w"', "skip_bn=True"),
            after="fl_model.fit(train_data, train_label, validation_data=(test_data, test_label), epochs=10)",
        ),
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.fc = nn.Linear(8 * 26 * 26, 10)",
            "self.bn = nn.BatchNorm2d(8)",
            aggregator="SparsePlainAggregator",
            settings=('strategy="fed_stc"', "skip_bn=True"),
            after="fl_model.fit(train_data, train_label, epochs=10)\nfl_model.evaluate(test_data, test_label)",
        ),
    ),
    judges=FLModelCase,
    check=_check,
)

RULES = (RULE,)
