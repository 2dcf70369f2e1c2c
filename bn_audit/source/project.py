"""The files of a project as importable modules: found by name, parsed once, never run.

A name is looked for where Python would find it when the project is used: beside the importing file, in each folder
above it
up to the project's root, in ``src`` folders, and in the folders that were scanned. What belongs to a known library is
never taken from the project, so that a stray ``torch.py`` changes nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import libcst as cst

from bn_audit.source.names import NameIndex, statements
from bn_audit.source.outside import Outside, Query
from bn_audit.source.parse import parse
from bn_audit.source.raw import SourceError
from bn_audit.source.root import MAX_ABOVE, project_root
from bn_audit.source.scanner import weight
from bn_audit.source.sources import Sources

if TYPE_CHECKING:
    from bn_audit.source.parse import ParsedFile
    from bn_audit.source.taught import Taught

__all__ = ["EXTERNAL_PACKAGES", "Lacking", "Project", "PyModule", "Seen"]

EXTERNAL_PACKAGES = frozenset(
    [
        "bn_audit",
        "torch",
        "torchvision",
        "torchaudio",
        "torchmetrics",
        "timm",
        "tensorflow",
        "keras",
        "numpy",
        "scipy",
        "pandas",
        "sklearn",
        "matplotlib",
        "segmentation_models_pytorch",
        "transformers",
        "lightning",
        "pytorch_lightning",
        "flwr",
        "nvflare",
        "fedml",
        "openfl",
        "fedlab",
        "fl4health",
        "mindspore",
        "ray",
        "jax",
    ]
)
"""Libraries that are known by name: never read from the project, even where it holds a module of that name."""


_MAX_OPENED = 800_000
"""Characters of source that are opened for one file: to parse as many takes a second or two."""


SECRETFLOW_API = frozenset(
    [
        "FLModel",
        "TorchModel",
        "BaseModule",
        "ParametersMixin",
        "PlainAggregator",
        "SecureAggregator",
        "SPUAggregator",
        "SparsePlainAggregator",
        "SparseTensorAggregator",
        "StatefulFedGenAggregator",
    ]
)
"""SecretFlow's classes that are known by name; they are not followed into its own source."""


SECRETFLOW_PACKAGES = frozenset(["secretflow", "secretflow_fl", "sfl"])
"""SecretFlow's own packages: never taken from another project, where a script may well be called ``secretflow.py``."""


def is_secretflow(package: str) -> bool:
    """Whether a top-level package is SecretFlow's: ``secretflow``, ``secretflow_fl``, ``sfl``."""
    return package == "sfl" or package.startswith("secretflow")


_Result = TypeVar("_Result")


class PyModule:
    """A parsed file: its tree, and which top-level statements have to do with a name.

    ``name`` is its dotted name from the topmost folder with an ``__init__.py``; ``package`` the name relative imports
    start from.
    """

    def __init__(self, path: str, parsed: ParsedFile, name: str, taught: Taught | None = None) -> None:
        self.path = path
        self.name = name
        self.parsed = parsed
        self.taught = taught
        self.tree: cst.Module = parsed.module
        self.length = sum(weight(part.source) for part in parsed.parts)
        self.names = NameIndex(self.tree if any("global " in part.source for part in parsed.parts) else None)
        self.is_package = os.path.basename(path).startswith("__init__.")
        self.body: list[cst.CSTNode] = statements(self.tree)
        self._touching: dict[str, list[cst.CSTNode]] | None = None
        self._order: dict[int, int] = {}
        self._derived: dict[object, object] = {}
        self.changed: dict[int, list[tuple[cst.CSTNode, bool]]] = {}
        """By statement: what it binds, or may change in place; filled when a branch is not run."""
        self.pure: dict[int, bool] = {}
        """By function: whether it can be left out where its result is dropped."""
        self.inert: dict[int, bool] = {}
        """By statement: whether running it can change nothing that matters."""
        self.called_attributes: dict[int, frozenset[str]] = {}
        """By class node: attributes of self that its methods call, index or go over."""

    def derive(self, function: Callable[[PyModule], _Result]) -> _Result:
        """What a function makes of the file alone, made once."""
        found = self._derived.get(function)
        if found is None:
            found = self._derived[function] = function(self)
        return cast(_Result, found)

    @property
    def folder(self) -> str:
        return os.path.dirname(self.path)

    def touching(self, name: str) -> list[cst.CSTNode]:
        """The top-level statements that bind or may change a name, in order; ``"*"`` gives the star imports."""
        if self._touching is None:
            table: dict[str, list[cst.CSTNode]] = {}
            for statement in self.body:
                for touched in self.names.names(statement).touches:
                    table.setdefault(touched, []).append(statement)
            self._touching = table
        return self._touching.get(name, [])

    def order(self, statement: cst.CSTNode) -> int:
        """Where a top-level statement stands among the others."""
        if not self._order:
            self._order = {id(row): number for number, row in enumerate(self.body)}
        return self._order[id(statement)]

    def binds(self, name: str) -> bool:
        """Whether some top-level statement binds the name."""
        return any(name in self.names.names(statement).binds for statement in self.touching(name))

    def __repr__(self) -> str:
        return f"PyModule({self.path!r})"


class Lacking(Exception):
    """A module certainly lacks the name that somebody wants of it."""


class Seen(NamedTuple):
    """What was asked of what lies outside, and which files were opened."""

    asked: set[Query]
    opened: set[str]


class Project:
    """All that can be imported from a set of scanned folders. Files are read and parsed when first asked for.

    What is kept here from one question to the next, and on modules, is a function of the files' contents and of what
    ``outside`` has answered: whoever uses it again is noted as having asked the same again.

    Attributes:
        opened: the files that were opened since :meth:`begin`.
        exhausted: whether one was not, because they are too many.
        left: characters of source that may still be opened.
        characters: how much source is kept as trees.
        kept: what others have found out, for as long as the files are kept; see :meth:`watching`.
        whole: files of which the bodies of functions cannot be left until they are needed.
    """

    def __init__(
        self, roots: Sequence[str] = (), outside: Outside | None = None, whole: frozenset[str] = frozenset()
    ) -> None:
        self.whole = whole
        self.roots = [os.path.abspath(root) for root in roots]
        self.outside = Outside(Sources()) if outside is None else outside
        self.opened: set[str] = set()
        self.exhausted = False
        self.characters = 0
        self.left = _MAX_OPENED
        self.kept: dict[object, object] = {}
        self._touched: set[str] = set()
        self.cwd = os.getcwd()
        self._modules: dict[str, tuple[PyModule | SourceError, set[Query]]] = {}
        self._search: dict[str, tuple[list[str], set[Query]]] = {}
        self._shown: dict[str, str] = {}
        self._wanted: str | None = None

    def begin(self) -> None:
        """Begin to count what is opened."""
        self.opened.clear()
        self.exhausted = False
        self.left = _MAX_OPENED

    def limit(self, characters: int) -> None:
        """Open at most so much source more."""
        self.left = min(self.left, characters)

    def open(self, path: str) -> PyModule:
        """The module in a file.

        Raises:
            SourceError: it cannot be read or parsed, and the same again on every later call; or so much has been opened
                since :meth:`begin` that no more is.
        """
        path = os.path.abspath(path)
        self._touched.add(path)
        if path not in self.opened:
            if self.left < 0:
                self.exhausted = True
                raise SourceError("more source to follow than the limit allows")
            self.opened.add(path)
            self.left -= self._length(path)
        known = self._known(path)
        if isinstance(known, SourceError):
            raise known
        return known

    @contextmanager
    def watching(self) -> Iterator[Seen]:
        """What is looked at inside, for whoever keeps what comes of it."""
        before, self._touched = self._touched, set()
        with self.outside.apart() as asked:
            seen = Seen(asked, self._touched)
            try:
                yield seen
            finally:
                before |= self._touched
                self._touched = before

    def seen_again(self, seen: Seen) -> bool:
        """Look at the same once more, which was looked at for something that is kept; False if that is too much."""
        fresh = [path for path in seen.opened if path not in self.opened]
        if self.exhausted or sum(map(self._length, fresh)) > self.left:
            return False
        for path in sorted(fresh):
            self.opened.add(path)
            self.left -= self._length(path)
        for path in seen.opened:
            self._known(path)
        self.outside.again(seen.asked)
        return True

    def _known(self, path: str) -> PyModule | SourceError:
        known = self._modules.get(path)
        if known is None:
            with self.outside.apart() as asked:
                known = self._modules[path] = (self._read(path), asked)
        else:
            self.outside.again(known[1])
        return known[0]

    def _length(self, path: str) -> int:
        module = self._known(path)
        return 0 if isinstance(module, SourceError) else module.length

    def _read(self, path: str) -> PyModule | SourceError:
        try:
            parsed = parse(path, self.outside.read(path), lazily=path not in self.whole)
        except SourceError as error:
            return error
        module = PyModule(path, parsed, self._name(path), self.outside.taught(path))
        self.characters += module.length
        return module

    def _name(self, path: str) -> str:
        folder, file = os.path.split(path)
        parts = [] if file.startswith("__init__.") else [os.path.splitext(file)[0]]
        while self.outside.is_file(os.path.join(folder, "__init__.py")):
            parts.append(os.path.basename(folder))
            above = os.path.dirname(folder)
            if above == folder:
                break
            folder = above
        return ".".join(reversed(parts))

    @contextmanager
    def wanting(self, name: str) -> Iterator[None]:
        """Refuse to open a module that certainly lacks a name, in the one look-up inside.

        Raises:
            Lacking: the module that is found there is such a one.
        """
        self._wanted = name
        try:
            yield
        finally:
            self._wanted = None

    def root(self, path: str) -> str:
        """The root of the project that a file belongs to."""
        return project_root(path, self.outside.is_there)

    def find(self, name: str, importer: PyModule) -> PyModule | None:
        """The module of the project with an absolute dotted name, as seen from an importing file, or None."""
        top = name.partition(".")[0]
        if top in EXTERNAL_PACKAGES or top in sys.stdlib_module_names:
            return None
        if top in SECRETFLOW_PACKAGES and importer.name.partition(".")[0] != top:
            return None
        for folder in self._folders(importer):
            if self._exists(folder, top):
                found = self._below(folder, name)
                if found is not None:
                    return found
        return None

    def relative(self, name: str, level: int, importer: PyModule) -> PyModule | None:
        """The module that ``from ..name import`` means in a file; ``name`` may be empty."""
        folder = importer.folder
        for _ in range(level - 1):
            folder = os.path.dirname(folder)
        return self._below(folder, name) if name else self._package(folder)

    def child(self, package: PyModule, name: str) -> PyModule | None:
        """The submodule of a package (its ``__init__`` file), or None."""
        return self._below(package.folder, name) if package.is_package else None

    def is_external(self, package: str) -> bool:
        """Whether a top-level package is a known library or part of Python."""
        return package in EXTERNAL_PACKAGES or package in sys.stdlib_module_names or is_secretflow(package)

    def secretflow_api(self, module: PyModule, name: str) -> bool:
        """Whether a member of a module of the project is SecretFlow's own class, when SecretFlow itself is scanned."""
        inside = module.is_package or "." in module.name
        return inside and name in SECRETFLOW_API and module.name.partition(".")[0] in SECRETFLOW_PACKAGES

    def subfolder(self, folder: str, name: str) -> str | None:
        """A folder below a folder, or None."""
        path = os.path.join(folder, name)
        return path if self.outside.is_folder(path) else None

    def display(self, path: str) -> str:
        """A path as a message shows it: relative to the working directory where it lies below it."""
        found = self._shown.get(path)
        if found is None:
            relative = os.path.relpath(path, self.cwd)
            found = self._shown[path] = path if relative.startswith("..") else relative
        return found

    def folder_child(self, folder: str, name: str) -> PyModule | None:
        """A module in a folder that may be a namespace package."""
        return self._below(folder, name)

    def namespace(self, name: str, importer: PyModule, level: int = 0) -> str | None:
        """The folder of a namespace package (no ``__init__``), or None."""
        folders = self._folders(importer)
        if level:
            folder = importer.folder
            for _ in range(level - 1):
                folder = os.path.dirname(folder)
            folders = [folder]
        for base in folders:
            path = os.path.join(base, *name.split(".")) if name else base
            if self.outside.is_folder(path):
                return path
        return None

    def _folders(self, importer: PyModule) -> list[str]:
        """Where Python may find what a file imports, in order."""
        known = self._search.get(importer.folder)
        if known is None:
            with self.outside.apart() as asked:
                known = self._search[importer.folder] = (self._search_path(importer.path), asked)
        else:
            self.outside.again(known[1])
        return known[0]

    def _search_path(self, path: str) -> list[str]:
        found = []
        folder = os.path.dirname(path)
        root = self.root(path)
        if root == folder:  # nothing marks a root: what is scanned is taken for the project
            above = [scanned for scanned in self.roots if path.startswith(os.path.join(scanned, ""))]
            root = max(above, key=len, default=root)
        for _ in range(MAX_ABOVE):
            found.append(folder)
            if folder == root or os.path.dirname(folder) == folder:
                break
            folder = os.path.dirname(folder)
        found += [os.path.join(folder, "src") for folder in list(found)]
        for scanned in self.roots:
            found += [scanned, os.path.join(scanned, "src")]
        return list(dict.fromkeys(found))

    def _exists(self, folder: str, name: str) -> bool:
        return any(self.outside.lists(folder, entry) for entry in (name, f"{name}.py", f"{name}.pyi"))

    def _below(self, folder: str, name: str) -> PyModule | None:
        for part in name.split("."):
            last = folder
            folder = os.path.join(folder, part)
        if not self._exists(last, part):
            return None
        return self._package(folder) or self._try(f"{folder}.py") or self._try(f"{folder}.pyi")

    def _package(self, folder: str) -> PyModule | None:
        return self._try(os.path.join(folder, "__init__.py"))

    def _try(self, path: str) -> PyModule | None:
        if not self.outside.lists(*os.path.split(path)) or not self.outside.is_file(path):
            return None
        if self._wanted is not None and not self.outside.gives(path, self._wanted):
            raise Lacking(path)
        try:
            return self.open(path)
        except SourceError:
            return None
