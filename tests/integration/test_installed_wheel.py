"""kp out of its wheel: in an environment that holds the wheel, sees the other packages of this one, and knows nothing of the repository."""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

import kp as kp_here
from kp.store.code_version import COMMIT_VARIABLE, NO_CHECKOUT
from tests.conftest import REPOSITORY, Done, assert_refused, clean_environment
from tests.unit.test_wheel import built_wheel

pytestmark = pytest.mark.studies  # half a minute, most of it imports

Installed = Callable[..., Done]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with kp's wheel, after which it looks into the packages of this one, whose kp it does not see."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # of which no .pth is read, so no editable kp either
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, built_wheel(folder)], check=True)
    return folder / "venv"


@pytest.fixture
def installed(environment: Path, tmp_path: Path) -> Installed:
    """Runs a program of that environment in an empty folder."""
    variables = {name: value for name, value in clean_environment().items() if name not in ("PYTHONPATH", COMMIT_VARIABLE)}

    def run(program: str, *arguments: str | Path) -> Done:
        words = [environment / "bin" / program, *arguments]
        return subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300, check=False)

    return run


def test_installed_kp_is_that_of_the_wheel(installed: Installed, environment: Path) -> None:
    done = installed("python", "-c", "import kp, sys; print(kp.__file__); print(*sys.path, sep='\\n')")
    first, *paths = done.stdout.splitlines()
    assert Path(first).is_relative_to(environment), done.stderr
    assert not {str(REPOSITORY), os.getcwd()}.intersection(paths)


def test_installed_help_lists_the_commands(installed: Installed) -> None:
    done = installed("kp", "--help")
    assert done.returncode == 0, done.stderr
    assert {"demo", "init", "study"} <= set(done.stdout.split())


def test_installed_demo_plans_the_quickstart(installed: Installed) -> None:
    done = installed("kp", "demo", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout


def test_installed_starter_is_accepted_by_a_dry_run(installed: Installed) -> None:
    begun = installed("kp", "init", "teams")
    planned = installed("kp", "study", "teams/study.toml", "--dry-run")
    assert (begun.returncode, planned.returncode) == (0, 0), begun.stderr + planned.stderr
    assert "teams" in planned.stdout


def test_installed_study_by_name_reads_its_table_out_of_the_package_and_records_the_version(installed: Installed, tmp_path: Path) -> None:
    done = installed("kp", "facts", "own_facts")
    assert done.returncode == 0, done.stderr
    (record,) = (tmp_path / "runs" / "store" / "facts").glob("*/record.json")
    found = json.loads(record.read_text(encoding="utf-8"))
    assert found["packages"]["kp"] == kp_here.__version__
    assert found["code"] == {"source": NO_CHECKOUT, "commit": None, "dirty": None, "version": kp_here.__version__}


def test_installed_study_of_no_such_name_is_refused(installed: Installed) -> None:
    assert_refused(installed("kp", "study", "quickstrat", "--dry-run"), ["quickstrat", "quickstart"])
