"""States of several parties become one, BatchNorm's among them.

Most federated code averages by hand: a loop over the keys of a state dict, a loop over the clients, a sum and a
division. BatchNorm has three kinds of entries that a loop over all keys takes along. Its counter of batches is an
integer, on which the arithmetic raises or which it truncates. Its running statistics describe one party's data; their
mean describes nobody's. And its weight and bias are scaled by these statistics, so that sharing one without the other
leaves each party with a layer that was trained for another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bn_audit.federation import AveragingSite, ExchangeSite
from bn_audit.filters import EVERYTHING, All, Equals, Test, text_of
from bn_audit.finding import Finding, Severity
from bn_audit.profile import StateEntry
from bn_audit.rules.averaging_case import (
    Judged,
    Misfit,
    judge_averaging,
    keeps_batchnorm,
    misfits,
    models_named,
    of_models,
    trail_of,
)
from bn_audit.rules.averaging_examples import averaging_example, fedbn_example
from bn_audit.rules.exchange_case import half_exchanges, wrong_filters
from bn_audit.rules.exchange_examples import NAMES, NO_BATCHNORM, OTHER_KEYS, flower_client
from bn_audit.rules.exchange_examples import PARAMETERS as SENT_PARAMETERS
from bn_audit.rules.rule import Rule
from bn_audit.rules.wording import listed, norm_names

__all__ = ["RULES"]


def _integers(site: AveragingSite) -> Iterator[Finding]:
    stopped = [one for one in judge_averaging(site) if one.error is not None and _counter_stops(one)]
    if not stopped:
        return
    error = stopped[0].error
    assert error is not None
    stops = [(one.participant, [one.error.key]) for one in stopped if one.error is not None and one.error.key]
    sure = "" if error.text_certain else "most likely "
    yield INTEGERS.finding(
        site.location,
        f"averaging stops at {of_models(stops, goes_on=False)}, {sure}with {error.type}: "
        f"{' '.join(error.text.split())}",
        evidence=trail_of(site, stopped),
        help=_HELP,
    )


def _counter_stops(judged: Judged) -> bool:
    """Whether it is an integer of BatchNorm's at which the arithmetic stops."""
    error = judged.error
    return error is not None and any(entry.key == error.key for entry in judged.shared)


def _shares(site: AveragingSite) -> Iterator[Finding]:
    judged = judge_averaging(site)
    if site.what != "state" or any(_counter_stops(one) for one in judged) or _is_a_choice(site):
        return
    if _names_statistics(site.covers):
        return
    shared = [one for one in judged if one.statistics and one.error is None and misfits(site.covers, one) is None]
    if not shared:
        return
    first = shared[0]
    names = _norms([(one, one.statistics) for one in shared])
    what = "the running statistics" if not _affine(first) else "running statistics, weight and bias"
    yield SHARES.finding(
        site.location,
        f"{what} of {names} are averaged over the parties, and nothing says so",
        evidence=trail_of(site, shared),
        help=_HELP,
    )


def _names_statistics(covers: Test) -> bool:
    """Whether the entries are written out one by one, and running statistics are among them: they are pooled on
    purpose."""
    tests = covers.tests if isinstance(covers, All) else (covers,)
    return any(isinstance(test, Equals) and any("running_" in word for word in test.words) for test in tests)


def _is_a_choice(site: AveragingSite) -> bool:
    """Whether another branch of the same function keeps BatchNorm apart: its condition says what this one does."""
    return any(keeps_batchnorm(covers) for covers in site.beside)


def _affine(judged: Judged) -> bool:
    return any(entry.kind == "parameter" for entry in judged.shared)


def _fragile(site: AveragingSite | ExchangeSite) -> Iterator[Finding]:
    if isinstance(site, ExchangeSite):
        for covers, wrong, told in wrong_filters(site):
            yield FRAGILE.finding(told.place, _mistakes(covers, wrong), evidence=told.evidence, help=_HELP)
        return
    if site.what != "state" or site.covers == EVERYTHING:
        return
    wrong = [found for one in judge_averaging(site) if (found := misfits(site.covers, one)) is not None]
    if not wrong:
        return
    yield FRAGILE.finding(
        site.location,
        _mistakes(site.covers, wrong),
        evidence=trail_of(site, [found.judged for found in wrong]),
        help=_HELP,
    )


def _mistakes(covers: Test, wrong: Sequence[Misfit]) -> str:
    """What a filter gets wrong about the first model, about which others the same, and about which something else."""
    first = _mistake(wrong[0])
    alike = [found.judged.participant for found in wrong if _mistake(found) == first]
    others = [found.judged.participant for found in wrong if _mistake(found) != first]
    more = f", and is wrong about {models_named(others)} too" if others else ""
    return f"the filter `{text_of(covers)}` {first} of {models_named(alike)}{more}"


def _mistake(found: Misfit) -> str:
    parts = []
    if found.missed:
        names = norm_names(found.judged.participant.profile, found.missed)
        if found.whole:
            return f"leaves nothing out, so that all of BatchNorm goes through ({listed(names)})"
        parts.append(f"lets {listed(found.missed)} of BatchNorm through ({listed(names)})")
    if found.caught:
        parts.append(
            f"keeps back {listed(found.caught)}, which {'is' if len(found.caught) == 1 else 'are'} no BatchNorm's"
        )
    return " and ".join(parts)


def _parameters(site: AveragingSite | ExchangeSite) -> Iterator[Finding]:
    if isinstance(site, ExchangeSite):
        for told in half_exchanges(site):
            yield PARAMETERS.finding(told.place, told.message, evidence=told.evidence, help=_HALF_HELP)
        return
    if site.what != "parameters":
        return
    halves = [one for one in judge_averaging(site) if one.shared and one.error is None]
    if not halves:
        return
    names = _norms([(one, one.shared) for one in halves])
    yield PARAMETERS.finding(
        site.location,
        f"only parameters are averaged: weight and bias of {names} are shared, and the running "
        f"statistics they were trained with are not",
        evidence=trail_of(site, halves),
        help=_HALF_HELP,
    )


def _norms(rows: Sequence[tuple[Judged, Sequence[StateEntry]]]) -> str:
    """The norm layers that own some entries of models."""
    return of_models(
        [
            (one.participant, norm_names(one.participant.profile, [entry.key for entry in entries]))
            for one, entries in rows
        ]
    )


_HELP = (
    'leave BatchNorm\'s entries out of the average, by module and not by name: `[f"{name}.{key}" for name, module in '
    "model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm) for key in module.state_dict()]` are "
    "their keys; each party keeps its own"
)
_HALF_HELP = "keep weight and bias of BatchNorm with each party as well, or average its statistics too, on purpose"
_WHY = """\
A BatchNorm in a state dict is five entries. `num_batches_tracked` is a 0-d int64: in-place arithmetic with floats
raises on it, and so do `mean()` and `from_numpy` of what NumPy makes of it. `running_mean` and `running_var` are
statistics of one party's data; averaged, every party normalises with statistics that are nobody's, and the variance
between the parties' means is lost altogether. Nothing says so while it happens: the loss is a little higher, and the
model worse for the parties whose data differs most."""
_SILENT = """\
- No model with BatchNorm can be followed to the averaging: over imports, calls, attributes, lists, constructors.
- What is averaged is not the state of several live parties that goes back into a model: checkpoints of one training,
  teachers, exponential averages over time, prototypes, gradients; models that were trained apart and are merged once,
  in files that speak of merging and of nobody who trains together.
- It stands in a branch that a constant of the program rules out: `SECURE = True`, which nothing sets anew.
- `all_reduce` in a program that does not say that it is federated: one model trained on many machines.
- A filter keeps BatchNorm out, by module or by key, and the model's keys prove it right.
- BatchNorm keeps no running statistics (`track_running_stats=False`), or has been replaced."""
_REFERENCES = (
    "Li et al., FedBN: Federated Learning on Non-IID Features via Local Batch Normalization, ICLR 2021, "
    "arXiv:2102.07623",
    "McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS 2017, "
    "arXiv:1602.05629",
)
_FIX_SAFETY = "No edit is offered: what is to stay with a party is the author's decision."

INTEGERS = Rule(
    code="BNA201",
    name="average-integer-state",
    severity=Severity.ERROR,
    summary="Averaging raises on BatchNorm's integer counter",
    finds="""\
An averaging of parties' states whose arithmetic certainly raises on `num_batches_tracked` of a model that takes
part: `+=`, `*=`, `/=` or `add_` with floats on the int64 entry, `torch.stack(...).mean`, NumPy scalars that go back
through `from_numpy`, a sum of differences that is scaled and added to the server's own entries. Where a model is one of
several, the message says when it is the one.""",
    why=_WHY,
    remedy="""\
Leave BatchNorm's entries out of the average, by module type. If it is to be averaged, on purpose, take the counter
from one party and average the rest in floating point.""",
    silent=f"""\
{_SILENT}
- The project pins a torch before 1.3: what its arithmetic did with mixed types is not known here. BNA202 says what is
  averaged.""",
    fix_safety=_FIX_SAFETY,
    references=_REFERENCES,
    bad=(averaging_example("average[key] += state[key] * weight"), averaging_example(form="stack")),
    good=(
        averaging_example("average[key] += state[key] * weight", norm="nn.GroupNorm(2, 8)"),
        averaging_example("average[key] += state[key] * weight", skip='if "bn" in key:'),
    ),
    judges=AveragingSite,
    check=_integers,
)

SHARES = Rule(
    code="BNA202",
    name="average-shares-batchnorm",
    severity=Severity.WARNING,
    summary="BatchNorm's running statistics are averaged over the parties, in silence",
    finds="""\
An averaging of parties' states that takes BatchNorm's running statistics along without an error: entry by entry, as
differences, or as one vector, in which the integer counter becomes a float. A dtype guard that steps over the counter
does not change that.""",
    why=_WHY,
    remedy="""\
Leave BatchNorm's entries out of the average, by module type, as `FedBNAggregator` of `bn_audit.federated` does. Where
its statistics are pooled on purpose, silence the rule at this place, with the reason.""",
    silent=f"""\
{_SILENT}
- Another branch of the same function keeps BatchNorm apart, so that a setting chooses between the two.
- The entries that are averaged are written out key by key, and running statistics are among them.""",
    fix_safety=_FIX_SAFETY,
    references=_REFERENCES,
    bad=(
        averaging_example("average[key] = average[key] + state[key] * weight"),
        averaging_example("average[key] += state[key] * weight", skip='if "num_batches_tracked" in key:'),
    ),
    good=(
        fedbn_example(),
        averaging_example("average[key] = average[key] + state[key] * weight", norm="nn.GroupNorm(2, 8)"),
        averaging_example("average[key] = average[key] + state[key] * weight", skip='if "bn" in key:'),
        averaging_example(
            "average[key] = average[key] + state[key] * weight", norm="nn.BatchNorm2d(8, track_running_stats=False)"
        ),
    ),
    judges=AveragingSite,
    check=_shares,
)

FRAGILE = Rule(
    code="BNA203",
    name="fragile-name-filter",
    severity=Severity.ERROR,
    summary="A filter by name misses a BatchNorm, or catches what is none",
    finds="""\
An averaging, or a client's exchange, that leaves entries out by their names, where the keys of a model that takes part
prove the filter wrong: entries of one BatchNorm are left out and those of another go through, no entry is left out at
all, or an entry of another layer is left out because its name looks like BatchNorm's. The message lists the keys.""",
    why="""\
Names are habits. torchvision's ResNets have BatchNorms called `downsample.1`, MobileNets have `features.0.1`, and
"subnet" contains "bn". Of 1,576 architectures with BatchNorm, `"bn" in key` misses some of it in 682. What slips
through is averaged, half of a model's BatchNorms local and half of them shared.""",
    remedy="""\
Ask the modules: collect the keys of every module that is an instance of `torch.nn.modules.batchnorm._BatchNorm`, and
leave those out.""",
    silent="""\
- The keys prove the filter right, whatever it is.
- It does not mean BatchNorm: `"fc" in key` keeps a head local.
- It keeps the statistics of every BatchNorm and shares weight and bias of every one (SiloBN), or steps over the counter
  alone (BNA202 speaks of what is left).
- The model's keys are not known.""",
    fix_safety=_FIX_SAFETY,
    references=_REFERENCES,
    bad=(
        averaging_example(
            "average[key] = average[key] + state[key] * weight",
            skip='if "bn" in key:',
            more="self.downsample = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))",
        ),
        averaging_example(
            "average[key] = average[key] + state[key] * weight",
            skip='if "bn" in key:',
            more="self.subnet = nn.Linear(8, 8)",
        ),
        flower_client(
            sends=NO_BATCHNORM,
            keys=OTHER_KEYS,
            strict=False,
            more="self.downsample = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))",
        ),
    ),
    good=(
        averaging_example("average[key] = average[key] + state[key] * weight", skip='if "bn" in key:'),
        flower_client(sends=NO_BATCHNORM, keys=OTHER_KEYS, strict=False),
    ),
    judges=AveragingSite | ExchangeSite,
    check=_fragile,
)

PARAMETERS = Rule(
    code="BNA207",
    name="parameters-only-exchange",
    severity=Severity.WARNING,
    summary="`parameters()` alone travel: BatchNorm's weight and bias without its statistics",
    finds="""\
An averaging that goes over `parameters()` of models with BatchNorm, be it entry by entry, as one vector
(`parameters_to_vector`, `torch.cat`) or by `all_reduce` over the processes of a federation, or a client of a framework
that sends nothing else: weight and bias are shared, running statistics are buffers and stay with each party, or with
the server for ever as they were at first.""",
    why="""\
Weight and bias of a BatchNorm are trained together with the statistics they scale. Shared without them, each party
applies the others' scale to its own statistics. The server's model, which nobody trains, keeps a mean of 0 and a
variance of 1: evaluated there, the global model is wrong however good the parties' are.""",
    remedy="""\
Decide for one: FedBN keeps weight, bias and statistics with each party; FedAvg over `state_dict()` shares them all. If
the statistics are to stay local and the rest shared (SiloBN), evaluate with each party's own, and silence the rule
here, with the reason.""",
    silent=f"""\
{_SILENT}
- A client of a framework asks for names (`named_parameters()` with a filter), or its code treats BatchNorm by name or
  by type: somebody chose.""",
    fix_safety=_FIX_SAFETY,
    references=(
        *_REFERENCES,
        "Andreux et al., Siloed Federated Learning for Multi-Centric Histopathology Datasets, DART 2020, "
        "arXiv:2008.07424",
    ),
    bad=(
        averaging_example(form="parameters"),
        flower_client(sends=SENT_PARAMETERS, keys=NAMES, strict=False),
    ),
    good=(
        averaging_example(form="parameters", norm="nn.GroupNorm(2, 8)"),
        flower_client(sends=SENT_PARAMETERS, keys=NAMES, strict=False, norm="nn.GroupNorm(2, 8)"),
    ),
    judges=AveragingSite | ExchangeSite,
    check=_parameters,
    yields_to=("BNA207",),
)

RULES = (INTEGERS, SHARES, FRAGILE, PARAMETERS)
