"""The figures that arXiv 2502.14502v3 prints, by N and mix, to stand beside a study's own.

They are of one model and one set of facts (`MODEL`, `FACTS`), so a study of others only resembles them.
"""

import csv
from functools import cache
from importlib.resources import files

SOURCE = "arXiv 2502.14502v3"
MODEL = "Llama-3.1-8B-Instruct"
OTHER_MODEL = "Mistral-7B-Instruct-v0.3"  # of table 6
FACTS = 21_036

Mix = tuple[int, int, int]  # N, HighlyKnown facts and paraphrases for each Unknown fact
BASE_MIX: Mix = (0, 0, 0)


@cache
def published(table: str) -> dict[Mix, dict[str, float]]:
    """The numbers of one table by N and mix; those of the base model are at BASE_MIX."""
    found = {}
    for row in _rows(table):
        numbers = {name: float(text) for name, text in row.items() if name not in _KEYS and text}
        found[_mix(row)] = numbers
    return found


@cache
def published_categories() -> dict[str, int]:
    """Table 1: facts of the base model in each category."""
    return {row["category"]: int(row["facts"]) for row in _rows("table1_categories")}


_KEYS = ("unknown", "augmentation", "per_fact", "highly_known_per_fact")


def _rows(table: str) -> list[dict[str, str]]:
    text = (files("kp.report") / "data" / "published" / f"{table}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _mix(row: dict[str, str]) -> Mix:
    count = int(row.get("per_fact") or row.get("highly_known_per_fact") or 0)
    paraphrased = row.get("augmentation") == "paraphrase"
    return (int(row["unknown"]), 0, count) if paraphrased else (int(row["unknown"]), count, 0)
