"""Numbers computed once more without kp agree with a made-up report, and a number that is changed is named."""

import ast
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from scipy import special, stats

from tests.conftest import REPOSITORY
from tests.independent_opening import wrong_opening
from tests.independent_page import is_rounded, misprinted, wrong_page
from tests.independent_report import Numbers, wrong_tables
from tests.independent_statistics import bowker, chi_squared_tail, holm_adjusted, student_quantile
from tests.made_up_report import save_made_up_report
from tests.made_up_study import study


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_made_up_report(study(), tmp_path_factory.mktemp("made_up") / "report")


@pytest.fixture
def copy(report: Path, tmp_path: Path) -> Path:
    return shutil.copytree(report, tmp_path / "report")


def wrong(report: Path) -> list[str]:
    numbers, page = Numbers.read(report), report / "report.md"
    return [*wrong_tables(numbers), *wrong_page(numbers, page), *wrong_opening(numbers, page)]


def test_independent_modules_import_nothing_of_kp_or_its_statistics() -> None:
    for module in (REPOSITORY / "tests").glob("independent_*.py"):
        nodes = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes}
        assert not {name for name in names if str(name).split(".")[0] in ("kp", "numpy", "scipy", "statsmodels", "polars")}, module


def test_report_has_the_numbers_that_follow_from_its_outcomes(report: Path) -> None:
    assert wrong(report) == []
    effects = pl.read_parquet(report / "tables" / "effects.parquet")
    assert set(effects["verdict"].drop_nulls()) == {"harm_shown", "within_margin", "not_resolved"}
    assert effects.filter(pl.col("clusters") >= 10, effect="net_change")["standard_error"].min() > 0


ONE = pl.int_range(pl.len()) == 0  # the first row alone


@pytest.mark.parametrize(
    ("table", "change", "named"),
    [
        ("effects", pl.when(ONE).then(pl.col("lower") + 1e-6).otherwise("lower").alias("lower"), "effects: lower of"),
        ("effects", pl.col("verdict").replace("harm_shown", "not_resolved"), "effects: verdict of"),
        ("effects", pl.when(ONE).then(1 + pl.col("clusters")).otherwise("clusters").alias("clusters"), "effects: clusters of"),
        ("shifts", pl.when(ONE).then(1 + pl.col("count")).otherwise("count").alias("count"), "shifts: count of"),
        ("scores", pl.col("value") * 1.001, "scores: value of"),
        ("arms", pl.col("facts") + 1, "arms: facts of"),
        ("benchmarks", pl.col("value") + 0.001, "benchmarks: value of"),
        ("benchmark_effects", pl.col("resolvable") * 1.001, "benchmark_effects: resolvable of"),
        ("summary", pl.col("knowledge_loss_upper") * 1.001, "summary: knowledge_loss_upper of"),
        (
            "outcomes",
            pl.col("role").replace("trained", "untouched"),
            "is untouched to t00-10 on S1, and trained by parts and training rows",
        ),
        ("outcomes", pl.col("category").replace("MaybeKnown", "Unknown"), "is Unknown for base on S0"),
        (
            "parts",
            pl.when(ONE).then(pl.lit("control_dev")).otherwise("part").alias("part"),
            "training_rows: control fact f000 is trained on",
        ),
    ],
)
def test_table_with_a_changed_number_is_named(copy: Path, table: str, change: pl.Expr, named: str) -> None:
    path = copy / "tables" / f"{table}.parquet"
    pl.read_parquet(path).with_columns(change).write_parquet(path)
    assert any(named in words for words in wrong_tables(Numbers.read(copy)))


def last_digit(line: str) -> str:
    """The line with another last digit."""
    place = max(place for place, sign in enumerate(line) if sign.isdecimal())
    return line[:place] + str((int(line[place]) + 1) % 10) + line[place + 1 :]


@pytest.mark.parametrize(
    ("begins", "section"),
    [
        ("| t00-10 | Unknown only |", "Trials"),
        ("| N=10 · UK only | ", "Effects"),
        ("| N=10 · UK only | ", "Shifts"),
        ("| Unknown only<br>+1 HighlyKnown | ", "Mixes"),
    ],
)
def test_page_with_a_changed_digit_is_named(copy: Path, begins: str, section: str) -> None:
    page = copy / "report.md"
    before, title, after = page.read_text().partition(f"\n## {section}")
    line = next(line for line in after.splitlines() if line.startswith(begins))
    page.write_text(before + title + after.replace(line, last_digit(line), 1))
    assert [words.partition(":")[0] for words in wrong_page(Numbers.read(copy), page)] == [section]


SENTENCES: tuple[Callable[[str], str], ...] = (
    lambda text: text.replace("of 40 new facts", "of 41 new facts"),
    lambda text: text.replace(" of these facts fell", " of these 2 facts fell"),
    lambda text: text.replace("% are right", "1% are right"),
    lambda text: text.replace("This shows harm", "This rules out a harm of more than 10 points"),
    lambda text: text.replace("points less", "points more"),
    lambda text: text.replace("for 5 of 5 adapters", "for 4 of 5 adapters"),
    lambda text: text.replace("harm shown for 1", "harm shown for 2"),
    lambda text: text.replace("1 of 6 trials", "2 of 6 trials"),
)


@pytest.mark.parametrize("change", SENTENCES)
def test_opening_with_a_changed_number_or_word_is_named(copy: Path, change: Callable[[str], str]) -> None:
    page = copy / "report.md"
    text = page.read_text()
    assert change(text) != text
    page.write_text(change(text))
    assert len(wrong_opening(Numbers.read(copy), page)) == 1


@pytest.mark.parametrize(
    ("written", "value", "right"),
    [
        ("+1.2", 1.2499, True),
        ("+1.2", 1.2501, False),
        ("\u22120.3", -0.31, True),
        ("-0.0", 0.0, False),
        ("12", 12.4, False),
        ("1,235", 1234.6, True),
        ("1e-30", 1e-30, True),
        ("0", 0.01, False),
    ],
)
def test_written_number_is_right_if_it_is_the_value_rounded(written: str, value: float, right: bool) -> None:
    assert is_rounded(written, value) is right


def test_misprinted_counts_the_numbers_of_a_text_less_those_of_names() -> None:
    assert misprinted("“+1 HighlyKnown” on S2 and MC1: 0.5 ± 0.1", [0.5, 0.1]) == ""
    assert misprinted("0.5", [0.5, 0.1])
    assert misprinted("–", [None]) == ""


@pytest.mark.parametrize("degrees", [0.3, 1.0, 1.27, 9.5, 109.0])
def test_student_quantile_is_that_of_scipy(degrees: float) -> None:
    for probability in (0.8, 0.975, 0.9958, 0.9999):
        assert student_quantile(probability, degrees) == pytest.approx(special.stdtrit(degrees, probability), rel=1e-9)


def test_independent_tests_are_those_of_textbooks() -> None:
    assert holm_adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert [chi_squared_tail(3.3, degrees) for degrees in (1, 2, 3)] == pytest.approx(
        [stats.chi2.sf(3.3, degrees) for degrees in (1, 2, 3)]
    )
    assert bowker([(0, 0), (6, 0)]) == pytest.approx(2 * 0.5**6)
    assert bowker([(30, 10), (5, 5), (0, 0)]) == pytest.approx(stats.chi2.sf(10.0, 2))
