"""The steps of a study and how they hang together; nothing here runs anything.

    dump (where the facts come out of one) -> facts

    facts -> categorise -> trial (one each) -> answers (of its adapter on S1), benchmarks -> report
                        -> benchmarks of the base
                        -> samples (where the study asks for them) -> trial
          -> paraphrases (where a model is to write some) -> trial whose arm trains on paraphrases

A step's `version` rises when its code changes what comes out of it, so that older results are not taken for newer ones.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kp.benchmarks import BenchmarkPlan, plan_digest
from kp.config import FactsConfig, ModelConfig, StudyConfig
from kp.facts import synthetic
from kp.shots import asked_shot_sets
from kp.steps import Step
from kp.trials import TrialSpec, grid
from kp.vocabulary import BASE, Engine, Scheduler, ShotSet

DUMP_VERSION = 1
FACTS_VERSION = 3
CATEGORISE_VERSION = 2
SAMPLES_VERSION = 1
PARAPHRASES_VERSION = 1
TRIAL_VERSION = 2
ANSWERS_VERSION = 2
BENCHMARKS_VERSION = 1
REPORT_VERSION = 3
INSPECTION_VERSION = 1

ADAPTER_SHOT_SET = ShotSet.S1

_SECTIONS_OF_FACTS = ("most_set_aside", "most_of_one_object", "graph", "synthetic", "paraphrase")  # younger than many results


@dataclass(frozen=True)
class Identities:
    """What the study's inputs are, whatever they are called: digests of contents."""

    model: str
    facts: str
    shots: str
    paraphraser: str | None = None  # the model that writes paraphrases, where the study names one
    drawing: Mapping[str, str] | None = None  # where the facts come out of a dump: templates, aliases and the like, by their field


@dataclass(frozen=True)
class Trial:
    """A trial's spec and the steps that belong to it; `benchmarks` is absent where the study runs none."""

    spec: TrialSpec
    step: Step
    answers: Step
    benchmarks: Step | None

    @property
    def trial_id(self) -> str:
        """The name tables know it by."""
        return self.step.fingerprint


@dataclass(frozen=True)
class Graph:
    """All steps of a study but the report, which depends on how the trials ended."""

    facts: Step
    categorise: Step
    trials: tuple[Trial, ...]
    base_benchmarks: Step | None
    samples: Step | None  # where the study samples answers; every trial then rests on them
    dump: Step | None = None  # where the facts come out of a knowledge-graph dump
    paraphrases: Step | None = None  # where a model writes paraphrases; trials that train on paraphrases then rest on them

    def evaluation_steps(self) -> list[Step]:
        """Everything that the evaluate stage commits."""
        per_trial = [step for trial in self.trials for step in (trial.answers, trial.benchmarks) if step]
        return ([self.base_benchmarks] if self.base_benchmarks else []) + per_trial


def benchmark_plan(config: StudyConfig) -> BenchmarkPlan | None:
    """What lm-eval is to run, or None where the study asks for no questions."""
    evaluate = config.evaluate
    if not evaluate.mmlu_dev and not evaluate.misconceptions:
        return None
    return BenchmarkPlan(evaluate.mmlu_dev, evaluate.mmlu_fewshot, evaluate.misconceptions, config.seed)


def paraphraser(config: StudyConfig) -> ModelConfig | None:
    """The model that writes paraphrases, or None where the study names none; in the number format of the study's own model."""
    settings = config.facts.paraphrase
    return ModelConfig(name=settings.model, revision=settings.revision, dtype=config.model.dtype) if settings.model else None


def base_shot_sets(config: StudyConfig) -> tuple[ShotSet, ...]:
    """The shot sets that the base model is asked on."""
    return asked_shot_sets(config.categorise.noise_draws)


def build_graph(config: StudyConfig, identities: Identities, specs: Iterable[TrialSpec] | None = None) -> Graph:
    """The steps of this study with these trials, those of its grid where none are given."""
    model = {"model": identities.model, "dtype": config.model.dtype}
    generation: dict[str, Any] = {"max_new_tokens": config.categorise.max_new_tokens, "stop_at_newline": config.categorise.stop_at_newline}
    generation |= _engine(config)
    prompts = {"shots": identities.shots, "shot_sets": [shot_set.value for shot_set in base_shot_sets(config)]}
    dump = Step("dump", {"version": DUMP_VERSION, "source": identities.facts}) if identities.drawing is not None else None
    facts = Step(
        "facts",
        {
            "version": FACTS_VERSION,
            "source": identities.facts,
            "relations": sorted(config.facts.relations),
            "count": config.facts.count,
            "seed": config.seed + config.facts.seed,
            **prompts,  # which of them give a fact away is among what the step finds out
            **_making(config.facts, identities),
        },
        (dump,) if dump else (),
    )
    categorise = Step(
        "categorise",
        {"version": CATEGORISE_VERSION, **model, **generation, **prompts},
        (facts,),
    )
    samples = _samples_step(config, {**model, **generation}, categorise)
    known = (categorise, samples) if samples else (categorise,)
    paraphrases = _paraphrases_step(config, identities, facts)
    plan = benchmark_plan(config)
    tasks = {"version": BENCHMARKS_VERSION, **model, "plan": plan_digest(plan)} if plan else None

    def trial(spec: TrialSpec) -> Trial:
        literals = {"version": TRIAL_VERSION, **model, "matcher": config.categorise.matcher.value, "spec": spec.literals()}
        rephrased = (paraphrases,) if paraphrases and spec.mixture.paraphrases else ()
        step = Step("trial", literals | _scheduling(config), known + rephrased)
        answers = Step("answers", {"version": ANSWERS_VERSION, **generation, "shot_set": ADAPTER_SHOT_SET.value}, (step,))
        return Trial(spec, step, answers, Step("benchmarks", tasks, (step,)) if tasks else None)

    base = Step("benchmarks", {**tasks, "of": BASE}) if tasks else None
    return Graph(
        facts, categorise, tuple(trial(spec) for spec in (grid(config) if specs is None else specs)), base, samples, dump, paraphrases
    )


def _making(settings: FactsConfig, identities: Identities) -> dict[str, Any]:
    """How facts are made where they do not simply stand in a table; unsaid of what a study leaves alone."""
    making: dict[str, Any] = {}
    if settings.most_of_one_object is not None:
        making["most_of_one_object"] = settings.most_of_one_object
    if settings.source == synthetic.SOURCE:
        making["synthetic"] = settings.synthetic.model_dump()
    if identities.drawing is not None:
        making["graph"] = {"per_bucket": settings.graph.per_bucket, **identities.drawing}
    return making


def _engine(config: StudyConfig) -> dict[str, str]:
    """Unsaid for `hf`, whose steps are known by what they were before there was another."""
    return {} if config.categorise.engine is Engine.HF else {"engine": config.categorise.engine.value}


def _paraphrases_step(config: StudyConfig, identities: Identities, facts: Step) -> Step | None:
    """What is sampled, where the greedy reply is too little, is drawn by the study's seed."""
    settings = config.facts.paraphrase
    if not settings.model:
        return None
    assert identities.paraphraser is not None, "whoever builds a graph identifies the model that its study names"
    asked = {"prompt": settings.prompt, "count": settings.count, "max_new_tokens": settings.max_new_tokens, "seed": config.seed}
    model = {"model": identities.paraphraser, "dtype": config.model.dtype}
    return Step("paraphrases", {"version": PARAPHRASES_VERSION, **model, **_engine(config), **asked}, (facts,))


def _samples_step(config: StudyConfig, generation: dict[str, Any], categorise: Step) -> Step | None:
    """Which facts are sampled is decided by the matcher, and what is drawn by the study's seed."""
    settings = config.categorise
    if not settings.samples:
        return None
    drawn = {"count": settings.samples, "temperature": settings.sample_temperature, "seed": config.seed}
    literals = {"version": SAMPLES_VERSION, **generation, "matcher": settings.matcher.value, **drawn}
    return Step("samples", literals, (categorise,))


def _scheduling(config: StudyConfig) -> dict[str, Any]:
    """A trial that others can cut short is another one than the same trial left alone."""
    search = config.search
    if search.scheduler is Scheduler.NONE:
        return {}
    return {"scheduler": search.scheduler.value, "grace_epochs": search.grace_epochs}


def inspection_step(kind: str, study: dict[str, Any], graph: Graph) -> Step:
    """What `kp audit` or `kp noise` makes of the base model's categories; `study` is shown beside it."""
    return Step(kind, {"version": INSPECTION_VERSION, "config": _said(study)}, (graph.facts, graph.categorise))


def report_step(config: StudyConfig, graph: Graph, finished: list[Trial], failures: dict[str, str]) -> Step:
    """The report over the trials that ended with an adapter; how the others ended is part of what it says."""
    inputs = [graph.categorise, *(trial.step for trial in graph.trials if trial.trial_id not in failures)]
    inputs += [step for trial in finished for step in (trial.answers, trial.benchmarks) if step]
    inputs += [step for step in (graph.base_benchmarks, graph.samples, graph.paraphrases) if step]
    shown = _said(config.model_dump(mode="json", exclude={"resources", "trackers"}))
    return Step("report", {"version": REPORT_VERSION, "config": shown, "failures": failures}, tuple(inputs))


def _said(study: dict[str, Any]) -> dict[str, Any]:
    """The study less what it leaves as it was before there was a choice (sampling, engine, paraphrasing): what is shown of it stays."""
    unsaid = set() if study["categorise"]["samples"] else {"samples", "sample_temperature"}
    unsaid |= {"engine"} if study["categorise"]["engine"] == Engine.HF else set()
    left_alone = FactsConfig().model_dump(mode="json")
    same = {name for name in _SECTIONS_OF_FACTS if study["facts"][name] == left_alone[name]}
    same |= set() if study["facts"]["paraphrase"]["model"] else {"paraphrase"}  # whose other fields then change nothing
    return study | {"categorise": _less(study["categorise"], unsaid), "facts": _less(study["facts"], same)}


def _less(section: dict[str, Any], unsaid: set[str]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name not in unsaid}
