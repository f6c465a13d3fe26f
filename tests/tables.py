"""How a test compares the outcomes of two runs of one study."""

from pathlib import Path

import polars as pl

TIMES = {"wall_seconds", "setup_seconds", "training_seconds", "eval_seconds", "tokens_per_second", "seconds"}
"""What may differ between two runs of one study; `eval_seconds` is a column of the trials and of the epochs."""


def report_tables(root: Path, study: str = "smoke") -> dict[str, pl.DataFrame]:
    """Every table of a study's report by its path, without the columns that hold times."""
    folder = root / study / "report" / "tables"
    frames = {path.relative_to(folder).as_posix(): pl.read_parquet(path) for path in sorted(folder.rglob("*.parquet"))}
    return {name: frame.drop(TIMES & set(frame.columns)) for name, frame in frames.items()}
