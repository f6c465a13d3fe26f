"""The store of a results root in a bucket, with a copy of what is used on each node.

A step's files are put below a key that nobody else writes (`store/KIND/FINGERPRINT/ATTEMPT/`), and its record, created last, names it: so
no reader sees the files of two attempts, and a driver that comes too late changes nothing. Files are read by the sizes and digests of the
record, which is asked of the bucket, and are kept on the node that read them. Unfinished work is kept by those who do it
(kp.training.bucket_checkpoints, kp.inference.bucket_chunks); here are its leases.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from kp.errors import UserError
from kp.store import bucket_leases, files
from kp.store.bucket import Bucket
from kp.store.bucket_folder import BucketFolder, Bundle, DamagedBundleError, WorkFolder, new_name
from kp.store.steps import RECORD, HeldLease, Step, Store
from kp.store.study_folder import StudyFolder

ATTEMPT = "attempt"  # in a record: below which name the files are
INDEX = "study.json"  # in a study's folder: its own files, and which step's files are shown under which name


class BucketStore(Store):
    """As `Store`; raises UserError where a record's files are not what was put there, and then forgets the record."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket.cache)
        self._bucket = bucket

    @property
    def place(self) -> BucketFolder:
        """Where results are."""
        return BucketFolder(self._bucket, "work")

    def _shared(self, *names: str) -> BucketFolder:
        return BucketFolder(self._bucket, "/".join(names))

    def _forget(self, folder: WorkFolder) -> None:
        assert isinstance(folder, BucketFolder)
        folder.forget()

    def _lease(self, folder: WorkFolder, what: str) -> AbstractContextManager[HeldLease]:
        assert isinstance(folder, BucketFolder)
        return bucket_leases.lease(folder, what)

    def _of(self, step: Step) -> BucketFolder:
        return self._shared("store", step.kind, step.fingerprint)

    def works(self, kind: str) -> dict[str, Path]:
        """Not known in a bucket."""
        raise UserError(f"{self._bucket.url}: what is unfinished in a bucket is not listed", field=files.ROOT_FIELD)

    def record(self, step: Step) -> dict[str, Any] | None:
        """The step's record, or None if the step is not done; whether its files are whole is seen when they are read."""
        if step.fingerprint not in self._valid:
            found = self._of(step).read_json(RECORD)
            if not isinstance(found, dict) or found.get("fingerprint") != step.fingerprint or ATTEMPT not in found:
                return None
            self._valid[step.fingerprint] = found
        return self._valid[step.fingerprint]

    def damaged(self, step: Step) -> bool:
        """Whether the step has a record that cannot be read."""
        return not self.is_done(step) and self._of(step).read(RECORD) is not None

    def bundle(self, step: Step) -> Bundle:
        """The files of a finished step."""
        record = self.record(step)
        assert record is not None, f"{step} was read before it was done"
        return self._of(step).bundle(str(record[ATTEMPT]), record["files"])

    def fetch(self, step: Step) -> Path:
        """A folder with all files of a finished step; read-only."""
        return self._fetched(step)

    def file(self, step: Step, name: str) -> Path:
        """One file or folder of a finished step; read-only."""
        return self._fetched(step, name) / name

    def fetchable(self, step: Step, name: str) -> Bundle:
        """A folder of a finished step, for a process on another node, which calls `here` with it."""
        return self.bundle(step).below(name)

    def _fetched(self, step: Step, *parts: str) -> Path:
        try:
            folder = self.bundle(step).fetched(*parts)
        except DamagedBundleError as error:
            del self._valid[step.fingerprint]
            self._of(step).delete([RECORD])
            raise UserError(f"{error}; run the same command again, which makes {step} anew", field=files.ROOT_FIELD) from error
        if not (folder / RECORD).exists():
            files.write_json(folder / RECORD, self.record(step))
        return folder

    def _publish(self, step: Step, staged: Path, record: dict[str, Any]) -> None:
        """Put the files of a filled folder, and its record last."""
        attempt, folder = new_name(), self._of(step)
        listed = folder.upload(attempt, staged)
        record = {**record, ATTEMPT: attempt}
        if step.fingerprint in self._leases:
            self._leases[step.fingerprint].check()  # uploading may have taken a while
        if not folder.create_json(RECORD, record):
            if self.is_done(step):
                (folder / attempt).delete(listed)
                return  # another driver was first; its files are the same by identity
            folder.write_json(RECORD, record)  # what was there cannot be read
        self._valid[step.fingerprint] = record
        files.write_json(staged / RECORD, record)
        staged.rename(folder.path / attempt)

    def study(self, name: str) -> "BucketStudyFolder":
        """The folder of the study with this name."""
        return BucketStudyFolder(self._root / name, self._shared(name))

    def has_study(self, name: str) -> bool:
        """Whether a study of this name was ever run here."""
        return self._shared(name).read_json(INDEX) is not None

    def recall(self, name: str) -> None:
        """Bring what a study settled when it began, such as machine_choices.json: it counts on whatever node it goes on."""
        folder, own = self._shared(name), self._root / name
        index = folder.read_json(INDEX) or {"files": {}}
        for old in own.glob("*.json"):  # of a study that is no longer in the bucket
            if old.name not in index["files"]:
                old.unlink(missing_ok=True)
        for file in (file for file in index["files"] if "/" not in file and file.endswith(".json")):
            value = folder.read_json(file)
            if value is not None:
                own.mkdir(exist_ok=True)
                files.write_json(own / file, value)

    def link(self, study: StudyFolder, name: str, step: Step, part: str = "") -> str:
        """Copy a step's files, or one folder of it, to `name` below the study's key; returns the URL."""
        assert isinstance(study, BucketStudyFolder)
        whole = self.bundle(step)
        return study.show(name, whole.below(part) if part else whole)


class BucketStudyFolder(StudyFolder):
    """This node's folder at `path` for a study, and what a user finds of it below the study's key."""

    def __init__(self, path: Path, folder: BucketFolder) -> None:
        super().__init__(path, path)
        self._folder = folder
        # By the name of each file its size and digest; by each name that shows a step, the key and the names of its files.
        self._index: dict[str, Any] = folder.read_json(INDEX) or {"files": {}, "shown": {}}

    def publish(self) -> None:
        """Put the study's own files that have changed: its log, what it has settled, and those of trackers."""
        listed = {name: one for name, one in files.described(self.path).items() if not name.startswith(".")}
        changed = [name for name, one in listed.items() if self._index["files"].get(name) != one]
        self._folder.bucket.upload((self.path / name, f"{self._folder.key}/{name}") for name in changed)
        if changed or not self._index["files"]:
            self._write("files", listed)

    def show(self, name: str, bundle: Bundle) -> str:
        """Copy these files to `name`, in place of those of another step; returns the URL."""
        before: Mapping[str, Any] = self._index["shown"].get(name, {})
        if before.get("from") != bundle.key:
            self._folder.bucket.copy((f"{bundle.key}/{path}", f"{self._folder.key}/{name}/{path}") for path in bundle.files)
            stale = set(before.get("files", ())) - set(bundle.files)
            (self._folder / name).delete(stale)
            self._write("shown", {name: {"from": bundle.key, "files": sorted(bundle.files)}})
        return str(self._folder / name)

    def _write(self, part: str, changed: Mapping[str, Any]) -> None:
        newest = self._folder.read_json(INDEX) or self._index  # a second driver, which was refused, has written its log
        self._index = {**newest, part: {**newest[part], **changed}}
        self._folder.write_json(INDEX, self._index)
