"""The catalogue: each module of this package that has a ``RULES`` tuple is a family of rules.

There is nothing else to register.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any

from bn_audit.codes import FAMILIES
from bn_audit.rules.rule import Rule

__all__ = ["Catalogue", "catalogue", "rules_about"]

Catalogue = dict[str, Rule[Any]]
"""Code to rule, in the order of the codes."""


@functools.cache
def catalogue() -> Catalogue:
    """Every rule there is."""
    return _of(module.name for module in pkgutil.iter_modules(__path__))


def rules_about(subjects: Iterable[object]) -> Catalogue:
    """The rules that may have to say something of some subjects; no module of others is imported."""
    kinds = {type(subject).__name__ for subject in subjects}
    return _of(dict.fromkeys(family for kind in sorted(kinds) for family in FAMILIES.get(kind, ())))


def _of(families: Iterable[str]) -> Catalogue:
    modules = (importlib.import_module(f"{__name__}.{family}") for family in families)
    return collect(rule for module in modules for rule in getattr(module, "RULES", ()))


def collect(rules: Iterable[Rule[Any]]) -> Catalogue:
    """Rules by code.

    Raises:
        ValueError: two rules share a code or a name.
    """
    found: Catalogue = {}
    names: dict[str, str] = {}
    for rule in sorted(rules, key=lambda rule: rule.code):
        if rule.code in found:
            raise ValueError(f"{rule.code} is the code of both {found[rule.code].name} and {rule.name}")
        if rule.name in names:
            raise ValueError(f"{rule.name} is the name of both {names[rule.name]} and {rule.code}")
        found[rule.code] = rule
        names[rule.name] = rule.code
    return found
