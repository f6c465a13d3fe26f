"""For a study of the paper's facts: on which points the paper, its code and a careful study differ, and which side this study took."""

from kp.report.discrepancies import DISCREPANCIES, Config, Discrepancy, switched_on
from kp.report.document import Row, Section, Table, Text, columns

SOURCES = "hf:s-nlp/"  # where the authors' facts are


def discrepancies_section(config: Config) -> Section:
    """One row a point; without blocks if the study is not of the authors' facts."""
    source = str(config.get("facts", {}).get("source", ""))
    if not source.startswith(SOURCES):
        return Section("discrepancies", "Paper, code, and this study", ())
    followed = switched_on(config)
    named = f"on points {', '.join(map(str, followed))}" if followed else "on none of these points"
    lead = (
        f"The text of arXiv 2502.14502 and its released code differ. This study follows the code where that stands alone {named}; "
        "what a value decides is judged by the resolved study, not by the name of a preset."
    )
    head = columns("point", "paper", "released code", "careful study", "here", words=5)
    caption = "Where the paper, its code and a careful study differ; the last column is this study's choice, and whose it is."
    return Section(
        "discrepancies",
        "Paper, code, and this study",
        (Text(lead), Table(caption, head, tuple(_row(point, config) for point in DISCREPANCIES))),
    )


def _row(point: Discrepancy, config: Config) -> Row:
    return Row((f"{point.number}. {point.point}", point.paper, point.released, point.rigorous, _here(point, config)))


def _here(point: Discrepancy, config: Config) -> str:
    if point.field is None:
        return f"{point.always} (in every study)"
    whose = ", ".join(point.sides(config)) or "a choice of its own"
    value = point.value(config)
    return f"{point.field} = {'absent' if value is None else value}: {whose}"
