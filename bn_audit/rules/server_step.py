"""A running variance is no weight: noise and momentum can make it negative.

Servers do more than average. FedAvgM and FedAdam move the global state by what gathers over the rounds; differential
privacy adds noise to it. Written as a loop over all keys, both act on BatchNorm's running statistics too. A mean may be
anything, but a variance that has become negative has no root: every output of the layer is NaN from then on.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.federation import Participant, ServerStepSite
from bn_audit.filters import picked
from bn_audit.finding import Evidence, Finding, Severity
from bn_audit.profile import StateEntry
from bn_audit.rules.averaging_case import counts, distinct, model_trail, of_models
from bn_audit.rules.averaging_examples import server_step_example
from bn_audit.rules.rule import Rule
from bn_audit.rules.wording import listed

__all__ = ["RULES"]

_SHOWN = 2


def _reached(site: ServerStepSite, participant: Participant) -> list[StateEntry]:
    """The running statistics that the step certainly acts on."""
    norms = {norm.path for norm in participant.profile.norms if counts(norm)}
    return [
        entry
        for entry in participant.profile.entries
        if entry.module in norms
        and entry.name.startswith("running_")
        and picked(site.covers, entry, participant.profile)
    ]


def _steps(site: ServerStepSite) -> Iterator[Finding]:
    hit = [one for one in site.participants if _reached(site, one)]
    if not hit:
        return
    rows = [(one, [entry.key for entry in _reached(site, one)]) for one in hit]
    variances = [key for key in rows[0][1] if key.endswith("running_var")]
    does = "noise is added to" if site.kind == "noise" else "the server's momentum moves"
    risk = f"; {listed(variances)} can turn negative, and the output NaN" if variances else ""
    steps: list[Evidence] = [step for step in (site.averaging, site.load) if step is not None]
    steps.extend(step for one in hit[:_SHOWN] for step in model_trail(one))
    yield STEP.finding(
        site.location,
        f"{does} running statistics: {of_models(rows, goes_on=False)}{risk}",
        evidence=distinct(steps, site.location),
        help="leave out what is no parameter (`dict(model.named_parameters())` has the keys), or all of BatchNorm",
    )


STEP = Rule(
    code="BNA208",
    name="server-step-on-statistics",
    severity=Severity.WARNING,
    summary="A server's momentum, or noise, acts on running statistics",
    finds="""\
In a federation whose averaged state is loaded back: noise that is added to every entry, there or by a function that
gives back what it is given with noise, or a momentum that gathers over the rounds and moves every entry, BatchNorm's
running statistics among them.""",
    why="""\
Optimisers and noise are made for weights, where any value will do. A running variance must not be negative: the layer
divides by its root, and every output is NaN from there on. Short of that, the statistics describe no data at all.""",
    remedy="""\
Let the step go over parameters only, or leave all of BatchNorm out by module type. For differential privacy, use a
model without running statistics (GroupNorm), or keep them with the parties.""",
    silent="""\
- The state is not seen to be combined from several parties' and loaded back.
- A condition leaves running statistics out, or the loop goes over parameters alone.
- No model with BatchNorm can be followed to it.""",
    fix_safety="No edit is offered.",
    references=(
        "Reddi et al., Adaptive Federated Optimization, ICLR 2021, arXiv:2003.00295",
        "Hsu, Qi and Brown, Measuring the Effects of Non-Identical Data Distribution for Federated Visual "
        "Classification, arXiv:1909.06335",
    ),
    bad=(
        server_step_example("average[key] = average[key] + torch.randn_like(average[key].float()) * 0.01"),
        server_step_example(
            "momentum[key] = 0.9 * momentum[key] + (average[key] - before[key])",
            "average[key] = before[key] + momentum[key]",
        ),
    ),
    good=(
        server_step_example(
            "average[key] = average[key] + torch.randn_like(average[key].float()) * 0.01", norm="nn.GroupNorm(2, 8)"
        ),
        server_step_example(
            "if key in dict(model.named_parameters()):",
            "    average[key] = average[key] + torch.randn_like(average[key]) * 0.01",
        ),
    ),
    judges=ServerStepSite,
    check=_steps,
)

RULES = (STEP,)
