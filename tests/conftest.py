"""What tests of whole studies share: the `kp` command, a Ray, a finished smoke study and a finished study of a tiny model."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: on two busy cores, threads wait for each other

import logging
import shutil
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.object_storage import ObjectStorage

# A machine that others use too makes an example take long now and then, which says nothing of the code.
settings.register_profile("kp", deadline=None)
settings.load_profile("kp")

REPOSITORY = Path(__file__).resolve().parents[1]
SMOKE = REPOSITORY / "ray_jobs" / "studies" / "smoke.toml"
STUDY_SECONDS = 1200
LOGICAL_CPUS = 4  # what kp gives a Ray of its own on a small machine
RAY_SETTINGS = {
    "RAY_worker_niceness": "0",  # or the tests of the other pytest process starve Ray's
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # the least that an epoch takes, and 2 by default
}
ON_SHARED_RAY = ("shared_ray", "local_ray", "kp_on_ray", "finished_tiny", "tiny_copy", "untrained")

Done = subprocess.CompletedProcess[str]
Kp = Callable[..., Done]


def kp_command(*arguments: str | Path, program: str = "kp.cli") -> list[str]:
    """The command line of one `kp` call in this environment; `program` is a module that stands in for its own."""
    return [sys.executable, "-m", program, *map(str, arguments)]


def clean_environment() -> dict[str, str]:
    """This environment without what would tie a study to another Ray cluster, or to one thread."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_") and name != "OMP_NUM_THREADS"}
    return kept | RAY_SETTINGS


def run_kp_process(*arguments: str | Path, seconds: float = STUDY_SECONDS) -> Done:
    """Run `kp` to its end as a user does, in a process of its own; importing everything takes it seconds."""
    return subprocess.run(
        kp_command(*arguments), capture_output=True, text=True, timeout=seconds, check=False, env=clean_environment(), cwd=REPOSITORY
    )


def run_kp(*arguments: str | Path, ray: str | None = None) -> Done:
    """Run `kp` to its end in this process; where it needs a Ray, it joins the one at the address `ray`, or starts one."""
    from kp.cli import main

    return run_here(lambda: main([str(argument) for argument in arguments]), ray)


def run_here(program: Callable[[], None], ray: str | None = None) -> Done:
    """What a program prints and its exit code, as if it had a process of its own."""
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        patch.chdir(REPOSITORY)
        patch.delenv("RAY_ADDRESS", raising=False)
        if ray:
            patch.setenv("RAY_ADDRESS", ray)
        with _captured(out.fileno(), err.fileno()), _own_logging():
            try:
                program()
            except SystemExit as end:
                code = end.code
            except Exception:  # what the interpreter does with one that nobody catches
                traceback.print_exc()
                code = 1
        out.seek(0)
        err.seek(0)
        return Done([], code if isinstance(code, int) else int(code is not None), out.read(), err.read())


def assert_refused(done: Done, words: list[str]) -> None:
    """`kp` ended with one clear error that holds these words."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("kp: ")
    assert "Traceback" not in done.stdout + done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@contextmanager
def _captured(out: int, err: int) -> Iterator[None]:
    """Send what this process prints, by Python's streams or past them, to two open files."""
    kept, streams = (os.dup(1), os.dup(2)), (sys.stdout, sys.stderr)
    os.dup2(out, 1)
    os.dup2(err, 2)
    try:
        # Never closed: loggers that libraries make in the meantime keep them, and threads of theirs log after the run.
        sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = streams
        for number, own in enumerate(kept, start=1):
            os.dup2(own, number)
            os.close(own)


@contextmanager
def _own_logging() -> Iterator[None]:
    """Take back afterwards what a study does to the loggers and the warnings of its process."""
    from kp.cluster.connection import NOISY_LOGGERS

    loggers = [logging.getLogger(name) for name in (*NOISY_LOGGERS, "py.warnings")]
    kept = [(logger.handlers, logger.propagate) for logger in loggers]
    with warnings.catch_warnings():
        yield
    logging.captureWarnings(False)
    for logger, (handlers, propagate) in zip(loggers, kept, strict=True):
        for handler in logger.handlers:
            if handler not in handlers:
                handler.close()
        logger.handlers, logger.propagate = handlers, propagate


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under `--dist loadfile`, the files that want the shared Ray go to one process, which so starts one; any other file to either."""
    from xdist.scheduler import LoadFileScheduling

    class OneRay(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            text = (config.rootpath / file).read_text(encoding="utf-8")
            return "ray" if any(fixture in text for fixture in ON_SHARED_RAY) else file

    return OneRay(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="module")
def storage() -> Iterator["ObjectStorage"]:
    """An S3 of this machine with an empty bucket."""
    from tests.object_storage import object_storage  # here, because its libraries are for its tests alone

    with object_storage() as running:
        yield running


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[str]:
    """The address of a Ray that outlives those who join it: studies in this process and in others, and tests that want a Ray alone."""
    # Ray Tune imports it during a run, and pydantic then parses the docstrings of W&B's classes. If another thread parses at the same time,
    # Python 3.11 may fail with "AST constructor recursion depth mismatch".
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_AUTH_MODE": "disabled", **RAY_SETTINGS}.items():
            patch.setenv(name, value)
        ports = {name: free_port() for name in ("dashboard_port", "dashboard_agent_listen_port")}
        head = {"num_cpus": LOGICAL_CPUS, "include_dashboard": True, "object_store_memory": 256 << 20, **ports}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster.address
        cluster.shutdown()


@pytest.fixture
def local_ray(shared_ray: str) -> Iterator[None]:
    """The shared Ray, joined by tests that use one without a study."""
    import ray

    ray.init(address=shared_ray, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def kp_on_ray(shared_ray: str) -> Kp:
    """`run_kp` on the shared Ray."""

    def run(*arguments: str | Path) -> Done:
        return run_kp(*arguments, ray=shared_ray)

    return run


@pytest.fixture(scope="session")
def finished_smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results root of a smoke study that ran without interruption; read it, do not write into it."""
    root = tmp_path_factory.mktemp("smoke")
    done = run_kp_process("study", SMOKE, "--results", root)
    assert done.returncode == 0, done.stdout + done.stderr
    (root / "output.txt").write_text(done.stdout, encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a study of a tiny random model, which is in the same folder."""
    from tests.tiny_study import save_tiny_study

    return save_tiny_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def finished_tiny(tiny_study: Path, kp_on_ray: Kp, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results root of that study, which ran without interruption; read it, do not write into it."""
    root = tmp_path_factory.mktemp("tiny")
    done = kp_on_ray("study", tiny_study, "--profile", "--results", root)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture
def tiny_copy(finished_tiny: Path, tmp_path: Path) -> Path:
    """A copy of that results root, free to be changed."""
    root = tmp_path / "runs"
    shutil.copytree(finished_tiny, root, symlinks=True)
    return root


@pytest.fixture
def untrained(tiny_copy: Path) -> Path:
    """Such a copy less all that its trials left: a search is the next thing to do."""
    forget_trials(tiny_copy)
    return tiny_copy


def forget_trials(root: Path) -> None:
    """Remove from a results root all that trials left there."""
    for kind in ("trial", "answers", "report"):
        shutil.rmtree(root / "store" / kind)
