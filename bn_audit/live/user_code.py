"""Running the code that a TARGET names, as ``python file.py`` would run it, and telling its errors from ours.

Nothing is left behind in the user's folders, what the code prints goes to stderr (stdout is the report's), and a
traceback shows the user's frames only.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType

from bn_audit.live.errors import TargetError

__all__ = ["import_file", "import_name", "running", "staying", "stdout_to_stderr"]

_OURS = str(Path(__file__).resolve().parent.parent) + os.sep
_MACHINERY = ("<frozen importlib", "<frozen runpy", str(Path(importlib.__file__).parent) + os.sep)


@contextmanager
def running(what: str, script: str | None = None) -> Iterator[None]:
    """The surroundings in which user code runs.

    Args:
        what: the words an error begins with: "importing model.py".
        script: what ``sys.argv[0]`` is meanwhile; the code shall not see our own arguments.

    Raises:
        TargetError: instead of any exception of the code, ``SystemExit`` among them, with its traceback.
    """
    arguments, writes_bytecode = sys.argv, sys.dont_write_bytecode
    sys.argv = [script if script is not None else arguments[0] if arguments else ""]
    sys.dont_write_bytecode = True
    try:
        with stdout_to_stderr():
            yield
    except TargetError:
        raise
    except SystemExit as error:
        raise TargetError(f"{what} ended the program (sys.exit({error.code!r}))", own_traceback(error)) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # what pytest skips a module with is no Exception
        raise TargetError(f"{what} raised {_summary(error)}", own_traceback(error)) from error
    finally:
        sys.argv, sys.dont_write_bytecode = arguments, writes_bytecode


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """What the user's code prints, and what libraries and child processes write to the descriptor: the report's is
    stdout alone."""
    with redirect_stdout(sys.stderr):
        try:
            kept = os.dup(1) if sys.__stderr__ is not None else None
        except OSError:
            kept = None
        if kept is None:  # one of them is closed; what has its number is some file
            yield
            return
        try:
            os.dup2(2, 1)
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


@contextmanager
def staying() -> Iterator[None]:
    """The working directory is the user's own again afterwards, in which paths of outputs are meant."""
    here = os.getcwd()
    try:
        yield
    finally:
        os.chdir(here)


def import_file(file: Path) -> ModuleType:
    """Import a file under its own name, with its folder first on ``sys.path``, as Python does for a script.

    The folder stays there: what the model imports when it is built or run is found too. ``__name__`` is the file's
    stem, so that what stands under ``if __name__ == "__main__"`` does not run.

    Raises:
        TargetError: if the code raises.
    """
    file = file.resolve()
    _first_on_path(str(file.parent))
    known = sys.modules.get(file.stem)
    taken = known is not None and getattr(known, "__file__", None) != str(file)
    name = f"_bn_audit_target_{file.stem}" if taken else file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise TargetError(f"{file.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # The name must be known while the code runs: dataclasses, pickle and modules that import this one look there.
    sys.modules[name] = module
    try:
        with running(f"importing {file.name}", script=str(file)):
            spec.loader.exec_module(module)
    except TargetError as error:
        del sys.modules[name]
        if "attempted relative import" in str(error):
            package = _package_of(file)
            name_it = (
                f"name it as {package}:ATTRIBUTE" if package else "name it by its dotted name, PACKAGE.MODULE:ATTRIBUTE"
            )
            hint = f"{error}; the file belongs to a package: {name_it}, in the folder that the package lies in"
            raise TargetError(hint, error.traceback) from error
        raise
    return module


def import_name(name: str) -> ModuleType:
    """Import a module by its dotted name, with the working directory first on ``sys.path``, as ``python -m`` does.

    Raises:
        TargetError: if there is no such module, or its code raises.
    """
    _first_on_path(os.getcwd())
    importlib.invalidate_caches()
    with running(f"importing {name}"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                raise TargetError(f"there is no module {error.name!r}; looked in {os.getcwd()} and sys.path") from error
            raise


def own_traceback(error: BaseException) -> str:
    """The traceback of an exception and its causes from the first frame that is the user's on."""
    told = traceback.TracebackException.from_exception(error)
    pending: list[traceback.TracebackException | None] = [told]
    while pending:
        part = pending.pop()
        if part is not None:
            frames = [frame for frame in part.stack if not frame.filename.startswith(_MACHINERY)]
            start = next((n for n, frame in enumerate(frames) if not frame.filename.startswith(_OURS)), len(frames))
            part.stack = traceback.StackSummary.from_list(frames[start:])
            pending += [part.__cause__, part.__context__]
    return "".join(told.format())


def _summary(error: BaseException) -> str:
    try:
        text = str(error).strip()
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def _first_on_path(folder: str) -> None:
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)


def _package_of(file: Path) -> str | None:
    """The dotted name of a file that lies in a package, else None."""
    parts: list[str] = [file.stem]
    folder = file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts) if len(parts) > 1 else None
