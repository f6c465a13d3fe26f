"""Paraphrasing whose driver is killed goes on where it was, and ends with the files of a run that nothing disturbed."""

from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from kp.store.filenames import PARAPHRASES_FILE, REPLIES_FILE
from tests.conftest import Kp
from tests.killing import running_kp

CHUNKS = 4
CITIES = ("Lima", "Oslo", "Cairo", "Hanoi", "Quito", "Sofia", "Accra", "Dakar", "Minsk", "Tunis", "Kabul", "Rabat")


def committed(root: Path) -> set[str]:
    """The chunks that Ray Data's checkpoint holds."""
    files = [path for path in root.glob("work/paraphrases/*/committed/*.parquet") if ".pending" not in path.name]
    return {chunk for path in files for chunk in pq.read_table(path)["chunk_id"].to_pylist()}


def outcome(root: Path) -> list[bytes]:
    [folder] = root.glob("store/paraphrases/*")
    return [(folder / name).read_bytes() for name in (REPLIES_FILE, PARAPHRASES_FILE)]


@pytest.mark.studies
def test_paraphrases_whose_driver_is_killed_redoes_no_finished_chunk(tiny_study: Path, kp_on_ray: Kp, tmp_path: Path) -> None:
    source = tmp_path / "facts.csv"
    rows = [f"In which country is {city}?,country {place},{city},country" for place, city in enumerate(CITIES)]
    source.write_text("\n".join(["question,answer,subject,relation", *rows, ""]), encoding="utf-8")
    asked = [f"facts.paraphrase.{knob}" for knob in (f"model={tiny_study.with_name('model')}", "count=3", "max_new_tokens=400")]
    arguments: list[str | Path] = ["facts", tiny_study, f"facts.source={source}", "facts.relations=[]", *asked]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for root in (undisturbed, killed):
        root.mkdir()
    done = kp_on_ray(*arguments, "--results", undisturbed)
    assert done.returncode == 0, done.stdout + done.stderr

    with running_kp(killed, *arguments) as run:
        run.wait_until(lambda: bool(committed(killed)))
        processes = run.driver.children(recursive=True)
        run.driver.kill()
        psutil.wait_procs(processes, timeout=120)  # what they had begun to write is written, or is not, before anybody looks
    before = committed(killed)
    assert 0 < len(before) < CHUNKS
    again = kp_on_ray(*arguments, "--results", killed)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"paraphrases: {len(before) * len(CITIES) // CHUNKS} of {len(CITIES)} facts already done, not redone" in again.stdout
    assert outcome(killed) == outcome(undisturbed)
