"""The plan tells how much there is of everything, and says of what it cannot know that it does not."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console
from rich.table import Table

from kp import schema
from kp.config.study import ModelConfig, StudyConfig, load_study
from kp.models.loading import resolve_model
from kp.store.filenames import FACTS_FILE
from kp.store.steps import Store
from kp.study.building import build_graph
from kp.study.graph import Graph
from kp.study.identities import Identities
from kp.study.plan import TOKENS_A_ROW, make_plan, plan_table, planning_of, price_table, row_tokens

STUDIES = Path(__file__).parents[2] / "ray_jobs" / "studies"
IDENTITIES = Identities("model", "facts", "shots", "paraphraser", replay="replay")
COLUMNS = 80


def study(search: dict[str, Any] | None = None, **sections: Any) -> StudyConfig:
    document = {"name": "s", "facts": {"count": 50}, "search": search or {}, "training": {"lora_alpha": 16, "epochs": 2}, **sections}
    return StudyConfig.model_validate(document)


def graph_of(config: StudyConfig) -> Graph:
    return build_graph(config, IDENTITIES)


def printed(table: Table) -> str:
    """The table as an 80-column terminal shows it."""
    console = Console(width=COLUMNS)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def cells(table: Table) -> dict[str, str]:
    """The rows of a table of two columns."""
    first, second = (list(map(str, column.cells)) for column in table.columns)
    return dict(zip(first, second, strict=True))


def prices(config: StudyConfig, root: Path) -> dict[str, str]:
    return cells(price_table(planning_of(config, graph_of(config), Store(root))))


def with_facts(config: StudyConfig, root: Path, facts: list[dict[str, Any]]) -> tuple[Graph, Store]:
    """A store in which the facts are chosen."""
    graph, store = graph_of(config), Store(root)
    table = pa.Table.from_pylist(facts, schema=schema.FACTS)
    store.commit(graph.steps["facts"], lambda folder: schema.write_table(table, schema.FACTS, folder / FACTS_FILE), seconds=1.0)
    return graph, store


def fact(number: int, paraphrases: list[str] | None = None) -> dict[str, Any]:
    empty = {field.name: None for field in schema.FACTS}
    known = {
        "fact_id": f"f{number}",
        "question": f"Who directed the film number {number}?",
        "answers": ["Frank Coraci"],
        "paraphrases": paraphrases or [],
    }
    words = {field.name: "x" for field in schema.FACTS if str(field.type) == "string" and not field.nullable}
    return empty | words | known


def test_plan_of_the_published_grid_has_its_trials_steps_and_rows(tmp_path: Path) -> None:
    config = load_study(STUDIES / "paper.toml", ["facts.count=21036"])
    lines = {line.stage: line.work for line in make_plan(planning_of(config, graph_of(config), Store(tmp_path)))}
    rows = 10 * 3 * (1 + 10 + 50 + 100 + 500 + 3000) * (1 + 2 + 11 + 2 + 11)
    assert f"90 trials, at most 185,790 steps on {rows:,} rows" in lines["search"]
    assert lines["categorise"].startswith(f"{21036 * 30:,} prompts")
    assert lines["evaluate"].startswith(f"{21036 * 10 * 90:,} prompts on 90 adapters")


def test_price_of_the_published_grid_is_told_though_nothing_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    rates = [
        "facts.count=21036",
        "resources.training_tokens_per_second=9000",
        "resources.prompts_per_second=400",
        "resources.concurrent_trials=8",
    ]
    config = load_study(STUDIES / "paper.toml", rates)
    found = prices(config, tmp_path)
    tokens = 2_965_410 * TOKENS_A_ROW
    prompts = 21036 * 30 + 65000 * 10 + 21036 * 10 * 90 + 10 * 3 * 5 * (1 + 10 + 50 + 100 + 500 + 3000)
    parameters = 32 * 3 * (4096 + 14336)
    assert found["tokens"].startswith(f"{tokens:,} trained on")
    assert "estimated: facts and tokenizer not here yet" in found["tokens"]
    assert found["prompts"].startswith(f"{prompts:,}: ")
    assert found["adapters"] == f"about {90 * 2 * parameters / 1e6:.0f} MB stay, the largest 3.54 MB (by its published shape)"
    assert found["checkpoints"].startswith("900 written, one an epoch; the last 2 of a trial stay while it trains, ")
    assert f"about {8 * 2 * 16 * parameters / 1e6:.0f} MB of 8 trials with optimiser states" in found["checkpoints"]
    training, answering = tokens / 9000 / 3600, prompts / 400 / 3600
    assert found["training"] == f"{training:.1f} GPU-hours at 9,000 tokens a second"
    assert found["answering"] == f"{answering:.1f} GPU-hours at 400 prompts a second"
    assert found["in all"].startswith(f"{training + answering:.1f} GPU-hours")


def test_price_without_a_rate_names_the_field_that_would_give_it_and_adds_nothing_up(tmp_path: Path) -> None:
    found = prices(study(resources={"prompts_per_second": 10.0}), tmp_path)
    assert "resources.training_tokens_per_second" in found["training"]
    assert "worker-hours at 10 prompts a second" in found["answering"]
    assert "in all" not in found


def test_price_of_facts_that_are_not_counted_yet_says_so(tmp_path: Path) -> None:
    found = prices(study(facts={}, resources={"prompts_per_second": 10.0}), tmp_path)
    assert found["prompts"] == "not known until the facts are read"
    assert "not known" in found["answering"]


def test_price_of_a_model_of_no_known_shape_leaves_sizes_out_and_counts_checkpoints(tmp_path: Path) -> None:
    found = prices(study(model={"name": "someone/some-model-that-is-not-here"}), tmp_path)
    assert found["adapters"] == "size not known: someone/some-model-that-is-not-here is not here"
    assert found["checkpoints"].startswith("4 written")
    assert "MB" not in found["checkpoints"]


def test_price_of_an_adapter_on_another_matrix_names_the_field(tmp_path: Path) -> None:
    found = prices(study(training={"lora_alpha": 1, "target_modules": ["lm_head"]}), tmp_path)
    assert "training.target_modules" in found["adapters"]


def test_price_of_checkpoints_of_the_embedded_model_is_what_an_epoch_writes(tmp_path: Path) -> None:
    """Rank 8 on the three matrices: 30 x 3 x 8 x (576 + 1536) parameters of 16 bytes, and two checkpoints of them."""
    found = prices(study(), tmp_path)
    assert f"{2 * 16 * 30 * 3 * 8 * (576 + 1536) / 1e6:.1f} MB with optimiser states" in found["checkpoints"]
    assert found["adapters"].endswith("(by config.json)")


def test_row_tokens_are_counted_where_facts_and_tokenizer_are_here(tmp_path: Path) -> None:
    resolve_model(ModelConfig())
    longer = "Can you tell me the name of the person who directed the film that I mean?"
    config = study({"unknown": (1,)})
    tokens = row_tokens(config, *with_facts(config, tmp_path, [fact(number, [longer]) for number in range(300)]))
    assert tokens.origin == "counted on 256 facts"
    assert 30 < tokens.question < 50
    assert tokens.paraphrase > tokens.question + 5


def test_row_tokens_without_paraphrases_take_them_for_questions(tmp_path: Path) -> None:
    resolve_model(ModelConfig())
    config = study({"unknown": (1,)})
    tokens = row_tokens(config, *with_facts(config, tmp_path, [fact(1), fact(2)]))
    assert tokens.origin == "counted on 2 facts"
    assert tokens.paraphrase == tokens.question


def test_row_tokens_without_facts_are_estimated(tmp_path: Path) -> None:
    tokens = row_tokens(study(), graph_of(study()), Store(tmp_path))
    assert tokens.question == TOKENS_A_ROW
    assert tokens.origin.startswith("estimated: facts")


def test_row_tokens_of_a_model_of_whom_the_config_alone_is_here_are_estimated(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    config = study(model={"name": str(model)})
    tokens = row_tokens(config, *with_facts(config, tmp_path / "results", [fact(1)]))
    assert tokens.origin == "estimated: tokenizer not here yet"


def test_plan_of_replayed_facts_of_another_source_has_a_line(tmp_path: Path) -> None:
    search = {"arms": ({"highly_known": 1},), "replay_source": "known.csv", "replay_count": 30}
    config = study(search)
    lines = make_plan(planning_of(config, graph_of(config), Store(tmp_path)))
    assert [line.stage for line in lines] == ["facts", "categorise", "parts", "replay", "search", "evaluate"]
    assert lines[2].work == "50% of what the base knows, 10% of what it does not: control facts, kept out of training"
    assert lines[3].work == "30 facts from known.csv to replay: 300 prompts on S0"
    assert lines[3].state == "to do"
    assert f"{50 * 30 + 300:,} to the base" in prices(config, tmp_path)["prompts"]


def test_plan_of_replayed_facts_that_are_not_counted_says_all(tmp_path: Path) -> None:
    config = study({"arms": ({"highly_known": 1},), "replay_source": "known.csv"})
    assert make_plan(planning_of(config, graph_of(config), Store(tmp_path)))[3].work.startswith("all the facts from known.csv")
    assert prices(config, tmp_path)["prompts"] == "not known until the facts are read"


def test_plan_without_control_facts_has_no_line_for_them_and_drawn_ones_are_counted(tmp_path: Path) -> None:
    config = study(facts={"count": 50, "control_share": 0.0})
    assert "parts" not in [line.stage for line in make_plan(planning_of(config, graph_of(config), Store(tmp_path)))]
    config = study()
    graph, store = graph_of(config), Store(tmp_path)
    details = {
        "control": {"HighlyKnown": 12, "MaybeKnown": 9, "WeaklyKnown": 0, "Unknown": 4},
        "resolvable": {"control_dev": 0.1, "control_test": 0.123},
    }
    store.commit(graph.steps["parts"], lambda folder: None, seconds=0.0, details=details)
    (line,) = [line for line in make_plan(planning_of(config, graph, store)) if line.stage == "parts"]
    counted = "control facts: 12 HighlyKnown, 9 MaybeKnown, 4 Unknown; test half resolves a net change of 12.3 points at best"
    assert (line.work, line.state) == (counted, "done")


def test_plan_of_held_out_paraphrases_counts_what_generality_asks(tmp_path: Path) -> None:
    config = study({"unknown": (10, 40)}, evaluate={"held_out_paraphrases": 3})
    evaluate = make_plan(planning_of(config, graph_of(config), Store(tmp_path)))[-1]
    assert evaluate.work.startswith(f"{2 * 50 * 10 * 2:,} prompts on 2 adapters; at most {(10 + 40) * 3 * 10:,} of held-out paraphrases")


def test_plan_of_trials_yet_to_be_proposed_is_not_done_when_the_known_ones_are(tmp_path: Path) -> None:
    config = study(
        {"unknown": (10, 40), "rank": (1, 2), "sampler": "optuna", "trials": 3},
        evaluate={"reversed_questions": False, "completions": 0, "mmlu_dev": 0, "misconceptions": 0, "held_out_paraphrases": 0},
    )
    whole = graph_of(config)
    graph = build_graph(config, IDENTITIES, [whole.trials[0].spec])
    store = Store(tmp_path)
    for step in (graph.trials[0].step, *graph.trials[0].measurements.values()):
        store.commit(step, lambda folder: None, seconds=1.0)
    search, evaluate = make_plan(planning_of(config, graph, store))[-2:]
    assert search.work.startswith("3 trials (1 of them proposed so far), ")
    assert (search.state, evaluate.state) == ("1 of 3 done", "4 of 13 done")


def test_plan_and_price_fit_eighty_columns(tmp_path: Path) -> None:
    config = load_study(STUDIES / "paper.toml")
    graph, store = graph_of(config), Store(tmp_path)
    text = printed(plan_table(config, make_plan(planning_of(config, graph, store)), "not fetched yet")) + printed(
        price_table(planning_of(config, graph, store))
    )
    assert max(map(len, text.splitlines())) <= COLUMNS
    assert "(not fetched yet)" in text
    assert "…" not in text


def test_plan_table_shortens_a_revision(tmp_path: Path) -> None:
    config = study()
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert f"({commit[:12]})" in printed(plan_table(config, make_plan(planning_of(config, graph_of(config), Store(tmp_path))), commit))
