"""The steps of a study and how they hang together; nothing here runs anything.

    dump (where the facts come out of one) -> facts

    facts -> categorise -> trial (one each) -> answers (of its adapter on S1), benchmarks -> report
                                            -> generality (where paraphrases are held out)
                        -> benchmarks of the base
                        -> samples (where the study asks for them) -> trial
          -> paraphrases (where a model is to write some) -> trial that trains on paraphrases or holds some out
          -> replay_facts -> replay_categorise (where replayed facts have a source of their own) -> trial that replays facts

A step's `version` rises when its code changes what comes out of it, so that older results are not taken for newer ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kp.benchmarks.lm_eval_tasks import plan_digest
from kp.config.derived import ADAPTER_SHOT_SET, REPLAY_SHOT_SET, base_shot_sets, benchmark_plan, replay_settings
from kp.config.search import SearchConfig, TrainingConfig
from kp.config.section import Section
from kp.config.study import EvaluateConfig, FactsConfig, StudyConfig
from kp.facts import synthetic
from kp.store.steps import Step
from kp.training.spec import TrialSpec, grid
from kp.vocabulary import BASE, Engine, Scheduler, ShotSet

DUMP_VERSION = 1
FACTS_VERSION = 3
CATEGORISE_VERSION = 2
SAMPLES_VERSION = 1
PARAPHRASES_VERSION = 1
TRIAL_VERSION = 2
ANSWERS_VERSION = 2
GENERALITY_VERSION = 1
BENCHMARKS_VERSION = 1
REPORT_VERSION = 3
INSPECTION_VERSION = 1


_YOUNGER = {  # than many results: fields of a study that are unsaid where it leaves them alone
    "facts": ("max_rejected_fraction", "most_of_one_object", "graph", "synthetic", "paraphrase"),
    "search": (
        "learning_rate_range",
        "sampler",
        "trials",
        "optuna_batch",
        "replay_source",
        "replay_count",
        "held_out_paraphrases",
        "reduction_factor",
        "eval_facts",
    ),
    "training": ("steps", "init", "schedule", "kl_coefficient", "packing"),
    "evaluate": ("stopped", "dev_share"),
}
_USUAL: dict[str, Section] = {
    "facts": FactsConfig(),
    "search": SearchConfig(),
    "training": TrainingConfig(lora_alpha=1.0),  # alpha has no default, and is said
    "evaluate": EvaluateConfig(),
}


@dataclass(frozen=True)
class Identities:
    """What the study's inputs are, whatever they are called: digests of contents."""

    model: str
    facts: str
    shots: str
    paraphraser: str | None = None  # the model that writes paraphrases, where the study names one
    drawing: Mapping[str, str] | None = None  # where the facts come out of a dump: templates, aliases and the like, by their field
    replay: str | None = None  # the source of the replayed facts, where the study names one


@dataclass(frozen=True)
class Trial:
    """A trial's spec and the steps that belong to it; those of what the study does not measure are absent."""

    spec: TrialSpec
    step: Step
    answers: Step
    benchmarks: Step | None
    generality: Step | None = None  # where the study holds paraphrases out

    def measurements(self) -> tuple[Step, ...]:
        """All that is measured of its adapter."""
        return tuple(step for step in (self.answers, self.benchmarks, self.generality) if step)

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
    paraphrases: Step | None = None  # where a model writes paraphrases; trials that train on some or hold some out then rest on them
    replay_facts: Step | None = None  # where replayed facts have a source of their own, and what the base makes of these;
    replay_categorise: Step | None = None  # trials that replay facts then rest on it

    def evaluation_steps(self) -> list[Step]:
        """Everything that the evaluate stage commits."""
        per_trial = [step for trial in self.trials for step in trial.measurements()]
        return ([self.base_benchmarks] if self.base_benchmarks else []) + per_trial


def build_graph(config: StudyConfig, identities: Identities, specs: Iterable[TrialSpec] | None = None) -> Graph:
    """The steps of this study with these trials, those of its grid where none are given."""
    model = {"model": identities.model, "dtype": config.model.dtype}
    generation: dict[str, Any] = {"max_new_tokens": config.categorise.max_new_tokens, "stop_at_newline": config.categorise.stop_at_newline}
    generation |= _engine(config)
    prompts = _prompts(identities, base_shot_sets(config))
    dump = Step("dump", {"version": DUMP_VERSION, "source": identities.facts}) if identities.drawing is not None else None
    facts = Step("facts", _choosing(config, config.facts, identities.facts, identities.drawing) | prompts, (dump,) if dump else ())
    categorise = Step("categorise", {"version": CATEGORISE_VERSION, **model, **generation, **prompts}, (facts,))
    samples = _samples_step(config, {**model, **generation}, categorise)
    paraphrases = _paraphrases_step(config, identities, facts)
    replay_facts = _replay_facts_step(config, identities, facts)
    replay_categorise = _replay_categorise_step(categorise, _prompts(identities, (REPLAY_SHOT_SET,)), replay_facts)
    plan = benchmark_plan(config)
    tasks = {"version": BENCHMARKS_VERSION, **model, "plan": plan_digest(plan)} if plan else None
    known = (categorise, samples) if samples else (categorise,)
    making = _Making(config, model, generation, tasks, known, paraphrases, replay_categorise)
    return Graph(
        facts=facts,
        categorise=categorise,
        trials=tuple(making.trial(spec) for spec in (grid(config) if specs is None else specs)),
        base_benchmarks=Step("benchmarks", {**tasks, "of": BASE}) if tasks else None,
        samples=samples,
        dump=dump,
        paraphrases=paraphrases,
        replay_facts=replay_facts,
        replay_categorise=replay_categorise,
    )


@dataclass(frozen=True)
class _Making:
    """What the steps of all trials are made of."""

    config: StudyConfig
    model: dict[str, Any]
    generation: dict[str, Any]
    tasks: dict[str, Any] | None
    known: tuple[Step, ...]
    paraphrases: Step | None
    replay: Step | None

    def trial(self, spec: TrialSpec) -> Trial:
        """The trial of this spec and all that is measured of it."""
        mixture, asked = spec.mixture, {**self.generation, "shot_set": ADAPTER_SHOT_SET.value}
        literals = {"version": TRIAL_VERSION, **self.model, "matcher": self.config.categorise.matcher.value, "spec": spec.literals()}
        rephrased = (self.paraphrases,) if self.paraphrases and (mixture.paraphrases or mixture.held_out_paraphrases) else ()
        replayed = (self.replay,) if self.replay and mixture.replayed else ()
        step = Step("trial", literals | _scheduling(self.config), self.known + rephrased + replayed)
        return Trial(
            spec=spec,
            step=step,
            answers=Step("answers", {"version": ANSWERS_VERSION, **asked}, (step,)),
            benchmarks=Step("benchmarks", self.tasks, (step,)) if self.tasks else None,
            generality=Step("generality", {"version": GENERALITY_VERSION, **asked}, (step,)) if mixture.held_out_paraphrases else None,
        )


def _prompts(identities: Identities, asked: Sequence[ShotSet]) -> dict[str, Any]:
    return {"shots": identities.shots, "shot_sets": [shot_set.value for shot_set in asked]}


def _choosing(config: StudyConfig, settings: FactsConfig, source: str, drawing: Mapping[str, str] | None) -> dict[str, Any]:
    """How facts are chosen out of a source; which of the prompts give one away is among what the step finds out."""
    chosen = {"relations": sorted(settings.relations), "count": settings.count, "seed": config.seed + settings.seed}
    return {"version": FACTS_VERSION, "source": source, **chosen, **_made(settings, drawing)}


def _made(settings: FactsConfig, drawing: Mapping[str, str] | None) -> dict[str, Any]:
    """How facts are made where they do not simply stand in a table; unsaid of what a study leaves alone."""
    made: dict[str, Any] = {}
    if settings.most_of_one_object is not None:
        made["most_of_one_object"] = settings.most_of_one_object
    if settings.source == synthetic.SOURCE:
        made["synthetic"] = settings.synthetic.model_dump()
    if drawing is not None:
        made["graph"] = {"per_bucket": settings.graph.per_bucket, **drawing}
    return made


def _replay_facts_step(config: StudyConfig, identities: Identities, facts: Step) -> Step | None:
    """Rests on the studied facts, which are none of them."""
    settings = replay_settings(config)
    if settings is None:
        return None
    assert identities.replay is not None, "whoever builds a graph identifies the source that its study names"
    prompts = _prompts(identities, (REPLAY_SHOT_SET,))
    return Step("replay_facts", _choosing(config, settings, identities.replay, None) | prompts, (facts,))


def _replay_categorise_step(categorise: Step, prompts: dict[str, Any], replay_facts: Step | None) -> Step | None:
    """Asked as the studied facts are, but for the shot sets."""
    return Step("replay_categorise", categorise.literals | prompts, (replay_facts,)) if replay_facts else None


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
    inputs += [step for trial in finished for step in trial.measurements()]
    inputs += [step for step in (graph.base_benchmarks, graph.samples, graph.paraphrases) if step]
    shown = _said(config.model_dump(mode="json", exclude={"resources", "trackers"}))
    return Step("report", {"version": REPORT_VERSION, "config": shown, "failures": failures}, tuple(inputs))


def _said(study: dict[str, Any]) -> dict[str, Any]:
    """The study less what it leaves as it was before there was a choice (sampling, engine, paraphrasing): what is shown of it stays."""
    unsaid = {section: _left_alone(section, study[section]) for section in _YOUNGER}
    unsaid["categorise"] = set() if study["categorise"]["samples"] else {"samples", "sample_temperature"}
    unsaid["categorise"] |= {"engine"} if study["categorise"]["engine"] == Engine.HF else set()
    unsaid["facts"] |= set() if study["facts"]["paraphrase"]["model"] else {"paraphrase"}  # whose other fields then change nothing
    said = study | {section: _less(study[section], names) for section, names in unsaid.items()}
    said["search"]["arms"] = [_less(arm, set() if arm["maybe_known"] else {"maybe_known"}) for arm in study["search"]["arms"]]
    return said


def _left_alone(section: str, values: dict[str, Any]) -> set[str]:
    """The younger fields of a section that have their default."""
    usual = _USUAL[section].model_dump(mode="json")
    return {name for name in _YOUNGER[section] if values[name] == usual[name]}


def _less(section: dict[str, Any], unsaid: set[str]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name not in unsaid}
