"""A training knob is one field: written into a copy of the package, it is found wherever knobs are."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
FIELD = (
    '    label_smoothing: float = Field(0.0, ge=0, lt=1, title="smoothing")\n    """Share of the loss that is spread over all tokens."""\n'
)

# What kp knows of the knobs of one study, told by the copy that this runs in.
TELL = """
import json, sys
from pathlib import Path
from kp.config.study import load_study
from kp.report.labels import KNOBS
from kp.report.summary import summary_table
from kp.study.building import build_graph
from kp.study.identities import Identities
from kp.study.results import trial_columns
from kp.training.spec import TRIALS
from tests.made_up_study import study
graph = build_graph(load_study(Path(sys.argv[1]), sys.argv[2:]), Identities("model", "facts", "shots"))
trial = graph.trials[0]
told = {
    "schema": {field.name: str(field.type) for field in TRIALS},
    "labels": KNOBS,
    "columns": {name: value for name, value in trial_columns(trial).items() if name != "trial_id"},
    "trial": trial.trial_id,
    "steps": [step.fingerprint for step in graph.steps.values()],
    "summary": summary_table(study()).columns,
}
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of kp whose TrainingConfig has one field more; nothing else is touched."""
    root = tmp_path_factory.mktemp("package")
    for folder in ("kp", "tests", "ray_jobs"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    file = root / "kp" / "config" / "search.py"
    head, before, after = file.read_text(encoding="utf-8").partition("    max_grad_norm: float")
    assert before
    file.write_text(head + FIELD + before + after, encoding="utf-8")
    return root


def python(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(root: Path, *overrides: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(python(root, "-c", TELL, "ray_jobs/studies/smoke.toml", *overrides))
    return found


@pytest.fixture(scope="module")
def before() -> dict[str, Any]:
    return told(REPOSITORY)


def test_knob_has_its_column_label_and_place_in_the_summary(package: Path, before: dict[str, Any]) -> None:
    now = told(package, "training.label_smoothing=0.25")
    assert now["schema"]["label_smoothing"] == "double"
    assert now["schema"].keys() - before["schema"].keys() == {"label_smoothing"}
    assert now["labels"]["label_smoothing"] == "smoothing"
    assert now["columns"] == before["columns"] | {"label_smoothing": 0.25}
    assert set(now["summary"]) - set(before["summary"]) == {"label_smoothing"}


def test_knob_is_part_of_the_trials_identity_and_of_no_step_before(package: Path, before: dict[str, Any]) -> None:
    first, second = told(package, "training.label_smoothing=0.25"), told(package, "training.label_smoothing=0.5")
    assert len({first["trial"], second["trial"], before["trial"]}) == 3
    assert first["steps"] == second["steps"] == before["steps"]


def test_knob_once_frozen_leaves_older_trials_what_they_are(package: Path, before: dict[str, Any]) -> None:
    unfrozen = told(package)
    assert unfrozen["trial"] != before["trial"]  # safe, though it redoes work: nobody has said yet what the default means
    assert "defaults of" in python(package, "-m", "kp.study.freeze")
    assert told(package)["trial"] == before["trial"]
    assert told(package, "training.label_smoothing=0.25")["trial"] not in (before["trial"], unfrozen["trial"])
