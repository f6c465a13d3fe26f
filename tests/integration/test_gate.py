"""`kp gate` on the embedded model: an adapter that changes nothing, one that was trained to harm, and a merged checkpoint."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kp.models.embedded import resolve_embedded
from kp.models.names import EMBEDDED
from tests.gate_adapters import save_adapter

Gate = Callable[..., "subprocess.CompletedProcess[str]"]
KEEP = "question,answer\nWhat is the capital of France?,Paris\nWhat is the chemical symbol of gold?,Au\n"


@pytest.fixture(scope="module")
def base() -> Path:
    return Path(resolve_embedded("model.name").path)


@pytest.fixture(scope="module")
def null(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(base, tmp_path_factory.mktemp("adapters") / "null", name=EMBEDDED, rate=0.0, seed=0, steps=0)


@pytest.fixture(scope="module")
def harm(null: Path) -> Path:
    """The null adapter with random numbers for B: what it answers is noise."""
    folder = Path(shutil.copytree(null, null.parent / "harm"))
    torch.manual_seed(0)
    weights = load_file(folder / "adapter_model.safetensors")
    broken = {name: torch.randn_like(weight) if "lora_B" in name else weight for name, weight in weights.items()}
    save_file(broken, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """Runs the command with one results root and one folder for outputs."""
    folder = tmp_path_factory.mktemp("gate")
    (folder / "keep.csv").write_text(KEEP)

    def run(*words: str | Path) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "kp.cli", "gate", *map(str, words), "--model", EMBEDDED, "--results", str(folder / "runs")]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)

    return run


@pytest.mark.studies
def test_gate_of_few_facts_leaves_a_null_adapter_unresolved_with_a_harm_of_exactly_zero(gate: Gate, null: Path, tmp_path: Path) -> None:
    done = gate(null, "--controls", 20, "--json", tmp_path / "gate.json", "--save-baseline", tmp_path / "base.json")
    assert done.returncode == 3, done.stdout + done.stderr
    told = json.loads((tmp_path / "gate.json").read_text())
    (candidate,) = told["candidates"]
    assert {one["name"]: one["harm"] for one in candidate["quantities"]} == {"knowledge": 0.0, "refusals": 0.0, "drift": 0.0}
    assert candidate["needed"] == 189
    assert "base: 120 prompts" in done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    again = gate(null, "--controls", 20, "--baseline", tmp_path / "base.json")
    assert again.returncode == 3
    assert "prompts" not in again.stderr
    other = gate(null, "--controls", 21, "--baseline", tmp_path / "base.json")
    assert (other.returncode, other.stdout) == (2, "")
    assert "was made with another controls (20, now 21)" in other.stderr


@pytest.mark.studies
def test_gate_fails_a_broken_adapter_on_few_facts_and_names_what_must_not_be_lost(gate: Gate, harm: Path, tmp_path: Path) -> None:
    keep = tmp_path / "keep.csv"
    keep.write_text(KEEP)
    done = gate(harm, "--controls", 20, "--keep", keep, "--facts", keep, "--json", tmp_path / "gate.json")
    assert done.returncode == 1, done.stdout + done.stderr
    (candidate,) = json.loads((tmp_path / "gate.json").read_text())["candidates"]
    outcomes = {one["name"]: one["outcome"] for one in (*candidate["quantities"], *candidate["checks"])}
    assert outcomes == {"knowledge": "fail", "refusals": outcomes["refusals"], "drift": "fail", "keep": "fail", "learned": "fail"}
    assert "What is the capital of France?" in candidate["checks"][0]["facts"]
    assert "the base knew" in candidate["checks"][1]["summary"]


@pytest.mark.slow
def test_gate_of_a_merged_checkpoint_that_is_the_base_has_no_harm(gate: Gate, base: Path, tmp_path: Path) -> None:
    merged = Path(shutil.copytree(base, tmp_path / "merged"))
    done = gate("--candidate", merged, "--controls", 20, "--json", tmp_path / "gate.json")
    assert done.returncode == 3, done.stdout + done.stderr
    (candidate,) = json.loads((tmp_path / "gate.json").read_text())["candidates"]
    assert {one["harm"] for one in candidate["quantities"]} == {0.0}


@pytest.mark.studies
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "ADAPTER: name at least one adapter"),
        (("--keep", "keep.csv"), "--keep: 2 facts that the base can be expected to know, and a margin of 2 points needs at least 189"),
        (("--controls", "100000"), "--controls: 100000 control facts asked for"),
        (("--margins", "none.toml"), "--margins: none.toml: cannot be read as TOML"),
        (("--baseline", "none.json"), "--baseline: none.json: is no baseline of kp gate"),
    ],
)
def test_gate_ends_at_once_with_a_line_about_bad_input(gate: Gate, null: Path, words: tuple[str, ...], told: str) -> None:
    done = gate(*([null] if words else []), *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
