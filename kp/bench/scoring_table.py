"""A result of `kp bench benchmarks` as tables: for the terminal, within 80 columns, and as Markdown next to its JSON.

Both are made from the JSON alone, so a table can always be made again and never says more than its JSON.
"""

from typing import Any

from kp.bench.table import Page, Table


def text(result: dict[str, Any]) -> str:
    """The result for a terminal."""
    return _page(result).text()


def markdown(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    return _page(result).markdown()


def _page(result: dict[str, Any]) -> Page:
    return Page(_head(result), [_implementations(result), _rounds(result), _limit(result)], _notes(result))


def _head(result: dict[str, Any]) -> list[str]:
    machine, model, asked, versions = (result[name] for name in ("machine", "model", "asked", "versions"))
    device = "" if machine["device"] == "cpu" else f"{machine['device']}; "
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    return [
        "kp bench benchmarks",
        f"{model['name']} ({model['parameters'] / 1e6:,.0f} M parameters), {model['dtype']}",
        f"{device}{machine['processor']}, {machine['cores']} cores, {threads}, {machine['memory_gib']} GiB",
        f"torch {versions['torch']}, transformers {versions['transformers']}, lm-eval {versions['lm_eval']}, Python {machine['python']}",
        f"{asked['source']}: {asked['questions']} questions of {asked['subjects']} subjects, {asked['shots']} shots, "
        f"{asked['mean_prompt_tokens']:.0f} tokens a prompt",
        asked["note"],
    ]


def _implementations(result: dict[str, Any]) -> Table:
    return Table(
        ("", "questions", "seconds", "questions/s", "kp is faster", "tokens/question", "accuracy"),
        tuple(
            (
                name,
                str(entry["questions"]),
                f"{entry['seconds']:.1f}",
                f"{entry['questions_per_s']:.2f}",
                f"{result['ratios'][name]['all']:.2f} times" if name in result["ratios"] else "-",
                f"{entry['tokens_read']['per_question']:.1f}",
                f"{entry['accuracy']:.1%}",
            )
            for name, entry in ((name, result["implementations"][name]) for name in ("kp", "hf"))
        ),
    )


def _rounds(result: dict[str, Any]) -> Table:
    kp, hf = (result["implementations"][name]["rounds"] for name in ("kp", "hf"))
    return Table(
        ("round", "questions/s: kp", "hf", "kp is faster"),
        tuple(
            (
                str(number),
                f"{ours['questions'] / ours['seconds']:.2f}",
                f"{theirs['questions'] / theirs['seconds']:.2f}",
                f"{ratio:.2f} times",
            )
            for number, (ours, theirs, ratio) in enumerate(zip(kp, hf, result["ratios"]["hf"]["rounds"], strict=True), start=1)
        ),
    )


def _limit(result: dict[str, Any]) -> Table:
    ours, best = result["kp"]["tokens_per_s"], result["references"]["prefill_tokens_per_s"]
    return Table(
        ("kp against what is possible", "kp", "at best", "share"),
        (("tokens/s (the model's own prefill)", f"{ours:,.0f}", f"{best:,.0f}", f"{ours / best:.1%}"),),
    )


def _notes(result: dict[str, Any]) -> list[str]:
    found, hf = result["agreement"], result["implementations"]["hf"]
    verdict = "The log-likelihoods are equal" if found["equal"] else "THE LOG-LIKELIHOODS DIFFER"
    return [
        f"{verdict}: over {found['choices']} choices the largest difference is\n"
        f"{found['largest_difference']:.2g} nats (median {found['median_difference']:.2g}), {found['tolerance']:g} allowed. "
        f"{found['same_greedy']:.1%} of is_greedy\nand {found['same_choice']:.1%} of the chosen answers are the same.",
        f"hf answers {hf['questions']} of the questions, spread over all; rates are compared. Its way:\n{hf['way']}.",
    ]
