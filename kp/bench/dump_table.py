"""A result of `kp bench dump` as tables: for the terminal, within 80 columns, and as Markdown next to its JSON.

Both are made from the JSON alone, so a table can always be made again and never says more than its JSON.
"""

from typing import Any

from kp.bench.table import Page, Table

_GIB = 2**30


def text(result: dict[str, Any]) -> str:
    """The result for a terminal."""
    return _page(result).text()


def markdown(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    return _page(result).markdown()


def _page(result: dict[str, Any]) -> Page:
    return Page(_head(result), _tables(result), _notes(result))


def _head(result: dict[str, Any]) -> list[str]:
    machine, dump, rounds = result["machine"], result["dump"], result["settings"]["rounds"]
    compressed = f"{dump['streams']} bzip2 stream{'' if dump['streams'] == 'one' else 's'}"
    return [
        "kp bench dump",
        f"{dump['lines']:,} lines, {dump['text_bytes'] / 1e6:,.0f} MB, in {compressed}: {dump['bytes'] / 1e6:,.1f} MB",
        f"{machine['processor']}, {machine['cores']} cores, {machine['workers']} workers, {machine['memory_gib']} GiB",
        ", ".join([*(f"{name} {version}" for name, version in result["versions"].items()), f"Python {machine['python']}"]),
        f"{rounds} round{'s' if rounds > 1 else ''}; seconds are means, memory is the most",
    ]


def _tables(result: dict[str, Any]) -> list[Table]:
    return [_implementations(result), _kp_alone(result), _agreement(result["agreement"])]


def _implementations(result: dict[str, Any]) -> Table:
    return Table(
        ("dump to graph", "lines", "seconds", "lines/s", "GiB", "kp is faster"),
        tuple(_implementation_row(name, entry, result["ratios"]) for name, entry in result["implementations"].items()),
    )


def _implementation_row(name: str, entry: dict[str, Any], ratios: dict[str, Any]) -> tuple[str, ...]:
    ratio = f"{ratios[name]['all']:.1f} times" if name in ratios else "-"
    seconds = entry["seconds"] / len(entry["rounds"])
    return name, f"{entry['lines']:,}", f"{seconds:,.1f}", f"{entry['lines_per_s']:,.0f}", f"{entry['peak_memory'] / _GIB:.2f}", ratio


def _kp_alone(result: dict[str, Any]) -> Table:
    rounds, way, kp = result["settings"]["rounds"], result["whole_way"], result["implementations"]["kp"]
    kp_row = ("dump to graph", f"{kp['seconds'] / rounds:,.1f}", f"{kp['lines_per_s']:,.0f}", f"{kp['peak_memory'] / _GIB:.2f}", "100%")
    share = f"{way['seconds'] / kp['seconds']:.0%}"
    whole = ("dump to facts", f"{way['seconds'] / rounds:,.1f}", f"{way['lines_per_s']:,.0f}", f"{way['peak_memory'] / _GIB:.2f}", share)
    floors = tuple(
        (f"decompression: {name}", f"{found['seconds'] / rounds:,.1f}", "-", "-", f"{found['share_of_kp']:.0%}")
        for name, found in result["decompression"].items()
    )
    return Table(("kp", "seconds", "lines/s", "GiB", "of its graph's time"), (kp_row, whole, *floors))


def _agreement(found: dict[str, Any]) -> Table:
    rows = [(name.replace("_", " "), *(f"{found[name][who]:,}" for who in ("kp", "loop"))) for name in ("triples", "set_aside", "entities")]
    rows.append(("single-valued pairs", f"{found['pairs']['kp']:,}", f"{found['pairs']['loop']:,}"))
    rows.append(("digest of the set of pairs", *(found["pairs_digest"][who][:12] for who in ("kp", "loop"))))
    return Table((f"agreement over {found['lines']:,} lines", "kp", "loop"), tuple(rows))


def _notes(result: dict[str, Any]) -> list[str]:
    found, way, loop = result["agreement"], result["whole_way"], result["implementations"]["python loop"]
    notes = [
        f"{found['equal_cells']} of {found['cells']} pairs of relation and bucket have the same number in both;\n"
        f"the graphs are {'equal' if found['equal'] else 'NOT EQUAL'}.",
        f"kp's facts: {way['facts']:,} of {way['relations']} relations.",
    ]
    if loop["lines"] < result["dump"]["lines"]:
        notes.insert(0, f"The loop read only the first {loop['lines']:,} lines: rates are compared, not seconds.")
    return notes
