"""Objects in a bucket: S3, Google Cloud Storage or Azure, by way of fsspec.

Nothing here depends on a listing, which may be older than the objects: an object is asked for by its key, which S3 and the others answer
with what was last written. What must happen once among several processes is done by creating an object that must not exist yet
(`If-None-Match: *` on S3, a generation of 0 on Google Cloud Storage).
"""

import errno
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.errors import UserError, first_line
from kp.store.code_version import DISTRIBUTION
from kp.store.files import ROOT_FIELD, digest_json

INSTALL = {"s3": f"{DISTRIBUTION}[s3]", "gs": "gcsfs", "abfs": "adlfs"}
"""The schemes that can be used, and the package that each needs."""
CACHE_VARIABLE = "KP_RESULTS_CACHE"
CONCURRENT = 16  # requests
CREATE_ATTEMPTS = 4  # S3 answers with a conflict where two create the same object at the same time
_OPTIONS: dict[str, dict[str, Any]] = {"s3": {"config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 3}}}}
# Otherwise s3fs asks for the size first, and lists where there is no such object.
_READING: dict[str, dict[str, Any]] = {"s3": {"max_concurrency": 1}}


@dataclass(frozen=True)
class Bucket:
    """What lies below a URL such as `s3://bucket/prefix`; can be sent to other nodes, which have their own credentials and cache."""

    url: str

    @property
    def scheme(self) -> str:
        """Such as `s3`."""
        return self.url.partition("://")[0]

    @property
    def cache(self) -> Path:
        """The folder of this node for copies of objects and for unfinished work; made if it is missing."""
        folder = _caches() / f"{self.url.rstrip('/').rpartition('/')[2]}-{digest_json(self.url)[:12]}"
        folder.mkdir(exist_ok=True)
        return folder

    def address(self, key: str) -> str:
        """The URL of an object."""
        return f"{self.url}/{key}"

    def read(self, key: str) -> bytes | None:
        """An object's content; None if there is no such object."""
        with suppress(FileNotFoundError), self._translated(key):
            content: bytes = self._client.cat_file(self.address(key), **_READING.get(self.scheme, {}))
            return content
        return None

    def write(self, key: str, data: bytes) -> None:
        """Put an object, whether or not there is one."""
        with self._translated(key):
            self._client.pipe_file(self.address(key), data)

    def create(self, key: str, data: bytes) -> bool:
        """Put an object unless there is one; whether it is there with this content, which for distinct contents is so for one caller."""
        for attempt in range(CREATE_ATTEMPTS):
            try:
                with self._translated(key):
                    self._client.pipe_file(self.address(key), data, mode="create")
                return True
            except FileNotFoundError:
                raise
            except OSError:  # it is there; or it is unknown whether a request that was repeated has put it
                found = self.read(key)
                if found is not None:
                    return found == data
                if attempt == CREATE_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def upload(self, files: Iterable[tuple[Path, str]]) -> None:
        """Put files, each under its key."""

        def put(path: Path, key: str) -> None:
            with self._translated(key):
                self._client.put_file(str(path), self.address(key))

        _all(put, files)

    def download(self, files: Iterable[tuple[str, Path]]) -> None:
        """Get objects by their keys, each into a file; raises FileNotFoundError if one is missing."""

        def get(key: str, path: Path) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            staged = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}")
            try:
                with self._translated(key):
                    self._client.get_file(self.address(key), str(staged))
                staged.replace(path)
            finally:
                staged.unlink(missing_ok=True)

        _all(get, files)

    def copy(self, keys: Iterable[tuple[str, str]]) -> None:
        """Copy objects within the bucket, each from one key to another."""

        def copy(source: str, target: str) -> None:
            with self._translated(target):
                self._client.cp_file(self.address(source), self.address(target))

        _all(copy, keys)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are none."""

        def delete(key: str) -> None:
            with suppress(FileNotFoundError), self._translated(key):
                self._client.rm_file(self.address(key))

        _all(delete, ((key,) for key in keys))

    def delete_below(self, key: str) -> None:
        """Delete what a listing shows below a key: for what nobody will read again, because a listing may miss some of it."""
        with suppress(FileNotFoundError), self._translated(key):
            self._client.invalidate_cache()
            found = [str(path) for path in self._client.find(self.address(key))]
            top = self._client._strip_protocol(self.url)
            self.delete(path.removeprefix(f"{top}/") for path in found)

    def modified(self, key: str) -> float | None:
        """When an object was last written, in seconds since 1970 by the store's clock; None if there is no such object."""
        with suppress(FileNotFoundError), self._translated(key):
            return float(self._client.modified(self.address(key)).timestamp())
        return None

    def now(self, key: str) -> float:
        """What time it is by the store's clock; an object below this key tells."""
        probe = f"{key}/now-{uuid.uuid4().hex}"
        self.write(probe, b"now")
        told = self.modified(probe)
        self.delete([probe])
        assert told is not None, "it was just written"
        return told

    def validate(self) -> None:
        """Raise UserError unless this process can write here, and the store creates no object twice."""
        probe = f"work/probe-{uuid.uuid4().hex}"
        try:
            created = self.create(probe, b"first")
            again = self.create(probe, b"second")
            self.delete([probe])
        except FileNotFoundError as error:
            raise UserError(f"{self.url}: there is no such bucket; make it, or name another", field=ROOT_FIELD) from error
        except PermissionError as error:
            raise UserError(
                f"{self.url}: access was denied ({error.strerror}); check the credentials in the environment of kp and of every node",
                field=ROOT_FIELD,
            ) from error
        except OSError as error:
            raise UserError(f"{self.url}: cannot be reached: {error.strerror}", field=ROOT_FIELD) from error
        if not created or again:
            raise UserError(
                f"{self.url}: this store puts an object though one exists, so two runs would not notice each other; use one with "
                "conditional writes",
                field=ROOT_FIELD,
            )

    @property
    def _client(self) -> Any:
        import fsspec

        try:
            return fsspec.filesystem(self.scheme, **_OPTIONS.get(self.scheme, {}))  # one per process
        except ImportError as error:
            raise UserError(f"{self.url}: needs a package: pip install '{INSTALL[self.scheme]}'", field=ROOT_FIELD) from error

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Raise what the store's client raises as an OSError that names the object, as a file system would."""
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, first_line(error), self.address(key)) from error
        except PermissionError as error:
            raise PermissionError(errno.EACCES, first_line(error), self.address(key)) from error
        except (UserError, OSError) as error:
            if isinstance(error, UserError) or error.filename is not None:
                raise
            raise OSError(errno.EIO, error.strerror or first_line(error), self.address(key)) from error
        except Exception as error:  # clients have errors of their own libraries for what is wrong with the connection or the credentials
            raise OSError(errno.EIO, first_line(error), self.address(key)) from error


def _all(do: Any, arguments: Iterable[tuple[Any, ...]]) -> None:
    """Several requests at a time; raises what the first raised."""
    given = list(arguments)
    if len(given) == 1:
        do(*given[0])
        return
    with ThreadPoolExecutor(CONCURRENT) as pool:
        for done in [pool.submit(do, *one) for one in given]:
            done.result()


def _caches() -> Path:
    """`$KP_RESULTS_CACHE`, or a folder among this user's temporary files; raises UserError if another user has made that."""
    named = os.environ.get(CACHE_VARIABLE)
    folder = Path(named).expanduser() if named else Path(tempfile.gettempdir()) / f"kp-results-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder}: belongs to another user; name a folder of yours", field=CACHE_VARIABLE)
    return folder
