"""Write kp/advice/data/experience.csv: the trials of results/, and the published reliabilities. Run it when results/ changes."""

from pathlib import Path

import polars as pl

from kp.advice.experience import PAPER_MODEL, published_rows, together
from kp.study.advising import experience_of, parameters_of

ROOT = Path(__file__).parents[1]
DECIMALS = 6  # so that the last bits of another machine change nothing
FILE = ROOT / "kp" / "advice" / "data" / "experience.csv"


def shipped_text(results: Path) -> str:
    """The table of these results, as CSV."""
    rows = together(experience_of(results), published_rows(parameters_of(PAPER_MODEL)))
    rounded = [pl.col(name).round(DECIMALS) for name in ("exposures", "reliability", "harm", "harm_se")]
    return rows.with_columns(rounded).write_csv()


if __name__ == "__main__":
    FILE.write_text(shipped_text(ROOT / "results"), encoding="utf-8")
    print(f"{FILE}: {len(FILE.read_text(encoding='utf-8').splitlines()) - 1} trials")
