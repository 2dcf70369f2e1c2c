"""The wheel engine: SecretFlow's classes out of a wheel's file, which is unpacked and imported, not installed.

Only the layer that places data on devices is ours (:mod:`bn_audit.live.secretflow_runtime`).
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.live.errors import MissingExtra, TargetError
from bn_audit.live.secretflow_engine import run_classes
from bn_audit.live.verify import Run
from bn_audit.profile import Profile

if TYPE_CHECKING:
    from bn_audit.live.secretflow_runtime import Runtime

__all__ = ["opened", "run_wheel", "version_of"]

_NEEDED = "pandas scipy sparse torchmetrics tqdm"


def run_wheel(
    model: nn.Module, profile: Profile, settings: SecretFlowSettings, wheel: Path, parties: int, rounds: int
) -> Run:
    """Run the classes of a wheel; see :func:`~bn_audit.live.secretflow_engine.run_classes`.

    Raises:
        TargetError: if the wheel cannot be used, or the settings cannot be run in one process.
        MissingExtra: if something that SecretFlow imports is not installed.
    """
    with opened(wheel) as runtime:
        return run_classes(runtime, model, profile, settings, parties, rounds)


@contextmanager
def opened(wheel: Path) -> Iterator[Runtime]:
    """A wheel's classes, as :func:`bn_audit.live.secretflow_runtime.loaded` gives them, unpacked for as long as needed.

    Raises:
        TargetError: if the file is no SecretFlow wheel with FLModel's torch backend.
        MissingExtra: if something that SecretFlow imports is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="bn-audit-") as folder, contextlib.ExitStack() as stack:
        try:
            from bn_audit.live.secretflow_runtime import loaded

            runtime = stack.enter_context(loaded(wheel, Path(folder)))
        except FileNotFoundError as error:
            raise TargetError(
                f"{wheel}: cannot be read as a wheel, there is no such file; "
                "an engine is contract, secretflow (as installed) or the path of a wheel"
            ) from error
        except (OSError, zipfile.BadZipFile) as error:
            raise TargetError(f"{wheel}: cannot be read as a wheel: {error}") from error
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing.startswith("secretflow"):
                raise TargetError(f"{wheel}: this wheel has no FLModel for torch ({error})") from error
            raise MissingExtra(
                f"SecretFlow's classes need {missing}, which is not installed: pip install {_NEEDED}"
            ) from error
        except (ImportError, KeyError, AttributeError) as error:
            raise TargetError(f"{wheel}: this wheel has no FLModel for torch ({error})") from error
        except Exception as error:
            # Of what it imports; torchvision, say, that was built for another torch.
            raise TargetError(f"{wheel}: cannot be imported here: {type(error).__name__}: {error}") from error
        yield runtime


def version_of(wheel: Path) -> str | None:
    """The version in a wheel's file name; None if it has none."""
    match = re.match(r"secretflow(?:_fl)?-([0-9][^-]*)-", wheel.name)
    return match[1] if match else None
