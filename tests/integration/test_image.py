"""The steps of the Dockerfile, run in an empty environment with the files that the image gets and no others."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow  # it installs all that kp needs


def steps(instruction: str) -> list[str]:
    """What stands after each instruction of this name, in one line each."""
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(rf"^{instruction} (.+)$", text, re.MULTILINE)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder with the files that the image has in its working directory, and the environment `venv`."""
    for copied in steps("COPY"):
        *names, target = [word for word in copied.split() if not word.startswith("--")]
        for name in names:
            source, place = REPOSITORY / name, tmp_path / "kp" / target
            if source.is_dir():
                shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, place)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    return tmp_path / "kp"


@pytest.mark.timeout(1800)
def test_steps_of_the_image_make_an_environment_that_plans_a_study(image: Path) -> None:
    path = f"{image.parent / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PATH": path, "KP_COMMIT": "0" * 40}
    installs = [step for step in steps("RUN") if "pip install" in step]
    assert installs
    for step in installs:
        done = subprocess.run(["bash", "-c", step], cwd=image, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    plan = ["python", "ray_jobs/study.py", "ray_jobs/studies/quickstart.toml", "--dry-run", "--results", str(image.parent / "results")]
    done = subprocess.run(plan, cwd=image, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "categorise" in done.stdout
