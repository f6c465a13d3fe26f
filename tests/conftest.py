"""What tests of whole studies share: the `kp` command as a user runs it, and one finished smoke study."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: on two busy cores, threads wait for each other

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A machine that others use too makes an example take long now and then, which says nothing of the code.
settings.register_profile("kp", deadline=None)
settings.load_profile("kp")

REPOSITORY = Path(__file__).resolve().parents[1]
SMOKE = REPOSITORY / "ray_jobs" / "studies" / "smoke.toml"
STUDY_SECONDS = 1200

Kp = Callable[..., subprocess.CompletedProcess[str]]


def kp_command(*arguments: str | Path) -> list[str]:
    """The command line of one `kp` call in this environment."""
    return [sys.executable, "-m", "kp.cli", *map(str, arguments)]


def clean_environment() -> dict[str, str]:
    """This environment without what would tie a study to another Ray cluster, or to one thread."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_") and name != "OMP_NUM_THREADS"}


def run_kp(*arguments: str | Path, seconds: float = STUDY_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run `kp` to its end, output captured."""
    return subprocess.run(
        kp_command(*arguments), capture_output=True, text=True, timeout=seconds, check=False, env=clean_environment(), cwd=REPOSITORY
    )


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A Ray of its own for tests that use one without a study."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture(scope="session")
def finished_smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results root of a smoke study that ran without interruption; read it, do not write into it."""
    root = tmp_path_factory.mktemp("smoke")
    done = run_kp("study", SMOKE, "--results", root)
    assert done.returncode == 0, done.stdout + done.stderr
    (root / "output.txt").write_text(done.stdout, encoding="utf-8")
    return root


@pytest.fixture
def smoke_copy(finished_smoke: Path, tmp_path: Path) -> Path:
    """A copy of the finished study's results root, free to be changed."""
    root = tmp_path / "runs"
    shutil.copytree(finished_smoke, root, symlinks=True)
    return root
