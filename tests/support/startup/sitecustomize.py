"""Loaded at the start of each Python process that tests start: makes `import transformers` cheaper.

At each import transformers reads 1,600 files of its own, twice, to find which module defines which class: half a second
of CPU. Tests start hundreds of processes that import it, so that table is kept in a file. Nothing else changes.
"""

import marshal
import os
import sys
from importlib.machinery import PathFinder

MODULE = "transformers.utils.import_utils"
FUNCTION = "create_import_structure_from_path"
CACHE = os.environ.get("TEST_STARTUP_CACHE", "")


class Hook:
    """Finds the one module and patches it after it was executed."""

    def find_spec(self, name, path=None, target=None):
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            if hasattr(module, FUNCTION):  # another version may have another name for it
                setattr(module, FUNCTION, kept(getattr(module, FUNCTION)))

        spec.loader.exec_module = exec_module
        return spec


def kept(compute):
    """The same function, its result for `transformers/models` kept in a file."""
    results = {}

    def create_import_structure_from_path(module_path):
        folder = str(module_path)
        folder = folder if os.path.isdir(folder) else os.path.dirname(folder)
        if not folder.endswith(os.path.join("transformers", "models")):
            return compute(module_path)
        if folder not in results:
            results[folder] = from_file(folder, lambda: compute(module_path))
        return results[folder]

    return create_import_structure_from_path


def from_file(folder, compute):
    stat = os.stat(os.path.join(folder, "__init__.py"))
    known = stat.st_mtime_ns, stat.st_ino, stat.st_size, len(os.listdir(folder))
    path = os.path.join(CACHE, f"transformers-{sys.implementation.cache_tag}-{'-'.join(map(str, known))}.marshal")
    try:
        with open(path, "rb") as file:
            return marshal.load(file)
    except (OSError, ValueError, EOFError, TypeError):
        result = compute()
    try:
        beside = f"{path}.{os.getpid()}"
        with open(beside, "wb") as file:
            marshal.dump(result, file)
        os.replace(beside, path)
    except (OSError, ValueError):
        pass  # no cache, and the right table all the same
    return result


def run_shadowed():
    """Run the sitecustomize that this file hides, as Homebrew's and Debian's Python have one."""
    here = os.path.dirname(os.path.abspath(__file__))
    spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if os.path.abspath(path) != here])
    if spec and spec.loader:
        from importlib.util import module_from_spec

        spec.loader.exec_module(module_from_spec(spec))


if CACHE:
    sys.meta_path.insert(0, Hook())
run_shadowed()
