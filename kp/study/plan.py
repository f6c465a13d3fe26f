"""What a study will do, what of it is done, and what it costs: the table printed before every run, and all that `--dry-run` prints.

A dry run fetches nothing. What it cannot know without (the model's tokenizer, its shape, how many facts a source holds) is estimated or
left out, and it says which.
"""

from dataclasses import dataclass
from statistics import fmean

from rich.table import Table

from kp import schema
from kp.benchmarks.lm_eval_tasks import benchmark_questions
from kp.config.derived import REPLAY_SHOT_SET, base_shot_sets, benchmark_plan
from kp.config.study import StudyConfig
from kp.models.loading import ResolvedModel, load_tokenizer
from kp.models.shapes import model_folder, model_shape
from kp.prompts import PROMPTS_PER_SET
from kp.store.filenames import FACTS_FILE
from kp.store.steps import Step, Store
from kp.study.graph import Graph
from kp.study.pricing import (
    PlannedTrials,
    Prompts,
    RowTokens,
    disk_price,
    held_out_prompts,
    hours,
    planned_trials,
    study_prompts,
)
from kp.training.checkpoints import KEPT
from kp.training.encoding import encode_row
from kp.vocabulary import ShotSet

# A chat of one short question about an entity and its answer: 35 to 55 under SmolLM2's template, some 20 more under one that writes dates.
TOKENS_A_ROW = 60
SAMPLED_FACTS = 256  # whose rows are encoded to count tokens
NO_LIMIT = 2**31  # of tokens in a row: how long it may be is looked at when trials are drawn


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
    trials = planned_trials(config, [trial.spec for trial in graph.trials])
    asked = None if facts is None else facts * PROMPTS_PER_SET
    shot_sets = len(base_shot_sets(config))
    to_come = trials.to_come * len(graph.trials[0].measurements())
    work = [
        *([("dump", f"{config.facts.source} read to its graph", [graph.dump], 0)] if graph.dump else []),
        ("facts", f"{_number(facts)} facts from {config.facts.source}", [graph.facts], 0),
        *_paraphrasing(config, graph, facts),
        (
            "categorise",
            f"{_number(asked, shot_sets)} prompts: {_number(facts)} facts x {PROMPTS_PER_SET} prompts x {shot_sets} shot sets",
            [graph.categorise],
            0,
        ),
        *_sampling(config, graph, asked),
        *_replaying(config, graph, store),
        ("search", _searching(trials), [trial.step for trial in graph.trials], trials.to_come),
        ("evaluate", _evaluating(config, trials, asked), graph.evaluation_steps(), to_come),
    ]
    return [PlanLine(stage, text, _count_done(store, steps), len(steps) + more) for stage, text, steps, more in work]


_Work = tuple[str, str, list[Step], int]  # a stage, its work, its steps, and how many of them are not known yet


def _paraphrasing(config: StudyConfig, graph: Graph, facts: int | None) -> list[_Work]:
    """Priced as if no fact came with as many as are wanted."""
    if graph.paraphrases is None:
        return []
    settings = config.facts.paraphrase
    work = f"at most {_number(facts)} facts put in up to {settings.count} other ways by {settings.model}"
    return [("paraphrases", work, [graph.paraphrases], 0)]


def _sampling(config: StudyConfig, graph: Graph, asked: int | None) -> list[_Work]:
    """Priced as if no fact were answered right, since what the base knows is not known yet."""
    if graph.samples is None:
        return []
    settings = config.categorise
    drawn = f"{settings.samples} at temperature {settings.sample_temperature:g} to each prompt of {ShotSet.S0}"
    work = f"at most {_number(asked, settings.samples)} sampled answers: {drawn}, for facts that no greedy answer gets right"
    return [("samples", work, [graph.samples], 0)]


def _replaying(config: StudyConfig, graph: Graph, store: Store) -> list[_Work]:
    if graph.replay_facts is None or graph.replay_categorise is None:
        return []
    facts = replay_count(config, graph, store)
    asked = f"{_number(facts, PROMPTS_PER_SET)} prompts on {REPLAY_SHOT_SET}"
    work = f"{_number(facts)} facts from {config.search.replay_source} to replay: {asked}"
    return [("replay", work, [graph.replay_facts, graph.replay_categorise], 0)]


def _searching(trials: PlannedTrials) -> str:
    rows, steps = trials.total(lambda spec: spec.rows_in_all), trials.total(lambda spec: spec.steps)
    known = f" ({len(trials.known)} of them proposed so far)" if trials.to_come else ""
    return f"{trials.count} trials{known}, at most {steps:,} steps on {rows:,} rows"


def _evaluating(config: StudyConfig, trials: PlannedTrials, asked: int | None) -> str:
    benchmarks = benchmark_plan(config)
    questions = (benchmark_questions(benchmarks) if benchmarks else 0) * (trials.count + 1)
    held_out = trials.total(held_out_prompts)
    adapters = "adapter" if trials.count == 1 else "adapters"
    generality = f" and {held_out:,} of held-out paraphrases" if held_out else ""
    return f"{_number(asked, trials.count)} prompts{generality} on {trials.count} {adapters}; {questions:,} benchmark questions"


def fact_count(config: StudyConfig, graph: Graph, store: Store) -> int | None:
    """How many facts are measured, or None where all of a source are and it has not been read yet."""
    return _count(graph.facts, config.facts.count, store)


def replay_count(config: StudyConfig, graph: Graph, store: Store) -> int | None:
    """How many facts of a source of their own the base is asked for replay, 0 where there is none; None as in `fact_count`."""
    return _count(graph.replay_facts, config.search.replay_count, store) if graph.replay_facts else 0


def _count(facts: Step, asked_for: int | None, store: Store) -> int | None:
    return len(store.read(facts, FACTS_FILE, schema.FACTS)) if store.is_done(facts) else asked_for


def _number(value: int | None, times: int = 1) -> str:
    return "all the" if value is None else f"{value * times:,}"


def _count_done(store: Store, steps: list[Step]) -> int:
    return sum(store.is_done(step) for step in steps)


def plan_table(config: StudyConfig, lines: list[PlanLine], model_revision: str) -> Table:
    """The plan as a table of at most 80 columns."""
    revision = model_revision if " " in model_revision else model_revision[:12]  # in words where there is none to name
    table = Table(title=f"study {config.name}: {config.model.name} ({revision})", title_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("work")
    table.add_column("state", no_wrap=True)
    for line in lines:
        table.add_row(line.stage, line.work, line.state)
    return table


def price_table(config: StudyConfig, graph: Graph, store: Store) -> Table:
    """What the whole study costs, done or not, as a table of at most 80 columns."""
    trials = planned_trials(config, [trial.spec for trial in graph.trials])
    tokens = row_tokens(config, graph, store)
    trained = trials.total(tokens.of)
    prompts = _prompts(config, graph, store, trials)
    table = Table(title="price of the whole study, at most: trials may stop early", title_justify="left")
    table.add_column("what", no_wrap=True)
    table.add_column("how much")
    table.add_row("tokens", f"{trained:,} trained on, {trained / trials.total(lambda spec: spec.rows_in_all):.1f} a row, {tokens.origin}")
    table.add_row("prompts", _prompts_text(prompts))
    for what, text in (*_disk(config, trials), *_hours(config, trained, prompts)):
        table.add_row(what, text)
    return table


def row_tokens(config: StudyConfig, graph: Graph, store: Store) -> RowTokens:
    """Tokens of a training row: counted on an even sample of the facts where they and the model's tokenizer are here, else estimated."""
    folder = model_folder(config.model)
    here = {"facts": store.is_done(graph.facts), "tokenizer": folder is not None and any(folder.glob("tokenizer*"))}
    missing = [what for what, found in here.items() if not found]
    if folder is None or missing:
        return RowTokens(TOKENS_A_ROW, TOKENS_A_ROW, f"estimated: {' and '.join(missing)} not here yet")
    tokenizer = load_tokenizer(ResolvedModel(config.model.name, str(folder), ""))
    facts = store.read(graph.facts, FACTS_FILE, schema.FACTS).to_pylist()
    sample = [facts[number * len(facts) // SAMPLED_FACTS] for number in range(SAMPLED_FACTS)] if len(facts) > SAMPLED_FACTS else facts

    def length(question: str, answer: str) -> int:
        return len(encode_row(tokenizer, question, answer, config.training.loss, NO_LIMIT).ids)

    asked = [length(fact["question"], fact["answers"][0]) for fact in sample]
    put_otherwise = [length(paraphrase, fact["answers"][0]) for fact in sample for paraphrase in fact["paraphrases"]]
    return RowTokens(fmean(asked), fmean(put_otherwise or asked), f"counted on {len(sample)} facts")


def _prompts(config: StudyConfig, graph: Graph, store: Store, trials: PlannedTrials) -> Prompts | None:
    facts, replayed = fact_count(config, graph, store), replay_count(config, graph, store)
    if facts is None or replayed is None:
        return None
    return study_prompts(config, trials, facts, replayed, len(base_shot_sets(config)))


def _prompts_text(prompts: Prompts | None) -> str:
    if prompts is None:
        return "not known until the facts are read"
    return f"{prompts.count:,}: {prompts.base:,} to the base, {prompts.adapters:,} to adapters, {prompts.evals:,} after epochs"


def _disk(config: StudyConfig, trials: PlannedTrials) -> list[tuple[str, str]]:
    shape = model_shape(config.model)
    price = disk_price(config, trials, shape)
    written = f"{trials.total(lambda spec: spec.max_epochs):,} written, one an epoch; the last {KEPT} of a trial stay while it trains"
    if shape is None or price is None:
        unknown = f"{config.model.name} is not here" if shape is None else "not every one of training.target_modules is a matrix of a layer"
        return [("adapters", f"size not known: {unknown}"), ("checkpoints", f"{written} and go when it ends")]
    at_once = min(config.resources.concurrent_trials or 1, trials.count)
    several = f" of {at_once} trials" if at_once > 1 else ""
    size = f"about {_bytes(at_once * KEPT * price.largest_checkpoint)}{several} with optimiser states"
    return [
        ("adapters", f"about {_bytes(price.adapters)} stay, the largest {_bytes(price.largest_adapter)} (by {shape.origin})"),
        ("checkpoints", f"{written}, {size}, and go when it ends"),
    ]


def _bytes(count: int) -> str:
    size, units = float(count), iter(("bytes", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 1000 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{size:.3g} {unit}" if size < 1000 else f"{size:,.0f} {unit}"


def _hours(config: StudyConfig, trained: int, prompts: Prompts | None) -> list[tuple[str, str]]:
    """Priced by the rates that the study states; what is not counted is named."""
    resources = config.resources
    unit = "GPU-hours" if resources.gpu else "worker-hours"
    lines, sums = [], []
    for what, amount, rate, field, counted, bench in (
        ("training", trained, resources.training_tokens_per_second, "training_tokens_per_second", "tokens", "train"),
        ("answering", prompts.count if prompts else None, resources.prompts_per_second, "prompts_per_second", "prompts", "categorise"),
    ):
        if amount is None:
            lines.append((what, f"{counted} not known until the facts are read"))
        elif rate is None:
            lines.append((what, f"resources.{field} would price it; `kp bench {bench}` measures it"))
        else:
            sums.append(hours(amount, rate))
            lines.append((what, f"{sums[-1]:,.1f} {unit} at {rate:,.0f} {counted} a second"))
    if len(sums) == len(lines):
        lines.append(("in all", f"{sum(sums):,.1f} {unit}, beside loading models, writing checkpoints and benchmark questions"))
    return lines


def trial_table(graph: Graph, store: Store) -> Table:
    """Every trial that is known in one line each."""
    table = Table(title="trials", title_justify="left")
    for name in ("trial", "what", "rows", "epochs", "state"):
        table.add_column(name, no_wrap=name == "trial")
    for trial in graph.trials:
        spec = trial.spec
        state = "done" if store.is_done(trial.step) else "to do"
        table.add_row(trial.trial_id[:8], spec.label(), f"{spec.rows:,}", str(spec.max_epochs), state)
    return table
