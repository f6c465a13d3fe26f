"""The contract of a study file: what is wrong in it is named, with the file and the field, before anything runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kp.config.derived import validate_pools
from kp.config.study import StudyConfig, load_study
from kp.errors import UserError
from kp.vocabulary import Draw, Matcher, Scheduler

SMALLEST = 'name = "small"\n[training]\nlora_alpha = 16\n'
"""The fewest keys that make a study."""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_study(text: str) -> Path:
        path = tmp_path / "study.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_study


def refusal(path: Path, *overrides: str) -> str:
    """The message that `load_study` refuses with."""
    with pytest.raises(UserError) as caught:
        load_study(path, list(overrides))
    return str(caught.value)


def test_load_study_fewest_keys_takes_every_default(write: Write) -> None:
    study = load_study(write(SMALLEST))
    assert study == StudyConfig.model_validate({"name": "small", "training": {"lora_alpha": 16}})
    assert study.facts.source == "builtin"
    assert study.facts.count is None
    assert study.search.stop_at_accuracy is None


def test_load_study_words_of_the_vocabulary_become_enums(write: Write) -> None:
    study = load_study(write(SMALLEST + '[categorise]\nmatcher = "exact"\n[search]\ndraw = "file_order"\nscheduler = "asha"\n'))
    assert study.categorise.matcher is Matcher.EXACT
    assert study.search.draw is Draw.FILE_ORDER
    assert study.search.scheduler is Scheduler.ASHA


UNKNOWN_KEYS = {
    "of another section": ("rank = [8]\n" + SMALLEST, "rank", "; did you mean search.rank?"),
    "a section": (SMALLEST + "[serch]\nrank = [8]\n", "serch", "; did you mean search?"),
    "in a section": (SMALLEST + "[search]\nranks = [8]\n", "search.ranks", "; did you mean search.rank?"),
    "in a section of a section": (
        SMALLEST + "[facts.paraphrase]\npromt = 'x'\n",
        "facts.paraphrase.promt",
        "; did you mean facts.paraphrase.prompt?",
    ),
    "in an arm": (
        SMALLEST + "[search]\narms = [{}, { higly_known = 1 }]\n",
        "search.arms.1.higly_known",
        "; did you mean search.arms.highly_known?",
    ),
    "like none": ("zzqq = 1\n" + SMALLEST, "zzqq", ""),
}


@pytest.mark.parametrize(("text", "field", "meant"), UNKNOWN_KEYS.values(), ids=UNKNOWN_KEYS)
def test_load_study_unknown_key_is_named_with_the_file_and_what_was_meant(write: Write, text: str, field: str, meant: str) -> None:
    path = write(text)
    assert refusal(path) == f"{path}: {field}: unknown key{meant}"


BAD_VALUES = {
    "text for a number": ('[facts]\ncount = "many"\n', "facts.count", "'many'"),
    "a fraction for a count": ("[facts]\ncount = 2.5\n", "facts.count", "2.5"),
    "zero for a count": ("[facts]\ncount = 0\n", "facts.count", "0"),
    "a number for a list": ("[search]\nrank = 8\n", "search.rank", "8"),
    "text in a list of numbers": ('[search]\nrank = [4, "big"]\n', "search.rank.1", "'big'"),
    "a word that is none of the vocabulary": ('[categorise]\nmatcher = "fuzzy"\n', "categorise.matcher", "'fuzzy'"),
    "a dtype that is not offered": ('[model]\ndtype = "float8"\n', "model.dtype", "'float8'"),
    "an accuracy above 1": ("[search]\nstop_at_accuracy = 1.5\n", "search.stop_at_accuracy", "1.5"),
    "more paraphrases than a fact has": ("[search]\narms = [{ paraphrases = 11 }]\n", "search.arms.0.paraphrases", "11"),
    "more noise draws than there are shot sets": ("[categorise]\nrepeat_measurements = 8\n", "categorise.repeat_measurements", "8"),
    "fewer samples than none": ("[categorise]\nsamples = -1\n", "categorise.samples", "-1"),
    "a temperature that is greedy": ("[categorise]\nsample_temperature = 0.0\n", "categorise.sample_temperature", "0.0"),
    "fewer MaybeKnown facts than none": ("[search]\narms = [{ maybe_known = -1 }]\n", "search.arms.0.maybe_known", "-1"),
    "a source of trials that is not offered": ('[search]\nsampler = "bayes"\n', "search.sampler", "'bayes'"),
    "no trials": ('[search]\nsampler = "random"\ntrials = 0\n', "search.trials", "0"),
    "a batch of no proposals": ("[search]\noptuna_batch = 0\n", "search.optuna_batch", "0"),
    "a range of one rate": ("[search]\nlearning_rate_range = [1e-3]\n", "search.learning_rate_range.1", "required"),
    "no replayed facts": ("[search]\nreplay_count = 0\n", "search.replay_count", "0"),
    "more held out than there can be": ("[evaluate]\nheld_out_paraphrases = 11\n", "evaluate.held_out_paraphrases", "11"),
    "no grace": ("[search]\ngrace_epochs = 0\n", "search.grace_epochs", "0"),
    "rungs that stop nobody": ("[search]\nreduction_factor = 1\n", "search.reduction_factor", "1"),
    "no patience": ("[search]\nstop_patience = 0\n", "search.stop_patience", "0"),
    "fewer epochs of annealing than none": ("[search]\nanneal_epochs = -1\n", "search.anneal_epochs", "-1"),
    "more prompts than a shot set has": ("[search]\neval_prompts = 11\n", "search.eval_prompts", "11"),
    "an evaluation of no facts": ("[search]\neval_facts = 0\n", "search.eval_facts", "0"),
    "a share of the facts that is all of them": ("[facts]\ncontrol_share = 1.0\n", "facts.control_share", "1.0"),
    "a share of the facts that is none": ("[facts]\ncontrol_share = -0.1\n", "facts.control_share", "-0.1"),
    "a pass of no rows": ("[resources]\nmicro_batch = 0\n", "resources.micro_batch", "0"),
    "a rate of training that never ends": (
        "[resources]\ntraining_tokens_per_second = 0.0\n",
        "resources.training_tokens_per_second",
        "0.0",
    ),
    "a rate of answering that never ends": ("[resources]\nprompts_per_second = 0.0\n", "resources.prompts_per_second", "0.0"),
    "a tracker that is not offered": ('[trackers]\nuse = ["comet"]\n', "trackers.use.0", "'comet'"),
    "a mode that W&B has not": ('[trackers]\nwandb_mode = "dryrun"\n', "trackers.wandb_mode", "'dryrun'"),
    "a section that is a list": ("[[facts]]\ncount = 3\n", "facts", "count"),
}


@pytest.mark.parametrize(("text", "field", "value"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_load_study_bad_value_names_file_field_and_value(write: Write, text: str, field: str, value: str) -> None:
    path = write(SMALLEST + text)
    message = refusal(path)
    assert message.startswith(f"{path}: {field}: ")
    assert value in message


BAD_TRAINING = {
    "no steps": ("steps = 0", "training.steps", "0"),
    "a schedule that is not offered": ('schedule = "exponential"', "training.schedule", "'exponential'"),
    "a packing that is not offered": ('packing = "concatenated"', "training.packing", "'concatenated'"),
    "a KL that is rewarded": ("kl_coefficient = -0.1", "training.kl_coefficient", "-0.1"),
    "a decay that grows": ("weight_decay = -0.1", "training.weight_decay", "-0.1"),
    "a warm-up of all steps": ("warmup_ratio = 1.0", "training.warmup_ratio", "1.0"),
    "a stage that DeepSpeed has not": ("zero_stage = 4", "training.zero_stage", "4"),
}


@pytest.mark.parametrize(("line", "field", "value"), BAD_TRAINING.values(), ids=BAD_TRAINING)
def test_load_study_bad_value_of_training_names_file_field_and_value(write: Write, line: str, field: str, value: str) -> None:
    path = write(f"{SMALLEST}{line}\n")
    message = refusal(path)
    assert message.startswith(f"{path}: {field}: ")
    assert value in message


def test_load_study_missing_section_is_named(write: Write) -> None:
    path = write('name = "small"\n')
    assert refusal(path) == f"{path}: training: Field required"


def test_load_study_missing_name_is_named(write: Write) -> None:
    path = write("[training]\nlora_alpha = 16\n")
    assert refusal(path) == f"{path}: name: Field required"


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "two words", "store", "work", "damaged"])
def test_load_study_name_that_is_no_folder_name_is_refused(write: Write, name: str) -> None:
    path = write(SMALLEST.replace('"small"', f'"{name}"'))
    assert refusal(path).startswith(f"{path}: name: ")


def test_load_study_several_faults_are_all_told(write: Write) -> None:
    path = write('name = "small"\n[facts]\ncount = 0\n[search]\nranks = [8]\n')
    lines = refusal(path).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert {line.split(": ")[1] for line in lines} == {"facts.count", "search.ranks", "training"}


RANDOM = ["search.sampler=random", "search.trials=4"]
REPLAY = ["search.arms=[{maybe_known = 1}]"]

IMPOSSIBLE = {
    "released matcher on first lines": (
        ["categorise.matcher=released", "categorise.stop_at_newline=true"],
        "categorise.stop_at_newline",
        "released",
    ),
    "batch that does not divide": (
        ["training.batch_size=8", "resources.workers_per_trial=3"],
        "training.batch_size",
        "workers_per_trial = 3",
    ),
    "stage 0 in bf16": (["training.zero_stage=0"], "training.zero_stage", "bfloat16"),
    "two alphas": (["training.lora_alpha_per_rank=2"], "training.lora_alpha", "either"),
    "no target modules": (["training.target_modules=[]"], "training.target_modules", "empty"),
    "an empty grid": (["search.rank=[]"], "search.rank", "empty"),
    "a value twice": (["search.seeds=[1, 1]"], "search.seeds", "twice"),
    "an arm twice": (["search.arms=[{}, {highly_known = 0}]"], "search.arms", "twice"),
    "a learning rate of 0": (["search.learning_rate=[0.0]"], "search.learning_rate", "above 0"),
    "trials of a grid": (["search.trials=4"], "search.trials", "only with sampler"),
    "a range in a grid": (["search.learning_rate_range=[1e-4, 1e-2]"], "search.learning_rate_range", "only with sampler"),
    "random without a number": (["search.sampler=random"], "search.trials", "'random'"),
    "optuna without a number": (["search.sampler=optuna"], "search.trials", "'optuna'"),
    "a range the wrong way round": ([*RANDOM, "search.learning_rate_range=[1e-2, 1e-4]"], "search.learning_rate_range", "lowest"),
    "a range from 0": ([*RANDOM, "search.learning_rate_range=[0.0, 1e-2]"], "search.learning_rate_range", "above 0"),
    "replayed facts counted without a source": (["search.replay_count=20"], "search.replay_count", "replay_source"),
    "a source of replay for no arm": (["search.replay_source=known.csv"], "search.replay_source", "no arm"),
    "fewer paraphrases written than are needed": (
        ["search.arms=[{paraphrases = 5}]", "facts.paraphrase.model=m", "facts.paraphrase.count=4"],
        "facts.paraphrase.count",
        "5",
    ),
    "annealing after no target": (["search.anneal_epochs=2"], "search.anneal_epochs", "stop_at_accuracy"),
    "S2 without S1": (["evaluate.shot_sets=[S2]"], "evaluate.shot_sets", "or none"),
    "paraphrases asked by adapters that are asked nothing": (
        ["evaluate.shot_sets=[]"],
        "evaluate.held_out_paraphrases",
        "no shot_sets",
    ),
    "a placebo of adapters that are asked nothing": (
        ["evaluate.shot_sets=[]", "evaluate.placebo=true"],
        "evaluate.placebo",
        "no shot_sets",
    ),
    "a negative seed": (["search.seeds=[-1]"], "search.seeds", "is not from 0"),
    "a seed that is negative with the study's": (["seed=-2", "search.seeds=[2, 1]"], "search.seeds", "1 with the study's seed -2"),
    "a seed of 32 bits": (["seed=1", "search.seeds=[2147483647]"], "search.seeds", "is not from 0 to 2147483647"),
    "epochs and steps": (["training.epochs=3", "training.steps=100"], "training.steps", "either"),
    "an init that PEFT has not": (["training.init=xavier"], "training.init", "'xavier'"),
    "pissa of some iterations": (["training.init=pissa_niter_many"], "training.init", "pissa_niter_N"),
    "KL to a base that has moved": ([*REPLAY, "training.kl_coefficient=0.1", "training.init=pissa"], "training.kl_coefficient", "'pissa'"),
    "KL without replay": (["training.kl_coefficient=0.1"], "training.kl_coefficient", "no arm"),
    "a base taken apart that is spread out": (["training.zero_stage=3", "training.init=olora"], "training.init", "stage 3"),
    "a rank that is doubled beyond what vLLM supports": (
        ["search.rank=[300]", "training.init=pissa", "categorise.engine=vllm", "resources.vllm_python=/opt/vllm/bin/python"],
        "search.rank",
        "600",
    ),
}


@pytest.mark.parametrize(("overrides", "field", "reason"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_load_study_impossible_combination_names_field_and_reason(write: Write, overrides: list[str], field: str, reason: str) -> None:
    path = write(SMALLEST)
    message = refusal(path, *overrides)
    assert message.startswith(f"{path}: {field}: ")
    assert reason in message


def test_load_study_combination_mended_by_the_other_field_loads(write: Write) -> None:
    path = write(SMALLEST)
    assert load_study(path, ["categorise.matcher=released"]).categorise.matcher is Matcher.RELEASED
    assert load_study(path, ["training.zero_stage=0", "model.dtype=float32"]).training.zero_stage == 0


@pytest.mark.parametrize(
    "overrides",
    [
        [*RANDOM, "search.learning_rate_range=[1e-4, 1e-2]"],
        ["search.sampler=optuna", "search.trials=4", "search.optuna_batch=2"],
        [*REPLAY, "search.replay_source=known.csv", "search.replay_count=20"],
        [*REPLAY, "training.kl_coefficient=0.1"],
        ["search.arms=[{paraphrases = 10}]", "evaluate.held_out_paraphrases=4"],
        ["search.stop_at_accuracy=0.9", "search.anneal_epochs=2"],
        ["training.steps=100"],
        ["training.init=pissa_niter_16"],
        ["training.zero_stage=3"],
    ],
    ids=lambda overrides: overrides[-1],
)
def test_load_study_knobs_that_go_together_load(write: Write, overrides: list[str]) -> None:
    load_study(write(SMALLEST), overrides)


def test_load_study_neither_alpha_is_refused(write: Write) -> None:
    path = write('name = "small"\n[training]\nepochs = 3\n')
    assert f"{path}: training.lora_alpha: give either" in refusal(path)


def test_load_study_not_toml_names_the_file_and_the_place(write: Write) -> None:
    path = write("name = small\n")
    message = refusal(path)
    assert message.startswith(f"{path}: not valid TOML: ")
    assert "line 1" in message


def test_load_study_not_text_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(b'name = "\xff"\n')
    assert refusal(path).startswith(f"{path}: not valid TOML: ")


def test_load_study_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.toml"
    assert refusal(path) == f"{path}: cannot be read: No such file or directory"


def test_load_study_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"{tmp_path}: cannot be read: ")


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("facts.count=100", "facts", "count", 100),
        ("search.rank=[4, 16]", "search", "rank", (4, 16)),
        ("search.learning_rate=[1e-3]", "search", "learning_rate", (1e-3,)),
        ("model.name=some/model", "model", "name", "some/model"),
        ('model.name="some/model"', "model", "name", "some/model"),
        ("categorise.stop_at_newline=true", "categorise", "stop_at_newline", True),
        ("facts.source=a=b.csv", "facts", "source", "a=b.csv"),
    ],
)
def test_load_study_override_sets_one_field(write: Write, override: str, section: str, key: str, value: object) -> None:
    changed = load_study(write(SMALLEST), [override]).model_dump()
    assert changed[section][key] == value
    changed[section][key] = load_study(write(SMALLEST)).model_dump()[section][key]
    assert changed == load_study(write(SMALLEST)).model_dump()


def test_load_study_later_override_wins(write: Write) -> None:
    assert load_study(write(SMALLEST), ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize("override", ["facts.count", "=3", ".count=3", "facts.=3", "facts..count=3", ""])
def test_load_study_override_without_shape_is_quoted(write: Write, override: str) -> None:
    assert refusal(write(SMALLEST), override) == f"override: '{override}': expected section.key=value"


def test_load_study_override_below_a_value_is_refused(write: Write) -> None:
    assert refusal(write(SMALLEST), "name.first=x") == "name: is not a section, so override 'name.first=x' has nothing to set"


def test_load_study_override_of_an_unknown_key_is_named(write: Write) -> None:
    path = write(SMALLEST)
    assert refusal(path, "search.ranks=[4]") == f"{path}: search.ranks: unknown key; did you mean search.rank?"


def test_alpha_fixed_is_the_same_at_every_rank(write: Write) -> None:
    training = load_study(write(SMALLEST)).training
    assert [training.alpha(rank) for rank in (1, 8, 64)] == [16, 16, 16]


def test_alpha_per_rank_grows_with_the_rank(write: Write) -> None:
    training = load_study(write('name = "small"\n[training]\nlora_alpha_per_rank = 2\n')).training
    assert [training.alpha(rank) for rank in (1, 8, 64)] == [2, 16, 128]


COERCED = {
    "a number in quotes": ('[facts]\ncount = "24"\n', "facts.count"),
    "a whole number with a point": ("[facts]\ncount = 50.0\n", "facts.count"),
    "true for a number": ("[search]\nunknown = [true]\n", "search.unknown.0"),
    "a word for true": ('[categorise]\nstop_at_newline = "yes"\n', "categorise.stop_at_newline"),
    "not a number": ("[search]\nlearning_rate = [nan]\n", "search.learning_rate.0"),
    "infinity": ("[search]\nlearning_rate = [inf]\n", "search.learning_rate.0"),
}


@pytest.mark.parametrize(("text", "field"), COERCED.values(), ids=COERCED)
def test_load_study_value_of_a_kindred_type_is_refused_not_converted(write: Write, text: str, field: str) -> None:
    path = write(SMALLEST + text)
    assert refusal(path).startswith(f"{path}: {field}: ")


@pytest.mark.parametrize(
    ("count", "unknown", "arm", "shares", "possible"),
    [
        (2, 2, "{}", (0.5, 0.1), True),  # a tenth of two facts is none
        (9, 9, "{}", (0.5, 0.1), False),
        (10, 9, "{}", (0.5, 0.1), True),
        (20, 5, "{highly_known = 1}", (0.5, 0.1), True),
        (14, 5, "{highly_known = 1}", (0.5, 0.1), False),
        (14, 5, "{highly_known = 1}", (0.0, 0.1), True),
        (9, 5, "{highly_known = 1}", (0.0, 0.0), False),
    ],
)
def test_trials_that_no_pool_could_fill_are_refused(
    tmp_path: Path, count: int, unknown: int, arm: str, shares: tuple[float, float], possible: bool
) -> None:
    path = tmp_path / "study.toml"
    facts = f"count = {count}\ncontrol_share = {shares[0]}\ncontrol_unknown_share = {shares[1]}"
    path.write_text(f'name = "s"\n[facts]\n{facts}\n[search]\nunknown = [{unknown}]\narms = [{arm}]\n[training]\nlora_alpha = 1\n')
    config = load_study(path)
    if possible:
        validate_pools(config)
        return
    with pytest.raises(UserError, match=r"search\.unknown: .* cannot be drawn from facts\.count"):
        validate_pools(config)
