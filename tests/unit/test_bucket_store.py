"""Results in a bucket, on a real S3 API whose listings never show anything."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kp.errors import UserError
from kp.store import bucket_leases, roots
from kp.store.bucket import Bucket
from kp.store.bucket_folder import BucketFolder, here
from kp.store.bucket_store import BucketStore
from kp.store.shared_folder import meeting_place, met, unmet
from kp.store.steps import RECORD, Step
from tests.object_storage import BUCKET, WRONG_KEY, ObjectStorage

ELSEWHERE = {"host": "elsewhere", "pid": 1, "started": 1.0, "token": "theirs"}


@pytest.fixture
def bucket(storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A prefix of its own, and a node of its own."""
    monkeypatch.setenv("KP_RESULTS_CACHE", str(tmp_path / "node"))
    return Bucket(f"s3://{BUCKET}/{tmp_path.name}")


def step(seed: int = 0) -> Step:
    return Step("facts", {"seed": seed})


def fill(folder: Path, content: str = "content") -> None:
    (folder / "adapter").mkdir()
    (folder / "adapter" / "weights").write_text(content)
    (folder / "data.txt").write_text(content)


def commit(bucket: Bucket, made: Step, content: str = "content") -> None:
    BucketStore(bucket).commit(made, lambda folder: fill(folder, content), seconds=1.0)


def of(bucket: Bucket, step: Step) -> str:
    """The step's prefix, as the server knows it."""
    return f"{bucket.url.removeprefix(f's3://{BUCKET}/')}/store/{step.kind}/{step.fingerprint}"


def test_step_is_read_on_a_node_that_did_not_make_it(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not BucketStore(bucket).is_done(step())
    commit(bucket, step())
    monkeypatch.setenv("KP_RESULTS_CACHE", str(tmp_path / "other node"))
    store = BucketStore(bucket)
    assert store.is_done(step())
    assert store.file(step(), "data.txt").read_text() == "content"
    assert store.file(step(), "data.txt").is_relative_to(tmp_path / "other node")
    assert json.loads(store.file(step(), RECORD).read_text())["fingerprint"] == step().fingerprint
    assert not store.file(step(), "nothing.txt").exists()


def test_record_is_put_last(bucket: Bucket, storage: ObjectStorage) -> None:
    before = len(storage.requests)
    commit(bucket, step())
    put = [path for method, path in storage.requests[before:] if method == "PUT"]
    assert len(put) == 3
    assert put[-1].endswith(f"/{RECORD}")


def test_only_the_files_that_are_read_are_brought(
    bucket: Bucket, storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(bucket, step())
    monkeypatch.setenv("KP_RESULTS_CACHE", str(tmp_path / "other node"))
    before = storage.count("GET", "weights")
    BucketStore(bucket).file(step(), "data.txt")
    assert storage.count("GET", "weights") == before
    assert [path.name for path in BucketStore(bucket).file(step(), "adapter").iterdir()] == ["weights"]


def test_what_a_node_has_is_not_brought_again(bucket: Bucket, storage: ObjectStorage) -> None:
    commit(bucket, step())
    before = storage.count("GET", "data.txt")
    assert BucketStore(bucket).file(step(), "data.txt").read_text() == "content"
    assert storage.count("GET", "data.txt") == before


def test_damaged_copy_on_a_node_is_brought_again(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(bucket, step())
    monkeypatch.setenv("KP_RESULTS_CACHE", str(tmp_path / "other node"))
    attempt = json.loads(BucketFolder(bucket, "store").bucket.read(f"store/facts/{step().fingerprint}/{RECORD}") or b"")["attempt"]
    copy = bucket.cache / "store" / "facts" / step().fingerprint / attempt / "data.txt"
    copy.parent.mkdir(parents=True)
    copy.write_text("contenu")
    assert BucketStore(bucket).file(step(), "data.txt").read_text() == "content"


@pytest.mark.parametrize("content", [b"contenu", b"cont", None])
def test_damaged_object_is_told_and_its_step_made_again(
    bucket: Bucket, storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    commit(bucket, step())
    (key,) = (key for key in storage.stored(of(bucket, step())) if key.endswith("data.txt"))
    storage.client.delete_object(Bucket=BUCKET, Key=key) if content is None else storage.put(key, content)
    monkeypatch.setenv("KP_RESULTS_CACHE", str(tmp_path / "other node"))
    store = BucketStore(bucket)
    with pytest.raises(
        UserError, match=r"data.txt is (missing|not what was written there); run the same command again, which makes facts-"
    ):
        store.file(step(), "data.txt")
    assert not store.is_done(step())
    commit(bucket, step())
    assert store.file(step(), "data.txt").read_text() == "content"


def test_record_that_names_a_file_outside_of_its_step_is_not_followed(bucket: Bucket, storage: ObjectStorage, tmp_path: Path) -> None:
    commit(bucket, step())
    key = f"{of(bucket, step())}/{RECORD}"
    record = json.loads(storage.read(key))
    record["files"] = {"../../../../outside.txt": record["files"]["data.txt"]}
    storage.put(key, json.dumps(record).encode())
    with pytest.raises(UserError, match="lists a file outside of it"):
        BucketStore(bucket).fetch(step())
    assert not list(tmp_path.rglob("outside.txt"))


def test_second_attempt_at_a_done_step_leaves_the_first(bucket: Bucket, storage: ObjectStorage) -> None:
    commit(bucket, step(), "first")
    stored = storage.stored(of(bucket, step()))
    commit(bucket, step(), "second")
    assert storage.stored(of(bucket, step())) == stored
    assert BucketStore(bucket).file(step(), "data.txt").read_text() == "first"


def test_record_that_cannot_be_read_is_replaced(bucket: Bucket, storage: ObjectStorage) -> None:
    storage.put(f"{of(bucket, step())}/{RECORD}", b'{"half')
    assert BucketStore(bucket).damaged(step())
    commit(bucket, step())
    assert BucketStore(bucket).is_done(step())


def test_part_of_a_step_is_fetched_by_a_process_that_was_sent_it(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    commit(bucket, step())
    sent = pickle.dumps(BucketStore(bucket).fetchable(step(), "adapter"))
    assert str(tmp_path).encode() not in sent
    monkeypatch.setenv("KP_RESULTS_CACHE", str(tmp_path / "other node"))
    folder = here(pickle.loads(sent))
    assert (folder / "weights").read_text() == "content"
    assert folder.is_relative_to(tmp_path / "other node")


def test_step_held_by_this_process_keeps_a_second_driver_out(bucket: Bucket) -> None:
    with BucketStore(bucket).working(step()):
        second = BucketStore(bucket).working(step())
        with pytest.raises(UserError, match=r"facts-\w+ is being worked on by process \d+ on "):
            second.__enter__()
    with BucketStore(bucket).working(step()):
        pass
    with BucketStore(bucket).working(step()):  # each tenure ends the one before
        pass


def test_step_held_on_another_host_is_respected_and_taken_over_once_it_is_stale(
    bucket: Bucket, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BucketStore(bucket)
    work = store.work(step())
    assert isinstance(work, BucketFolder)
    (work / "lease").write_json(bucket_leases.FIRST, ELSEWHERE)
    with pytest.raises(UserError, match="process 1 on elsewhere"), store.working(step()):
        pass
    monkeypatch.setattr(bucket_leases, "STALE_SECONDS", -1.0)
    with store.working(step()):
        assert (work / "lease").read_json("after-theirs.json") is not None


def test_stale_lease_is_taken_over_by_one_of_many(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BucketStore(bucket)
    work = store.work(step())
    assert isinstance(work, BucketFolder)
    (work / "lease").write_json(bucket_leases.FIRST, ELSEWHERE)
    monkeypatch.setattr(bucket_leases, "STALE_SECONDS", -1.0)
    held, refused, everybody = [], [], threading.Barrier(8)

    def drive() -> None:
        everybody.wait()
        try:
            with BucketStore(bucket).working(step()):
                held.append(1)
                all_tried.wait(30)
        except UserError as error:
            refused.append(error)
            if len(refused) == 7:
                all_tried.set()

    all_tried = threading.Event()
    drivers = [threading.Thread(target=drive) for _ in range(8)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert (len(held), len(refused)) == (1, 7)


def test_step_whose_lease_was_lost_is_not_published(bucket: Bucket, storage: ObjectStorage) -> None:
    store = BucketStore(bucket)
    with store.working(step()) as work:
        assert isinstance(work, BucketFolder)
        mine = (work / "lease").read_json(bucket_leases.FIRST)
        (work / "lease").write_json(f"after-{mine['token']}.json", ELSEWHERE)
        with pytest.raises(UserError, match="was taken over by process 1 on elsewhere"):
            store.commit(step(), fill, seconds=1.0)
    assert not BucketStore(bucket).is_done(step())
    with pytest.raises(UserError, match="process 1 on elsewhere"), store.working(step()):  # it is still theirs
        pass


def test_lease_is_renewed_while_it_is_held(bucket: Bucket, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_leases, "HEARTBEAT_SECONDS", 0.02)
    beaten = threading.Event()
    write = BucketFolder.write_json

    def watched(folder: BucketFolder, name: str, value: object) -> None:
        write(folder, name, value)
        beaten.set()

    monkeypatch.setattr(BucketFolder, "write_json", watched)
    with BucketStore(bucket).working(step()):
        assert beaten.wait(30)


def test_work_of_a_step_that_is_done_is_deleted_and_that_of_others_stays(
    bucket: Bucket, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "lists", True)
    store = BucketStore(bucket)
    work = store.work(step())
    assert isinstance(work, BucketFolder)
    beside = BucketFolder(bucket, f"{work.key}0")
    beside.write_json("running.json", 1)
    with store.working(step()):
        (work / "deep" / "down").write_json("running.json", 1)
        commit(bucket, step())
    top = bucket.url.removeprefix(f"s3://{BUCKET}/")
    assert storage.stored(f"{top}/{work.key}") == [f"{top}/{beside.key}/running.json"]
    assert store.file(step(), "data.txt").read_text() == "content"


def test_study_goes_on_elsewhere_with_what_it_settled(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BucketStore(bucket)
    store.recall("small")
    assert not store.has_study("small")
    folder = store.study("small")
    (folder.path / "machine_choices.json").write_text('{"model.dtype": "float32"}')
    folder.log.write_text("library output")
    folder.publish()
    assert store.has_study("small")
    monkeypatch.setenv("KP_RESULTS_CACHE", str(tmp_path / "other node"))
    other = BucketStore(bucket)
    other.recall("small")
    assert json.loads((other.study("small").path / "machine_choices.json").read_text()) == {"model.dtype": "float32"}
    assert bucket.read("small/kp.log") == b"library output"


def test_step_is_shown_in_its_study_and_replaces_the_one_before(bucket: Bucket, storage: ObjectStorage) -> None:
    store = BucketStore(bucket)
    commit(bucket, step(), "old")
    store.commit(step(1), lambda folder: (folder / "data.txt").write_text("new"), seconds=1.0)
    study = store.study("small")
    assert store.link(study, "pages/facts", step()) == f"{bucket.url}/small/pages/facts"
    assert store.link(study, "adapters/x", step(), "adapter") == f"{bucket.url}/small/adapters/x"
    assert bucket.read("small/adapters/x/weights") == b"old"
    store.link(store.study("small"), "pages/facts", step(1))
    assert bucket.read("small/pages/facts/data.txt") == b"new"
    assert bucket.read("small/pages/facts/adapter/weights") is None
    copied = storage.count("PUT", "small/pages/facts/data.txt")
    store.link(store.study("small"), "pages/facts", step(1))
    assert storage.count("PUT", "small/pages/facts/data.txt") == copied


def test_results_root_of_a_bucket_opens_its_store_with_two_slashes_or_one(bucket: Bucket) -> None:
    root = roots.results_root(Path(bucket.url))  # a Path has one
    assert root == bucket.cache
    store = roots.open_store(root)
    assert isinstance(store, BucketStore)
    assert store.place.bucket == bucket


@pytest.mark.parametrize("url", ["ftp://host/x", "s3://bucket/../x", "s3://bucket/a?b"])
def test_results_root_by_an_unfit_url_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"--results: .*name a (folder|bucket)"):
        roots.results_root(Path(url))


def test_results_root_in_a_bucket_that_is_not_there_is_refused(bucket: Bucket) -> None:
    with pytest.raises(UserError, match="--results: s3://nowhere/kp: there is no such bucket; make it, or name another"):
        roots.results_root(Path("s3://nowhere/kp"))


@pytest.fixture
def fresh_client() -> Iterator[None]:
    """Clients are kept by a process, with the credentials that they began with."""
    import fsspec

    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.mark.usefixtures("fresh_client")
def test_results_root_with_wrong_credentials_is_refused(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRONG_KEY)
    with pytest.raises(UserError, match=r"--results: s3://.*: access was denied \(.*\); check the credentials"):
        roots.results_root(Path(bucket.url))


def test_store_that_creates_an_object_twice_is_refused(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(self: Bucket, key: str, data: bytes) -> bool:  # as one does that ignores the condition
        self.write(key, data)
        return True

    monkeypatch.setattr(Bucket, "create", create)
    with pytest.raises(UserError, match="two runs would not notice each other"):
        roots.results_root(Path(bucket.url))


def test_commands_that_read_a_folder_say_so_of_a_bucket(bucket: Bucket) -> None:
    with pytest.raises(UserError, match=f"--results: {bucket.url}: this command reads a folder"):
        roots.existing_results_root(Path(bucket.url))


def test_node_that_uses_the_bucket_is_met(bucket: Bucket) -> None:
    with meeting_place(BucketStore(bucket).place) as place:
        assert met(place, "one") is None
        assert unmet(place, ["one", "two"]) == {"two"}
        assert isinstance(place, BucketFolder)
        other = BucketFolder(Bucket(f"{bucket.url}/elsewhere"), place.key)
        assert "is another bucket" in str(met(other, "one"))


@pytest.mark.usefixtures("fresh_client")
def test_node_without_credentials_is_told(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    with meeting_place(BucketStore(bucket).place) as place:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRONG_KEY)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        assert "check the credentials in that node's environment" in str(met(place, "one"))


def test_cache_of_another_user_is_not_used(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(UserError, match=r"KP_RESULTS_CACHE: .* belongs to another user"):
        _ = bucket.cache


def test_cache_that_was_removed_changes_nothing(bucket: Bucket) -> None:
    commit(bucket, step())
    store = BucketStore(bucket)
    shutil.rmtree(bucket.cache)
    assert store.file(step(), "data.txt").read_text() == "content"
