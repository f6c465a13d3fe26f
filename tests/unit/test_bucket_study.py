"""A study whose results are in a bucket, as far as it needs no Ray: its facts, what it settles, and its plan."""

import json
from pathlib import Path

import pytest

from kp.config.study import load_study
from kp.errors import UserError
from kp.study.facts_description import describe_study_facts
from tests.conftest import SMOKE, assert_refused, run_kp
from tests.object_storage import BUCKET, ObjectStorage


@pytest.fixture
def root(storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prefix of its own, as the command line hands it on, on a node of its own."""
    monkeypatch.setenv("KP_RESULTS_CACHE", str(tmp_path / "node"))
    return Path(f"s3://{BUCKET}/{tmp_path.name}")


def describe(root: Path, *overrides: str) -> str:
    """What the command says, in one line."""
    done = run_kp("facts", SMOKE, *overrides, "--describe", "--results", root)
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def test_facts_in_a_bucket_are_chosen_once_and_shown_in_the_study(
    root: Path, storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"facts: s3://{BUCKET}/{tmp_path.name}/smoke/facts/facts.md" in describe(root)
    assert b"12" in storage.read(f"{tmp_path.name}/smoke/facts/facts.md")
    stored = storage.stored(f"{tmp_path.name}/store")
    monkeypatch.setenv("KP_RESULTS_CACHE", str(tmp_path / "other node"))
    said = describe(root)
    assert "facts: already done" in said
    assert "describe: already done" in said
    assert storage.stored(f"{tmp_path.name}/store") == stored


def test_study_goes_on_elsewhere_with_the_choices_it_began_with(
    root: Path, storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(root, "model.dtype=auto")
    key = f"{tmp_path.name}/smoke/machine_choices.json"
    kept = json.loads(storage.read(key))
    other = {"float32": "bfloat16", "bfloat16": "float32"}[kept["model.dtype"]]
    storage.put(key, json.dumps({**kept, "model.dtype": other, "processor": "another one"}).encode())
    monkeypatch.setenv("KP_RESULTS_CACHE", str(tmp_path / "other node"))
    assert f"model.dtype: {other}, with which this study began on another one" in describe(root, "model.dtype=auto")


def test_plan_of_a_study_in_a_bucket_is_printed(root: Path) -> None:
    done = run_kp("study", SMOKE, "--dry-run", "--results", root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trials" in done.stdout


def test_tasks_whose_data_other_nodes_would_not_see_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate.task_data: with results in a bucket there is no folder that every node sees"):
        describe_study_facts(load_study(SMOKE, ["evaluate.tasks=['arc_easy']"]), root)


def test_command_on_a_bucket_that_is_not_there_is_one_line(root: Path) -> None:
    done = run_kp("study", SMOKE, "--results", "s3://nowhere/kp")
    assert_refused(done, ["--results: s3://nowhere/kp: there is no such bucket"])


@pytest.mark.parametrize("command", ["trials", "chat"])
def test_commands_that_read_a_folder_refuse_a_bucket_in_one_line(root: Path, command: str) -> None:
    arguments = (SMOKE, "x") if command == "chat" else (SMOKE,)
    assert_refused(run_kp(command, *arguments, "--results", str(root)), ["--results: ", "this command reads a folder"])
