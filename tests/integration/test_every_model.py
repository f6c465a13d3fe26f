"""Whole studies of tiny models of many architectures, whose chat templates are of many families."""

import itertools
import json
from pathlib import Path

import polars as pl
import pytest

from kp.models.chat import Chat
from kp.prompts import training_messages
from tests.conftest import Kp
from tests.model_zoo import ARCHITECTURES, FAMILIES, save_zoo_model, zoo_tokenizer
from tests.tables import report_tables
from tests.tiny_study import STUDY

IN_DEFAULT_SET = {"gemma3": "no system turn", "gpt_oss": "channels"}
PAIRS = dict(zip(ARCHITECTURES, itertools.cycle(FAMILIES), strict=False)) | IN_DEFAULT_SET
SETTINGS = [
    'training.target_modules=["all-linear"]',
    "search.arms=[{}]",
    "search.learning_rate=[1e-2]",
    "training.epochs=6",
    "facts.control_share=0",
    "facts.control_unknown_share=0",
]


def facts(file: Path) -> Path:
    rows = [{"question": f"Who wrote Book {name}?", "answer": f"bo {name}"} for name in "bcdfghjklmnp"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize(
    ("architecture", "family"),
    [pytest.param(*pair, marks=() if pair in IN_DEFAULT_SET.items() else pytest.mark.slow) for pair in PAIRS.items()],
    ids=PAIRS,
)
def test_study_of_every_model_ends_with_its_report(architecture: str, family: str, tmp_path: Path, kp_on_ray: Kp) -> None:
    model = save_zoo_model(tmp_path / "model", architecture, family)
    study = tmp_path / "zoo.toml"
    study.write_text(STUDY.format(name="zoo", model=model, facts=facts(tmp_path / "facts.jsonl"), new_tokens=6, epochs=6))
    done = kp_on_ray("study", study, *SETTINGS, "--results", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    tables = report_tables(tmp_path / "runs", "zoo")
    (trial,) = tables["trials.parquet"].iter_rows(named=True)
    assert trial["status"] == "completed"
    assert len(trial["target_modules"]) >= 3  # GPT-2 has one name for two matrices
    assert "all-linear" not in trial["target_modules"]
    losses = tables["epochs.parquet"].sort("epoch")["train_loss"]
    assert losses[-1] < losses[0]
    answers = tables["outcomes.parquet"].filter(pl.col("trial_id") != "base")
    assert len(answers) == 12 * 2, "every fact is asked on two shot sets"
    chat = Chat(zoo_tokenizer(FAMILIES[family]))
    row = chat.tokenizer.decode(chat.row_ids(training_messages("Who wrote Book b?", "bo b"))[0])
    assert row.endswith(f"Answer: bo b{FAMILIES[family].turn_end}")
