"""The files of a project as importable modules: found by name, parsed once, never run.

A name is looked for where Python would find it when the project is used: beside the importing file, in each folder
above it
up to the project's root, in ``src`` folders, and in the folders that were scanned. What belongs to a known library is
never taken from the project, so that a stray ``torch.py`` changes nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.names import NameIndex, statements
from bn_audit.source.parse import parse
from bn_audit.source.root import MAX_ABOVE, project_root
from bn_audit.source.text import SourceError, read_bytes

if TYPE_CHECKING:
    from bn_audit.source.parse import ParsedFile
    from bn_audit.source.taught import Taught, Teacher

__all__ = ["EXTERNAL_PACKAGES", "Project", "PyModule", "project_root"]

EXTERNAL_PACKAGES = frozenset(
    [
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
        "mindspore",
        "ray",
        "jax",
    ]
)
"""Libraries that are known by name: never read from the project, even where it holds a module of that name."""


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


class PyModule:
    """A parsed file: its tree, and which top-level statements have to do with a name.

    ``name`` is its dotted name from the topmost folder with an ``__init__.py``; ``package`` the name relative imports
    start from.
    """

    def __init__(self, path: str, parsed: ParsedFile, taught: Taught | None = None) -> None:
        self.path = path
        self.parsed = parsed
        self.taught = taught
        self.tree: cst.Module = parsed.module
        self.names = NameIndex(self.tree if any("global " in part.source for part in parsed.parts) else None)
        self.is_package = os.path.basename(path).startswith("__init__.")
        self.body: list[cst.CSTNode] = statements(self.tree)
        self._touching: dict[str, list[cst.CSTNode]] | None = None
        self._order: dict[int, int] = {}
        self._name: str | None = None
        self.changed: dict[int, list[tuple[cst.CSTNode, bool]]] = {}
        """By statement: what it binds, or may change in place; filled when a branch is not run."""
        self.pure: dict[int, bool] = {}
        """By function: whether it can be left out where its result is dropped."""
        self.inert: dict[int, bool] = {}
        """By statement: whether running it can change nothing that matters."""
        self.called_attributes: dict[int, frozenset[str]] = {}
        """By class node: attributes of self that its methods call, index or go over."""

    @property
    def folder(self) -> str:
        return os.path.dirname(self.path)

    @property
    def name(self) -> str:
        if self._name is None:
            parts = [] if self.is_package else [os.path.splitext(os.path.basename(self.path))[0]]
            folder = self.folder
            while os.path.isfile(os.path.join(folder, "__init__.py")):
                parts.append(os.path.basename(folder))
                above = os.path.dirname(folder)
                if above == folder:
                    break
                folder = above
            self._name = ".".join(reversed(parts))
        return self._name

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


class Project:
    """All that can be imported from a set of scanned folders. Files are read and parsed when first asked for.

    ``contents`` is read in place of what stands in files, by absolute path; ``teacher`` says what a file's settings
    teach.
    """

    def __init__(
        self,
        roots: Sequence[str] = (),
        contents: Mapping[str, bytes] | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.roots = [os.path.abspath(root) for root in roots]
        self._contents = contents or {}
        self._teacher = teacher
        self._modules: dict[str, PyModule | SourceError] = {}
        self._found: dict[tuple[str, str], str | None] = {}
        self._listings: dict[str, frozenset[str]] = {}
        self._search: dict[str, list[str]] = {}
        self.parsed: set[str] = set()
        self.cwd = os.getcwd()
        self._shown: dict[str, str] = {}

    def data(self, path: str) -> bytes:
        """The content of a file, by its absolute path; SourceError if it cannot be read."""
        found = self._contents.get(path)
        return read_bytes(path) if found is None else found

    def open(self, path: str, data: bytes | None = None) -> PyModule:
        """The module in a file; SourceError if it cannot be read or parsed, and the same again on every later call."""
        path = os.path.abspath(path)
        found = self._modules.get(path)
        if found is None:
            self.parsed.add(path)
            try:
                parsed = parse(path, self.data(path) if data is None else data)
                found = PyModule(path, parsed, None if self._teacher is None else self._teacher(path))
            except SourceError as error:
                found = error
            self._modules[path] = found
        if isinstance(found, SourceError):
            raise found
        return found

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
        return path if os.path.isdir(path) else None

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
            if os.path.isdir(path):
                return path
        return None

    def _folders(self, importer: PyModule) -> list[str]:
        found = self._search.get(importer.folder)
        if found is None:
            found = []
            root = project_root(importer.path)
            if root == importer.folder:  # nothing marks a root: what is scanned is taken for the project
                above = [scanned for scanned in self.roots if importer.path.startswith(os.path.join(scanned, ""))]
                root = max(above, key=len, default=root)
            folder = importer.folder
            for _ in range(MAX_ABOVE):
                found.append(folder)
                if folder == root or os.path.dirname(folder) == folder:
                    break
                folder = os.path.dirname(folder)
            found += [os.path.join(folder, "src") for folder in list(found)]
            for scanned in self.roots:
                found += [scanned, os.path.join(scanned, "src")]
            found = list(dict.fromkeys(found))
            self._search[importer.folder] = found
        return found

    def _exists(self, folder: str, name: str) -> bool:
        listing = self._listing(folder)
        return name in listing or f"{name}.py" in listing or f"{name}.pyi" in listing

    def _listing(self, folder: str) -> frozenset[str]:
        found = self._listings.get(folder)
        if found is None:
            try:
                found = frozenset(os.listdir(folder))
            except OSError:
                found = frozenset()
            self._listings[folder] = found
        return found

    def _below(self, folder: str, name: str) -> PyModule | None:
        for part in name.split("."):
            last = folder
            folder = os.path.join(folder, part)
        if not self._exists(last, part):
            return None
        return self._package(folder) or self._try(f"{folder}.py") or self._try(f"{folder}.pyi")

    def _package(self, folder: str) -> PyModule | None:
        if "__init__.py" not in self._listing(folder):
            return None
        return self._try(os.path.join(folder, "__init__.py"))

    def _try(self, path: str) -> PyModule | None:
        folder, name = os.path.split(path)
        if name not in self._listing(folder) or not os.path.isfile(path):
            return None
        try:
            return self.open(path)
        except SourceError:
            return None
