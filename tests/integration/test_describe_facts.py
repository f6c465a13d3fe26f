"""A study's chosen facts are described in a folder of their own, once, and the same way each time."""

from pathlib import Path

import polars as pl
import pytest

from kp.config.study import load_study
from kp.schema import read_table
from kp.store import files
from kp.study.facts_description import FOLDER, PAGE_FILE, SCHEMAS, describe_facts
from kp.study.run import open_session, run_stage
from tests.conftest import SMOKE


def described(root: Path, *overrides: str) -> None:
    with open_session(load_study(SMOKE, list(overrides)), files.results_root(root)) as session:
        run_stage(session, "facts")
        describe_facts(session)


def contents(root: Path) -> dict[str, bytes]:
    """Every file of the described folder but the record, which has the time in it."""
    folder = root / "smoke" / FOLDER
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "record" not in path.name
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    described(root)
    return root


def test_described_folder_holds_page_tables_and_pictures(root: Path) -> None:
    folder = root / "smoke" / FOLDER
    for name, wanted in SCHEMAS.items():
        table = pl.DataFrame(pl.from_arrow(read_table(folder / f"{name}.parquet", wanted)))
        assert table.columns == pl.read_csv(folder / f"{name}.csv").columns
    assert pl.read_parquet(folder / "relations.parquet")["facts"].to_list() == [4, 4, 4]
    page = (folder / PAGE_FILE).read_text(encoding="utf-8")
    assert "**12 facts over 3 relations.**" in page
    for picture in ("relations", "lengths"):
        assert f"(figures/{picture}.png)" in page
        assert (folder / "figures" / f"{picture}.png").stat().st_size > 5000


def test_described_again_it_prints_the_same_and_makes_nothing_anew(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = contents(root)
    [step] = (root / "store" / "description").iterdir()
    described(root)
    said = capfd.readouterr().out
    assert "describe: already done" in said
    assert "official language" in said
    assert 60 < max(len(line) for line in said.splitlines() if line[:1] in "┏┃┡│└") <= 80
    assert contents(root) == before
    assert [step] == list((root / "store" / "description").iterdir())


def test_described_in_another_place_it_is_the_same_byte_for_byte(root: Path, tmp_path: Path) -> None:
    described(tmp_path)
    assert contents(tmp_path) == contents(root)


def test_described_facts_follow_the_study(root: Path) -> None:
    described(root, "facts.count=6", "search.unknown=[2]")
    assert pl.read_parquet(root / "smoke" / FOLDER / "relations.parquet")["facts"].to_list() == [2, 2, 2]
    assert len(list((root / "store" / "description").iterdir())) == 2
