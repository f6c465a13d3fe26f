"""A dump of two files read by tasks of a real Ray."""

from pathlib import Path

import pytest

from kp.errors import UserError
from kp.facts.dump.reading import read_graph
from kp.store.hardware import process_hardware
from kp.study.dump_reading import read_graph_on_cluster
from tests.dump_lines import statement, write_dump

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    folder = tmp_path / "dump"
    folder.mkdir()
    for number, name in enumerate(("a.ttl.bz2", "b.nt.gz")):
        lines = [statement(f"S{place % 700}", f"r{place % 3}{number}", f"O{place % 97}") for place in range(3000)]
        write_dump(folder / name, ["# started", *lines, "broken", "# completed"])
    return folder


def test_cluster_writes_what_one_process_writes(dump: Path, tmp_path: Path) -> None:
    here = read_graph(str(dump), tmp_path / "here", 1)
    there = read_graph_on_cluster(str(dump), tmp_path / "there", 1)
    assert there.counts == here
    assert there.hardware == [process_hardware()]
    assert here.pairs > 0
    for name in ("pairs.parquet", "relations.parquet", "aliases.parquet", "set_aside.parquet", "counts.json"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_damaged_file_on_the_cluster_is_told_as_here(dump: Path, tmp_path: Path) -> None:
    path = dump / "a.ttl.bz2"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError) as told:
        read_graph_on_cluster(str(dump), tmp_path / "there", 1)
    assert str(told.value).startswith(f"facts.source: '{path}': damaged or cut short: ")
    assert told.value.field == "facts.source"
    assert "Traceback" not in str(told.value)
    assert list((tmp_path / "there").iterdir()) == []
