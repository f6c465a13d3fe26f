"""What a study will do and what of it is done: the table printed before every run, and all that `--dry-run` prints."""

from dataclasses import dataclass

from rich.table import Table

from kp import schema
from kp.benchmarks import benchmark_questions
from kp.config import StudyConfig
from kp.graph import Graph, base_shot_sets, benchmark_plan
from kp.layout import FACTS_FILE
from kp.prompts import PROMPTS_PER_SET
from kp.steps import Step, Store
from kp.vocabulary import ShotSet

TOKENS_A_ROW = 45  # a chat of one question and one answer; short questions about entities measure 35 to 55


@dataclass(frozen=True)
class PlanLine:
    """One stage: what it is, how much of it there is, how much is done."""

    stage: str
    work: str
    done: int
    steps: int

    @property
    def state(self) -> str:
        """`done`, `to do`, or how far."""
        if self.done == self.steps:
            return "done"
        return "to do" if not self.done else f"{self.done} of {self.steps} done"


def make_plan(config: StudyConfig, graph: Graph, store: Store) -> list[PlanLine]:
    """One line a stage."""
    facts = fact_count(config, graph, store)
    specs = [trial.spec for trial in graph.trials]
    rows = sum(spec.rows * spec.max_epochs for spec in specs)
    steps = sum(-(-spec.rows // spec.batch_size) * spec.max_epochs for spec in specs)
    benchmarks = benchmark_plan(config)
    questions = (benchmark_questions(benchmarks) if benchmarks else 0) * (len(specs) + 1)
    asked = None if facts is None else facts * PROMPTS_PER_SET
    shot_sets = len(base_shot_sets(config))
    adapters = "adapter" if len(specs) == 1 else "adapters"
    work = [
        *([("dump", f"{config.facts.source} read to its graph", [graph.dump])] if graph.dump else []),
        ("facts", f"{_number(facts)} facts from {config.facts.source}", [graph.facts]),
        *_paraphrasing(config, graph, facts),
        (
            "categorise",
            f"{_number(asked, shot_sets)} prompts: {_number(facts)} facts x {PROMPTS_PER_SET} prompts x {shot_sets} shot sets",
            [graph.categorise],
        ),
        *_sampling(config, graph, asked),
        (
            "search",
            f"{len(specs)} trials, at most {steps:,} steps on {rows:,} rows (about {rows * TOKENS_A_ROW:,} tokens)",
            [trial.step for trial in graph.trials],
        ),
        (
            "evaluate",
            f"{_number(asked, len(specs))} prompts on {len(specs)} {adapters}; {questions:,} benchmark questions",
            graph.evaluation_steps(),
        ),
    ]
    return [PlanLine(stage, text, _count_done(store, steps), len(steps)) for stage, text, steps in work]


def _paraphrasing(config: StudyConfig, graph: Graph, facts: int | None) -> list[tuple[str, str, list[Step]]]:
    """Priced as if no fact came with as many as are wanted."""
    if graph.paraphrases is None:
        return []
    settings = config.facts.paraphrase
    work = f"at most {_number(facts)} facts put in up to {settings.count} other ways by {settings.model}"
    return [("paraphrases", work, [graph.paraphrases])]


def _sampling(config: StudyConfig, graph: Graph, asked: int | None) -> list[tuple[str, str, list[Step]]]:
    """Priced as if no fact were answered right, since what the base knows is not known yet."""
    if graph.samples is None:
        return []
    settings = config.categorise
    drawn = f"{settings.samples} at temperature {settings.sample_temperature:g} to each prompt of {ShotSet.S0}"
    work = f"at most {_number(asked, settings.samples)} sampled answers: {drawn}, for facts that no greedy answer gets right"
    return [("samples", work, [graph.samples])]


def fact_count(config: StudyConfig, graph: Graph, store: Store) -> int | None:
    """How many facts are measured, or None where all of a source are and it has not been read yet."""
    if store.is_done(graph.facts):
        return len(store.read(graph.facts, FACTS_FILE, schema.FACTS))
    return config.facts.count


def _number(value: int | None, times: int = 1) -> str:
    return "all the" if value is None else f"{value * times:,}"


def _count_done(store: Store, steps: list[Step]) -> int:
    return sum(store.is_done(step) for step in steps)


def plan_table(config: StudyConfig, lines: list[PlanLine], model_revision: str) -> Table:
    """The plan as a table of at most 80 columns."""
    table = Table(title=f"study {config.name}: {config.model.name} ({model_revision[:12]})", title_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("work")
    table.add_column("state", no_wrap=True)
    for line in lines:
        table.add_row(line.stage, line.work, line.state)
    return table


def trial_table(graph: Graph, store: Store) -> Table:
    """Every trial of the grid in one line each."""
    table = Table(title="trials", title_justify="left")
    for name in ("trial", "what", "rows", "epochs", "state"):
        table.add_column(name, no_wrap=name == "trial")
    for trial in graph.trials:
        spec = trial.spec
        state = "done" if store.is_done(trial.step) else "to do"
        table.add_row(trial.trial_id[:8], spec.label(), f"{spec.rows:,}", str(spec.max_epochs), state)
    return table
