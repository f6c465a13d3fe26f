"""A disk that fills up in the middle of a study ends it with one line, and with more room the same command continues."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import forget_trials
from tests.faults.test_killed_training import assert_as_uninterrupted
from tests.killing import running_kp

pytestmark = pytest.mark.studies
ROOM = 120 << 10  # bytes left: enough to begin, too little for the checkpoints of a trial
FILLER = "filler"


@pytest.fixture
def small_disk(finished_tiny: Path, tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with the finished study's root less its trials, and next to no room beside a file FILLER."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    shutil.copytree(finished_tiny, disk, symlinks=True, dirs_exist_ok=True)
    forget_trials(disk)
    (disk / FILLER).write_bytes(bytes(shutil.disk_usage(disk).free - ROOM))
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_study_on_a_disk_that_fills_up_says_so_and_goes_on_with_more_room(small_disk: Path, finished_tiny: Path, tiny_study: Path) -> None:
    with running_kp(small_disk, "study", tiny_study) as run:
        code = run.wait()
    assert (code, "kp: the disk is full; make room" in run.output()) == (2, True), run.output()
    assert "search: 3 trials trained" not in run.output()
    assert "Traceback" not in run.output()
    (small_disk / FILLER).unlink()
    with running_kp(small_disk, "study", tiny_study) as run:
        assert run.wait() == 0, run.output()
    assert_as_uninterrupted(small_disk, finished_tiny)
