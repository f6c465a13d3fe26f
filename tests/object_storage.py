"""An S3 of this machine: moto's server, whose listings lag for ever unless a test wants them.

Whatever is put can be read at once, as on S3, but no listing shows it: what works here depends on none.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest

BUCKET = "studies"
KEY = "kp"  # the access key; a client with another is refused
WRONG_KEY = "somebody"
_EMPTY = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult><Name>studies</Name><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"""
_DENIED = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>InvalidAccessKeyId</Code><Message>The AWS Access Key Id you provided does not exist in our records.</Message></Error>"""


@dataclass
class ObjectStorage:
    """A running server: its address, and what was asked of it (method and path)."""

    address: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    lists: bool = False  # whether listings show what there is

    @property
    def settings(self) -> dict[str, str]:
        """The environment with which a process finds it."""
        credentials = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
        return {"AWS_ENDPOINT_URL": self.address, "AWS_EC2_METADATA_DISABLED": "true", **credentials}

    @property
    def client(self) -> Any:
        """Boto's, for what a test looks up or damages."""
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.address, **keys)

    def stored(self, prefix: str = "") -> list[str]:
        """The keys in the bucket, asked of the server's own memory."""
        from moto.s3.models import s3_backends

        (backend,) = (one for account in s3_backends.values() for one in account.values() if BUCKET in one.buckets)
        return sorted(key for key in backend.buckets[BUCKET].keys if key.startswith(prefix))

    def read(self, key: str) -> bytes:
        """An object's content."""
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def put(self, key: str, content: bytes) -> None:
        """Put an object as somebody else does."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def count(self, method: str, part: str) -> int:
        """Requests with this method whose path holds `part`."""
        return sum(one == method and part in path for one, path in self.requests)


@contextmanager
def object_storage() -> Iterator[ObjectStorage]:
    """A server with one empty bucket; this process, and those that it starts within the block, find it."""
    import s3fs
    from moto.s3.models import s3_backends
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = DomainDispatcherApplication(create_backend_app)
    storage = ObjectStorage("")

    def answer(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environment["REQUEST_METHOD"], environment["PATH_INFO"]
        storage.requests.append((method, path))
        if WRONG_KEY in environment.get("HTTP_AUTHORIZATION", ""):
            start("403 Forbidden", [("Content-Type", "application/xml")])
            return [_DENIED]
        if not storage.lists and method == "GET" and "list-type" in parse_qs(environment["QUERY_STRING"], keep_blank_values=True):
            start("200 OK", [("Content-Type", "application/xml")])
            return [_EMPTY]
        answered: Iterable[bytes] = application(environment, start)
        return answered

    server = make_server("127.0.0.1", 0, answer, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    storage.address = f"http://127.0.0.1:{server.port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in storage.settings.items():
            patch.setenv(name, value)
        storage.client.create_bucket(Bucket=BUCKET)
        try:
            yield storage
        finally:
            server.shutdown()
            s3_backends.reset()
            s3fs.S3FileSystem.clear_instance_cache()  # a client keeps the address of its first server
