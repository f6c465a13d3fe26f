"""What `--results` names: a folder, or the URL of a bucket.

A bucket has a folder on every node, with copies of what that node uses (`Bucket.cache`), and in it the bucket's URL: whoever gets the
folder opens the store of the bucket.
"""

import re
from pathlib import Path

from kp.errors import UserError
from kp.store import files
from kp.store.bucket import INSTALL, Bucket
from kp.store.bucket_store import BucketStore
from kp.store.steps import Store

MARK = "bucket.json"
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.+)")  # Path makes one slash of two


def results_root(root: Path) -> Path:
    """The results root, made if it is missing, or this node's folder of a bucket; raises UserError if nothing can be written there."""
    bucket = bucket_of(root)
    if bucket is None:
        return files.results_root(root)
    bucket.validate()
    files.write_json(bucket.cache / MARK, {"url": bucket.url})
    return bucket.cache


def existing_results_root(root: Path) -> Path:
    """The results root, which is only read; raises UserError if there is none, or if it is in a bucket."""
    bucket = bucket_of(root)
    if bucket is not None:
        raise UserError(
            f"{bucket.url}: this command reads a folder; copy what it needs from the bucket, such as the study's report and adapters",
            field=files.ROOT_FIELD,
        )
    return files.existing_results_root(root)


def open_store(root: Path) -> Store:
    """The store of a results root as `results_root` returned it."""
    marked = files.read_json(root / MARK)
    return Store(root) if marked is None else BucketStore(Bucket(marked["url"]))


def bucket_of(root: Path) -> Bucket | None:
    """The bucket that is named; None for a folder. Raises UserError for a URL that cannot be used."""
    found = _URL.fullmatch(str(root))
    if found is None:
        return None
    scheme, rest = found[1].lower(), found[2].rstrip("/")
    if scheme not in INSTALL:
        known = ", ".join(f"{one}://" for one in INSTALL)
        raise UserError(f"{root}: name a folder on a local or shared file system, or a bucket by {known}", field=files.ROOT_FIELD)
    if any(part in ("", ".", "..") for part in rest.split("/")) or re.search(r"[?#*\[\]\\]", rest):
        raise UserError(f"{root}: name a bucket and a prefix without special characters, such as s3://bucket/kp", field=files.ROOT_FIELD)
    return Bucket(f"{scheme}://{rest}")
