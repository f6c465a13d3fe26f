"""A base model that is another than at the last run."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import run_kp

STAGES = ("facts", "categorise", "parts", "search", "evaluate")


def states(plan: str) -> dict[str, str]:
    """The last column of each stage's first line in a printed plan."""
    rows = dict(re.findall(r"^│ (\w+)\b.*│ ([^│]+?) +│$", plan, re.MULTILINE))
    return {stage: rows[stage] for stage in STAGES}


@pytest.fixture
def weights(tiny_study: Path) -> Iterator[Path]:
    """The weights of the study's model, put back at the end."""
    path = tiny_study.parent / "model" / "model.safetensors"
    kept = path.read_bytes()
    yield path
    path.write_bytes(kept)


def test_base_model_whose_weights_changed_is_measured_anew(tiny_copy: Path, tiny_study: Path, weights: Path) -> None:
    plan = ("study", tiny_study, "--results", tiny_copy, "--dry-run")
    assert states(run_kp(*plan).stdout) == dict.fromkeys(STAGES, "done")
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert states(run_kp(*plan).stdout) == {**dict.fromkeys(STAGES, "to do"), "facts": "done"}
