"""Pages of HTML, each a file of its own: no network, no other file. The templates of all of them lie in ``templates``.

Whatever comes from a user (names, paths, notes) is escaped where it is put into a page; numbers that a page's script
reads stand in it as JSON that cannot end its element.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["available", "page"]


def available() -> bool:
    """Whether pages can be written: jinja2 is installed."""
    return importlib.util.find_spec("jinja2") is not None


def page(template: str, values: Mapping[str, object]) -> str:
    """A page.

    Args:
        template: the name of its template, without ``.html.j2``.
        values: what the template asks for.

    Raises:
        ImportError: jinja2 is not installed (the extra ``compare``).
    """
    return _environment().get_template(f"{template}.html.j2").render(values) + "\n"


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("bn_audit.report.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
