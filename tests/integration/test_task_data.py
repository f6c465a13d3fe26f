"""The data of a study's lm-eval tasks are of one commit, of a Hub on this machine, and that commit is part of what its scores are."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import datasets
import huggingface_hub.constants
import pyarrow.parquet as pq
import pytest

from kp.benchmarks.harness_tasks import data_set, single_tasks
from kp.benchmarks.task_data import fetch_data
from kp.config.study import StudyConfig, load_study
from kp.errors import MissingSourceError, UserError
from kp.models.digests import sha256_of
from kp.store.filenames import TASK_DATA_FILE
from kp.store.prefetched import MANIFEST, reading
from kp.study.building import build_graph
from kp.study.identities import NOT_HERE, Identities
from kp.study.measurements.harness import DATA_FOLDER, harness_on
from kp.study.task_data import TaskData, described_task_data, keep_task_data, task_data_identities
from tests.conftest import SMOKE, Kp, assert_refused
from tests.stand_in_hub import ARC, Handler, commit_of, save_arc_easy
from tests.tiny_study import NAME

NOWHERE = "http://127.0.0.1:9"  # a port of this machine on which nothing listens


def ask_hub(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + template[template.index("/{repo_id}") :])
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a Hub, which is the one that is asked, with six questions of ARC-Easy."""
    root = tmp_path / "hub"
    save_arc_easy(root, 6)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Handler,), {"root": root}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ask_hub(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    yield root
    server.shutdown()
    server.server_close()


def study(**evaluate: object) -> StudyConfig:
    config = load_study(SMOKE, [])
    return StudyConfig.model_validate(config.model_dump() | {"evaluate": config.evaluate.model_dump() | {"tasks": ["arc_easy"]} | evaluate})


def commit(hub: Path) -> str:
    return commit_of(hub / "datasets" / ARC)


def harness_identity(data: dict[str, TaskData]) -> str:
    return build_graph(study(), Identities("model", "facts", "shots", task_data=data)).base[harness_on("arc_easy")].fingerprint


def test_data_on_the_hub_are_a_commit_and_another_one_makes_other_steps(hub: Path, tmp_path: Path) -> None:
    before = task_data_identities(study(), tmp_path / "none")
    assert before == {"arc_easy": {ARC: commit(hub)}}
    save_arc_easy(hub, 7)
    after = task_data_identities(study(), tmp_path / "none")
    assert after == {"arc_easy": {ARC: commit(hub)}} != before
    assert harness_identity(before) != harness_identity(after)


def test_study_stays_with_its_commit_when_the_hub_moves_on_or_is_gone(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = task_data_identities(study(), tmp_path)
    keep_task_data(began, tmp_path)
    save_arc_easy(hub, 7)
    assert task_data_identities(study(), tmp_path) == began
    ask_hub(monkeypatch, NOWHERE)
    assert task_data_identities(study(), tmp_path) == began


def test_hub_out_of_reach_is_one_error_with_the_remedy_and_a_note_of_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_hub(monkeypatch, NOWHERE)
    with pytest.raises(MissingSourceError, match=rf"evaluate\.task_data: '{ARC}' cannot be loaded: .*; .* names a folder .*`kp prefetch`"):
        task_data_identities(study(), tmp_path)
    noted: list[MissingSourceError] = []
    assert described_task_data(study(), tmp_path, noted.append) == {}
    assert [error.field for error in noted] == ["evaluate.task_data"]
    step = build_graph(study(), Identities("model", "facts", "shots")).base[harness_on("arc_easy")]
    assert step.literals["data"] == NOT_HERE


def test_data_in_a_folder_are_their_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_hub(monkeypatch, NOWHERE)
    file = tmp_path / "data" / ARC / "ARC-Easy" / "test.jsonl"
    file.parent.mkdir(parents=True)
    digests = []
    for text in ("{}\n", "{}\n{}\n"):
        file.write_text(text, encoding="utf-8")
        digests.append(task_data_identities(study(task_data=str(tmp_path / "data")), tmp_path)["arc_easy"])
    assert all(isinstance(digest, str) and len(digest) == 64 for digest in digests)
    assert digests[0] != digests[1]
    keep_task_data({"arc_easy": digests[0]}, tmp_path)
    assert not (tmp_path / TASK_DATA_FILE).exists()


def test_fetched_files_are_those_of_the_asked_commit_and_are_fetched_once(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = single_tasks("arc_easy")
    file = data_set(task).folder(tmp_path / "data") / "test.parquet"
    for count in (6, 7):
        save_arc_easy(hub, count)
        fetch_data(tmp_path / "data", data_set(task), commit(hub))
        assert pq.read_table(file).num_rows == count
    before, asked = file.stat().st_mtime_ns, commit(hub)
    ask_hub(monkeypatch, NOWHERE)
    fetch_data(tmp_path / "data", data_set(task), asked)
    assert file.stat().st_mtime_ns == before


def test_data_set_without_a_needed_split_is_refused(hub: Path, tmp_path: Path) -> None:
    card = hub / "datasets" / ARC / "README.md"
    card.write_text(card.read_text(encoding="utf-8").replace("split: test", "split: other"), encoding="utf-8")
    (task,) = single_tasks("arc_easy")
    with pytest.raises(UserError, match=rf"evaluate\.task_data: {ARC} \(ARC-Easy\) at {commit(hub)} has no split test"):
        fetch_data(tmp_path / "data", data_set(task), commit(hub))


def test_prefetched_data_are_their_recorded_commit_and_damaged_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_hub(monkeypatch, NOWHERE)
    file = tmp_path / "task_data" / ARC / "ARC-Easy" / "test.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PAR1 rows")
    listed = {str(file.relative_to(tmp_path)): {"bytes": file.stat().st_size, "sha256": sha256_of(file)}}

    def asked(tasks: dict[str, object]) -> dict[str, TaskData]:
        (tmp_path / MANIFEST).write_text(json.dumps({"models": {}, "data": {}, "tasks": tasks}), encoding="utf-8")
        with reading(str(tmp_path)):
            return task_data_identities(study(), tmp_path / "none")

    tasks: dict[str, object] = {f"{ARC}:ARC-Easy": {"revision": "c" * 40, "files": listed}}
    assert asked(tasks) == {"arc_easy": {ARC: "c" * 40}}
    with pytest.raises(MissingSourceError, match=r"'allenai/ai2_arc' \(ARC-Easy\) is not in .*: run `kp prefetch` for this study"):
        asked({})
    file.write_bytes(b"PAR1 nows")
    with pytest.raises(UserError, match=r"test\.parquet: missing, or not the file that was fetched: run `kp prefetch` again"):
        asked(tasks)


@pytest.mark.studies
def test_study_asks_the_questions_of_its_commit_and_needs_the_hub_once(
    hub: Path, tiny_study: Path, tiny_copy: Path, kp_on_ray: Kp, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ("study", tiny_study, 'evaluate.tasks=["arc_easy"]', "--results", tiny_copy)
    done = kp_on_ray(*run)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(file.read_text(encoding="utf-8")) for file in (tiny_copy / "store" / "harness").glob("*/record.json")]
    assert [record["literals"]["data"] for record in records] == [{ARC: commit(hub)}] * len(records)
    assert len(records) > 1
    ask_hub(monkeypatch, NOWHERE)
    again = kp_on_ray(*run)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "0 models measured" not in again.stdout
    shutil.rmtree(tiny_copy / NAME / DATA_FOLDER)
    (tiny_copy / NAME / TASK_DATA_FILE).unlink()
    assert_refused(kp_on_ray(*run), ["evaluate.task_data", ARC, "kp prefetch"])
