"""A `kp` that gets SIGTERM or SIGINT ends within seconds whatever it is doing, leaves no process behind, and resumes when run again."""

import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import REPOSITORY, Kp, clean_environment, kp_command
from tests.killing import POLL_SECONDS, RunningKp, running_kp
from tests.tables import report_tables
from tests.tiny_study import NAME

SOON = 5.0
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
SAID = {143: "kp: ended by SIGTERM; the same command continues from here\n", 130: "kp: interrupted; the same command continues from here\n"}


STUDY_MOMENTS: dict[str, tuple[signal.Signals, Callable[[RunningKp, Path], bool]]] = {
    "start of Ray": (signal.SIGTERM, lambda run, root: bool(run.processes("gcs_server"))),
    "loading of generators": (signal.SIGINT, lambda run, root: bool(run.generators())),
    "training": (signal.SIGTERM, lambda run, root: bool(list(root.glob("work/trial/*/epochs/*/progress.json")))),
}


def end(process: psutil.Popen, number: signal.Signals, output: Callable[[], str]) -> None:
    """Send the signal, and check how the command ends."""
    children = process.children(recursive=True)
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(60) == CODES[number], output()
    assert time.monotonic() - began < SOON
    assert output().endswith(SAID[CODES[number]])
    assert "Traceback" not in output()
    _, alive = psutil.wait_procs(children, timeout=SOON)
    assert [child.name() for child in alive] == []


@pytest.mark.studies
def test_study_ended_by_signals_at_several_moments_ends_with_the_tables_of_an_uninterrupted_one(
    tiny_study: Path, finished_tiny: Path, kp_on_ray: Kp, tmp_path: Path
) -> None:
    for number, moment in STUDY_MOMENTS.values():
        with running_kp(tmp_path, "study", tiny_study) as run:
            run.wait_until(lambda moment=moment, run=run: moment(run, tmp_path))
            end(run.driver, number, run.output)
    done = kp_on_ray("study", tiny_study, "--results", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    expected, found = report_tables(finished_tiny, NAME), report_tables(tmp_path, NAME)
    assert found.keys() == expected.keys()
    assert all(found[name].equals(table) for name, table in expected.items())


PROGRAM = """
import pathlib, subprocess, sys, time
import kp.commands.command_line
from kp.cli import main

def begun():
    pathlib.Path(sys.argv[1]).touch()

def run(arguments):
{body}

kp.commands.command_line.run = run
main([])
"""

BUSY = {
    "waiting": "begun(); time.sleep(600)",
    "catching everything": """
while True:
    try:
        begun(); time.sleep(600)
    except BaseException:
        pass""",
    "one long call of a library": "import numpy; a = numpy.random.rand(6000, 6000); begun(); numpy.linalg.svd(a)",
    "turning the signal into another error": """
try:
    begun(); time.sleep(600)
except BaseException:
    raise RuntimeError("broken")""",
    "a child that ignores signals": """
code = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; print(flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
child.stdout.readline(); begun(); child.wait()""",
    "a long farewell": """
try:
    begun(); time.sleep(600)
finally:
    time.sleep(600)""",
    "shutting Ray down": """
import os; os.environ["RAY_AUTH_MODE"] = "disabled"
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
begun(); ray.shutdown(); time.sleep(600)""",
}


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("body", BUSY.values(), ids=BUSY)
def test_process_ends_soon_whatever_it_is_doing(body: str, number: signal.Signals, tmp_path: Path) -> None:
    begun, log = tmp_path / "begun", tmp_path / "log.txt"
    program = PROGRAM.format(body=textwrap.indent(body.strip(), "    "))
    with log.open("w", encoding="utf-8") as out:
        process = psutil.Popen([sys.executable, "-c", program, str(begun)], stdout=out, stderr=out, cwd=REPOSITORY, env=clean_environment())
    try:
        deadline = time.monotonic() + 120
        while not begun.exists():
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline
            time.sleep(POLL_SECONDS)
        end(process, number, lambda: log.read_text(encoding="utf-8"))
    finally:
        if process.poll() is None:
            process.kill()


def test_process_ended_while_it_imports_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with log.open("w", encoding="utf-8") as out:
        process = psutil.Popen(
            kp_command("study", "none.toml"), stdout=out, stderr=out, cwd=REPOSITORY, env=clean_environment() | {"PYTHONVERBOSE": "1"}
        )
    while "kp.commands.command_line" not in log.read_text(encoding="utf-8"):  # what PYTHONVERBOSE prints of every import
        time.sleep(POLL_SECONDS)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == CODES[signal.SIGTERM]
    assert SAID[143] in log.read_text(encoding="utf-8")
