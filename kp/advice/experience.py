"""The experience: one row a trial, with what was set, what was measured, and where the row comes from.

Rows of three sources have the same columns: reports on this machine, the reports that kp's authors committed (shipped in the package as
`data/experience.csv`, made by scripts/make_shipped_experience.py), and the reliabilities that arXiv 2502.14502 published for its model.
"""

import io
from importlib.resources import files

import polars as pl

from kp.report.paper_figures import SOURCE, published
from kp.report.summary import summary_table
from kp.report.tables import ReportContext, ReportTables

EXPERIENCE = {
    "source": pl.String,  # measured, or published
    "study": pl.String,
    "trial_id": pl.String,  # the fingerprint of what was trained
    "origin": pl.String,  # kp's version and commit, or the paper's table
    "model": pl.String,
    "parameters": pl.Float64,  # of the base model
    "facts": pl.Int64,  # N, the packed facts
    "rank": pl.Int64,
    "learning_rate": pl.Float64,
    "exposures": pl.Float64,  # of each packed fact
    "replayed": pl.Int64,  # known facts for each packed one
    "steps": pl.Int64,  # of the optimiser; null if not published
    "reliability": pl.Float64,  # share of packed facts answered right; null if not measured
    "harm": pl.Float64,  # share of right answers to known control facts that is lost; null if not measured
    "harm_se": pl.Float64,
}
KEY = ("study", "trial_id", "model")
PAPER_MODEL = "meta-llama/Llama-3.1-8B-Instruct"
PAPER_RANK, PAPER_RATE, PAPER_EPOCHS = 1, 1e-3, 10.0


def rows_of_report(tables: ReportTables, context: ReportContext, parameters: float) -> pl.DataFrame:
    """The experience of a finished study: its completed trials that measured reliability or harm, without paraphrases in training.

    `parameters` is the size of its base model.
    """
    trials = tables.trials.select("trial_id", "exposures", "steps")
    joined = summary_table(tables).join(trials, on="trial_id", how="left", maintain_order="left")
    measured = joined.filter(
        pl.col("status") == "completed",
        pl.col("paraphrases") == 0,
        pl.any_horizontal(pl.col("reliability", "knowledge_loss").is_not_null()),
    )
    named = measured.select(
        pl.lit("measured").alias("source"),
        pl.lit(context.study).alias("study"),
        "trial_id",
        pl.lit(f"kp {context.kp_version}").alias("origin"),
        pl.lit(context.model_name).alias("model"),
        pl.lit(parameters).alias("parameters"),
        pl.col("unknown").alias("facts"),
        *("rank", "learning_rate", "exposures"),
        (pl.col("highly_known") + pl.col("maybe_known")).alias("replayed"),
        *("steps", "reliability"),
        pl.col("knowledge_loss").alias("harm"),
        pl.col("knowledge_loss_se").alias("harm_se"),
    )
    return named.select(pl.col(name).cast(dtype) for name, dtype in EXPERIENCE.items())


def published_rows(parameters: float) -> pl.DataFrame:
    """The reliabilities of the paper's Table 2 without paraphrases; its shifts are counts on the same prompts and no harm as kp has it."""
    rows = [
        {
            "source": "published",
            "study": SOURCE,
            "trial_id": f"table 2, {facts} facts, {replayed} HighlyKnown",
            "origin": "Table 2",
            "model": PAPER_MODEL,
            "parameters": parameters,
            "facts": facts,
            "rank": PAPER_RANK,
            "learning_rate": PAPER_RATE,
            "exposures": PAPER_EPOCHS,
            "replayed": replayed,
            "reliability": numbers["reliability"],
        }
        for (facts, replayed, paraphrases), numbers in published("table2_reliability").items()
        if paraphrases == 0
    ]
    return pl.DataFrame(rows, schema=EXPERIENCE)


def shipped() -> pl.DataFrame:
    """The EXPERIENCE in the package."""
    text = (files("kp.advice") / "data" / "experience.csv").read_bytes()
    return pl.read_csv(io.BytesIO(text), schema=EXPERIENCE)


def together(*tables: pl.DataFrame) -> pl.DataFrame:
    """All rows, each trial once: of two rows of one trial the first counts."""
    return pl.concat(tables).unique(subset=KEY, keep="first", maintain_order=True)
