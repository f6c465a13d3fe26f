"""How a test compares the outcomes of two runs of one study."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from tests.object_storage import ObjectStorage  # its libraries are for those tests alone

TIMES = {"wall_seconds", "setup_seconds", "training_seconds", "eval_seconds", "tokens_per_second", "seconds"}
"""What may differ between two runs of one study; `eval_seconds` is a column of the trials and of the epochs."""


def report_tables(root: Path, study: str = "smoke") -> dict[str, pl.DataFrame]:
    """Every table of a study's report by its path, without the columns that hold times."""
    folder = root / study / "report" / "tables"
    frames = {path.relative_to(folder).as_posix(): pl.read_parquet(path) for path in sorted(folder.rglob("*.parquet"))}
    return _without_times(frames)


def bucket_tables(storage: "ObjectStorage", prefix: str, study: str) -> dict[str, pl.DataFrame]:
    """As `report_tables`, of results below a prefix of a bucket, as a user finds them below the study's name."""
    top = f"{prefix}/{study}/report/tables/"
    keys = [key for key in storage.stored(top) if key.endswith(".parquet")]
    return _without_times({key.removeprefix(top): pl.read_parquet(io.BytesIO(storage.read(key))) for key in keys})


def _without_times(frames: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return {name: frame.drop(TIMES & set(frame.columns)) for name, frame in frames.items()}
