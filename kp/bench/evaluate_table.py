"""A result of `kp bench evaluate` as tables; made from the JSON alone."""

from typing import Any

from kp.bench.table import Page, Table, machine_lines


def text(result: dict[str, Any]) -> str:
    """The result for a terminal."""
    return _page(result).text()


def markdown(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    return _page(result).markdown()


def _page(result: dict[str, Any]) -> Page:
    asked, settings = result["asked"], result["settings"]
    head = [
        *machine_lines(result),
        f"{asked['adapters']} adapters of each kind, {asked['facts']} facts under 10 prompts, {settings['processes']} processes at once",
    ]
    return Page(head, [_seconds(result), _adapters(result), _released(result)], _notes())


def _seconds(result: dict[str, Any]) -> Table:
    rows = [
        (
            kind,
            f"{line['kp']['seconds']:.1f}",
            f"{line['peer']['seconds']:.1f}",
            f"{line['ratio']['all']:.2f} times",
            f"{line['answering_ratio']:.2f} times",
            f"{line['equal_answers']:.2%}",
        )
        for kind, line in result["lines"].items()
    ]
    return Table(("layers", "kp s", "peer s", "kp is faster", "answering", "equal"), tuple(rows))


def _adapters(result: dict[str, Any]) -> Table:
    rows = [
        (
            kind,
            f"{line['further_adapter_seconds']:.2f}",
            f"{line['of_all_layers']:.0%}",
            f"{line['kp']['prompts_per_s']:.1f}",
            f"{line['kp']['tokens_read']['per_prompt']:.1f}",
            f"{line['share_of_prefill']:.0%}",
            f"{line['kept_bytes'] / 2**20:.0f}",
        )
        for kind, line in result["lines"].items()
    ]
    return Table(("kp", "s/adapter", "of all", "prompts/s", "tokens/prompt", "of prefill", "kept MiB"), tuple(rows))


def _released(result: dict[str, Any]) -> Table:
    released, prefill = result["released"], result["references"]["prefill_tokens_per_s"]
    row = "", f"{released['prompts_per_s']:.1f}", f"{released['kp_is_faster']:.1f} times", f"{prefill:,.0f}"
    return Table(("released way", "prompts/s", "kp is faster", "prefill tokens/s"), (row,))


def _notes() -> list[str]:
    return [
        "kp: actors that load the base once and exchange adapters. The peer: one\n"
        "process per adapter, which loads the base, with kp's engine. Seconds begin\n"
        "with the start of the processes; answering is without their start.",
        "s/adapter: of each adapter after the first one. Of all: the same, compared\n"
        "with adapters of all layers. Kept: what an actor keeps of the lower layers.",
    ]
