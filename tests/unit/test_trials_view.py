"""How trials stand is read from the results folder as it lies there, whoever is at work on it, and nothing there is changed."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from rich.console import Console

from kp.cli import main
from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.store import leases
from kp.store.steps import Store
from kp.study import trials_view
from kp.study.building import proposed_graph
from kp.study.graph import Trial
from kp.study.identities import Identities, identities_here
from kp.study.probing import probed
from kp.study.trials_view import TrialRow, export_rows, failed_trials, show_trials, trial_row, trials_table
from kp.training import checkpoints
from kp.training.job import PROGRESS
from kp.vocabulary import TrialStatus
from tests.made_up_trials import checkpoint, driver, epochs, record, taken

ROOT = "results"
COLUMNS = 80
LONG_AGO = 1.0  # before any process of this machine began


def study(**search: Any) -> StudyConfig:
    settings = {"unknown": [10], "rank": [1, 2], **search}
    training = {"lora_alpha": 16, "epochs": 5, "batch_size": 4}
    return StudyConfig.model_validate({"name": "small", "facts": {"count": 1200}, "search": settings, "training": training})


def identities_of(config: StudyConfig) -> Identities:
    return identities_here(probed(config, Path("nowhere"), print, fetch=False, trains=True))


def trials_of(config: StudyConfig, store: Store) -> tuple[Trial, ...]:
    return proposed_graph(config, identities_of(config), store).graph.trials


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / ROOT / study().name).mkdir(parents=True)
    return Store(tmp_path / ROOT)


@pytest.fixture
def trials(store: Store) -> tuple[Trial, ...]:
    return trials_of(study(), store)


def killed_driver(store: Store, trial: Trial) -> None:
    """The lease of a process that lives no more."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        holder = {"host": socket.gethostname(), "pid": process.pid, "started": psutil.Process(process.pid).create_time(), "token": "x"}
    folder = store.work(trial.step)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lease.json").write_text(json.dumps(holder))


def shown(config: StudyConfig, rows: list[TrialRow], lines: int | None = None) -> str:
    console = Console(width=COLUMNS, highlight=False)
    with console.capture() as capture:
        console.print(trials_table(config, rows, lines))
    return capture.get()


def test_trial_that_nobody_began_waits_and_nothing_is_known_of_it(store: Store, trials: tuple[Trial, ...]) -> None:
    row = trial_row(trials[0], store)
    assert (row.status, row.epochs, row.max_epochs, row.steps, row.max_steps) == ("waiting", 0, 5, 0, 15)
    assert (row.unknown_accuracy, row.train_loss, row.tokens_per_second, row.seconds_left, row.cause) == (None,) * 5
    assert (row.lora_scale, row.final_learning_rate, row.exposures) == (16.0, None, 0)
    assert not row.ended


def test_trial_in_hand_that_workers_have_not_taken_waits(store: Store, trials: tuple[Trial, ...]) -> None:
    with driver(store, trials[0]):
        assert trial_row(trials[0], store).status == "waiting"


def test_trial_in_training_tells_what_its_last_checkpoint_holds(store: Store, trials: tuple[Trial, ...]) -> None:
    with driver(store, trials[0]):
        checkpoints.note_running(store.work(trials[0].step))
        assert (trial_row(trials[0], store).status, trial_row(trials[0], store).seconds_left) == ("running", None)
        checkpoint(store, trials[0], epochs(1))
        checkpoint(store, trials[0], epochs(2))
        row = trial_row(trials[0], store)
    assert (row.status, row.epochs, row.steps) == ("running", 2, 6)
    assert (row.unknown_accuracy, row.train_loss, row.final_learning_rate, row.exposures) == (0.2, 0.5, 5e-4, 2.0)
    assert row.tokens_per_second == 200.0
    assert row.seconds_left == 9.0  # 9 steps at 3 s for every 3, measuring included


def test_trial_that_grew_worse_keeps_its_best_beside_its_last(store: Store, trials: tuple[Trial, ...]) -> None:
    measured = epochs(3)
    measured[-1]["unknown_accuracy"] = 0.05
    checkpoint(store, trials[0], measured)
    row = trial_row(trials[0], store)
    assert (row.unknown_accuracy, row.best_unknown_accuracy) == (0.05, 0.2)


def test_trial_whose_driver_was_killed_is_interrupted_where_it_stands(store: Store, trials: tuple[Trial, ...]) -> None:
    checkpoints.note_running(store.work(trials[0].step))
    checkpoint(store, trials[0], epochs(2))
    killed_driver(store, trials[0])
    row = trial_row(trials[0], store)
    assert (row.status, row.epochs) == ("interrupted", 2)
    assert not row.ended


def test_trial_whose_driver_left_in_order_is_interrupted_too(store: Store, trials: tuple[Trial, ...]) -> None:
    with driver(store, trials[0]):
        checkpoint(store, trials[0], epochs(2))
    assert trial_row(trials[0], store).status == "interrupted"


def test_trial_of_an_earlier_run_waits_in_a_new_one_until_workers_take_it_again(store: Store, trials: tuple[Trial, ...]) -> None:
    with driver(store, trials[0]):
        taken(store, trials[0], LONG_AGO)
        checkpoint(store, trials[0], epochs(2))
        row = trial_row(trials[0], store)
        assert (row.status, row.epochs) == ("waiting", 2)
        checkpoints.note_running(store.work(trials[0].step))
        assert trial_row(trials[0], store).status == "running"


@pytest.mark.parametrize(("age", "status"), [(0.0, "running"), (2 * leases.STALE_SECONDS, "interrupted")])
def test_trial_in_hand_on_another_host_runs_while_its_heart_beats(store: Store, trials: tuple[Trial, ...], age: float, status: str) -> None:
    folder = store.work(trials[0].step)
    checkpoints.note_running(folder)
    lease = folder / "lease.json"
    lease.write_text(json.dumps({"host": "another", "pid": 1, "started": LONG_AGO, "token": "x"}))
    os.utime(lease, (time.time() - age,) * 2)
    assert trial_row(trials[0], store).status == status


@pytest.mark.parametrize("failed", [TrialStatus.FAILED, TrialStatus.OUT_OF_MEMORY])
def test_trial_that_failed_tells_its_cause_and_how_far_it_came(store: Store, trials: tuple[Trial, ...], failed: TrialStatus) -> None:
    with driver(store, trials[0]):
        checkpoint(store, trials[0], epochs(1))
        checkpoints.note_failure(store.work(trials[0].step), failed, "no room")
        row = trial_row(trials[0], store)
    assert (row.status, row.cause, row.epochs, row.seconds_left) == (failed.value, "no room", 1, 0.0)
    assert row.ended
    assert trial_row(trials[0], store) == row


def test_trial_that_failed_in_an_earlier_run_waits_in_a_new_one(store: Store, trials: tuple[Trial, ...]) -> None:
    folder = store.work(trials[0].step)
    checkpoints.note_failure(folder, TrialStatus.FAILED, "no room")
    os.utime(folder / checkpoints.FAILURE, (LONG_AGO, LONG_AGO))
    with driver(store, trials[0]):
        assert trial_row(trials[0], store).status == "waiting"


@pytest.mark.parametrize("status", [TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.DIVERGED])
def test_trial_with_a_record_has_ended_as_that_says(store: Store, trials: tuple[Trial, ...], status: TrialStatus) -> None:
    record(store, trials[0], status, epochs(4), "as it is")
    row = trial_row(trials[0], store)
    assert (row.status, row.epochs, row.steps, row.cause) == (status.value, 4, 12, "as it is")
    assert (row.unknown_accuracy, row.train_loss, row.tokens_per_second, row.seconds_left) == (0.4, 0.25, 200.0, 0.0)
    assert row.ended


def test_trial_with_a_record_has_ended_though_its_working_folder_is_still_there(store: Store, trials: tuple[Trial, ...]) -> None:
    with driver(store, trials[0]):
        checkpoints.note_running(store.work(trials[0].step))
        checkpoint(store, trials[0], epochs(3))
        record(store, trials[0], TrialStatus.COMPLETED, epochs(4))
        assert (trial_row(trials[0], store).status, trial_row(trials[0], store).epochs) == ("completed", 4)


def test_trial_whose_checkpoint_goes_while_it_is_read_is_read_from_the_next(
    store: Store, trials: tuple[Trial, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(store, trials[0], epochs(2))
    committed = checkpoints.committed
    found = iter([[store.work(trials[0].step) / "epochs" / "0001"]])
    monkeypatch.setattr(checkpoints, "committed", lambda folder: next(found, None) or committed(folder))
    assert trial_row(trials[0], store).epochs == 2


def test_trial_whose_newest_progress_is_empty_is_read_from_the_checkpoint_before(store: Store, trials: tuple[Trial, ...]) -> None:
    checkpoint(store, trials[0], epochs(2))
    checkpoint(store, trials[0], epochs(3))
    (checkpoints.committed(store.work(trials[0].step))[-1] / PROGRESS).write_text("")
    assert trial_row(trials[0], store).epochs == 2


def test_trials_of_a_search_that_proposes_go_on_past_one_that_failed(store: Store) -> None:
    config = study(rank=[1, 2, 4, 8], sampler="optuna", trials=4, optuna_batch=2)
    first, second = trials_of(config, store)
    record(store, first, TrialStatus.COMPLETED, epochs(4))
    assert len(trials_of(config, store)) == 2
    checkpoints.note_failure(store.work(second.step), TrialStatus.FAILED, "no room")
    assert failed_trials(store) == {second.trial_id}
    assert len(proposed_graph(config, identities_of(config), store, failed_trials(store)).graph.trials) == 4


def test_table_fits_eighty_columns_and_names_the_causes_of_failures(store: Store) -> None:
    config = study(unknown=[10], arms=[{"highly_known": 10, "maybe_known": 10, "paraphrases": 10}], rank=[512], seeds=[100, 101])
    one, other = trials_of(config, store)
    record(store, one, TrialStatus.COMPLETED, epochs(4))
    checkpoints.note_failure(store.work(other.step), TrialStatus.FAILED, "[Errno 28] no space, [bold]it says[/bold], " + "and more " * 20)
    text = shown(config, [trial_row(trial, store) for trial in (one, other)])
    assert max(map(len, text.splitlines())) <= COLUMNS
    assert "…" not in text
    assert f"{other.trial_id[:8]} failed: [Errno 28] no space, [bold]it says[/bold]" in text
    assert "2 trials: 1 completed, 1 failed" in text


def test_table_of_more_trials_than_lines_shows_those_that_matter_and_counts_the_rest(store: Store) -> None:
    config = study(rank=list(range(1, 13)))
    trials = trials_of(config, store)
    for trial in trials[:10]:
        record(store, trial, TrialStatus.COMPLETED, epochs(4))
    with driver(store, *trials[10:]):
        checkpoints.note_running(store.work(trials[11].step))
        rows = [trial_row(trial, store) for trial in trials]
        text = shown(config, rows, lines=12)
    assert trials[11].trial_id[:8] in text
    assert trials[10].trial_id[:8] in text
    assert trials[0].trial_id[:8] in text
    assert trials[1].trial_id[:8] not in text
    assert "12 trials: 1 waiting, 1 running, 10 completed" in text
    assert "9 of them are not shown" in text
    assert len(text.splitlines()) <= 12
    assert "not shown" not in shown(config, rows)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("out.csv", lambda path: pl.read_csv(path, schema_overrides=trials_view.COLUMNS)),
        ("out.parquet", pl.read_parquet),
        ("out.json", lambda path: pl.read_json(path, schema=trials_view.COLUMNS)),
        ("out.jsonl", lambda path: pl.read_ndjson(path, schema=trials_view.COLUMNS)),
    ],
)
def test_export_holds_every_trial_whole_in_every_form(
    store: Store, trials: tuple[Trial, ...], tmp_path: Path, name: str, read: Any
) -> None:
    record(store, trials[0], TrialStatus.STOPPED, epochs(4), 'a cause, with "quotes"')
    rows = [trial_row(trial, store) for trial in trials]
    export_rows(rows, tmp_path / name)
    found = read(tmp_path / name)
    assert dict(found.schema) == trials_view.COLUMNS
    assert [TrialRow(**row) for row in found.to_dicts()] == rows


def test_show_trials_prints_and_exports_without_changing_the_results(
    store: Store, trials: tuple[Trial, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    record(store, trials[0], TrialStatus.COMPLETED, epochs(4))
    with driver(store, trials[1]):
        checkpoints.note_running(store.work(trials[1].step))
        checkpoint(store, trials[1], epochs(1))
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / ROOT).rglob("*")}
        assert show_trials(study(), tmp_path / ROOT, export=tmp_path / "out.csv") == 0
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / ROOT).rglob("*")} == before
    said = capsys.readouterr().out
    assert "2 trials: 1 running, 1 completed" in said
    assert pl.read_csv(tmp_path / "out.csv")["status"].to_list() == ["completed", "running"]


def test_show_trials_watches_until_all_have_ended(
    store: Store, trials: tuple[Trial, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []

    def pass_time(seconds: float) -> None:
        record(store, trials[len(waits)], TrialStatus.COMPLETED, epochs(4))
        waits.append(seconds)

    monkeypatch.setattr(trials_view.time, "sleep", pass_time)
    assert show_trials(study(), tmp_path / ROOT, watch=7.0) == 0
    assert waits == [7.0, 7.0]
    assert "2 trials: 2 completed" in capsys.readouterr().out


def test_show_trials_watched_until_interrupted_exports_what_was_seen(
    store: Store, trials: tuple[Trial, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(store, trials[0], TrialStatus.COMPLETED, epochs(4))

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trials_view.time, "sleep", interrupt)
    assert show_trials(study(), tmp_path / ROOT, watch=7.0, export=tmp_path / "out.parquet") == 0
    assert pl.read_parquet(tmp_path / "out.parquet")["status"].to_list() == ["completed", "waiting"]


@pytest.mark.parametrize("name", ["out.xlsx", "out", "out.CSV.gz"])
def test_show_trials_export_of_another_ending_is_refused_before_anything_is_shown(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"--export: .*: ends in none of \.csv, \.parquet, \.json, \.jsonl"):
        show_trials(study(), tmp_path, export=tmp_path / name)
    assert capsys.readouterr().out == ""


def test_show_trials_export_into_a_folder_that_is_not_there_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--export"):
        show_trials(study(), tmp_path / ROOT, export=tmp_path / "none" / "out.csv")


def test_show_trials_watch_of_no_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--watch: 0: "):
        show_trials(study(), tmp_path, watch=0.0)


@pytest.mark.parametrize(
    ("missing", "field"),
    [
        ({"facts": {"source": "no_such_file.csv", "count": 12}}, "facts.source"),
        ({"categorise": {"shots": "no_such_file.jsonl"}}, "categorise.shots"),
        ({"model": {"name": "someone/some-model-that-is-not-here"}}, "model.name"),
    ],
)
def test_show_trials_of_a_study_whose_inputs_are_not_here_names_the_field_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: dict[str, Any], field: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    config = StudyConfig.model_validate({**study().model_dump(), **missing})
    with pytest.raises(UserError, match=f"^{field}: .*run `kp facts` here first"):
        show_trials(config, tmp_path)


def test_view_needs_neither_ray_nor_torch() -> None:
    program = "import sys, kp.study.run, kp.study.trials_view; exit(bool({'ray', 'torch', 'transformers'} & sys.modules.keys()))"
    assert not subprocess.run([sys.executable, "-c", program], check=False).returncode


def test_command_reads_study_overrides_and_options(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, export = tmp_path / "small.toml", tmp_path / "out.csv"
    file.write_text('name = "small"\n[facts]\ncount = 12\n[search]\nunknown = [10]\n[training]\nlora_alpha = 16\n')
    command = ["trials", str(file), "--results", str(tmp_path / ROOT), "search.rank=[1, 2, 4]", "--export"]
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*command, str(export)])
    assert pl.read_csv(export)["rank"].to_list() == [1, 2, 4]
    with pytest.raises(SystemExit) as refused:
        main([*command, str(tmp_path / "out.txt")])
    assert refused.value.code == 2
    assert "--export" in capsys.readouterr().err
