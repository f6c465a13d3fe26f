"""What `kp pack` leaves in its folder: the adapter with its card, the tables of facts, the page, and the settings for other trainers."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.study import ReportConfig
from kp.generation.adapters import CONFIG_FILE, save_scaled_adapter
from kp.packing.choice import Told, ranked_trials
from kp.packing.fact_tables import LEARNED, LOST, learned_table, lost_table
from kp.packing.page import pack_page, statement
from kp.packing.request import PackRequest
from kp.packing.roles import Roles
from kp.packing.study_file import Document
from kp.packing.trainers import Recipe, trainer_files
from kp.report.markdown import render_markdown
from kp.report.model_card import CardBase, card_base, model_card
from kp.report.reading import read_report
from kp.store import files
from kp.study.loaded import LoadedStudy
from kp.study.pushing import CARD_FILE, portable_config
from kp.training.spec import TrialSpec

ADAPTER, TRAINERS, PAGE, SUMMARY = "adapter", "trainers", "pack.md", "pack.json"


def write_outputs(
    request: PackRequest, roles: Roles, document: Document, search: LoadedStudy, scaled: LoadedStudy, told: Told, spec: TrialSpec
) -> None:
    """Write everything; files of an earlier run are replaced."""
    folder, outcomes = request.folder, _outcomes(scaled, told)
    learned = learned_table(outcomes, told.trial_id, roles.taught, roles.already_known)
    lost = lost_table(outcomes, told.trial_id, roles.controls)
    _write_table(learned, LEARNED, folder / "learned")
    _write_table(lost, LOST, folder / "lost")
    nearest = ranked_trials(search.trials, told.target)
    page = pack_page(
        document["name"], request.model, told, nearest, scaled.scale_curve, learned, lost, roles.not_kept["question"].to_list()
    )
    (folder / PAGE).write_text(render_markdown(page), encoding="utf-8")
    tables, context = read_report(scaled.folder / "report", ReportConfig(margin=told.margin))
    base = card_base(context)
    card = model_card(tables, context, told.trial_id, base, ADAPTER)
    _write_adapter(folder / ADAPTER, scaled.adapter(told.trial_id), told, len(roles.taught), base, card)
    (trial,) = scaled.trials.filter(trial_id=told.trial_id).iter_rows(named=True)
    recipe = _recipe(spec, base.hub_id or base.name, trial["epochs"], told.scale)
    (folder / TRAINERS).mkdir(exist_ok=True)
    for name, text in trainer_files(recipe, tables.training_rows[told.trial_id]).items():
        (folder / TRAINERS / name).write_text(text, encoding="utf-8")
    files.write_json(folder / SUMMARY, summary(told, roles, nearest))


def summary(told: Told, roles: Roles, nearest: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The result for programs."""
    counts = {"taught": len(roles.taught), "already_known": len(roles.already_known), "controls": len(roles.controls)}
    kept = ("trial_id", "arm", "rank", "learning_rate", "reliability", "reliability_s2", "dev_loss")
    return {
        "ending": told.ending.value,
        "statement": statement(told, len(roles.taught)),
        "controls_needed": told.controls_needed,
        **asdict(told),
        "facts": counts,
        "nearest": [{name: row[name] for name in kept} for row in nearest],
    }


def _outcomes(scaled: LoadedStudy, told: Told) -> pl.DataFrame:
    """OUTCOMES of the base, and of the adapter at its scale."""
    if told.scale == 1:
        return scaled.outcomes
    at = scaled.scaled_outcomes.filter(scale=told.scale).select(scaled.outcomes.columns)
    return pl.concat([scaled.outcomes.filter(pl.col("trial_id") != told.trial_id), at])


def _write_table(table: pl.DataFrame, columns: pa.Schema, path: Path) -> None:
    schema.write_table(table.to_arrow(), columns, path.with_suffix(".parquet"))
    table.write_csv(path.with_suffix(".csv"))


def _write_adapter(target: Path, saved: Path, told: Told, taught: int, base: CardBase, card: str) -> None:
    """The adapter at its scale, in PEFT's format, with a base that others can load and a card that says what was measured."""
    staged = target.with_name(f".{target.name}")
    shutil.rmtree(staged, ignore_errors=True)
    save_scaled_adapter(saved, told.scale, staged)
    (staged / CONFIG_FILE).write_text(portable_config(staged / CONFIG_FILE, base), encoding="utf-8")
    packed = "\n\n".join(statement(told, taught))
    scale = "" if told.scale == 1 else f" This adapter has {told.scale:g} of the change of the weights; the table above is of all of it."
    (staged / CARD_FILE).write_text(f"{card}\n## What was packed\n\n{packed}{scale}\n", encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    staged.replace(target)


def _recipe(spec: TrialSpec, base: str, epochs: int, scale: float) -> Recipe:
    training = spec.training
    return Recipe(
        base=base,
        target_modules=training.target_modules,
        rank=spec.rank,
        alpha=spec.lora_alpha,
        dropout=training.lora_dropout,
        learning_rate=spec.learning_rate,
        epochs=epochs,
        batch_size=training.batch_size,
        weight_decay=training.weight_decay,
        schedule=training.schedule.value,
        warmup_ratio=training.warmup_ratio,
        seed=spec.seed,
        max_length=training.max_length,
        kl_coefficient=spec.kl_coefficient,
        scale=scale,
    )
