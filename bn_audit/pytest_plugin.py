"""pytest: ``assert_federated_safe``, a fixture that proves a model's settings in a test of one's own.

    def test_the_model_can_be_federated(assert_federated_safe):
        assert_federated_safe(Net(), skip_bn=True, aggregator="secure")
        assert_federated_safe(Net(), framework="flower", keep_norms=True)

pytest loads this module wherever bn-audit is installed, so it imports nothing of weight before the fixture is called.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, Protocol

import pytest

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Unpack

    from bn_audit.clients import ClientOptions
    from bn_audit.verification import Verification

__all__ = ["AssertFederatedSafe", "assert_federated_safe"]


class AssertFederatedSafe(Protocol):
    """What the fixture gives."""

    def __call__(
        self,
        model: nn.Module,
        *,
        framework: Literal["secretflow", "flower", "nvflare"] = "secretflow",
        strategy: str | None = None,
        aggregator: str | None = None,
        skip_bn: bool | None = None,
        local_batchnorm: bool | None = None,
        secretflow_version: str | None = None,
        parties: int = 3,
        rounds: int = 2,
        engine: str | os.PathLike[str] = "contract",
        **options: Unpack[ClientOptions],
    ) -> Verification:
        """See :func:`bn_audit.verify`, whose arguments these are.

        Raises:
            AssertionError: unless the state after the rounds equals FedBN's; it shows the fates.
        """


@pytest.fixture
def assert_federated_safe() -> AssertFederatedSafe:
    """A function that fails the test unless a framework's exchange does with a model what FedBN wants."""

    def check(
        model: nn.Module,
        *,
        framework: Literal["secretflow", "flower", "nvflare"] = "secretflow",
        strategy: str | None = None,
        aggregator: str | None = None,
        skip_bn: bool | None = None,
        local_batchnorm: bool | None = None,
        secretflow_version: str | None = None,
        parties: int = 3,
        rounds: int = 2,
        engine: str | os.PathLike[str] = "contract",
        **options: Unpack[ClientOptions],
    ) -> Verification:
        __tracebackhide__ = True
        from bn_audit.api import verify
        from bn_audit.report.verifications import Look
        from bn_audit.report.verifications.text import render

        verification = verify(
            model,
            framework,
            strategy=strategy,
            aggregator=aggregator,
            skip_bn=skip_bn,
            local_batchnorm=local_batchnorm,
            secretflow_version=secretflow_version,
            parties=parties,
            rounds=rounds,
            engine=engine,
            **options,
        )
        if not verification.ok:
            raise AssertionError("\n".join(render(verification, Look(width=100))))
        return verification

    return check
