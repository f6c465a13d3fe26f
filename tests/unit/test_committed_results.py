"""What stands in results/ is what a run left: every record validates against the files beside it, every table reads today."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kp import schema
from kp.metrics import result_schema
from kp.report.reading import reopen_report
from kp.report.summary import summary_table
from kp.report.tables import OPTIONAL, SCHEMAS
from kp.store.filenames import BENCHMARK_CHOICES_FILE
from kp.store.files import digest_file, files_below
from kp.store.steps import RECORD
from kp.study.facts_description import SCHEMAS as DESCRIPTION_SCHEMAS
from kp.study.inspection import SCHEMAS as INSPECTION_SCHEMAS
from tests.conftest import REPOSITORY

RESULTS = REPOSITORY / "results"
LEFT_OUT = {"report.html"}  # it holds a library of pictures of 5 MB
ADDED = {"study.toml", "screenshots/report-1300.png", "screenshots/report-390.png"}  # what made a report, and its page in a browser

TABLES = (
    {**SCHEMAS, **OPTIONAL},
    *INSPECTION_SCHEMAS.values(),
    DESCRIPTION_SCHEMAS,
    {Path(BENCHMARK_CHOICES_FILE).stem: schema.BENCHMARK_CHOICES},
)


def named(path: Path) -> str:
    return str(path.relative_to(RESULTS))


def faults(record_file: Path) -> list[str]:
    """What is wrong with the files beside a record, in words."""
    folder, listed = record_file.parent, json.loads(record_file.read_text(encoding="utf-8"))["files"]
    beside = {path.relative_to(folder).as_posix(): path for path in files_below(folder) if path != record_file}
    found = [f"{name}: is not there" for name in sorted(listed.keys() - beside.keys() - LEFT_OUT)]
    found += [f"{name}: is not listed" for name in sorted(beside.keys() - listed.keys() - ADDED)]
    for name in sorted(listed.keys() & beside.keys()):
        if {"bytes": beside[name].stat().st_size, "sha256": digest_file(beside[name])} != listed[name]:
            found.append(f"{name}: is another file")
    return found


def schema_of(path: Path) -> pa.Schema | None:
    """The schema that the code gives a table of this name today; None where it knows none."""
    if path.parent.name == "training_rows":
        return schema.TRAINING_ROWS
    if path.stem == "arms":
        return result_schema.ARMS
    if path.stem == "summary":
        return summary_table(reopen_report(path.parents[1])[0]).to_arrow().schema  # its columns follow from what was measured
    return next((tables[path.stem] for tables in TABLES if path.stem in tables), None)


@pytest.mark.parametrize("record_file", sorted(RESULTS.rglob(RECORD)), ids=named)
def test_committed_record_validates_against_the_files_beside_it(record_file: Path) -> None:
    assert faults(record_file) == []


@pytest.mark.parametrize("record_file", sorted(RESULTS.rglob("*_record.json")), ids=named)
def test_committed_record_of_an_input_is_that_of_the_record_beside_it(record_file: Path) -> None:
    source, record = (json.loads(path.read_text(encoding="utf-8")) for path in (record_file, record_file.parent / RECORD))
    assert record["inputs"][f"{source['kind']}-{source['fingerprint']}"] == source["fingerprint"]


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("*.parquet")), ids=named)
def test_committed_table_reads_under_the_schema_of_today(path: Path) -> None:
    wanted = schema_of(path)
    assert wanted is not None, "no table of this name is made"
    assert schema.read_table(path, wanted).schema.names == wanted.names


def test_committed_results_are_looked_at() -> None:
    assert list(RESULTS.rglob(RECORD))
    assert list(RESULTS.rglob("*_record.json"))
    assert len(list(RESULTS.rglob("*.parquet"))) > 10


def test_table_names_have_one_schema() -> None:
    names = [(name, wanted) for tables in TABLES for name, wanted in tables.items()]
    assert [name for name, wanted in names for other, also in names if name == other and wanted != also] == []


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda folder: (folder / "table.parquet").unlink(), "table.parquet: is not there"),
        (lambda folder: (folder / "table.parquet").write_bytes(b"PAR1"), "table.parquet: is another file"),
        (lambda folder: (folder / "older.parquet").write_bytes(b"PAR1"), "older.parquet: is not listed"),
    ],
)
def test_faults_of_a_folder_that_was_changed_are_found(tmp_path: Path, damage: Any, fault: str) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "table.parquet")
    (tmp_path / "study.toml").write_text("")
    listed = {"bytes": (tmp_path / "table.parquet").stat().st_size, "sha256": digest_file(tmp_path / "table.parquet")}
    (tmp_path / RECORD).write_text(json.dumps({"files": {"table.parquet": listed, "report.html": {}}}))
    assert faults(tmp_path / RECORD) == []
    damage(tmp_path)
    assert faults(tmp_path / RECORD) == [fault]
