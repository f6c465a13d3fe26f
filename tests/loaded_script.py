"""A program of scripts/ as a module."""

import importlib.util
import sys
from types import ModuleType

from tests.conftest import REPOSITORY


def load_script(name: str) -> ModuleType:
    """The program of this name, without running it."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
