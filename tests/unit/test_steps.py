"""A step is its content; its folder is done when a record says so and every file is as the record says."""

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kp.errors import UserError
from kp.store.code_version import code_version
from kp.store.hardware import process_hardware
from kp.store.steps import RECORD, Step, Store, busy_seconds, covered_seconds


def step(**literals: object) -> Step:
    return Step("facts", dict(literals))


def commit(store: Store, which: Step, text: str) -> None:
    def fill(folder: Path) -> None:
        (folder / "data.txt").write_text(text)

    store.commit(which, fill, seconds=1.0)


def test_fingerprint_follows_literals_and_inputs_alone() -> None:
    assert step(seed=1).fingerprint == step(seed=1).fingerprint
    assert step(seed=1).fingerprint != step(seed=2).fingerprint
    assert Step("trial", {}, (step(seed=1),)).fingerprint != Step("trial", {}, (step(seed=2),)).fingerprint
    assert Step("trial", {}).fingerprint != Step("answers", {}).fingerprint


def test_commit_makes_a_step_done_for_every_store_on_that_root(tmp_path: Path) -> None:
    commit(Store(tmp_path), step(), "content")
    again = Store(tmp_path)
    assert again.is_done(step())
    assert again.file(step(), "data.txt").read_text() == "content"
    assert not again.is_done(step(seed=9))


def test_commit_that_fails_on_the_way_leaves_no_step(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fill(folder: Path) -> None:
        (folder / "data.txt").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.commit(step(), fill, seconds=0.0)
    assert not store.is_done(step())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert Store(tmp_path).damaged(step()) is False


def test_commit_of_a_step_that_another_driver_finished_first_keeps_the_first(tmp_path: Path) -> None:
    commit(Store(tmp_path), step(), "first")
    commit(Store(tmp_path), step(), "second")
    assert Store(tmp_path).file(step(), "data.txt").read_text() == "first"


@pytest.mark.parametrize("damage", ["flipped", "truncated", "removed", "no record", "foreign record"])
def test_record_of_a_damaged_step_is_not_valid_and_it_can_be_made_again(tmp_path: Path, damage: str) -> None:
    commit(Store(tmp_path), step(), "content")
    folder = Store(tmp_path).fetch(step())
    data, record = folder / "data.txt", folder / RECORD
    match damage:
        case "flipped":
            data.write_text("contenu")
        case "truncated":
            data.write_text("cont")
        case "removed":
            data.unlink()
        case "no record":
            record.unlink()
        case "foreign record":
            record.write_text(record.read_text().replace(step().fingerprint, "0" * 16))
    store = Store(tmp_path)
    assert not store.is_done(step())
    assert store.damaged(step())
    commit(store, step(), "content")
    assert Store(tmp_path).is_done(step())
    assert len(list((tmp_path / "damaged").iterdir())) == 1


def test_record_names_the_code_and_this_machine_where_this_process_did_the_work(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store, step(), "content")
    record = store.record(step())
    assert record is not None
    assert record["code"] == code_version()
    assert record["hardware"] == [process_hardware()]


def test_record_names_the_machines_of_the_processes_that_did_the_work(tmp_path: Path) -> None:
    store, workers = Store(tmp_path), [{"cores": 96, "hosts": [host]} for host in ("b", "a", "b")]
    store.commit(step(), lambda folder: None, seconds=1.0, hardware=workers)
    assert (store.record(step()) or {})["hardware"] == [{"cores": 96, "hosts": ["a", "b"]}]


def test_working_folder_survives_an_unfinished_step_and_goes_with_a_finished_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.working(step()) as work:
        (work / "partial").write_text("1")
    with store.working(step()) as work:
        assert (work / "partial").exists()
        commit(store, step(), "content")
    assert not work.exists()


def test_fetch_of_a_finished_step_is_a_folder_with_all_its_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store, step(), "content")
    assert sorted(path.name for path in store.fetch(step()).iterdir()) == ["data.txt", RECORD]
    assert store.file(step(), "data.txt") == store.fetch(step()) / "data.txt"


def test_fetch_of_a_step_that_is_not_done_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="was read before it was done"):
        Store(tmp_path).fetch(step())
    commit(Store(tmp_path), step(), "content")
    Store(tmp_path).file(step(), "data.txt").write_text("contenu")
    with pytest.raises(AssertionError, match="was read before it was done"):
        Store(tmp_path).file(step(), "data.txt")


def test_works_are_those_of_all_unfinished_steps_of_a_kind(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.works("facts") == {}
    for which in (step(), step(seed=1), Step("trial", {})):
        with store.working(which) as work:
            (work / "partial").write_text("1")
    assert store.works("facts") == {which.fingerprint: store.work(which) for which in (step(), step(seed=1))}
    store.forget_work(step())
    store.forget_work(step(seed=2))  # which has none
    assert list(store.works("facts")) == [step(seed=1).fingerprint]


def test_scratch_folders_are_apart_and_go_whatever_happens(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.scratch("library") as first, store.scratch("library") as second:
        (first / "log").write_text("1")
        assert list(second.iterdir()) == []
    with pytest.raises(OSError, match="disk full"), store.scratch("library") as third:
        raise OSError("disk full")
    assert not any(folder.exists() for folder in (first, second, third))


def test_study_folder_has_links_that_move_with_the_study_and_a_log(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    (tmp_path / "runs").mkdir()
    for seed in (1, 2):
        commit(store, step(seed=seed), f"content {seed}")
        link = store.study("small").link("pages/facts", store.fetch(step(seed=seed)))
    assert link == tmp_path / "runs" / "small" / "pages" / "facts"
    assert store.study("small").log == tmp_path / "runs" / "small" / "kp.log"
    (tmp_path / "runs").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "small" / "pages" / "facts" / "data.txt").read_text() == "content 2"


def test_busy_seconds_overlapping_and_distant_steps_count_working_time_once() -> None:
    def record(start: int, end: int) -> dict[str, str]:
        return {"started": datetime.fromtimestamp(start, UTC).isoformat(), "finished": datetime.fromtimestamp(end, UTC).isoformat()}

    assert busy_seconds([record(0, 10), record(5, 12), record(100, 103), record(6, 8)]) == 15.0
    assert busy_seconds([]) == 0.0


def test_commit_files_of_libraries_follow_the_umask(tmp_path: Path) -> None:
    """Safetensors writes a file that only its owner can read."""
    import torch
    from safetensors.torch import save_file

    store, which = Store(tmp_path), Step("trial", {"n": 1})

    def fill(folder: Path) -> None:
        (folder / "adapter").mkdir()
        save_file({"a": torch.zeros(2)}, folder / "adapter" / "adapter_model.safetensors")

    before = os.umask(0o022)
    try:
        store.commit(which, fill, seconds=0.0)
    finally:
        os.umask(before)
    made = store.fetch(which)
    modes = {path.relative_to(made).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in made.rglob("*")}
    assert modes == {"adapter": 0o755, "adapter/adapter_model.safetensors": 0o644, "record.json": 0o644}


def test_covered_seconds_count_overlaps_once_and_no_gaps() -> None:
    assert covered_seconds([(5.0, 12.0), (0.0, 10.0), (100.0, 103.0), (6.0, 8.0)]) == 15.0
    assert covered_seconds([]) == 0.0


def interrupted(store: Store) -> Path:
    """Work on something and fail on the way; returns the folder."""
    with store.working_on("evaluate", "my study") as folder:
        (folder / "done").touch()
        raise KeyError(folder)


def test_working_on_keeps_the_folder_of_a_block_that_raises_and_removes_that_of_one_that_ends(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(KeyError) as failed:
        interrupted(store)
    with store.working_on("evaluate", "my study") as folder:
        assert folder == failed.value.args[0]
        assert (folder / "done").exists()
    assert not folder.exists()


def test_working_on_what_a_living_process_works_on_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.working_on("evaluate", "mine"):
        with pytest.raises(UserError, match="evaluate of mine is being worked on"), store.working_on("evaluate", "mine"):
            pass
        with store.working_on("evaluate", "another"):
            pass
