"""A model of a federation is run in the wrong mode.

A module knows two modes, and nothing changes them but ``train()`` and ``eval()``. In train mode BatchNorm normalises
with the statistics of the batch at hand and moves its running statistics towards them, gradients or no gradients. In
eval mode it normalises with the running statistics, and leaves them alone. A federation switches often: local training,
evaluation, the next round; and what is switched in one function is run in another. Forgotten once, an evaluation
measures another model than the one that will be used, and leaves the test data's statistics in the state that is
exchanged next; or training goes on with statistics that no longer move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bn_audit.federation import EvaluationSite, Participant, TrainingSite
from bn_audit.finding import Applicability, Evidence, Finding, Fix, Severity
from bn_audit.rules.averaging_case import counts, distinct, model_trail, of_models
from bn_audit.rules.mode_examples import mode_example
from bn_audit.rules.rule import Rule

__all__ = ["RULES"]

_MODELS = 2
"""Models whose definitions a trail shows."""


def _evaluation(site: EvaluationSite) -> Iterator[Finding]:
    models = _with_statistics(site.participants)
    if not models:
        return
    how = (
        f"`{site.model}` is still in train mode when it is evaluated here"
        if site.trained
        else f"nothing puts `{site.model}` into eval mode before it is evaluated here"
    )
    names, one = _norms(models)
    fix = None
    if site.edits:
        fix = Fix(Applicability.UNSAFE, f"call `{site.model}.eval()` before", site.edits)
    yield EVALUATION.finding(
        site.location,
        f"{how}: {names} {'normalises' if one else 'normalise'} with the statistics of each batch it is measured on, "
        f"and {'moves its' if one else 'move their'} running statistics towards that data",
        evidence=distinct(
            (*site.through, *site.trained, site.quiet, site.measured, *_trail(models), site.federation), site.location
        ),
        help=f"call `{site.model}.eval()` before, and `{site.model}.train()` before it is trained again",
        fix=fix,
    )


def _training(site: TrainingSite) -> Iterator[Finding]:
    models = _with_statistics(site.participants)
    if not models:
        return
    names, one = _norms(models)
    yield TRAINING.finding(
        site.location,
        f"`{site.model}` is trained in eval mode once it has been evaluated, since nothing calls `train()`: "
        f"{names} {'normalises' if one else 'normalise'} with running statistics that no longer move",
        evidence=distinct((*site.through, *site.evaluated, site.step, *_trail(models), site.federation), site.location),
        help=f"call `{site.model}.train()` at the beginning of each training",
    )


def _with_statistics(participants: Sequence[Participant]) -> list[Participant]:
    return [one for one in participants if any(counts(norm) for norm in one.profile.norms)]


def _norms(models: Sequence[Participant]) -> tuple[str, bool]:
    """The layers that the mode matters to, and whether it is only one."""
    rows = [(model, [norm.path or "the root" for norm in model.profile.norms if counts(norm)]) for model in models]
    return of_models(rows), all(len(names) == 1 and names == rows[0][1] for _, names in rows)


def _trail(models: Sequence[Participant]) -> list[Evidence]:
    return [step for one in models[:_MODELS] for step in model_trail(one)]


_SILENT = """\
- The model cannot be followed from where it is made to where it is run, it certainly keeps no running statistics, or
  nothing shows that it takes part in a federation: that its state is combined with other parties', or that Flower,
  NVFlare or FedML call the code around it.
- The mode is set on any way that leads there: by the function itself, by a caller, by a helper, a method, a context
  manager; or it cannot be followed: `train(flag)`, a model handed to a library, parts that are set one by one."""
_REFERENCES = (
    "PyTorch, torch.nn.Module.train and torch.nn.Module.eval; torch.nn.BatchNorm2d: `momentum`, `track_running_stats`",
    "Ioffe and Szegedy, Batch Normalization, ICML 2015, arXiv:1502.03167, section 3.1",
)

EVALUATION = Rule(
    code="BNA301",
    name="evaluate-in-train-mode",
    severity=Severity.WARNING,
    summary="A model with BatchNorm is evaluated without `eval()` on any way that leads there",
    finds="""\
A model of a federation that is called under `no_grad` or `inference_mode`, whose output is compared with the labels or
handed to a loss or a metric, and which is certainly in train mode there: as it was made, or as training left it.""",
    why="""\
`no_grad` turns off gradients and nothing else. In train mode BatchNorm normalises each batch with that batch's own mean
and variance, so that the result depends on how the data is batched, and is not that of the model in use. It also moves
`running_mean` and `running_var` towards data that is only to be measured: this changes what is exchanged in the next
round. Dropout stays on as well.""",
    remedy="Call `model.eval()` before the evaluation, and `model.train()` before training.",
    silent=f"""\
{_SILENT}
- `train()` is called for the evaluation itself, or statistics are reset or given another momentum: they are
  recalibrated, or adapted to the test data.
- The output is not measured: it is dropped, or kept as features, prototypes or a teacher's opinion.
- The model is trained on the same batch: its output is a target, or tells how sure it is.""",
    fix_safety="""\
The fix writes `model.eval()` right before gradients are turned off, or at the top of the function. It is unsafe: the
figures it changes may have been published. None is offered where the model would then be trained in eval mode.""",
    references=_REFERENCES,
    bad=(mode_example(train=True, eval=False), mode_example(train=False, eval=False)),
    good=(
        mode_example(train=True, eval=True),
        mode_example(train=True, eval=False, norm="nn.GroupNorm(2, 8)"),
    ),
    judges=EvaluationSite,
    check=_evaluation,
)

TRAINING = Rule(
    code="BNA302",
    name="train-in-eval-mode",
    severity=Severity.WARNING,
    summary="A model with BatchNorm is evaluated, and nothing calls `train()` before it is trained again",
    finds="""\
A training loop of a federation (forward, backward, optimizer step) whose model comes from an evaluation that called
`eval()`, on the same object, with no `train()` on any way between; one `train()` where the model is made counts for
nothing.""",
    why="""\
Nothing but `train()` ends eval mode. From the second round on BatchNorm normalises training batches with its running
statistics, which no longer follow the data or the weights; what is averaged over the parties are statistics of the
first round. Dropout is off. Nothing fails: accuracy stays below what it could be.""",
    remedy="Call `model.train()` at the beginning of the function that trains.",
    silent=f"""\
{_SILENT}
- The model is made anew for each training, or is a copy of one that was never evaluated: then it is in train mode.
- The function that trains calls `eval()` itself: BatchNorm is meant to be frozen.
- Gradients are taken for something else than the optimizer: an attack, a penalty.""",
    fix_safety="No edit is offered.",
    references=_REFERENCES,
    bad=(mode_example(train=False, eval=True),),
    good=(
        mode_example(train=True, eval=True),
        mode_example(train=False, eval=True, norm="nn.GroupNorm(2, 8)"),
    ),
    judges=TrainingSite,
    check=_training,
)

RULES = (EVALUATION, TRAINING)
