"""No secret of the environment is in anything that a study writes or prints."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.tiny_study import NAME, save_tiny_study

SECRETS = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "GITHUB_TOKEN")
CANARY = "canary-0451"


def test_secrets_of_the_environment_are_in_no_file_and_no_line(tmp_path: Path) -> None:
    study, results = save_tiny_study(tmp_path), tmp_path / "results"
    environment = os.environ | {name: f"{CANARY}-{name}" for name in SECRETS}
    command = [sys.executable, "-m", "kp.cli", "categorise", str(study), "--results", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, check=False, timeout=540)
    assert done.returncode == 0, done.stderr
    assert CANARY not in done.stdout + done.stderr
    written = [path for path in results.rglob("*") if path.is_file()]
    assert {"kp.log", "record.json", "answers.parquet"} <= {path.name for path in written}
    assert (results / NAME).is_dir()
    assert [path for path in written if CANARY.encode() in path.read_bytes()] == []
