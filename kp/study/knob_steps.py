"""What a study makes again when a knob changes: the stages and measurements that read it, and all that rests on them."""

from dataclasses import dataclass

from kp.config.knobs import Knob
from kp.config.study import StudyConfig
from kp.store.steps import Step
from kp.study.building import build_graph
from kp.study.graph import Graph
from kp.study.identities import Identities
from kp.study.measurements.registry import MEASUREMENTS
from kp.study.registry import SEARCH, STAGES
from kp.training.spec import COMBINED, Choice

# A study with every stage, so that its graph shows which stages rest on which.
_EVERY_STAGE = {
    "name": "every-stage",
    "facts": {"source": "dump.nt", "paraphrase": {"model": "smollm2-135m-instruct"}},
    "categorise": {"samples": 1, "repeat_measurements": 1},
    "search": {"unknown": [1], "arms": [{"highly_known": 1, "paraphrases": 1}], "replay_source": "builtin"},
    "training": {"lora_alpha": 1},
    "evaluate": {"placebo": True, "completions": 1, "tasks": ["hellaswag"]},
}


@dataclass(frozen=True)
class KnobSteps:
    """What changes with a knob."""

    reads: tuple[str, ...]
    """Stages and measurements whose own identity it is part of, in running order."""
    rests: tuple[str, ...]
    """Stages that are made again with those, because they rest on them."""
    chooses_trials: bool
    """Whether it decides which trials there are: new ones are trained, and those that stay are not trained again."""
    content: bool
    """Whether it is in no identity itself, but what it names is, by its content, or it decides which steps there are."""


def knob_steps(knob: Knob) -> KnobSteps:
    """The steps that change with this knob, by the declarations of the stages and measurements and by the graph that they make."""
    name = knob.name
    chooses = _chooses(knob)
    reads = [one.name for one in STAGES if one is not SEARCH and one.name != "report" and one.reads.covers(name)]
    reads += [SEARCH.name] if not chooses and _of_a_trial(knob) else []
    graph, measured = _graph(), _measured(name)
    content = not (reads or measured or chooses) and not name.startswith(("resources.", "trackers.", "report."))
    rests = _resting(graph, {*reads, *(("search",) if chooses else ())}) if reads or chooses else ()
    rests = tuple(stage for stage in rests if stage not in reads and not (stage == "search" and chooses))
    shown = next(stage for stage in STAGES if stage.name == "report").reads.covers(name)
    stages = [*rests, *(["evaluate"] if measured and "evaluate" not in rests else []), *(["report"] if shown else [])]
    return KnobSteps((*reads, *measured), tuple(dict.fromkeys(stages)), chooses, content)


def _measured(name: str) -> tuple[str, ...]:
    return tuple(one.name for one in MEASUREMENTS if one.reads.covers(name))


def _of_a_trial(knob: Knob) -> bool:
    """Whether a trial's spec states it; fields that only have an effect together are stated as what they come to."""
    return SEARCH.reads.covers(knob.name) or knob.name.rpartition(".")[2] in COMBINED


def _chooses(knob: Knob) -> bool:
    """Whether a search picks a trial's value of it, or it says how the search picks; replayed facts are an input of trials instead."""
    picked = knob.section == "search" and not SEARCH.reads.covers(knob.name) and not knob.name.startswith("search.replay_")
    return picked or _is_choice(knob)


def _is_choice(knob: Knob) -> bool:
    return knob.name == "search.arms" or knob.section == "search.arms" or knob.name in {f"search.{name}" for name in Choice.__annotations__}


def _graph() -> Graph:
    config = StudyConfig.model_validate(_EVERY_STAGE)
    return build_graph(config, Identities("model", "facts", "shots", "writer", {}, "replay"))


def _resting(graph: Graph, changed: set[str]) -> tuple[str, ...]:
    """The stages, in running order, one of whose steps has a step of a changed stage among its inputs, directly or not."""
    stage_of = {step.fingerprint: stage for stage, steps in graph.by_stage.items() for step in steps}

    def rests(step: Step) -> bool:
        return any(stage_of.get(one.fingerprint) in changed or rests(one) for one in step.inputs)

    return tuple(stage for stage, steps in graph.by_stage.items() if any(map(rests, steps)))
