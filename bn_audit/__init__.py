"""bn-audit: what BatchNorm does to a federated PyTorch model, before and after a round runs."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bn_audit.api import audit as audit
    from bn_audit.api import compare as compare
    from bn_audit.api import profile as profile
    from bn_audit.api import verify as verify

__version__ = "0.1.0"


class _Package(ModuleType):
    """The package, which offers functions that modules of its own are named after.

    Importing a submodule binds its name in the package. A property is stronger than that binding, and costs nothing
    before it is asked for; the modules stay what ``from bn_audit.profile import ...`` finds.
    """

    @property
    def audit(self) -> Any:
        from bn_audit import api

        return api.audit

    @audit.setter
    def audit(self, module: ModuleType) -> None: ...

    @property
    def compare(self) -> Any:
        from bn_audit import api

        return api.compare

    @property
    def profile(self) -> Any:
        from bn_audit import api

        return api.profile

    @profile.setter
    def profile(self, module: ModuleType) -> None: ...

    @property
    def verify(self) -> Any:
        from bn_audit import api

        return api.verify


sys.modules[__name__].__class__ = _Package
