"""`kp gate`: find and check what is given, measure, judge, and say it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from kp.benchmarks.registry import BENCHMARKS, BenchmarkPlan
from kp.config.study import EvaluateConfig, ModelConfig
from kp.errors import UserError
from kp.gate import judging
from kp.gate.baseline import baseline_identity, read_baseline, write_baseline
from kp.gate.candidates import ADAPTER_FIELD, MODEL_FIELD, Candidate, find_adapter, find_merged
from kp.gate.margins import Margins, least_facts, load_margins
from kp.gate.measuring import Bench
from kp.gate.output import Output, say, write_output
from kp.gate.questions import PROMPTS_A_FACT, Questions, control_candidates, next_round, table_questions
from kp.gate.verdict import CandidateVerdict, Check, GateResult
from kp.metrics.benchmark_chance import at_chance
from kp.models.loading import resolve_model, small_files
from kp.models.probe import probe_model
from kp.schema import frame
from kp.store import roots
from kp.vocabulary import Category, ShotSet

CONTROLS = 250
"""Built-in control facts, unless the user says otherwise: with fewer than 189, 2 points cannot be excluded even if no answer changes."""
CONTROLS_FIELD, KEEP_FIELD, FACTS_FIELD = "--controls", "--keep", "--facts"
_MEASURED = judging.MEASURED


@dataclass(frozen=True)
class GateOptions:
    """What the command line asks for."""

    adapters: Sequence[str]
    model: str
    candidate: Path | None = None
    baseline: Path | None = None
    save_baseline: Path | None = None
    margins: Path | None = None
    controls: int | None = None
    keep: Path | None = None
    facts: Path | None = None
    results: Path = Path("runs")


@dataclass(frozen=True)
class _Controls:
    """The facts that knowledge is judged on, and what the base answered to them on all three shot sets."""

    questions: Questions
    base: pl.DataFrame  # OUTCOMES


@dataclass(frozen=True)
class _Asked:
    """What every candidate is measured on."""

    margins: Margins
    controls: _Controls
    keep: Questions | None
    learned: Questions | None


def run_gate(options: GateOptions, output: Output) -> int:
    """Measure and judge every candidate, print the screen and write the files; returns the exit code. Raises UserError for bad input."""
    began = time.monotonic()
    _validate(options, output)
    margins = load_margins(options.margins)
    keep = table_questions(options.keep, KEEP_FIELD) if options.keep else None
    learned = table_questions(options.facts, FACTS_FIELD) if options.facts else None
    if keep is not None and options.controls is None:
        _require_enough(len(keep.facts), margins, KEEP_FIELD)
    bench, candidates = _opened(options)
    controls, notes = _control_facts(bench, options, margins, keep, learned)
    asked = _Asked(margins, controls, keep, learned)
    verdicts = tuple(_verdict(bench, asked, one) for one in candidates)
    result = GateResult(
        model=bench.model.name,
        revision=bench.resolved.revision,
        controls=len(controls.questions.facts),
        prompts=PROMPTS_A_FACT,
        margins=margins.toml(),
        candidates=verdicts,
        notes=tuple(notes),
        seconds=round(time.monotonic() - began, 1),
        settings={"dtype": bench.model.dtype, "shot sets": " and ".join(_MEASURED)},
    )
    write_output(result, output)
    return int(result.exit_code)


def _validate(options: GateOptions, output: Output) -> None:
    if not options.adapters and options.candidate is None:
        raise UserError("name at least one adapter, or a merged checkpoint by --candidate", field=ADAPTER_FIELD)
    if options.controls is not None and options.controls < 2:
        raise UserError(f"{options.controls}: at least 2 facts are needed for an interval", field=CONTROLS_FIELD)
    if options.baseline and options.save_baseline:
        raise UserError("is read or written, not both: leave out --baseline or --save-baseline", field="--baseline")
    for path in (output.json, output.junit, output.markdown, options.save_baseline):
        if path is not None and path.is_dir():
            raise UserError(f"{path}: is a folder, expected the name of a file")


def _opened(options: GateOptions) -> tuple[Bench, list[Candidate]]:
    """The base and the candidates, all checked before a weight is loaded."""
    from kp.models.architecture import empty_model, model_config

    model = ModelConfig(name=options.model)
    folder = small_files(model, fetch=True, field=MODEL_FIELD)
    assert folder is not None, "it is fetched"
    probe = probe_model(model, folder, (), MODEL_FIELD)
    empty = empty_model(model_config(folder, model.name, MODEL_FIELD), model.name, MODEL_FIELD)
    candidates = [find_adapter(name, model, empty) for name in options.adapters]
    if options.candidate is not None:
        candidates.append(find_merged(options.candidate.expanduser(), folder, empty))
    store = roots.open_store(roots.results_root(options.results))
    return Bench(model, resolve_model(model, MODEL_FIELD), probe.chat_digest, store, say), candidates


def _control_facts(
    bench: Bench, options: GateOptions, margins: Margins, keep: Questions | None, learned: Questions | None
) -> tuple[_Controls, list[str]]:
    """The control facts with the base's answers, of a baseline if there is one, and what is to be said of them."""
    from_table = keep is not None and options.controls is None
    wanted = None if from_table else options.controls or CONTROLS
    taken = [] if learned is None else list(learned.texts.values())
    drawn = keep if keep is not None and from_table else control_candidates(wanted or CONTROLS, taken)
    identity = baseline_identity(bench.identity, drawn, wanted, "--keep" if from_table else "built-in facts")
    base = read_baseline(options.baseline, identity) if options.baseline else _base_outcomes(bench, drawn, wanted)
    chosen = drawn.only(set(base["fact_id"]))
    if len(chosen.facts) < 2:
        field = KEEP_FIELD if from_table else CONTROLS_FIELD
        raise UserError(f"the base knows {len(chosen.facts)} of the facts that it was asked, so it has none to lose", field=field)
    if options.save_baseline is not None:
        write_baseline(options.save_baseline, identity, base)
        say(f"the base's answers are written to {options.save_baseline}")
    least = least_facts(margins.knowledge.margin)
    if options.controls is None or options.controls >= least:
        _require_enough(len(chosen.facts), margins, CONTROLS_FIELD if wanted is not None else KEEP_FIELD)
    notes = []
    if len(chosen.facts) < least:
        notes.append(
            f"{len(chosen.facts)} control facts cannot show that less than {100 * margins.knowledge.margin:g} points are lost: "
            f"that takes {least} even if no answer changes"
        )
    elif wanted is not None and len(chosen.facts) < wanted:
        notes.append(f"the base knows {len(chosen.facts)} of the built-in facts that it was asked; {wanted} were wanted")
    return _Controls(chosen, base), notes


def _base_outcomes(bench: Bench, drawn: Questions, wanted: int | None) -> pl.DataFrame:
    """The base's OUTCOMES of the facts that it knows by S0, on S0, S1 and S2; built-in facts are asked until as many are found."""
    known = _known(bench.outcomes(drawn, (ShotSet.S0,))) if wanted is None else _found(bench, drawn, wanted)
    chosen = drawn if wanted is None else drawn.only(set(known["fact_id"]))
    if known.is_empty():
        return known
    measured = bench.outcomes(chosen, _MEASURED)
    return pl.concat([known, measured.filter(pl.col("fact_id").is_in(known["fact_id"].to_list()))])


def _known(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Those of OUTCOMES on S0 that have only right answers."""
    return outcomes.filter(category=Category.HIGHLY_KNOWN.value)


def _found(bench: Bench, drawn: Questions, wanted: int) -> pl.DataFrame:
    """The base's OUTCOMES on S0 of as many facts that it knows, or of all that are found."""
    pool, asked = drawn.frame, pl.DataFrame()
    known: dict[str, bool] = {}
    while chosen := next_round(pool, known, wanted):
        on_s0 = bench.outcomes(drawn.only(set(chosen)), (ShotSet.S0,))
        asked = pl.concat([asked, _known(on_s0)]) if len(asked) else _known(on_s0)
        right = set(asked["fact_id"])
        known |= {fact_id: fact_id in right for fact_id in chosen}
    return asked[:wanted]


def _require_enough(facts: int, margins: Margins, field: str) -> None:
    """Raise UserError if so few control facts cannot show that the margin is kept, whatever the candidate does."""
    least = least_facts(margins.knowledge.margin)
    if facts >= least:
        return
    told = "facts that the base can be expected to know" if field == KEEP_FIELD else "built-in facts that the base knows"
    remedy = f"add {CONTROLS_FIELD} {CONTROLS} to judge knowledge on built-in facts" if field == KEEP_FIELD else f"give {KEEP_FIELD}"
    raise UserError(
        f"{facts} {told}, and a margin of {100 * margins.knowledge.margin:g} points needs at least {least} even if no answer changes: "
        f"{remedy}, or widen [knowledge] margin",
        field=field,
    )


def _verdict(bench: Bench, asked: _Asked, candidate: Candidate) -> CandidateVerdict:
    controls, margins = asked.controls, asked.margins
    known, of_base = controls.questions, controls.base
    whole = asked.keep if asked.keep is not None and set(known.texts) <= set(asked.keep.texts) else known  # asked once for both
    answered = bench.outcomes(whole, _MEASURED, candidate).filter(pl.col("fact_id").is_in(list(known.texts)))
    outcomes = pl.concat([of_base, answered])
    harms = [
        judging.knowledge(outcomes, known.frame, margins.knowledge.margin),
        judging.refusals(outcomes, known.frame, margins.refusals.margin),
        judging.drift(bench.drift(candidate, margins.drift.words), margins.drift.margin),
    ]
    scores, notes = _benchmarks(bench, margins, candidate)
    quantities = judging.judged([*harms, *scores])
    return CandidateVerdict(candidate.name, candidate.identity, quantities, _checks(bench, asked, candidate), (*candidate.notes, *notes))


def _checks(bench: Bench, asked: _Asked, candidate: Candidate) -> tuple[Check, ...]:
    """The rules about single facts."""
    checks = []
    if asked.keep is not None:
        base, other = (judging.shares(bench.outcomes(asked.keep, _MEASURED, one)) for one in (None, candidate))
        checks.append(judging.kept(base, other, asked.keep.texts, asked.margins.keep.most_lost))
    if asked.learned is not None:
        base, other = (judging.shares(bench.outcomes(asked.learned, _MEASURED, one)) for one in (None, candidate))
        checks.append(judging.learned(base, other, asked.learned.texts, asked.margins.learned.least_right))
    return tuple(checks)


def _benchmarks(bench: Bench, margins: Margins, candidate: Candidate) -> tuple[list[judging.Harm], list[str]]:
    """The benchmarks that the margins ask for and on which the base is above chance, and which ones it is not."""
    from kp.benchmarks.lm_eval_tasks import scored

    harms, notes = [], []
    for name, wanted in margins.benchmarks:
        if wanted is None:
            continue
        benchmark = next(one for one in BENCHMARKS if one.field == name)
        counts: dict[str, Any] = {one.field: wanted.questions if one.field == name else 0 for one in BENCHMARKS}
        plan = BenchmarkPlan(EvaluateConfig(**counts), 0)
        plan.questions()  # raises if there are not as many
        base, other = bench.benchmarks(plan), bench.benchmarks(plan, candidate)
        guessed = at_chance(frame(scored(plan, [base.to_arrow()]).means))
        for score in benchmark.scores:
            if (benchmark.task, score.metric) in guessed:
                notes.append(f"{score.words}: the base does no better than guessing, so nothing can be lost; not judged")
                continue
            pair = [table.filter(task=benchmark.task, metric=score.metric) for table in (base, other)]
            harms.append(judging.benchmark(pair[0], pair[1], score.column, wanted.margin))
    return harms, notes
