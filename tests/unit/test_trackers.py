"""Trackers are the real ones, offline, and what they wrote is read back by their own means; one that fails costs a line."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from kp.config.study import TrackersConfig
from kp.errors import UserError
from kp.trackers.registry import Trackers, open_trackers, validate_installed
from kp.vocabulary import ReplayTarget, TrialStatus

KNOBS = {"unknown": 10, "learning_rate": 3e-3, "target_modules": ["up_proj", "down_proj"], "use_rslora": False, "cap": None}
WORDS = {"replay_target": ReplayTarget.SELF}
ONE, TWO = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"


class Said(list[str]):
    """What the user is told."""


def row(epoch: int, accuracy: float) -> dict[str, Any]:
    """An epoch as Tune reports it: the EPOCHS columns, and more."""
    columns = {"epoch": epoch, "train_loss": 1.0 / epoch, "unknown_accuracy": accuracy, "replay_kl": None, "steps": 5}
    forced = {"eval_mode": "teacher_forced", "unknown_bits": 2.5, "resisting": "'Rome'"}
    return {**columns, **forced, "trial_id": "x", "done": False, "config": {"trial_id": "x"}}


def opened(tmp_path: Path, said: Said, **config: Any) -> Trackers:
    return open_trackers(TrackersConfig(**config), "quick", tmp_path / "quick", said.append)


def two_trials_at_once(tell: Trackers) -> None:
    tell.started(ONE, {**KNOBS, **WORDS})
    tell.started(TWO, {**KNOBS, **WORDS, "unknown": 40})
    for epoch in (1, 2):
        tell.epoch(ONE, row(epoch, 0.1 * epoch))
        tell.epoch(TWO, row(epoch, 0.2 * epoch))
    tell.ended(TWO, TrialStatus.DIVERGED, "loss nan")
    tell.epoch(ONE, row(3, 0.3))
    tell.ended(ONE, TrialStatus.COMPLETED, None)


def interrupted_and_resumed(open_again: Callable[[], Trackers]) -> None:
    tell = open_again()
    tell.started(ONE, KNOBS)
    tell.epoch(ONE, row(1, 0.1))
    tell.epoch(ONE, row(2, 0.2))
    tell.close()
    tell = open_again()
    tell.started(ONE, KNOBS)
    for epoch in (1, 2, 3):  # workers tell a resumed trial's epochs from the first one
        tell.epoch(ONE, row(epoch, 0.1 * epoch))
    tell.ended(ONE, TrialStatus.STOPPED, "by the scheduler")
    tell.close()


# --- MLflow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all, since making one takes MLflow seconds; each test has an experiment of its own in it."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def mlflow_runs(store: str, experiment: str) -> dict[str, Any]:
    client = MlflowClient(store)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return {run.data.tags["kp.trial_id"]: run for run in client.search_runs([found.experiment_id])}


def mlflow_accuracies(store: str, run: Any) -> list[tuple[int, float]]:
    history = MlflowClient(store).get_metric_history(run.info.run_id, "unknown_accuracy")
    return [(metric.step, pytest.approx(metric.value)) for metric in history]


def test_mlflow_trials_at_once_have_a_run_each(tmp_path: Path, store: str) -> None:
    tell = opened(tmp_path, said := Said(), use=("mlflow",), mlflow_uri=store)
    two_trials_at_once(tell)
    tell.close()
    runs = mlflow_runs(store, "quick")
    assert mlflow_accuracies(store, runs[ONE]) == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert mlflow_accuracies(store, runs[TWO]) == [(1, 0.2), (2, 0.4)]
    assert [runs[trial].info.status for trial in (ONE, TWO)] == ["FINISHED", "FAILED"]
    assert runs[TWO].data.tags["kp.cause"] == "loss nan"
    assert runs[TWO].data.params["unknown"] == "40"
    assert runs[TWO].data.params["replay_target"] == "self"
    assert "replay_kl" not in runs[ONE].data.metrics
    assert not said


def test_mlflow_a_resumed_study_goes_on_with_the_trials_run(tmp_path: Path, store: str) -> None:
    said = Said()
    interrupted_and_resumed(lambda: opened(tmp_path, said, use=("mlflow",), mlflow_uri=store, project="facts"))
    runs = mlflow_runs(store, "facts")
    assert list(runs) == [ONE]
    assert mlflow_accuracies(store, runs[ONE]) == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert runs[ONE].info.status == "FINISHED"
    assert not said


def test_mlflow_an_interrupted_trial_is_killed(tmp_path: Path, store: str) -> None:
    tell = opened(tmp_path, Said(), use=("mlflow",), mlflow_uri=store, project="interrupted")
    tell.started(ONE, KNOBS)
    tell.close()
    assert mlflow_runs(store, "interrupted")[ONE].info.status == "KILLED"


# --- TensorBoard


def events(tmp_path: Path, trial_id: str) -> EventAccumulator:
    accumulator = EventAccumulator(str(tmp_path / "quick" / "tensorboard" / trial_id))
    accumulator.Reload()
    return accumulator


def tensorboard_accuracies(tmp_path: Path, trial_id: str) -> dict[int, float]:
    return {event.step: pytest.approx(event.value) for event in events(tmp_path, trial_id).Scalars("unknown_accuracy")}


def test_tensorboard_trials_at_once_have_a_folder_each(tmp_path: Path) -> None:
    tell = opened(tmp_path, said := Said(), use=("tensorboard",))
    two_trials_at_once(tell)
    tell.close()
    assert tensorboard_accuracies(tmp_path, ONE) == {1: 0.1, 2: 0.2, 3: 0.3}
    assert tensorboard_accuracies(tmp_path, TWO) == {1: 0.2, 2: 0.4}
    of_two = events(tmp_path, TWO)
    assert b"| unknown | 40 |" in of_two.Tensors("knobs/text_summary")[0].tensor_proto.string_val[0]
    assert of_two.Tensors("ended/text_summary")[0].tensor_proto.string_val[0] == b"diverged: loss nan"
    assert "replay_kl" not in of_two.Tags()["scalars"]
    assert not said


def test_tensorboard_hyperparameters_stand_beside_the_last_accuracy(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    tell = opened(tmp_path, Said(), use=("tensorboard",))
    two_trials_at_once(tell)
    tell.close()
    found = events(tmp_path, ONE).summary_metadata
    session = HParamsPluginData.FromString(found["_hparams_/session_start_info"].plugin_data.content).session_start_info
    assert session.hparams["unknown"].number_value == 10
    assert session.hparams["status"].string_value == "completed"


def test_tensorboard_a_resumed_trial_has_every_epoch_once(tmp_path: Path) -> None:
    said = Said()
    interrupted_and_resumed(lambda: opened(tmp_path, said, use=("tensorboard",)))
    steps = [event.step for event in events(tmp_path, ONE).Scalars("train_loss")]
    assert steps == [1, 2, 3]
    assert not said


def test_tensorboard_a_trial_that_failed_before_an_epoch_keeps_those_of_its_earlier_life(tmp_path: Path) -> None:
    tell = opened(tmp_path, Said(), use=("tensorboard",))
    tell.started(ONE, KNOBS)
    tell.epoch(ONE, row(1, 0.1))
    tell.close()
    tell = opened(tmp_path, Said(), use=("tensorboard",))
    tell.started(ONE, KNOBS)
    tell.ended(ONE, TrialStatus.FAILED, "its workers died")
    tell.close()
    assert tensorboard_accuracies(tmp_path, ONE) == {1: 0.1}


# --- W&B


def wandb_records(path: Path) -> list[Any]:
    """What an offline run's file holds: after 7 bytes of header, blocks of 32 KiB with pieces of (checksum, length, type) and content."""
    content, position, parts, records = path.read_bytes(), 7, b"", []
    assert content[:4] == b":W&B"
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(Record.FromString(parts))
            parts = b""
    return records


def wandb_runs(tmp_path: Path) -> dict[str, list[list[Any]]]:
    """Records of every offline run in the study's folder, by run id, in the order begun; waits for W&B's process to write them."""
    deadline = time.monotonic() + 60
    while True:
        runs: dict[str, list[list[Any]]] = {}
        for path in sorted((tmp_path / "quick" / "wandb").glob("offline-run-*/run-*.wandb")):
            runs.setdefault(path.stem.removeprefix("run-"), []).append(wandb_records(path))
        written = [any(record.HasField("exit") for record in records) for of_id in runs.values() for records in of_id]
        if all(written) or time.monotonic() > deadline:
            return runs
        time.sleep(0.2)


def wandb_accuracies(records: list[Any]) -> list[tuple[int, float]]:
    import json

    logged = []
    for record in records:
        if record.HasField("history"):
            values = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            logged.append((values["_step"], pytest.approx(values["unknown_accuracy"])))
    return logged


def test_wandb_trials_at_once_have_a_run_each(tmp_path: Path) -> None:
    tell = opened(tmp_path, said := Said(), use=("wandb",), wandb_mode="offline")
    two_trials_at_once(tell)
    tell.close()
    runs = wandb_runs(tmp_path)
    assert wandb_accuracies(runs[ONE][0]) == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert wandb_accuracies(runs[TWO][0]) == [(1, 0.2), (2, 0.4)]
    begun = next(record.run for record in runs[TWO][0] if record.HasField("run"))
    assert (begun.run_group, begun.project) == ("quick", "quick")
    assert {item.key: item.value_json for item in begun.config.update}["unknown"] == "40"
    assert [record.exit.exit_code for run in (ONE, TWO) for record in runs[run][0] if record.HasField("exit")] == [0, 1]
    assert not said


def test_wandb_a_resumed_study_goes_on_under_the_trials_id(tmp_path: Path) -> None:
    said = Said()
    interrupted_and_resumed(lambda: opened(tmp_path, said, use=("wandb",), wandb_mode="offline"))
    runs = wandb_runs(tmp_path)
    assert list(runs) == [ONE]
    assert dict(logged for records in runs[ONE] for logged in wandb_accuracies(records)) == {1: 0.1, 2: 0.2, 3: 0.3}
    assert not said


def test_wandb_without_a_key_is_reported_and_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    tell = opened(tmp_path, said := Said(), use=("wandb",))
    two_trials_at_once(tell)
    tell.close()
    assert len(said) == 1
    assert "wandb" in said[0]
    assert "WANDB_API_KEY" in said[0]


# --- those that fail


class Breaks:
    """A tracker that raises at one event, every time, and notes what reached it."""

    def __init__(self, at: str) -> None:
        self.at, self.heard = at, list[str]()

    def _event(self, name: str) -> None:
        self.heard.append(name)
        if name == self.at:
            raise ConnectionError("server gone\nand more about it")

    def started(self, trial_id: str, knobs: Mapping[str, Any]) -> None:
        self._event("started")

    def epoch(self, trial_id: str, measured: Mapping[str, float]) -> None:
        self._event("epoch")

    def ended(self, trial_id: str, status: str, cause: str | None) -> None:
        self._event("ended")

    def close(self) -> None:
        self._event("close")


@pytest.mark.parametrize("event", ["started", "epoch", "ended", "close"])
def test_trackers_one_that_fails_is_reported_once_and_the_others_go_on(event: str) -> None:
    tell = Trackers((said := Said()).append)
    broken, sound = Breaks(event), Breaks("never")
    tell.open("broken", lambda: broken)
    tell.open("sound", lambda: sound)
    two_trials_at_once(tell)
    tell.close()
    assert said == ["tracker broken: failed and is left out of the rest of this run: ConnectionError: server gone"]
    assert broken.heard[-1] == event
    assert broken.heard.count(event) == 1
    assert sound.heard == ["started"] * 2 + ["epoch"] * 4 + ["ended", "epoch", "ended", "close"]


def test_trackers_one_that_cannot_be_opened_is_reported_and_the_others_are_told(tmp_path: Path) -> None:
    tell = opened(tmp_path, said := Said(), use=("mlflow", "tensorboard"), mlflow_uri="nowhere://x")
    two_trials_at_once(tell)
    tell.close()
    assert len(said) == 1
    assert said[0].startswith("tracker mlflow: failed")
    assert tensorboard_accuracies(tmp_path, ONE) == {1: 0.1, 2: 0.2, 3: 0.3}


def test_trackers_a_trial_that_never_began_has_no_end() -> None:
    tell = Trackers((said := Said()).append)
    tell.open("strict", lambda: Breaks("ended"))
    tell.ended(ONE, TrialStatus.FAILED, "no workers could be had")
    assert not said


@pytest.mark.parametrize("spec", [None, "folder"])
def test_validate_installed_names_the_field_and_what_to_install(spec: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.machinery
    import importlib.util

    found = importlib.machinery.ModuleSpec("mlflow", None) if spec else None  # a folder of that name, as MLflow itself may have left
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(UserError, match=r"trackers\.use: 'mlflow' is not installed; pip install 'kp-lora\[mlflow\]'"):
        validate_installed(TrackersConfig(use=("mlflow",)))


def test_validate_installed_takes_what_is_installed() -> None:
    validate_installed(TrackersConfig(use=("wandb", "mlflow", "tensorboard")))


def test_trackers_none_asked_for_tells_nobody(tmp_path: Path) -> None:
    tell = opened(tmp_path, said := Said())
    two_trials_at_once(tell)
    tell.close()
    assert not said
    assert not list(tmp_path.iterdir())
