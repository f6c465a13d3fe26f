"""Real data for tests: files that are no part of the repository, in a folder that KP_REAL_DATA names, by default shared/data beside it."""

import os
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

VARIABLE = "KP_REAL_DATA"
FOLDER = Path(os.environ.get(VARIABLE) or REPOSITORY.parent / "shared" / "data")


def needs_real(*names: str) -> pytest.MarkDecorator:
    """Skip tests where one of these files is missing."""
    missing = [name for name in names if not (FOLDER / name).is_file()]
    reason = f"needs {', '.join(missing)}, no part of the repository: ${VARIABLE} names a folder that has them"
    return pytest.mark.skipif(bool(missing), reason=reason)
