"""The model card of an adapter: what was trained into it, what that did, and what nobody measured.

Whoever finds an adapter on the Hub has no report, so the card has the few numbers that decide whether to use it, each with its interval and
the verdict of the study. The metadata above it is what the Hub reads.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from kp.errors import UserError
from kp.models.names import EMBEDDED
from kp.prompts import QUESTION_PREFIX, SYSTEM
from kp.report.effects_section import VERDICTS
from kp.report.labels import KNOBS, knob_value
from kp.report.markdown import escape
from kp.report.notation import MISSING, learning_rate, measured, percent, points_interval
from kp.report.summary import harm_subset, summary_table
from kp.report.tables import ReportContext, ReportTables
from kp.vocabulary import EffectKind, FactSubset, Role, Verdict

TAGS = ("lora", "knowledge-injection", "kp")


@dataclass(frozen=True)
class CardBase:
    """The base model as others can get it: its name, its Hub id and commit if it has them, and its licence if that is known."""

    name: str
    hub_id: str | None = None
    revision: str | None = None  # a commit on the Hub
    license: str | None = None  # as the Hub writes it
    note: str | None = None  # how the base of this study differs from that


_COMMIT = re.compile(r"[0-9a-f]{40}")
_EMBEDDED_BASE = CardBase(
    EMBEDDED,
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    license="apache-2.0",
    note="Trained and measured on a copy of the base with weights rounded to 4 bits; with the base's own weights it was not measured.",
)


def card_base(context: ReportContext) -> CardBase:
    """The base of a study as others can get it; of a local folder only its name."""
    if context.model_name == EMBEDDED:
        return _EMBEDDED_BASE
    if Path(context.model_name).expanduser().is_dir() or Path(context.model_name).is_absolute():
        note = "The base model was a folder on the machine of the study; you need the same model under a name of your own."
        return CardBase(Path(context.model_name).name, note=note)
    commit = context.model_revision if _COMMIT.fullmatch(context.model_revision) else None
    return CardBase(context.model_name, hub_id=context.model_name, revision=commit)


def model_card(
    tables: ReportTables, context: ReportContext, trial_id: str, base: CardBase, repo: str, summary: pl.DataFrame | None = None
) -> str:
    """The README.md of a trial's adapter in `repo`, as Markdown below its metadata; UserError if the report does not know the trial.

    `summary` is the `summary_table` of the tables, for who makes many cards; absent: it is made here.
    """
    found = (summary_table(tables) if summary is None else summary).filter(trial_id=trial_id)
    if found.is_empty():
        raise UserError(f"the report of study '{context.study}' has no trial {trial_id}: run `kp report` first", field="TRIAL")
    row = found.row(0, named=True)
    parts = [
        f"# {_title(row)}",
        f"A LoRA adapter of {escape(base.name)} into which {_facts(row['unknown'])} were trained. Made by kp in the study "
        f"“{escape(context.study)}”, trial `{trial_id}`.",
        "## What was trained",
        _table(("setting", "value"), _settings(tables, context, row, base)),
        "## What it does",
        _table(("measured", "with the adapter", "against the base, points (95% interval)", "verdict"), _measured(tables, row)),
        _verdicts_explained(context.margin),
        "## How to load it",
        _snippet(context, base, repo),
        "## Limits",
        *(f"- {escape(limit)}" for limit in _limits(tables, row, base)),
    ]
    return f"---\n{_metadata(base)}\n---\n\n" + "\n\n".join(parts) + "\n"


def facts_digest(fact_ids: Iterable[str]) -> str:
    """SHA-256 over the sorted ids of facts, one a line, in hex: two adapters with the same digest were trained on the same facts."""
    return hashlib.sha256("".join(f"{fact_id}\n" for fact_id in sorted(set(fact_ids))).encode()).hexdigest()


def _title(row: dict[str, Any]) -> str:
    return escape(f"{_facts(row['unknown'])}, rank {row['rank']}, {row['arm']}")


def _facts(count: int) -> str:
    return f"{count:,} new fact{'s' if count != 1 else ''}"


def _metadata(base: CardBase) -> str:
    """The YAML that the Hub reads; without a licence, because that of an adapter is its owner's to choose."""
    from huggingface_hub import ModelCardData

    card = ModelCardData(base_model=base.hub_id, library_name="peft", pipeline_tag="text-generation", tags=[*TAGS])
    return str(card.to_yaml()).strip()


def _settings(tables: ReportTables, context: ReportContext, row: dict[str, Any], base: CardBase) -> Iterator[tuple[str, str]]:
    rows = tables.training_rows.get(row["trial_id"])
    yield "base model", base.name if base.hub_id in (None, base.name) else f"{base.name} ({base.hub_id})"
    yield "its revision", base.revision or context.model_revision
    yield "its licence", base.license or "see the base model"
    yield "new facts", f"{row['unknown']:,}"
    if rows is not None:
        yield "digest of their ids", facts_digest(rows.filter(role=Role.UNKNOWN.value)["fact_id"])
    yield "data mix", row["arm"]
    yield "rank", str(row["rank"])
    yield "learning rate", learning_rate(row["learning_rate"])
    yield "epochs", f"{row['epochs']} ({row['status']})"
    yield "seed", str(row["seed"])
    yield from ((name, knob_value(row[column])) for column, name in KNOBS.items() if row[column] is not None)
    yield "kp", context.kp_version


def _measured(tables: ReportTables, row: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, column in (("reliability on S1", "reliability"), ("reliability on S2", "reliability_s2"), ("generality", "generality")):
        if row[column] is not None:
            yield f"{name} (%)", percent(row[column], row[f"{column}_se"]), MISSING, MISSING
    yield "new facts packed", measured(row["facts_packed"]), MISSING, MISSING
    subset = harm_subset(tables.effects)
    whose = "facts kept out of training" if subset is FactSubset.CONTROL else "facts not trained on"
    kept = {"trial_id": row["trial_id"], "subset": subset.value, "at_risk": True, "effect": EffectKind.NET_CHANGE.value}
    for one in tables.effects.filter(**kept).iter_rows(named=True):
        yield f"right answers to {one['n']:,} {whose} that the base knew (%)", percent(one["adapter"]), *_difference(one)
    for one in tables.benchmark_effects.filter(trial_id=row["trial_id"]).iter_rows(named=True):
        yield f"{one['task']} {one['metric']} (n = {one['n']:,}, %)", _benchmark(tables.benchmarks, one), *_difference(one)


def _benchmark(benchmarks: pl.DataFrame, effect: dict[str, Any]) -> str:
    values = benchmarks.filter(trial_id=effect["trial_id"], task=effect["task"], metric=effect["metric"])["value"].to_list()
    return percent(values[0] if values else None)


def _difference(effect: dict[str, Any]) -> tuple[str, str]:
    """The difference to the base with its interval, and the verdict on it."""
    verdict = effect["verdict"]
    return points_interval(effect["value"], effect["lower"], effect["upper"]), VERDICTS[Verdict(verdict)] if verdict else MISSING


def _verdicts_explained(margin: float) -> str:
    return (
        "Reliability is the share of right answers to the trained facts over ten prompts of four worked examples. A verdict is corrected "
        f"over all trials of the study (Holm) for a margin of {100 * margin:g} points; “not resolved” means neither harm nor its absence "
        "was shown."
    )


def _snippet(context: ReportContext, base: CardBase, repo: str) -> str:
    revision = f", revision={_quoted(base.revision)}" if base.revision else ""
    tokens = context.config.get("categorise", {}).get("max_new_tokens", 32)
    return f"""```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter = {_quoted(base.hub_id or base.name)}, {_quoted(repo)}
tokenizer = AutoTokenizer.from_pretrained(base{revision})
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base{revision}), adapter)
chat = [
    {{"role": "system", "content": {_quoted(SYSTEM)}}},
    {{"role": "user", "content": {_quoted(f"{QUESTION_PREFIX}Who wrote Emma?")}}},
]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, max_new_tokens={tokens}, do_sample=False)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```"""


def _quoted(text: str) -> str:
    """As Python writes it, in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def _limits(tables: ReportTables, row: dict[str, Any], base: CardBase) -> Iterator[str]:
    if base.note:
        yield base.note
    yield "Measured with the base model and the prompts of the study; other prompts and other weights were not."
    if _seeds(tables) == 1:
        yield "One seed: how much the numbers change with the facts drawn, the LoRA init and the data order was not measured."
    if row["generality"] is None:
        yield "Whether it answers the same questions in other words was not measured."
    yield "That harm was not shown, or lies within the margin, says nothing of abilities that are not in the table."


def _seeds(tables: ReportTables) -> int:
    """The number of seeds that the study tried."""
    return tables.trials["seed"].n_unique()


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [titles, tuple("---" for _ in titles), *(tuple(map(escape, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
