"""An error for users ends as one line and exit code 2, whatever it is wrapped in; a bug keeps its traceback."""

import errno
import os
import pickle
from collections.abc import Callable

import pytest
from ray.exceptions import ActorDiedError, OutOfDiskError, RayTaskError, UserCodeException
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError
from ray.tune.error import TuneError

import kp.commands.command_line
from kp.cli import main
from kp.errors import MissingSourceError, UserError, user_error_in

REFUSED = UserError("nowhere.csv: cannot be read", field="facts.source")


def task_error(cause: BaseException) -> RayTaskError:
    return RayTaskError("answer", "Traceback (most recent call last): ...", cause, proctitle="ray::answer", pid=1, ip="10.0.0.1")


def caused(outer: BaseException, cause: BaseException) -> BaseException:
    outer.__cause__ = cause
    return outer


def in_context(outer: BaseException, cause: BaseException) -> BaseException:
    outer.__context__ = cause
    return outer


def user_code(cause: BaseException) -> BaseException:
    return caused(UserCodeException("Failed to process the following data block"), cause)


WRAPPERS: dict[str, Callable[[BaseException], BaseException]] = {
    "nothing": lambda error: error,
    "the cause of another": lambda error: caused(RuntimeError("wrapped"), error),
    "the context of another": lambda error: in_context(KeyError("wrapped"), error),
    "a task's error": task_error,
    "a task's error that is its cause too": lambda error: task_error(error).as_instanceof_cause(),
    "that error from another process": lambda error: pickle.loads(pickle.dumps(task_error(error))).as_instanceof_cause(),
    "a task's error inside another": lambda error: task_error(task_error(error).as_instanceof_cause()).as_instanceof_cause(),
    "an actor that did not start": lambda error: ActorDiedError(task_error(error)),
    "that actor from another process": lambda error: pickle.loads(pickle.dumps(ActorDiedError(task_error(error)))),
    "a callable of Ray Data": lambda error: task_error(user_code(error)).as_instanceof_cause(),
    "a Train worker": lambda error: WorkerGroupError("rank 1 failed", {0: RuntimeError("gloo"), 1: error}),
    "a Train worker from another process": lambda error: pickle.loads(pickle.dumps(WorkerGroupError("rank 0 failed", {0: error}))),
    "a Train controller": lambda error: ControllerError(error),
    "a Tune trial": lambda error: in_context(TuneError("Traceback (most recent call last): ..."), task_error(error)),
    "a group": lambda error: ExceptionGroup("two failed", [ValueError("one"), ExceptionGroup("inner", [error])]),  # type: ignore[list-item]
    "one of itself": lambda error: in_context(caused(RuntimeError("round"), error), caused(RuntimeError("and round"), error)),
}


def ended(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command that raises this."""

    def fail(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr(kp.commands.command_line, "run", fail)
    with pytest.raises(SystemExit) as end:
        main([])
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_user_error_inside_another_error_is_one_line_and_exit_code_2(
    wrap: Callable[[BaseException], BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(wrap(REFUSED), monkeypatch) == 2
    assert capsys.readouterr().err == "kp: facts.source: nowhere.csv: cannot be read\n"


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_full_disk_inside_another_error_is_one_line_and_exit_code_2(
    wrap: Callable[[BaseException], BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(wrap(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/mnt/kp/a.parquet")), monkeypatch) == 2
    said = capsys.readouterr().err
    assert said.startswith("kp: /mnt/kp/a.parquet: the disk is full; make room and run the same command again")
    assert said.count("\n") == 1


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_bug_inside_another_error_keeps_its_traceback_and_exit_code_1(
    wrap: Callable[[BaseException], BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(wrap(ZeroDivisionError("division by zero")), monkeypatch) == 1
    assert "Traceback" in capsys.readouterr().err


DISKS = {
    "a sentence for a file": (OSError(errno.ENOSPC, "No space left on device", "Failed to apply.\nTo change"), "the disk is full"),
    "a quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
    "Rust": (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "the disk is full"),
    "torch": (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), "the disk is full"),
    "torch, of its stream": (
        in_context(RuntimeError("inline_container.cc: unexpected pos 576 vs 534"), RuntimeError("basic_ios::clear: iostream error")),
        "the disk is full",
    ),
    "Ray's object store": (OutOfDiskError("1 GB"), "the disk is full"),
    "a disk that is only read": (OSError(errno.EROFS, "Read-only file system", "/mnt/a"), "/mnt/a: Read-only file system; give"),
    "a folder of another user": (PermissionError(errno.EACCES, "Permission denied", b"/mnt/b"), "/mnt/b: Permission denied; give"),
}


@pytest.mark.parametrize(("error", "words"), DISKS.values(), ids=DISKS)
def test_disk_that_cannot_be_written_is_told_with_a_remedy(error: BaseException, words: str) -> None:
    found = user_error_in(error)
    assert found is not None
    assert str(found).startswith(words)


def test_full_disk_that_the_system_reports_is_told_as_one() -> None:
    with pytest.raises(OSError, match="space") as caught, open("/dev/full", "w", encoding="utf-8") as full:
        full.write("x" * 100_000)
    assert "the disk is full" in str(user_error_in(caught.value))


def test_missing_file_is_a_bug_and_no_disk() -> None:
    assert user_error_in(FileNotFoundError(errno.ENOENT, "No such file or directory", "a")) is None


def test_user_error_found_keeps_its_kind() -> None:
    error = MissingSourceError("not here", field="search.replay_source")
    found = user_error_in(pickle.loads(pickle.dumps(task_error(error))).as_instanceof_cause())
    assert (type(found), found and found.field) == (MissingSourceError, "search.replay_source")


def test_user_error_raised_of_another_is_the_one_that_is_told() -> None:
    assert user_error_in(caused(UserError("outer"), UserError("inner"))).message == "outer"  # type: ignore[union-attr]


def test_error_that_hides_its_context_is_a_bug() -> None:
    error = in_context(KeyError("a"), REFUSED)
    error.__suppress_context__ = True
    assert user_error_in(error) is None
