"""What tests of training without Ray share: a tiny model, and workers that train trial after trial of a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny_model import save_tiny_model
from tests.training_workers import Workers, training_workers


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def one() -> Iterator[Workers]:
    """One worker."""
    with training_workers(1) as workers:
        yield workers


@pytest.fixture(scope="module")
def two() -> Iterator[Workers]:
    """Two workers of one process group."""
    with training_workers(2) as workers:
        yield workers
