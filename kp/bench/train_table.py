"""A result of `kp bench train` as tables: for the terminal, within 80 columns, and as Markdown next to its JSON.

Both are made from the JSON alone, so a table can always be made again and never says more than its JSON.
"""

from typing import Any

from kp.bench.table import Page, Table

_GIB = 2**30
_PARTS = {"setup": "set-up", "training": "training", "evals": "unknown_accuracy", "checkpoints": "checkpoints", "rest": "the rest"}
_STEP = {
    "data": "making the batch",
    "forward": "forward pass and loss",
    "backward": "backward pass, reducing gradients",
    "optimizer": "clipping and AdamW by DeepSpeed",
    "rest": "the rest",
}
_FORWARD = {
    "same_passes": "kp's own passes, with the logits of the loss",
    "same_size": "plain rows, {} tokens a pass, last logits",
    "best_size": "plain rows, {} tokens a pass, the fastest",
}


def text(result: dict[str, Any]) -> str:
    """The result for a terminal."""
    return _page(result).text()


def markdown(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    return _page(result).markdown()


def _page(result: dict[str, Any]) -> Page:
    return Page(_head(result), _tables(result), _notes(result))


def _head(result: dict[str, Any]) -> list[str]:
    machine, model, rows, settings = (result[name] for name in ("machine", "model", "rows", "settings"))
    device = "" if machine["device"] == "cpu" else f"{machine['device']}; "
    attention = f", kp's attention {result['attention']}"
    packages = ", ".join(f"{name} {version}" for name, version in result["versions"].items() if name != "kp")
    return [
        "kp bench train",
        f"{model['name']} ({model['parameters'] / 1e6:,.0f} M parameters), {model['dtype']}",
        f"{device}{machine['processor']}, {machine['cores']} cores, {_count(machine['threads'], 'thread')}, {machine['memory_gib']} GiB",
        f"{packages}, Python {machine['python']}",
        f"{_count(rows['facts'], 'fact')}, {rows['rows']} rows of {rows['tokens'] / rows['rows']:.1f} tokens, "
        f"{_count(settings['epochs'], 'epoch')} of {_count(rows['steps'], 'step')}, batches of {settings['batch_size']}",
        f"rank {settings['rank']}, learning rate {settings['learning_rate']:g}, dropout {settings['dropout']:g}, "
        f"adapter of layers {settings['layers']}, loss on {settings['loss']}, kp's packing {settings['packing']}{attention}",
    ]


def _tables(result: dict[str, Any]) -> list[Table]:
    limit = [_limit(result)] if result["limit"] else []
    step = [_step(result["step"])] if result["step"] else []
    return [_implementations(result), _epochs(result), *limit, *step, _trial(result["trial"])]


def _implementations(result: dict[str, Any]) -> Table:
    implementations, ratios = result["implementations"], result["ratios"]
    on_gpu = implementations["kp"]["peak_device_memory"] is not None
    head = ("", "seconds", "samples/s", "tokens/s", "kp is faster", "tokens read", "GiB", *(("on GPU",) if on_gpu else ()))
    return Table(head, tuple(_implementation_row(name, entry, ratios) for name, entry in implementations.items()))


def _implementation_row(name: str, entry: dict[str, Any], ratios: dict[str, Any]) -> tuple[str, ...]:
    on_gpu = entry["peak_device_memory"]
    return (
        name,
        f"{entry['seconds']:,.1f}",
        f"{entry['samples_per_s']:,.2f}",
        f"{entry['tokens_per_s']:,.0f}",
        f"{ratios[name]['all']:.2f} times" if name in ratios else "-",
        f"{entry['read_tokens']:,}",
        f"{entry['peak_memory'] / _GIB:.2f}",
        *(() if on_gpu is None else (f"{on_gpu / _GIB:.2f}",)),
    )


def _epochs(result: dict[str, Any]) -> Table:
    kp, released, grouped = (result["implementations"][name]["epochs"] for name in ("kp", "released", "grouped"))
    ratios = result["ratios"]["released"]["epochs"]
    return Table(
        ("epoch", "seconds: kp", "released", "grouped", "kp is faster", "loss: kp", "released"),
        tuple(
            (
                str(number),
                f"{ours['seconds']:.1f}",
                f"{theirs['seconds']:.1f}",
                f"{other['seconds']:.1f}",
                f"{ratio:.2f} times",
                f"{ours['loss']:.5f}",
                f"{theirs['loss']:.5f}",
            )
            for number, (ours, theirs, other, ratio) in enumerate(zip(kp, released, grouped, ratios, strict=True), start=1)
        ),
    )


def _limit(result: dict[str, Any]) -> Table:
    limit = result["limit"]
    ours = f"{limit['read_tokens_per_s']:,.0f}"
    return Table(
        ("half the model's own forward rate", "tokens/s", "kp reads", "share"),
        tuple(
            (
                _FORWARD[name].format(limit[name]["pass_tokens"]),
                f"{limit[name]['tokens_per_s'] / 2:,.0f}",
                ours,
                f"{limit[name]['share']:.1%}",
            )
            for name in _FORWARD
        ),
    )


def _step(step: dict[str, float]) -> Table:
    whole = sum(step.values())
    rows = [(_STEP[name], f"{seconds * 1000:.1f}", f"{seconds / whole:.1%}") for name, seconds in step.items()]
    return Table(("a step of kp", "ms", "share"), (*rows, ("in all", f"{whole * 1000:.1f}", "100.0%")))


def _trial(trial: dict[str, Any]) -> Table:
    wall = trial["wall_seconds"]
    rows = [(_PARTS[name], f"{seconds:.1f}", f"{seconds / wall:.1%}") for name, seconds in trial["parts"].items()]
    return Table(("kp's whole trial", "seconds", "share"), (*rows, ("in all", f"{wall:.1f}", "100.0%")))


def _notes(result: dict[str, Any]) -> list[str]:
    found, padding = result["agreement"], result["padding"]
    verdict = {True: "The final losses are equal", False: "THE FINAL LOSSES DIFFER", None: "With dropout the final losses are not compared"}
    start = "the same" if found["same_start"] else "NOT THE SAME"
    return [
        f"{verdict[found['equal']]}: {found['final_loss']['difference']:.3%} apart, {found['tolerance']:.0%} allowed.\n"
        f"No step's losses are more than {found['largest_step_difference']:.3%} apart; LoRA began {start}.",
        f"Padding is {padding['released']:.1%} of what the released way read, {padding['grouped']:.1%} with group_by_length\n"
        "(grouped), whose batches have other rows, so its losses are not compared.",
        f"kp read {1 / result['ratios']['released']['read_tokens']:.2f} times fewer tokens than the released way, "
        f"{1 / result['ratios']['grouped']['read_tokens']:.2f} times fewer than grouped.",
        *_kept(result),
        f"kp loaded the base in {result['trial']['load_seconds']:.1f} s, once for all trials of a worker.",
        "The benchmark's seconds are those of optimiser steps; only kp's trial includes evaluation and checkpoints.",
        *(f"Left out of the released set-up, which favours {entry['favours']}:\n{entry['what']}." for entry in result["left_out"]),
    ]


def _kept(result: dict[str, Any]) -> list[str]:
    kept = result["kept"]
    if kept is None:
        return []
    later = {name: sum(epoch["seconds"] for epoch in entry["epochs"][1:]) for name, entry in result["implementations"].items()}
    ratios = ", ".join(
        f"{seconds / later['kp']:.2f} times as fast as {name}" for name, seconds in later.items() if name != "kp" and seconds
    )
    return [
        f"kp keeps what enters layer {kept['first_layer']}, the first adapted one: {kept['tokens']:,} tokens, "
        f"{kept['bytes'] / 2**20:.1f} MiB,\n{kept['token_bytes']:,.0f} bytes a token. The layers below read them once, in "
        f"{kept['seconds']:.1f} s, which the first epoch includes.",
        *([f"From the second epoch on kp is {ratios}."] if ratios else []),
    ]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
