"""`kp chat`: a terminal that answers each question with the base and with an adapter, side by side.

Questions are asked in the form in which a study asks them, because an adapter is measured in that form and no other.
"""

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from kp.config.derived import ADAPTER_SHOT_SET, base_shot_sets
from kp.config.study import StudyConfig
from kp.errors import UserError, printable
from kp.facts.shots import load_shots, shot_sets
from kp.generation.adapters import save_scaled_adapter
from kp.generation.protocol import Generator
from kp.inference.answering import EngineSpec
from kp.metrics.matching import normalise
from kp.prompts import SHOTS_PER_PROMPT, Messages, Shot, messages
from kp.study.finished_adapters import find_adapter, study_folder
from kp.study.machine_choices import with_machine_choices
from kp.vocabulary import BASE

NARROW = 60  # columns of a terminal, below which the answers stand below each other
PROMPT = "question> "


@dataclass(frozen=True)
class KnownFact:
    """A fact of the study: its accepted answers, and its category by the base and by the adapter where they were measured."""

    answers: tuple[str, ...]
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Exchange:
    """One question with both answers, and the study's fact if it asks one."""

    question: str
    base: str
    adapter: str
    fact: KnownFact | None


class KnownFacts:
    """The facts of a study's report by their question; none before there is a report."""

    def __init__(self, study: Path, trial_id: str) -> None:
        tables = study / "report" / "tables"
        self.facts = pl.read_parquet(tables / "facts.parquet") if tables.is_dir() else None
        self._by_question = {normalise(row["question"]): row for row in ([] if self.facts is None else self.facts.to_dicts())}
        self._categories: dict[tuple[str, str], str] = {}
        if self.facts is not None:
            outcomes = pl.read_parquet(tables / "outcomes.parquet").filter(
                pl.col("trial_id").is_in([BASE, trial_id]), shot_set=ADAPTER_SHOT_SET.value
            )
            asked = outcomes.select("trial_id", "fact_id", "category").iter_rows()
            self._categories = {(model, fact_id): category for model, fact_id, category in asked}
        self._trial_id = trial_id

    def find(self, question: str) -> KnownFact | None:
        """The fact with this question, whatever its case and punctuation."""
        row = self._by_question.get(normalise(question))
        if row is None:
            return None
        before, after = (self._categories.get((model, row["fact_id"])) for model in (BASE, self._trial_id))
        return KnownFact(tuple(row["answers"]), before, after)


class Chat:
    """A loaded base with an adapter, which answers questions one after the other."""

    def __init__(self, generator: Generator, adapter: Path, shots: list[Shot], facts: KnownFacts) -> None:
        self._generator, self._adapter, self._shots, self._facts = generator, adapter, shots, facts

    def ask(self, question: str) -> Exchange:
        """Both greedy answers."""
        prompt = messages(self._shots, question)
        base, adapter = (self._answer(prompt, folder) for folder in (None, str(self._adapter)))
        return Exchange(question, base, adapter, self._facts.find(question))

    def _answer(self, prompt: Messages, folder: str | None) -> str:
        self._generator.load_adapter(folder)
        return self._generator.generate([prompt])[0].text.strip()


def chat_with(config: StudyConfig, root: Path, wanted: str, *, question: str | None, shots: int, scale: float) -> int:
    """Answer one question, or those typed until the input ends; returns the exit code.

    Raises UserError if the study has no such adapter, or if an option is out of its range.
    """
    if shots not in (0, SHOTS_PER_PROMPT):
        raise UserError(f"{shots}: a prompt has 0 or {SHOTS_PER_PROMPT} worked examples", field="--shots")
    if not 0 < scale <= 1:
        raise UserError(f"{scale:g}: a scale is above 0 and at most 1", field="--scale")
    study = study_folder(config, root)
    config = with_machine_choices(config, root, note=lambda line: None, fetch=True, trains=False)
    found = find_adapter(study, wanted)
    facts = KnownFacts(study, found.trial_id)
    examples = _examples(config, facts) if shots else []
    with _scaled(found.folder, scale) as folder:
        chat = Chat(_generator(config), folder, examples, facts)
        name = found.name if scale == 1 else f"{found.name} at scale {scale:g}"
        console = Console(highlight=False, markup=False, emoji=False)
        for asked in _questions(sys.stdin.isatty()) if question is None else [question]:
            console.print(shown_exchange(chat.ask(asked), name, console.width))
    return 0


def _questions(interactive: bool) -> Iterator[str]:
    """What is typed or piped in, line by line, until it ends or is interrupted."""
    while True:
        try:
            line = input(PROMPT if interactive else "")
        except (EOFError, KeyboardInterrupt):
            return
        if line.strip():
            yield line.strip()


def _examples(config: StudyConfig, facts: KnownFacts) -> list[Shot]:
    """The first prompt of the shot set on which adapters are measured."""
    if facts.facts is None:
        raise UserError("the study has no report yet, by whose facts worked examples are checked: use --shots 0", field="--shots")
    asked = base_shot_sets(config)
    sets, _ = shot_sets(load_shots(config.categorise.shots, asked).shots, facts.facts, asked)
    return sets[ADAPTER_SHOT_SET][0]


@contextmanager
def _scaled(folder: Path, scale: float) -> Iterator[Path]:
    """The adapter at this scale, in a folder that lasts as long as the block."""
    if scale == 1:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="kp-chat-") as made:
        save_scaled_adapter(folder, scale, Path(made) / "adapter")
        yield Path(made) / "adapter"


def _generator(config: StudyConfig) -> Generator:
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # the answers are all that is to be seen
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    settings, resources = config.categorise, config.resources
    use_gpu = torch.cuda.is_available() if resources.gpu is None else resources.gpu
    threads = resources.threads or os.cpu_count() or 1
    return EngineSpec(config.model, settings.max_new_tokens, settings.stop_at_newline, 1, threads, use_gpu).load()[1]


def shown_exchange(exchange: Exchange, name: str, width: int) -> RenderableType:
    """Both answers side by side, or one below the other in a narrow terminal, and the study's fact below them."""
    panels = [
        Panel(Text(printable(answer)), title=Text(title), title_align="left")
        for title, answer in (("base", exchange.base), (f"adapter {name}", exchange.adapter))
    ]
    answers: RenderableType = Group(*panels) if width < NARROW else Columns(panels, equal=True, expand=True, width=(width - 1) // 2)
    lines = [Text(printable(exchange.question), style="bold"), answers]
    if exchange.fact is not None:
        lines.append(Text(printable(_fact_line(exchange.fact))))
    return Group(*lines)


def _fact_line(fact: KnownFact) -> str:
    before, after = fact.before or "not measured", fact.after or "not measured"
    return f"a fact of the study: {' / '.join(fact.answers)} (base {before}, adapter {after})"
