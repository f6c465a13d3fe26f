"""`kp prefetch` against a Hub on this machine, and a whole study from its folder in processes that can reach no other machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kp.store.prefetched import MANIFEST
from tests.conftest import REPOSITORY, STUDY_SECONDS, Done, clean_environment, kp_command
from tests.no_network import install
from tests.stand_in_hub import ARC, commit_of, save_arc_easy

MODEL, FACTS = "someone/tiny", "s-nlp/Tiny-DBpedia-HighlyKnown"
CLOUD = ("169.254.169.254", "metadata.google.internal")  # where Ray looks for the cloud that it might be in


def run(variables: dict[str, str], *arguments: str | Path) -> Done:
    environment = clean_environment() | variables
    return subprocess.run(
        kp_command(*arguments), capture_output=True, text=True, timeout=STUDY_SECONDS, check=False, env=environment, cwd=REPOSITORY
    )


def authors_rows(facts: Path) -> list[dict[str, object]]:
    """The tiny study's facts in the columns of the authors' data sets."""
    rows = [json.loads(line) for line in facts.read_text(encoding="utf-8").splitlines()]
    return [
        {
            "question": row["question"],
            "answer": [{"aliases": row["answers"], "normalized_aliases": [answer.lower() for answer in row["answers"]]}],
            "Category": "Unknown" if row["answers"] == ["bo"] else "HighlyKnown",
            "is_para": True,
            "para_len": len(row["paraphrases"]),
            "para": row["paraphrases"],
            "greedy_ans": ["Answer: none"] * 10,
        }
        for row in rows
    ]


@pytest.fixture(scope="module")
def hub(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder and the address of a Hub with the tiny study's model and facts."""
    root = tmp_path_factory.mktemp("hub")
    (root / "models" / "someone").mkdir(parents=True)
    (root / "models" / MODEL).symlink_to(tiny_study.parent / "model")
    data = root / "datasets" / FACTS / "data"
    data.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(authors_rows(tiny_study.parent / "facts.jsonl")), data / "full-00000-of-00001.parquet")
    save_arc_easy(root, 6)
    command = [sys.executable, "-m", "tests.stand_in_hub", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as server:
        assert server.stdout is not None
        yield root, f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.terminate()


@pytest.fixture(scope="module")
def study_on_hub(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study with its model and its facts by their names on the Hub, cut to one trial of one epoch."""
    text = tiny_study.read_text(encoding="utf-8")
    text = text.replace(str(tiny_study.parent / "model"), MODEL).replace(str(tiny_study.parent / "facts.jsonl"), f"hf:{FACTS}:full")
    file = tmp_path_factory.mktemp("on_hub") / tiny_study.name
    text = text.replace("[evaluate]\n", '[evaluate]\ntasks = ["arc_easy"]\n')
    assert "arc_easy" in text
    file.write_text(text.replace("epochs = 12", "epochs = 1").replace("{}, { highly_known = 1 }, ", ""), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def prefetched(hub: tuple[Path, str], study_on_hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `kp prefetch` has filled."""
    folder = tmp_path_factory.mktemp("prefetched")
    done = run({"HF_ENDPOINT": hub[1], "HF_HOME": str(folder / "elsewhere")}, "prefetch", study_on_hub, "--to", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_manifest_names_revisions_and_digests_of_model_and_data(prefetched: Path, hub: tuple[Path, str]) -> None:
    manifest = json.loads((prefetched / MANIFEST).read_text(encoding="utf-8"))
    model, data = manifest["models"][MODEL], manifest["data"][f"hf:{FACTS}:full"]
    assert model["revision"] == commit_of(hub[0] / "models" / MODEL)
    assert data["identity"] == f"{FACTS}@{commit_of(hub[0] / 'datasets' / FACTS)}:full"
    assert data["rows"] == 32
    for name, entry in {**model["files"], data["file"]: data}.items():
        assert (prefetched / name).stat().st_size == entry["bytes"]
        assert len(entry["sha256"]) == 64
    assert any(name.endswith("model.safetensors") for name in model["files"])
    asked = manifest["tasks"][f"{ARC}:ARC-Easy"]
    assert asked["revision"] == commit_of(hub[0] / "datasets" / ARC)
    assert list(asked["files"]) == ["task_data/allenai/ai2_arc/ARC-Easy/test.parquet"]


def test_study_runs_from_the_folder_where_no_process_reaches_another_machine(prefetched: Path, study_on_hub: Path, tmp_path: Path) -> None:
    guard, root = tmp_path / "guard", tmp_path / "runs"
    variables = install(guard) | {"HF_HOME": str(tmp_path / "empty")}
    done = run(variables, "study", study_on_hub, f"resources.prefetched={prefetched}", "--results", root)
    assert done.returncode == 0, done.stdout + done.stderr
    guarded = (guard / "guarded").read_text(encoding="utf-8")
    assert "kp.cli" in guarded
    assert "default_worker.py" in guarded  # Ray's workers stood under it, too
    attempts = (guard / "attempts").read_text(encoding="utf-8").splitlines() if (guard / "attempts").exists() else []
    assert [line for line in attempts if line.split()[-1] not in CLOUD] == []
    assert "facts have their published category" in " ".join(done.stdout.split())
    benchmarks = pq.read_table(root / "tiny" / "report" / "tables" / "benchmarks.parquet").to_pylist()
    assert {(row["task"], row["metric"], row["n"]) for row in benchmarks} >= {("arc_easy", "acc", 6), ("arc_easy", "acc_norm", 6)}
    assert "Published categories" in (root / "tiny" / "report" / "report.md").read_text(encoding="utf-8")
    records = [json.loads(file.read_text(encoding="utf-8")) for file in (root / "store" / "harness").glob("*/record.json")]
    revision = json.loads((prefetched / MANIFEST).read_text(encoding="utf-8"))["tasks"][f"{ARC}:ARC-Easy"]["revision"]
    assert [record["literals"]["data"] for record in records] == [{ARC: revision}] * 2


def test_dry_run_from_the_folder_knows_model_and_facts(prefetched: Path, study_on_hub: Path, tmp_path: Path) -> None:
    variables = install(tmp_path / "guard") | {"HF_HOME": str(tmp_path / "empty")}
    done = run(variables, "study", study_on_hub, f"resources.prefetched={prefetched}", "--results", tmp_path / "runs", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "cannot be loaded" not in done.stdout
    assert "not fetched yet" not in done.stdout


def test_dry_run_of_the_paper_without_a_network_prints_plan_and_price_and_what_was_out_of_reach(tmp_path: Path) -> None:
    variables = install(tmp_path / "guard") | {"HF_HOME": str(tmp_path / "empty"), "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "")}
    for name in ("paper", "released", "rigorous", "mistral"):
        done = run(variables, "study", f"ray_jobs/studies/{name}.toml", "--results", tmp_path / "runs", "--dry-run")
        assert done.returncode == 0, done.stderr
        said = " ".join(done.stdout.split())
        assert "note: facts.source: 'hf:s-nlp/" in said
        assert "(it is read when the study begins)" in said
        assert "price of the whole study" in said
        assert "not known until the facts are read" in said


def test_folder_without_what_a_study_asks_for_is_one_error(prefetched: Path, study_on_hub: Path, tmp_path: Path) -> None:
    for override, said in (
        ("facts.source=hf:someone/else:full", "facts.source: 'hf:someone/else:full' is not in"),
        ("model.name=someone/other", "model.name: 'someone/other' was not found"),
        (f"resources.prefetched={tmp_path}", "resources.prefetched: "),
    ):
        asked = [f"resources.prefetched={prefetched}", override]
        done = run({}, "facts", study_on_hub, *asked, "--results", tmp_path / "runs")
        assert done.returncode == 2, done.stdout
        assert said in done.stderr
        assert "kp prefetch" in done.stderr
