"""kp pack from a table to an adapter, with a tiny model: what it leaves, what it says, and that it goes on where it stopped."""

import json
from pathlib import Path

import polars as pl
import pytest

from kp.config.study import load_study
from kp.generation.adapters import adapter_config, read_adapter
from tests.conftest import Kp, assert_refused
from tests.tiny_study import KNOWN

OVERRIDES = (
    "model.dtype=float32",
    "search.learning_rate=[1e-4,3e-2]",
    "training.epochs=12",
    "training.batch_size=2",
    "resources.generators=1",
    "resources.concurrent_trials=1",
    "resources.threads=1",
)
TAUGHT = 3


def split(tiny_study: Path, folder: Path) -> tuple[Path, Path]:
    """Tables of facts that the tiny model does not know, and of those that it does."""
    rows = [json.loads(line) for line in (tiny_study.parent / "facts.jsonl").read_text(encoding="utf-8").splitlines()]
    known = [row for row in rows if row["answers"] != ["bo"]]
    assert len(known) == KNOWN
    unknown = [row for row in rows if row["answers"] == ["bo"]][:TAUGHT]
    paths = folder / "teach.jsonl", folder / "keep.jsonl"
    for path, chosen in zip(paths, (unknown, known), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    return paths


@pytest.mark.studies
def test_pack_ends_in_an_adapter_and_what_it_did_and_continues_where_it_stopped(tiny_study: Path, tmp_path: Path, kp_on_ray: Kp) -> None:
    teach, keep = split(tiny_study, tmp_path)
    out, results = tmp_path / "out", tmp_path / "runs"
    command = ["pack", teach, "--model", tiny_study.parent / "model", "--keep", keep, "--trials", "3", "--results", results, "--out", out]
    done = kp_on_ray(*command, *OVERRIDES)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((out / "pack.json").read_text(encoding="utf-8"))
    assert summary["facts"] == {"taught": TAUGHT, "already_known": 0, "controls": KNOWN}
    assert summary["statement"][0] in done.stdout
    assert summary["statement"][0] in (out / "pack.md").read_text(encoding="utf-8")
    assert [row["learning_rate"] for row in summary["nearest"]].count(1e-4) >= 1

    read_adapter(out / "adapter")
    spec = summary["nearest"][0]
    assert adapter_config(out / "adapter")["lora_alpha"] == pytest.approx(2 * spec["rank"] * summary["scale"])
    assert "## What was packed" in (out / "adapter" / "README.md").read_text(encoding="utf-8")
    learned, lost = (pl.read_parquet(out / f"{name}.parquet") for name in ("learned", "lost"))
    assert len(learned) == TAUGHT
    assert len(lost) == KNOWN
    assert pl.read_csv(out / "lost.csv").columns == lost.columns
    assert {path.name for path in (out / "trainers").iterdir()} >= {"train_peft.py", "axolotl.yaml", "llamafactory.yaml", "train.jsonl"}
    assert load_study(out / "pack.toml").name == "teach-pack"
    assert load_study(out / "scaled.toml").evaluate.scales == (0.5, 0.75, 1.0)

    # A kill leaves finished steps and nothing else that counts: without the files, the same command makes the same ones.
    before = (out / "pack.json").read_bytes()
    trials = {path.parent.name: path.read_bytes() for path in results.glob("store/trial/*/record.json")}
    forgotten = next(results.glob("store/trial/*/record.json"))
    for path in out.glob("*.*"):
        path.unlink()
    forgotten.unlink()
    again = kp_on_ray(*command, *OVERRIDES)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 of 3 trials already done" in again.stdout or "1 of 2 trials already done" in again.stdout, again.stdout
    assert (out / "pack.json").read_bytes() == before
    assert set(trials) == {path.parent.name for path in results.glob("store/trial/*/record.json")}

    # What the model knows is not taught.
    refused = kp_on_ray("pack", keep, *command[2:4], "--results", results, "--out", tmp_path / "none", *OVERRIDES)
    assert_refused(refused, ["FACTS", "nothing to teach"])
