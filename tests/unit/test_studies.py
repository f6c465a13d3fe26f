"""The checked-in studies load, and say what their names promise.

`paper`, `released` and `rigorous` exist to name the differences between a text, its code and a careful study; the table below is that
list, and everything outside it must be the same in all three.
"""

import itertools
import tomllib
from pathlib import Path

import pytest

from kp.config.derived import validate_pools
from kp.config.study import StudyConfig, load_study
from kp.facts.hub import parse
from kp.vocabulary import ShotSet

REPOSITORY = Path(__file__).parents[2]
STUDIES = REPOSITORY / "ray_jobs" / "studies"
PUBLISHED = ("paper", "released", "rigorous")
TRIVIA_SHOTS = "hf:mandarjoshi/trivia_qa:rc.nocontext/train"
TRIVIA_FACTS = "hf:mandarjoshi/trivia_qa:unfiltered.nocontext/train"

DIFFERENCES: dict[str, tuple[object, object, object]] = {
    "evaluate.shot_sets": ((ShotSet.S1,), (ShotSet.S1,), (ShotSet.S1, ShotSet.S2)),
    "evaluate.held_out_paraphrases": (0, 0, 2),
    "categorise.matcher": ("strict", "released", "strict"),
    "categorise.shots": (TRIVIA_SHOTS, TRIVIA_SHOTS, "builtin"),
    "search.draw": ("stratified", "file_order", "stratified"),
    "search.replay_target": ("gold", "first_alias", "self"),
    "training.batch_size": (16, 8, 16),
    "training.lora_alpha": (2.0, None, 2.0),
    "training.lora_alpha_per_rank": (None, 2.0, None),
    "training.use_rslora": (False, True, False),
    "training.loss": ("full_text", "full_text", "answer"),
    "training.packing": ("prefix_tree", "padded", "prefix_tree"),
    "facts.control_share": (0.0, 0.0, 0.5),
    "evaluate.placebo": (False, False, True),
    "search.replay_source": (TRIVIA_FACTS, None, TRIVIA_FACTS),
    "search.replay_count": (65000, None, 65000),
    "search.replay_shortfall": ("refuse", "use_all", "refuse"),
}
"""Field -> its value in paper, released, rigorous."""


def study(name: str) -> StudyConfig:
    return load_study(STUDIES / f"{name}.toml")


def fields(config: StudyConfig) -> dict[str, object]:
    """Every field of a study by its dotted name."""
    flat: dict[str, object] = {}
    for key, value in config.model_dump().items():
        flat |= {f"{key}.{inner}": content for inner, content in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def trials(config: StudyConfig) -> list[tuple[object, ...]]:
    search = config.search
    return list(itertools.product(search.unknown, search.arms, search.rank, search.learning_rate, search.seeds))


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_study_file_checked_in_loads_under_its_own_name(path: Path) -> None:
    assert load_study(path).name == path.stem


def test_studies_folder_holds_the_promised_presets() -> None:
    assert {"quickstart", "smoke", *PUBLISHED} <= {path.stem for path in STUDIES.glob("*.toml")}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_grid_has_six_sizes_five_mixes_three_seeds(name: str) -> None:
    config = study(name)
    assert config.search.unknown == (1, 10, 50, 100, 500, 3000)
    assert [(arm.highly_known, arm.paraphrases) for arm in config.search.arms] == [(0, 0), (1, 0), (10, 0), (0, 1), (0, 10)]
    assert len(config.search.seeds) == 3
    assert len(set(trials(config))) == 6 * 5 * 3


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_hyperparameters_are_those_of_the_paper(name: str) -> None:
    config = study(name)
    assert config.model.name == "meta-llama/Llama-3.1-8B-Instruct"
    assert (config.search.rank, config.search.learning_rate, config.training.epochs) == ((1,), (1e-3,), 10)
    assert (config.training.lora_dropout, config.training.alpha(1)) == (0.1, 2.0)
    assert set(config.training.target_modules) == {"down_proj", "gate_proj", "up_proj"}
    assert config.resources.gpu is True


@pytest.mark.parametrize("field", DIFFERENCES)
def test_published_studies_differ_where_the_list_of_differences_says(field: str) -> None:
    assert tuple(fields(study(name))[field] for name in PUBLISHED) == DIFFERENCES[field]


def test_published_studies_agree_everywhere_else() -> None:
    paper, released, rigorous = (fields(study(name)) for name in PUBLISHED)
    agreeing = paper.keys() - DIFFERENCES.keys() - {"name"}
    assert {field: (paper[field], released[field], rigorous[field]) for field in agreeing} == {
        field: (paper[field],) * 3 for field in agreeing
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_studies_write_down_every_knob_of_the_training(name: str) -> None:
    written = tomllib.loads((STUDIES / f"{name}.toml").read_text(encoding="utf-8"))["training"]
    knobs = set(study(name).training.model_dump()) - {"lora_alpha", "lora_alpha_per_rank", "steps"}  # given in other words, or absent
    assert knobs <= written.keys()


@pytest.mark.parametrize("name", [*PUBLISHED, "mistral"])
def test_published_studies_take_everything_from_the_hub(name: str) -> None:
    config = study(name)
    assert config.facts.source.startswith("hf:s-nlp/")
    for source in (config.facts.source, config.categorise.shots, config.search.replay_source or "builtin"):
        assert source == "builtin" or parse(source, "facts.source").name.count("/") == 1
    most = max(arm.paraphrases for arm in config.search.arms)
    assert (config.facts.paraphrase.model, config.facts.paraphrase.count) == (config.model.name, most)


def test_mistral_is_the_paper_on_another_model_at_the_size_of_table_6() -> None:
    paper, mistral = fields(study("paper")), fields(study("mistral"))
    changed = {name for name in paper if paper[name] != mistral[name]}
    assert changed == {"name", "model.name", "facts.source", "facts.paraphrase", "search.unknown", "search.replay_count"}
    assert mistral["search.unknown"] == (1,)


def test_released_scale_leaves_the_papers_as_the_rank_grows() -> None:
    paper, released = study("paper").training, study("released").training
    assert paper.alpha(1) / 1 == released.alpha(1) / 1**0.5 == 2
    assert paper.alpha(16) / 16 == 0.125
    assert released.alpha(16) / 16**0.5 == 8


def test_quickstart_is_four_trials_offline_on_the_embedded_model() -> None:
    config = study("quickstart")
    assert (config.model.name, config.facts.source, config.categorise.shots) == ("smollm2-135m-instruct", "builtin", "builtin")
    assert config.search.unknown == (10, 20)
    assert [(arm.highly_known, arm.paraphrases) for arm in config.search.arms] == [(0, 0), (1, 0)]
    assert len(trials(config)) == 4
    assert config.facts.count is not None
    assert config.facts.count == 120
    assert config.search.stop_at_accuracy is not None


def test_smoke_is_a_handful_of_trials_on_the_embedded_model() -> None:
    config = study("smoke")
    assert (config.model.name, config.facts.source, config.categorise.shots) == ("smollm2-135m-instruct", "builtin", "builtin")
    assert len(trials(config)) <= 4
    assert config.facts.count == 12
    described = tomllib.loads((REPOSITORY / "kp" / "facts" / "data" / "relations.toml").read_text(encoding="utf-8"))
    assert set(config.facts.relations) <= described["relations"].keys()
    assert config.training.epochs <= 12
    assert config.evaluate.mmlu_dev > 0
    assert config.evaluate.misconceptions > 0
    assert config.evaluate.completions > 0


def test_capacity_trains_every_fact_equally_often_and_leaves_some_untaught() -> None:
    config = study("capacity")
    assert (config.training.steps, config.search.stop_at_accuracy) == (None, None)  # exposures would depend on N
    assert config.facts.source == "synthetic"
    assert config.facts.count is not None
    assert config.facts.count - max(config.search.unknown) >= 50  # all are Unknown: those that the largest trial leaves untaught
    assert config.facts.control_unknown_share * config.facts.count >= 40
    assert config.evaluate.surprisal
    validate_pools(config)
