"""What a study will do, what is already done, and what it costs: the table printed before every run, and everything that `--dry-run`
prints.

A dry run fetches nothing. What it cannot know without fetching (the model's tokenizer, its shape, the number of facts in a source) is
estimated or left out, and it says which.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.table import Table

from kp import schema
from kp.cluster.stated import StatedCluster
from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.models.chat import Chat
from kp.models.loading import load_tokenizer
from kp.models.names import ResolvedModel
from kp.models.shapes import model_folder, model_shape
from kp.store.filenames import FACTS_FILE
from kp.store.steps import Step, Store
from kp.study.cluster_price import ClusterPrice, price_on_cluster
from kp.study.graph import Graph
from kp.study.memory_price import memory_price, memory_text
from kp.study.pricing import PlannedTrials, Prompts, RowTokens, byte_text, disk_price, hours, planned_trials
from kp.study.registry import STAGES
from kp.study.stage import Planning
from kp.training.checkpoints import KEPT
from kp.training.encoding import encode_row

# A chat of one short question about an entity and its answer: 35 to 55 in SmolLM2's template, some 20 more in one that writes dates.
TOKENS_A_ROW = 60
SAMPLED_FACTS = 256  # whose rows are encoded to count tokens
LINE_NAMES = {"replay_categorise": "replay"}  # of stages with another name in a plan
NO_LIMIT = 2**31  # of tokens in a row: its length is checked when trials are drawn


@dataclass(frozen=True)
class PlanLine:
    """One stage: what it does, how many steps it has, how many are done."""

    stage: str
    work: str
    done: int
    steps: int

    @property
    def state(self) -> str:
        """`done`, `to do`, or how many steps are done."""
        if self.done == self.steps:
            return "done"
        return "to do" if not self.done else f"{self.done} of {self.steps} done"


def planning_of(config: StudyConfig, graph: Graph, store: Store) -> Planning:
    """The basis of this study's plan, with counts of facts if the store has them."""
    replay = graph.steps.get("replay_facts")
    return Planning(
        config,
        graph,
        store,
        facts=_count(graph.steps["facts"], config.facts.count, store),
        replayed=_count(replay, config.search.replay_count, store) if replay else 0,
        trials=planned_trials(config, [trial.spec for trial in graph.trials]),
    )


def _count(facts: Step, requested: int | None, store: Store) -> int | None:
    return len(store.read(facts, FACTS_FILE, schema.FACTS)) if store.is_done(facts) else requested


def make_plan(planning: Planning) -> list[PlanLine]:
    """One line for each stage of this study."""
    work = {stage.name: stage.plan(planning) for stage in STAGES}
    return [
        PlanLine(LINE_NAMES.get(name, name), line.text, _count_done(planning.store, line.steps), len(line.steps) + line.to_come)
        for name, line in work.items()
        if line is not None
    ]


def _count_done(store: Store, steps: Sequence[Step]) -> int:
    return sum(store.is_done(step) for step in steps)


def plan_table(config: StudyConfig, lines: list[PlanLine], model_revision: str) -> Table:
    """The plan as a table of at most 80 columns."""
    revision = model_revision if " " in model_revision else model_revision[:12]  # a phrase if there is no revision
    table = Table(title=f"study {config.name}: {config.model.name} ({revision})", title_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("work", overflow="fold")  # a source's name can be longer than a line
    table.add_column("state", no_wrap=True)
    for line in lines:
        table.add_row(line.stage, line.work, line.state)
    return table


def price_table(planning: Planning) -> Table:
    """What the whole study costs, done or not, as a table of at most 80 columns."""
    config, trials = planning.config, planning.trials
    tokens = row_tokens(config, planning.graph, planning.store)
    trained = trials.total(tokens.of)
    prompts = study_prompts(planning)
    table = Table(title="price of the whole study, at most: trials may stop early", title_justify="left")
    table.add_column("what", no_wrap=True)
    table.add_column("how much")
    table.add_row("tokens", f"{trained:,} trained on, {trained / trials.total(lambda spec: spec.rows_in_all):.1f} a row, {tokens.origin}")
    table.add_row("prompts", _prompts_text(prompts))
    memory = memory_price(config, trials, model_shape(config.model))
    if memory is not None and config.resources.gpu is not False:
        table.add_row("GPU memory", memory_text(memory, config.model.dtype))
    for what, text in (*_disk(config, trials), *_hours(config, trained, prompts)):
        table.add_row(what, text)
    return table


def study_prompts(planning: Planning) -> Prompts | None:
    """The prompts of all stages; None if that is unknown until the facts are read."""
    total = Prompts()
    for stage in STAGES:
        prompts = stage.prompts(planning)
        if prompts is None:
            return None
        total += prompts
    return total


def price_on(planning: Planning, cluster: StatedCluster) -> ClusterPrice:
    """What the whole study takes on a cluster that is not there; raises UserError if that cannot be known yet."""
    config = planning.config
    shape = model_shape(config.model)
    disk = disk_price(config, planning.trials, shape)
    if shape is None or disk is None:
        raise UserError(f"the sizes of {config.model.name} or of its adapters are not known here, and no cluster can be priced without")
    prompts = {stage.name: stage.prompts(planning) for stage in STAGES}
    known = {name: count for name, count in prompts.items() if count is not None}
    if len(known) < len(prompts):
        raise UserError("not known until the facts are read; give it, and a cluster can be priced", field="facts.count")
    return price_on_cluster(planning, known, row_tokens(config, planning.graph, planning.store), shape, disk, cluster)


def row_tokens(config: StudyConfig, graph: Graph, store: Store) -> RowTokens:
    """Tokens of a training row: counted on a sample of the facts if these and the model's tokenizer are here, otherwise estimated."""
    folder = model_folder(config.model)
    here = {"facts": store.is_done(graph.steps["facts"]), "tokenizer": folder is not None and any(folder.glob("tokenizer*"))}
    missing = [what for what, found in here.items() if not found]
    if folder is None or missing:
        return RowTokens(TOKENS_A_ROW, TOKENS_A_ROW, f"estimated: {' and '.join(missing)} not here yet")
    chat = Chat(load_tokenizer(ResolvedModel(config.model.name, str(folder), "")))
    facts = store.read(graph.steps["facts"], FACTS_FILE, schema.FACTS).to_pylist()
    sample = [facts[number * len(facts) // SAMPLED_FACTS] for number in range(SAMPLED_FACTS)] if len(facts) > SAMPLED_FACTS else facts

    def length(question: str, answer: str) -> int:
        return len(encode_row(chat, question, answer, config.training.loss, NO_LIMIT).ids)

    asked = [length(fact["question"], fact["answers"][0]) for fact in sample]
    put_otherwise = [length(paraphrase, fact["answers"][0]) for fact in sample for paraphrase in fact["paraphrases"]]
    return RowTokens(fmean(asked), fmean(put_otherwise or asked), f"counted on {len(sample)} facts")


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
    size = f"about {byte_text(at_once * KEPT * price.largest_checkpoint)}{several} with optimiser states"
    return [
        ("adapters", f"about {byte_text(price.adapters)} stay, the largest {byte_text(price.largest_adapter)} (by {shape.origin})"),
        ("checkpoints", f"{written}, {size}, and go when it ends"),
    ]


def _hours(config: StudyConfig, trained: int, prompts: Prompts | None) -> list[tuple[str, str]]:
    """The price at the rates given by the study; names what is not included."""
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
        lines.append(("in all", f"{sum(sums):,.1f} {unit}, without loading models, writing checkpoints and benchmark questions"))
    return lines


def trial_table(graph: Graph, store: Store) -> Table:
    """Every known trial in one line."""
    table = Table(title="trials", title_justify="left")
    for name in ("trial", "what", "rows", "epochs", "state"):
        table.add_column(name, no_wrap=name == "trial")
    for trial in graph.trials:
        spec = trial.spec
        state = "done" if store.is_done(trial.step) else "to do"
        table.add_row(trial.trial_id[:8], spec.label(), f"{spec.rows:,}", str(spec.max_epochs), state)
    return table
