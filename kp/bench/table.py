"""A result as tables: for the terminal, within 80 columns, and as Markdown next to its JSON.

Both are made from the JSON alone, so a table can always be made again and never says more than its JSON.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows below a head; all cells are strings, and all but the first of a row are numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Page:
    """A whole result: opening lines (the first is the title), tables, notes."""

    head: list[str]
    tables: list[Table]
    notes: list[str]

    def text(self) -> str:
        """For a terminal."""
        return "\n\n".join(["\n".join(self.head), *map(aligned, self.tables), *self.notes])

    def markdown(self) -> str:
        """As Markdown."""
        title, *lines = self.head
        return "\n\n".join([f"# {title}", *lines, *map(markdown_table, self.tables), *self.notes]) + "\n"


def text(result: dict[str, Any]) -> str:
    """The result for a terminal."""
    return _page(result).text()


def markdown(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    return _page(result).markdown()


def _page(result: dict[str, Any]) -> Page:
    tables, notes = (_implementations(result), _left_out(result)) if "implementations" in result else (_exactness(result), [])
    return Page(_head(result), tables, notes)


def _head(result: dict[str, Any]) -> list[str]:
    most = result["settings"]["max_new_tokens"]
    return [*machine_lines(result), f"{result['asked']['facts']} facts under 10 prompts, answers of at most {most} tokens"]


def machine_lines(result: dict[str, Any]) -> list[str]:
    """The title, the model, the machine and the versions."""
    machine, model, versions = (result[name] for name in ("machine", "model", "versions"))
    device = "" if machine["device"] == "cpu" else f"{machine['device']}; "
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    return [
        f"kp bench {result['bench']}",
        f"{model['name']} ({model['parameters'] / 1e6:,.0f} M parameters), {model['dtype']}",
        f"{device}{machine['processor']}, {machine['cores']} cores, {threads}, {machine['memory_gib']} GiB",
        f"torch {versions['torch']}, transformers {versions['transformers']}, Python {machine['python']}",
    ]


def _implementations(result: dict[str, Any]) -> list[Table]:
    taking_part = {name: entry for name, entry in result["implementations"].items() if "prompts" in entry}
    rates = Table(
        ("", "prompts", "seconds", "prompts/s", "kp is faster", "tokens read/prompt"),
        tuple(_implementation_row(name, entry, result["ratios"]) for name, entry in taking_part.items()),
    )
    agreement = Table(
        ("agreement", "answers", "equal", "facts", "same category"),
        tuple(
            (pair, str(found["answers"]), _share(found["equal_answers"]), _or_dash(found["facts"], str), _share(found["equal_categories"]))
            for pair, found in result["agreement"].items()
        ),
    )
    return [rates, agreement, _speed(result)]


def _implementation_row(name: str, entry: dict[str, Any], ratios: dict[str, Any]) -> tuple[str, ...]:
    ratio = f"{ratios[name]['all']:.2f} times" if name in ratios else "-"
    read = _or_dash(entry["tokens_read"], lambda tokens: f"{tokens['per_prompt']:.1f}")
    return name, str(entry["prompts"]), f"{entry['seconds']:.1f}", f"{entry['prompts_per_s']:.1f}", ratio, read


def _speed(result: dict[str, Any]) -> Table:
    references, ours = result["references"], result["kp"]
    products = references["matmul_flops"]
    return Table(
        ("kp against what is possible", "kp", "at best", "share"),
        (
            _share_row("tokens/s (the model's own prefill)", ours["tokens_per_s"], references["prefill_tokens_per_s"], 1),
            _share_row("GFLOP/s (products of the model's shapes)", ours["flops"], products["model_shapes"], 1e9),
            _share_row("GFLOP/s (one large product)", ours["flops"], products["square"], 1e9),
        ),
    )


def _share_row(what: str, ours: float, best: float, unit: float) -> tuple[str, ...]:
    return what, f"{ours / unit:,.0f}", f"{best / unit:,.0f}", f"{ours / best:.1%}"


def _left_out(result: dict[str, Any]) -> list[str]:
    return [f"{name} was left out: {entry['left_out']}." for name, entry in result["implementations"].items() if "left_out" in entry]


def _exactness(result: dict[str, Any]) -> list[Table]:
    plain = result["float32"]
    rows = [("float32: kp, plain generate", str(plain["prompts"]), _share(plain["equal_answers"]), "-", "-")]
    if "bfloat16" in result:
        found = result["bfloat16"]
        facts, same = _or_dash(found["facts"], str), _share(found["equal_categories"])
        rows.append(("kp: float32, bfloat16", str(found["answers"]), _share(found["equal_answers"]), facts, same))
    tables = [Table(("agreement", "answers", "equal", "facts", "same category"), tuple(rows))]
    if changes := result.get("bfloat16", {}).get("category_changes"):
        tables.append(Table(("category, float32 -> bfloat16", "facts"), tuple((move, str(facts)) for move, facts in changes.items())))
    return tables


def _share(share: float | None) -> str:
    return _or_dash(share, lambda known: f"{known:.2%}")


def _or_dash(value: Any, written: Callable[[Any], str]) -> str:
    return "-" if value is None else written(value)


def aligned(table: Table) -> str:
    """For a terminal."""
    lines = [table.head, *table.rows]
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join("  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]) for line in lines)


def markdown_table(table: Table) -> str:
    """As Markdown."""
    rule = ("---", *("---:" for _ in table.head[1:]))
    return "\n".join(f"| {' | '.join(line)} |" for line in (table.head, rule, *table.rows))
