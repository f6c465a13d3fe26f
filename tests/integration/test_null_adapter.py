"""An adapter that changes nothing: trained and measured like any other, it has no effect at all, and the report says neither harm nor gain.

Its learning rate is too small for its weights to matter in float32. All that a report may find of it is 0 then, not about 0: whatever else
it finds is made by kp.
"""

import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from tests.conftest import Kp
from tests.independent_opening import wrong_opening
from tests.independent_page import tables_of, wrong_page
from tests.independent_report import Numbers, wrong_tables
from tests.tables import report_tables
from tests.tiny_study import FACTS, NAME

OVERRIDES = ("search.arms=[{}]", "search.learning_rate=[1e-30]", "training.epochs=1")
NO_HARM_SHOWN = {"within_margin", "not_resolved"}


@pytest.fixture(scope="module")
def null(finished_tiny: Path, tiny_study: Path, kp_on_ray: Kp, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results root of the study with this adapter alone; facts and categories are those of the finished study."""
    root = tmp_path_factory.mktemp("null") / "runs"
    shutil.copytree(finished_tiny, root, symlinks=True)
    done = kp_on_ray("study", tiny_study, *OVERRIDES, "--results", root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "categorise: already done" in done.stdout
    return root


@pytest.fixture(scope="module")
def tables(null: Path) -> dict[str, pl.DataFrame]:
    return {name.removesuffix(".parquet"): table for name, table in report_tables(null, NAME).items()}


def test_null_adapter_is_trained_and_its_weights_are_too_small_to_matter(null: Path, tables: dict[str, pl.DataFrame]) -> None:
    (trial,) = tables["trials"].iter_rows(named=True)
    assert (trial["status"], trial["steps"]) == ("completed", 1)
    weights = load_file(null / NAME / "adapters" / trial["trial_id"] / "adapter_model.safetensors")
    largest = {part: max(np.abs(weight).max() for name, weight in weights.items() if part in name) for part in ("lora_A", "lora_B")}
    assert largest["lora_A"] > 0.01
    assert 0 < largest["lora_B"] < 1e-28


def test_null_adapter_gives_every_answer_of_its_base_on_both_shot_sets(null: Path, tables: dict[str, pl.DataFrame]) -> None:
    digest = tables["trials"]["adapter_digest"][0]
    kinds = ("categorise", "answers")
    stored = pl.concat(pl.read_parquet(path) for kind in kinds for path in (null / "store" / kind).glob("*/answers.parquet"))
    key, same = ["fact_id", "shot_set", "prompt_index"], ["answer", "finish_reason", "match_strict", "refused"]
    adapter = stored.filter(model_id=digest).sort(key)
    (base,) = set(tables["base_categories"]["model_id"])
    expected = stored.filter(pl.col("shot_set") != "S0", model_id=base).sort(key)
    assert len(adapter) == 2 * 10 * FACTS
    assert adapter.select(*key, *same).equals(expected.select(*key, *same))
    assert expected["answer"].n_unique() > 5


def test_null_adapter_has_effects_of_exactly_0_everywhere(tables: dict[str, pl.DataFrame]) -> None:
    effects = tables["effects"]
    assert set(effects["effect"]) == {"net_change", "same_prompt", "crossed"}
    assert set(effects["subset"]) == {"all", "untrained", "control", "control_dev", "control_test"}
    with_facts = effects.filter(pl.col("n") > 0)
    assert len(with_facts) > 100
    assert set(with_facts["value"]) == {0.0}
    assert with_facts["adapter"].equals(with_facts["base"])
    assert effects.filter(pl.col("n") == 0)["value"].null_count() == len(effects) - len(with_facts)
    assert set(tables["shifts"]["count"]) == {0.0}


def test_null_adapter_changes_no_benchmark_and_no_refusal(tables: dict[str, pl.DataFrame]) -> None:
    differences = tables["benchmark_effects"]
    assert set(differences["metric"]) == {"mc1", "mc2"}
    assert set(differences["value"]) == {0.0}
    assert differences["adapter"].equals(differences["base"])
    (row,) = tables["summary"].iter_rows(named=True)
    names = ("reliability", "reliability_s2", "facts_packed", "knowledge_loss", "dev_loss", "refusal_rate_delta", "mc1_delta", "mc2_delta")
    assert {name: row[name] for name in names} == dict.fromkeys(names, 0.0)
    assert row["refusal_rate_delta_p_holm"] == 1.0
    assert tables["arms"].is_empty()


def test_null_adapter_has_no_drift_and_the_perplexity_of_its_base(tables: dict[str, pl.DataFrame]) -> None:
    drift, summary = tables["drift"], tables["drift_summary"]
    assert {"questions", "code"} <= set(drift["register"])
    assert set(drift["kl"]) == set(summary["kl"]) == {0.0}
    assert drift["nll"].equals(drift["base_nll"])
    assert set(summary["ratio"]) == {1.0}
    assert set(tables["summary"]["drift"]) == {0.0}


def test_null_adapter_is_never_said_to_harm(tables: dict[str, pl.DataFrame]) -> None:
    effects, differences = tables["effects"], tables["benchmark_effects"]
    for found in (effects["verdict"], effects["verdict_alone"], differences["verdict"]):
        assert found.drop_nulls().n_unique() > 0
        assert set(found.drop_nulls()) <= NO_HARM_SHOWN
    judged = effects.filter(pl.col("verdict").is_not_null(), pl.col("lower").is_not_null())
    assert (judged["lower"] < 0).all()
    assert (judged["upper"] > 0).all()


def test_report_of_a_null_adapter_says_neither_harm_nor_gain(null: Path) -> None:
    report = null / NAME / "report"
    numbers, page = Numbers.read(report), report / "report.md"
    assert [*wrong_tables(numbers), *wrong_page(numbers, page), *wrong_opening(numbers, page)] == []
    text = page.read_text()
    opening = "\n".join(text.split("\n\n")[2:4])
    assert opening.startswith("**Nothing was learned: the highest reliability of any trial is 0 ± 0.168 ")
    assert "nothing follows about how much can be packed" in opening
    assert "a change is shown for none of 1 adapter" in opening
    assert not re.search(r"\b(shows harm|harm shown|rules out|loses|fell|rose|gains|packed at)\b", opening)
    (((_, (effects,)),),) = (found for title, found in tables_of(page).items() if title.startswith("Effects"))
    assert {cell.partition(" ")[0].partition("\n")[0] for cell in list(effects.values())[1:5]} == {"0.0"}
    assert effects["verdict"].startswith("not resolved\ncould resolve ")
    assert "32 facts are few: the smallest harm to known facts that they show of a typical trial (with 80% power) is about 72.9 " in text
