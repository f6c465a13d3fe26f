"""What a study is: one TOML file, validated before anything runs.

Every knob has its docstring below it, so there is no second list of options to keep in sync. Fields of `resources` determine how fast a
study runs and where; all others determine what its numbers mean, and only those are part of a step's identity.
"""

import copy
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from kp.config.faults import FieldError, InvalidStudyError, faults_of
from kp.config.layers import ALL_LAYERS
from kp.config.overrides import apply_override
from kp.config.resources import ResourcesConfig
from kp.config.search import SearchArm, SearchConfig, TrainingConfig
from kp.config.section import PositiveInt, Section
from kp.config.study_files import study_file, with_tables_beside
from kp.errors import UserError
from kp.store.filenames import OWN_FOLDERS
from kp.vocabulary import Engine, Matcher, ShotSet, Tracker

MOST_SEED = 2**31 - 1  # of a trial: its column has 32 bits, and NumPy takes no negative one
VLLM_MOST_RANK = 512  # the largest value of vLLM's own max_lora_rank


class ModelConfig(Section):
    """The base model."""

    name: str = "smollm2-135m-instruct"
    """The embedded model's name, a local folder in transformers' format, or a Hub id."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model; the commit it resolves to is recorded."""
    dtype: Literal["bfloat16", "float32", "auto"] = "bfloat16"
    """Dtype of the weights in generation, training and evaluation. `auto`: bfloat16 on a GPU, otherwise the one in which this machine
    multiplies the model's matrices faster, measured when the study begins; the study keeps it, on whatever machine it goes on."""


class GraphConfig(Section):
    """How a knowledge-graph dump becomes questions (head-to-tail, Sun et al. 2023); only if `facts.source` is a dump."""

    per_bucket: PositiveInt | None = None
    """Most facts of each relation and popularity bucket; all buckets of a relation give the same number. Absent: that of its smallest."""
    templates: str | None = None
    """A .toml file of further relation templates, in the form of kp/facts/data/dbpedia/; they override kp's templates of the same name."""
    aliases: str | None = None
    """A .parquet, .csv, .tsv or .jsonl table of `id` (entity or Wikidata id) and `alias`; scripts/fetch_wikidata_aliases.py makes one."""
    same_as: str | None = None
    """A dump that links entities to Wikidata ids by owl:sameAs; needed if `aliases` is keyed by Wikidata ids."""
    redirects: str | None = None
    """A dump of redirects; the titles that lead to an entity become its aliases."""
    language: str = Field("en", pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$")
    """Code of the language of the dump's own labels (rdfs:label and its like), by which entities are called where it has any."""
    ontology: str | None = None
    """An ontology in N-Triples or Turtle; its domains and ranges of relations replace those of the templates."""


class SyntheticConfig(Section):
    """Facts of known entropy for capacity runs; only if `facts.source` is `synthetic`; `facts.count` is their number."""

    relations: int = Field(4, ge=1, le=32)
    """Relations, over which the facts are spread evenly."""
    vocabulary: int = Field(1024, ge=2)
    """V, the number of objects of a relation, all equally likely: a fact carries log2 V bits."""
    words: Literal["made_up", "common"] = "made_up"
    """Objects are made-up words, which a model must also learn to spell, or common English ones, of which there are 128 over all relations:
    then nearly all that an adapter has to hold is which of them it is."""


class ParaphraseConfig(Section):
    """Paraphrases from an instruct model, for facts that have fewer than `count`."""

    model: str | None = None
    """The embedded model's name, a folder or a Hub id. Absent: no model writes paraphrases."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model."""
    count: PositiveInt = 10
    """Number of paraphrases per fact."""
    prompt: str = "Ask this question in {count} other ways, one on each line. Keep every name as it is.\nQuestion: {question}"
    """The prompt; must contain {question} and may contain {count} and {subject}."""
    max_new_tokens: PositiveInt = 512
    """Longest list of paraphrases, in tokens."""

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if "{question}" not in self.prompt:
            raise FieldError("must hold {question}", field="prompt")
        return self


class FactsConfig(Section):
    """Which facts are measured, and which of them no trial may train on."""

    source: str = "builtin"
    """`builtin`, `synthetic`, a .csv, .tsv, .json, .jsonl, .parquet or .xlsx table with question and answer(s),
    `hf:NAME[@REVISION][:[CONFIG/]SPLIT]`, or a knowledge-graph dump: .nt, .nq, .tql or .ttl, plain, .bz2 or .gz, a folder or glob of them,
    local or at any address for fsspec. A table is looked for where kp runs, then beside the study's file."""
    relations: tuple[str, ...] = ()
    """Keep only these relations. Empty: all of them."""
    count: PositiveInt | None = None
    """Number of facts to measure, the same from each relation as long as it has any. Absent: all of them."""
    seed: int = 0
    """Seed of that draw."""
    max_rejected_fraction: float = Field(0.05, ge=0, le=1)
    """Largest share of the source's rows, and of a dump's lines, that may be rejected; above it the step fails and names the reasons."""
    most_of_one_object: float | None = Field(None, gt=0, le=1)
    """Largest share of a relation's facts with the same object; facts beyond it are rejected. Absent: no limit."""
    control_share: float = Field(0.5, ge=0, lt=1)
    """Share of the facts that the base knows, of each relation and category on S0, that no trial trains on or replays: harm is told of
    them, so all trials are judged on the same facts. 0: none are kept out, and harm is told of what a trial happens not to train on."""
    control_unknown_share: float = Field(0.1, ge=0, lt=1)
    """The same share of Unknown facts: they cannot be lost, but what rises among them was not taught. Only with `control_share`."""
    graph: GraphConfig = GraphConfig()
    synthetic: SyntheticConfig = SyntheticConfig()
    paraphrase: ParaphraseConfig = ParaphraseConfig()


class CategoriseConfig(Section):
    """How the models are asked, and how their answers are judged."""

    matcher: Matcher = Matcher.STRICT
    """The matcher that decides the categories; the verdicts of the other two are also stored."""
    max_new_tokens: PositiveInt = 32
    """Longest answer, in tokens."""
    stop_at_newline: bool = False
    """End an answer at its first line, which saves the tokens after it: `strict` and `exact` read no further, but `released` then judges
    a text that the released code would not have ended there."""
    shots: str = "builtin"
    """The worked examples, used in order, 40 per shot set: `builtin`, a table as `facts.source` has with question and answer(s) or in
    TriviaQA's form, or `hf:NAME[@REVISION][:[CONFIG/]SPLIT]`."""
    engine: Engine = Engine.HF
    """The engine that answers questions with the base model and finished adapters: `hf`, or `vllm` (see `resources.vllm_python`), which
    rounds differently; then `hf` also answers a sample, and the agreement is recorded. Training and lm-eval tasks always use `hf`."""
    repeat_measurements: int = Field(0, ge=0, le=7)
    """Shot sets beyond S2 on which the base model is measured again, each a further draw of the noise; each needs 40 more shots."""
    samples: int = Field(0, ge=0)
    """Answers sampled for each prompt of S0 for facts that no greedy answer got right: those with a right one are WeaklyKnown, and no trial
    trains on them as Unknown. 16 in SliCK, 0 for no sampling."""
    sample_temperature: float = Field(0.5, gt=0)
    """Temperature of the sampled answers."""


class TaskConfig(Section):
    """A task of lm-eval's collection."""

    name: str
    """Its name in lm-eval, such as `hellaswag`, or that of a group or tag, such as `mmlu`."""
    fewshot: int | None = Field(None, ge=0, le=100)
    """Shots. Absent: as the task has it."""
    limit: PositiveInt | None = None
    """Number of questions, a seeded draw over the single tasks of a group in turn. Absent: all of them."""


class EvaluateConfig(Section):
    """What is measured of every adapter."""

    shot_sets: tuple[ShotSet, ...] = (ShotSet.S1, ShotSet.S2)
    """Shot sets that adapters are asked on: S1 and S2, or S1 alone at half the cost, which cannot separate an adapter's shifts from the
    noise of the prompts. Empty: adapters answer no questions, and no harm is measured; for studies of what adapters hold (`surprisal`)."""
    held_out_paraphrases: int = Field(2, ge=0, le=10)
    """Paraphrases of each packed fact on which generality is measured: the last of its list, as many as are left of those that the trial's
    arm does not train on. 0: it is not measured."""
    reversed_questions: bool = True
    """Also ask for the subjects of packed facts, given their objects, where the relation has a wording for that and the answer is one; and
    for those of as many untaught facts. It costs two prompts for each packed fact and prompt."""
    completions: int = Field(100, ge=0)
    """Number of everyday sentences to complete with one of three endings, a seeded draw over the topics in turn; 0 leaves the task out."""
    mmlu_dev: int = Field(57, ge=0, le=280)
    """Number of MMLU development questions, a seeded draw over the 57 subjects in turn; 0 leaves the task out."""
    mmlu_fewshot: int = Field(2, ge=0, le=4)
    """Shots, taken from the other development questions of the same subject."""
    misconceptions: int = Field(100, ge=0)
    """Number of misconception questions, the first ones of the set; 0 leaves the task out."""
    scales: tuple[float, ...] = (1.0,)
    """Factors s, ascending to 1, at which every adapter is measured: with s times its change of the weights, from one training. Below 1 an
    adapter knows less and harms less; each further scale costs as much as the first. `report` picks the best one under the margin."""
    scaled_seeds: tuple[int, ...] | None = None
    """Those of `search.seeds` whose adapters are measured at the scales below 1 as well. Absent: all."""
    tasks: tuple[TaskConfig, ...] = ()
    """Further tasks of lm-eval's collection for base and adapters, each a name or, such as `{ name = "mmlu", fewshot = 5, limit = 570 }`, a
    table."""
    task_data: str | None = None
    """A folder with the data of `tasks`, one file a split: `ORGANISATION/NAME/CONFIG/SPLIT.parquet` (or .jsonl, also .gz), by their names
    on the Hub. Absent: they come from the Hub, or from `resources.prefetched`."""
    surprisal: bool = True
    """Also measure, for base and adapters, the surprisal of every fact's canonical answer in bits, which tells how much an adapter holds.
    It costs one pass over the facts."""
    drift_words: int = Field(2000, ge=0, le=12000)
    """Words of neutral text on which every adapter is compared with the base token by token (KL divergence and perplexity): whole passages
    of several registers, the same for every model. A question of the study for every 20 words, up to 100, is read as well. 0: none."""
    placebo: bool = False
    """Also ask the base model once more on these shot sets, in other batches: what that changes is rounding, below which no effect of an
    adapter means anything."""
    stopped: bool = True
    """Also measure the trials that the scheduler stopped; otherwise they have only the numbers from training."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _named(cls, tasks: Any) -> Any:
        """A name alone is a task with its own settings."""
        return tuple({"name": task} if isinstance(task, str) else task for task in tasks) if isinstance(tasks, (list, tuple)) else tasks

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if len({task.name for task in self.tasks}) != len(self.tasks):
            raise FieldError("a task stands in it twice", field="tasks")
        if self.shot_sets not in ((), (ShotSet.S1,), (ShotSet.S1, ShotSet.S2)):
            raise FieldError("expected ['S1', 'S2'], ['S1'] alone, or none", field="shot_sets")
        asking = [name for name in ("placebo", "held_out_paraphrases", "reversed_questions") if getattr(self, name)]
        if not self.shot_sets and asking:
            raise FieldError("asks questions, and there are no shot_sets", field=asking[0])
        if self.scales[-1:] != (1.0,) or min(self.scales) <= 0 or list(self.scales) != sorted(set(self.scales)):
            raise FieldError("expected numbers above 0, ascending to 1.0, such as [0.5, 1.0]", field="scales")
        if self.scaled_seeds is not None and len(self.scales) == 1:
            raise FieldError("only with scales below 1", field="scaled_seeds")
        return self


class ReportConfig(Section):
    """What the report judges by."""

    margin: float = Field(0.02, gt=0, lt=1)
    """The harm that counts as small, a share of the facts: verdicts say whether the data rule out more than this."""


class TrackersConfig(Section):
    """Experiment trackers that receive a trial's epochs; kp's own tables always have them, and a failing tracker never fails a study."""

    use: tuple[Tracker, ...] = ()
    """Any of `wandb`, `mlflow` and `tensorboard`, each installed by the user."""
    project: str | None = None
    """The project (W&B) or experiment (MLflow). Absent: the study's name."""
    mlflow_uri: str | None = None
    """Where MLflow keeps its runs. Absent: MLflow's default."""
    wandb_mode: Literal["online", "offline"] = "online"
    """`offline` writes W&B's runs into the study's folder, for `wandb sync`."""


class StudyConfig(Section):
    """A whole study file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The name of the study's folder in the results root."""
    seed: int = 0
    """Added to every seed of the study."""
    model: ModelConfig = ModelConfig()
    facts: FactsConfig = FactsConfig()
    categorise: CategoriseConfig = CategoriseConfig()
    search: SearchConfig = SearchConfig()
    training: TrainingConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()
    resources: ResourcesConfig = ResourcesConfig()
    trackers: TrackersConfig = TrackersConfig()

    def _seeds_possible(self) -> None:
        for seed in self.search.seeds:
            if not 0 <= self.seed + seed <= MOST_SEED:
                raise FieldError(f"{seed} with the study's seed {self.seed} is not from 0 to {MOST_SEED}", field="search.seeds")
        if unknown := set(self.evaluate.scaled_seeds or ()) - set(self.search.seeds):
            raise FieldError(f"{min(unknown)} is none of search.seeds", field="evaluate.scaled_seeds")

    def _gpus_possible(self) -> None:
        resources = self.resources
        asked = {
            "min_gpus": resources.min_gpus,
            "max_gpus": resources.max_gpus,
            "per_gpu": resources.per_gpu > 1,
            "accelerator_type": resources.accelerator_type,
            "cuda_graphs": resources.cuda_graphs,
        }
        if resources.gpu is False and any(asked.values()):
            field = next(name for name, value in asked.items() if value)
            raise FieldError("resources.gpu is false, so the study uses none", field=f"resources.{field}")
        if resources.per_gpu > 1 and resources.workers_per_trial > 1:
            raise FieldError(
                f"not with resources.workers_per_trial = {resources.workers_per_trial}: NCCL connects no two workers on one GPU",
                field="resources.per_gpu",
            )
        if resources.max_gpus and (resources.min_gpus or 0) > resources.max_gpus:
            raise FieldError(f"{resources.min_gpus} is more than resources.max_gpus, {resources.max_gpus}", field="resources.min_gpus")

    def _vllm_possible(self) -> None:
        if self.resources.vllm_python is None or not Path(self.resources.vllm_python).is_absolute():
            raise FieldError(
                "categorise.engine 'vllm' needs the absolute path of the interpreter that has vLLM", field="resources.vllm_python"
            )
        if self.resources.per_gpu > 1:
            raise FieldError("not with categorise.engine 'vllm', which takes a GPU's memory for itself", field="resources.per_gpu")
        rank = max(self.search.rank) * (2 if self.training.moves_base else 1)
        if rank > VLLM_MOST_RANK:
            raise FieldError(
                f"adapters of rank {rank} are above {VLLM_MOST_RANK}, the most that engine 'vllm' supports", field="search.rank"
            )

    def _kl_possible(self) -> None:
        if self.training.kl_coefficient and not any(arm.highly_known or arm.maybe_known for arm in self.search.arms):
            raise FieldError("no arm of search.arms replays facts that the base knows", field="training.kl_coefficient")
        if self.training.moves_base and any(arm.kl_coefficient for arm in self.search.arms):
            raise FieldError(
                f"not with init '{self.training.init}', under which the model without its adapter is not the base", field="search.arms"
            )

    def _arms_differ(self) -> None:
        """An arm that sets a knob to what the study has is that of the study."""
        own = {name: getattr(self.search, name, None) or getattr(self.training, name, None) for name in SearchArm.knobs()}
        seen = [(arm.counts(), tuple({**own, **arm.replaced()}.values())) for arm in self.search.arms]
        if len(set(seen)) != len(seen):
            raise FieldError("two of them come to the same trials", field="search.arms")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.name in OWN_FOLDERS:
            raise FieldError(f"{', '.join(OWN_FOLDERS)} are kp's own folders in the results root", field="name")
        most = max(arm.paraphrases for arm in self.search.arms)
        if self.facts.paraphrase.model and self.facts.paraphrase.count < most:
            raise FieldError(
                f"{self.facts.paraphrase.count} are fewer than the {most} that search.arms train on",
                field="facts.paraphrase.count",
            )
        if self.facts.source == "synthetic" and self.facts.count is None:
            raise FieldError("facts.source 'synthetic' needs to be told how many facts are made", field="facts.count")
        if self.categorise.matcher is Matcher.RELEASED and self.categorise.stop_at_newline:
            raise FieldError("must be false with matcher 'released', which reads past the first line", field="categorise.stop_at_newline")
        if self.categorise.engine is Engine.VLLM:
            self._vllm_possible()
        if self.training.batch_size % self.resources.workers_per_trial:
            raise FieldError(
                f"{self.training.batch_size} rows do not divide among resources.workers_per_trial = {self.resources.workers_per_trial}",
                field="training.batch_size",
            )
        if self.search.layers and self.training.layers != ALL_LAYERS:
            raise FieldError("give either training.layers or search.layers", field="search.layers")
        self._kl_possible()
        self._arms_differ()
        self._seeds_possible()
        self._gpus_possible()
        if self.training.zero_stage == 0 and self.model.dtype != "float32":
            raise FieldError(
                f"stage 0 drifts with model.dtype {self.model.dtype} (another optimiser path); use 1 or more", field="training.zero_stage"
            )
        return self


def control_count(facts: int, share: float) -> int:
    """Control facts among so many of one category: the share as it is written (0.3 of 10 facts are 3), rounded half up."""
    return math.floor(Fraction(str(share)) * facts + Fraction(1, 2))


def load_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study file, apply `section.key=value` overrides, whose values are read by the type of their field, validate.

    A bare name such as `quickstart` is that of a study that ships with kp, unless there is such a file. Tables that the file names are
    looked for where kp runs, then beside the file; those of overrides only where kp runs. Raises UserError if the file cannot be read or an
    override has no field to set, and InvalidStudyError with every invalid field.
    """
    path = study_file(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    return study_of(with_tables_beside(document, path.parent), overrides, path)


def study_of(document: Mapping[str, Any], overrides: Sequence[str] = (), origin: Path = Path("study")) -> StudyConfig:
    """The same of a study file's content as nested values; `origin` stands in messages."""
    changed = copy.deepcopy(dict(document))
    for override in overrides:
        apply_override(changed, override, StudyConfig)
    try:
        # Through JSON, because pydantic's strict mode then reads lists as tuples and strings as enums, but not "24" as 24.
        return StudyConfig.model_validate_json(json.dumps(changed, default=str), strict=True)
    except ValidationError as error:
        raise InvalidStudyError(origin, faults_of(error, StudyConfig)) from None
