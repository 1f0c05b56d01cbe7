"""A reader's class out of a file of somebody's own, named as FILE.py:CLASS on the command line and in runs."""

import difflib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

from tmrn_edu.errors import InputError


def is_own(name: str) -> bool:
    """Whether a reader's name is FILE.py:CLASS, and not one of the library's."""
    return ":" in name


def own_class(name: str) -> type[nn.Module]:
    """The class that "my_reader.py:PatchReader" names; the file is run, as `import` runs it.

    Raises InputError for a file that is not there or does not run, and for a class that it does not have. Source: ours.
    """
    path, _, wanted = name.rpartition(":")
    if not path or not wanted:
        raise InputError(f"reader is {name!r}, expected FILE.py:CLASS such as my_reader.py:MyReader")
    if Path(path).suffix != ".py" or not Path(path).is_file():
        raise InputError(f"reader is {name!r}, but there is no Python file {path}; expected FILE.py:CLASS")
    module = _run(Path(path))
    found = getattr(module, wanted, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        own = [n for n, one in vars(module).items() if isinstance(one, type) and one.__module__ == module.__name__]
        there = [n for n in own if issubclass(getattr(module, n), nn.Module)]
        near = difflib.get_close_matches(wanted, there, n=1, cutoff=0.5)
        what = "no class" if found is None else "something else than a reader's class"
        meant = f", did you mean {near[0]}?" if near else ""
        raise InputError(f"{path} has {what} {wanted}{meant or ','} its readers: {', '.join(there) or 'none'}")
    return found


def make_own(kind: type[nn.Module], network: nn.Module) -> nn.Module:
    """One of that class: `kind()`, with `key_channels` and `value_channels` of the network where its `__init__` takes them.

    Raises InputError where it cannot be made so. Source: ours.
    """
    names = [name for name in ("key_channels", "value_channels") if name in inspect.signature(kind).parameters]
    try:
        return kind(**{name: getattr(network, name) for name in names})
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{kind.__name__}({', '.join(names)}) cannot be made: {error}; expected a class that needs no other arguments "
            "than key_channels and value_channels"
        ) from error


def _run(path: Path) -> ModuleType:
    """The file as a module under a name of its own; what lies beside it can be imported by it, as in a script."""
    spec = importlib.util.spec_from_file_location(f"own_reader_{path.stem}", path.resolve())
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(
            f"{path} cannot be run: {type(error).__name__}: {error}; expected a file that can be imported"
        ) from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module
