"""The steps of the check, in order: what each runs, how long it may take, what it must show, and how its result is judged.

The order is that of what one would want to know if the time ended early: whether anything can run, whether it is right, how fast it is,
what it leaves behind. This module and those that run the steps import nothing that may be missing, because the first step is there to say
what is.
"""

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSES = 20
"""Decode passes of which the busy share is measured."""

TRIALS = 5
"""Trials that are opened and closed."""

DRY_FAMILIES = ("llama", "gemma2", "gpt_oss")
"""Families of attention that the dry form compares."""

SLOW_WAY = "computed anew"  # in what the engine says when a model's attention cannot be replaced

PROMPTS_PER_SECOND = "450 to 750 prompts/s before launches, attention and text were worked on, 1,100 to 1,300 after; 1,400 to 1,750 at best"
TOKENS_PER_SECOND = "16,000 to 21,000 tokens/s before, 49,000 at the limit"
"""Estimates for one H100 and Llama-3.1-8B, made by reading and counting before any GPU was measured: expectations, not results."""


@dataclass(frozen=True)
class Setting:
    """Where the steps run: the real ones on a GPU, the dry ones on a CPU with a tiny shape."""

    dry: bool
    folder: Path

    @property
    def device(self) -> str:
        """For the options of commands."""
        return "cpu" if self.dry else "cuda"

    @property
    def patience(self) -> int:
        """How many times its budget a step may take: budgets are those of a GPU."""
        return 3 if self.dry else 1

    @property
    def threads(self) -> list[str]:
        """Options for the threads of a benchmark."""
        return ["--threads", "1"] if self.dry else []

    @property
    def shaped(self) -> list[str]:
        """Options that name the model."""
        return ["--shape", "tiny" if self.dry else "llama-3.1-8b", "--dtype", "float32" if self.dry else "bfloat16"]

    def file(self, name: str, suffix: str = ".json") -> Path:
        """Where the step of this name leaves its result."""
        return self.folder / f"{name}{suffix}"


@dataclass(frozen=True)
class Judged:
    """What a step has shown, in lines, and what of it is wrong."""

    shown: tuple[str, ...]
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One process. `judge` gets the result and what the process has said; an exit code other than 0 and 1 is a fault in any case."""

    name: str
    seconds: int  # of its budget on a GPU
    shows: str
    command: Callable[[Setting], list[str]]
    judge: Callable[[Any, str, Setting], Judged]
    expected: str | None = None
    suffix: str = ".json"
    is_needed: bool = False  # by all later ones, which are not run after it has failed


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


def _environment(setting: Setting) -> list[str]:
    return _module("tests.gpu_check.environment", "--json", str(setting.file("environment")))


def _judge_environment(found: dict[str, Any], said: str, setting: Setting) -> Judged:
    gpu = found["gpu"]
    shown = [f"Python {found['python']}", "no GPU" if gpu is None else f"{gpu['name']}, {gpu['gib']} GiB, CUDA {gpu['cuda']}"]
    if found["other_versions"]:
        shown.append(f"other versions than the pinned ones: {', '.join(found['other_versions'])}")
    wrong = [f"missing, to be carried as wheels: {', '.join(found['missing'])}"] if found["missing"] else []
    return Judged(tuple(shown), tuple(wrong + found["cannot"]))


def _attention(setting: Setting) -> list[str]:
    few = ["--families", *DRY_FAMILIES] if setting.dry else []
    return _module("tests.gpu_check.attention", "--device", setting.device, *few, "--json", str(setting.file("attention")))


def _judge_attention(found: dict[str, Any], said: str, setting: Setting) -> Judged:
    kernels, families = found["kernels"], found["families"]
    shown = [f"{len(kernels)} kernels, the largest difference {max(max(one['output'], one['weight']) for one in kernels):.1e}"]
    for dtype in sorted({one["dtype"] for one in families}):
        of_dtype = [one for one in families if one["dtype"] == dtype]
        equal, answers = (sum(one[count] for one in of_dtype) for count in ("equal", "answers"))
        shown.append(f"{dtype.removeprefix('torch.')}: {equal} of {answers} answers of {len(of_dtype)} families equal plain generation's")
    wrong = [f"a kernel differs: {one}" for one in kernels if not one["passes"]]
    wrong += [f"a family differs: {one}" for one in families if not one["passes"]]
    return Judged(tuple(shown), tuple(wrong))


def _tests(setting: Setting) -> list[str]:
    return _module("pytest", "-m", "gpu", "tests/gpu", "-q", "--junitxml", str(setting.file("tests", ".xml")))


def _judge_tests(found: ElementTree.Element, said: str, setting: Setting) -> Judged:
    suites = list(found.iter("testsuite"))
    counts = {name: sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")}
    wrong = [f"{counts[name]} {name}" for name in ("failures", "errors") if counts[name]]
    if not counts["tests"]:
        wrong.append("no test was found")
    if counts["skipped"] and not setting.dry:
        wrong.append(f"{counts['skipped']} were skipped")
    return Judged((", ".join(f"{count} {name}" for name, count in counts.items()),), tuple(wrong))


def _busy(setting: Setting) -> list[str]:
    rows = "20" if setting.dry else "256"
    options = ["--device", setting.device, *setting.shaped, "--rows", rows]
    return _module("tests.gpu_check.busy_share", *options, "--json", str(setting.file("busy-share")))


def _judge_busy(found: dict[str, Any], said: str, setting: Setting) -> Judged:
    a_pass = f"{1000 * found['seconds'] / found['passes']:.2f} ms and {found['kernels'] / found['passes']:.0f} kernels and copies a pass"
    shown = f"busy for {found['share']:.1%} of {found['passes']} passes of {found['rows']} rows, {a_pass}"
    wrong = [] if found["kernels"] and found["passes"] == PASSES else ["the profiler saw nothing compute"]
    return Judged((shown,), (*wrong, *_slow_way(said)))


def _categorise(name: str, rows: int, continuous: bool = False) -> Callable[[Setting], list[str]]:
    def command(setting: Setting) -> list[str]:
        facts = 3 if setting.dry else 200 if continuous else 300
        counts = ["--facts", str(facts), "--rounds", "2" if continuous or setting.dry else "3", "--batch-size", str(rows)]
        counts += ["--released-facts", "1" if continuous or setting.dry else "26", "--max-new-tokens", "8" if setting.dry else "32"]
        counts += ["--continuous-facts", str(facts if continuous else 0), *(["--processes", "1"] if setting.dry else [])]
        options = ["--device", setting.device, *setting.shaped, *setting.threads, *counts]
        return _module("kp.bench", "categorise", *options, "--json", str(setting.file(name)))

    return command


def _judge_categorise(found: dict[str, Any], said: str, setting: Setting) -> Judged:
    others = [name for name in found["ratios"] if name != "vllm"]
    shown = [
        f"kp {found['implementations']['kp']['prompts_per_s']:,.1f} prompts/s, {found['kp']['share_of_prefill']:.1%} of its prefill rate"
    ]
    shown += [f"{found['ratios'][name]['all']:.2f} times {name}" for name in others]
    wrong = []
    for pair, same in found["agreement"].items():
        shown.append(f"{same['equal_answers']:.1%} of {same['answers']} answers equal ({pair})")
        if found["model"]["dtype"] == "float32" and same["equal_answers"] < 1:
            wrong.append(f"answers differ in float32 ({pair})")
    return Judged(tuple(shown), (*wrong, *_slow_way(said)))


def _slow_way(said: str) -> list[str]:
    return [line.strip() for line in said.splitlines() if SLOW_WAY in line]


def _train(name: str, rows: int) -> Callable[[Setting], list[str]]:
    def command(setting: Setting) -> list[str]:
        counts = ["--facts", "8" if setting.dry else str(rows), "--epochs", "1" if setting.dry else "2"]
        return _module(
            "kp.bench", "train", "--device", setting.device, *setting.shaped, *setting.threads, *counts, "--json", str(setting.file(name))
        )  # fmt: skip

    return command


def _judge_train(found: dict[str, Any], said: str, setting: Setting) -> Judged:
    kp, same = found["implementations"]["kp"], found["agreement"]
    peak = "" if kp["peak_device_memory"] is None else f", {kp['peak_device_memory'] / 2**30:.1f} GiB of the GPU at its peak"
    shown = (
        f"kp {kp['tokens_per_s']:,.0f} tokens/s, {found['limit']['best_size']['share']:.1%} of half its forward rate{peak}",
        f"{found['ratios']['released']['all']:.2f} times released",
        f"final losses {same['final_loss']['difference']:.3%} apart, {same['tolerance']:.0%} allowed",
    )
    return Judged(shown, () if same["equal"] else ("the losses differ, or LoRA began differently",))


def _reopening(setting: Setting) -> list[str]:
    facts = "8" if setting.dry else "64"
    options = ["--device", setting.device, *setting.shaped, "--facts", facts]
    return _module("tests.gpu_check.reopening", *options, "--json", str(setting.file("reopening")))


def _judge_reopening(found: dict[str, Any], said: str, setting: Setting) -> Judged:
    trials = found["trials"]
    shown = [f"{len(trials)} trials, ended {', '.join(one['ended'] for one in trials)}"]
    alive = (f"{one['models']} and {one['engines']}" for one in trials)
    shown.append(f"base models and engines alive after each: {', '.join(alive)}")
    if trials[0]["allocated"] is not None:
        gib = (f"{one['allocated'] / 2**30:.2f}" for one in trials)
        shown.append(f"GiB allocated after each: {', '.join(gib)}")
    enough = [] if len(trials) == TRIALS else [f"{len(trials)} trials, expected {TRIALS}"]
    return Judged(tuple(shown), (*enough, *found["faults"]))


def read_xml(path: Path) -> ElementTree.Element:
    """A report of pytest, which this check has had written."""
    return ElementTree.parse(path).getroot()


STEPS: Sequence[Step] = (
    Step("environment", 90, "nothing is missing, and the embedded model can be made", _environment, _judge_environment, is_needed=True),
    Step(
        "attention",
        150,
        "kernels equal float32 products; in float32 all answers equal those of plain generation",
        _attention,
        _judge_attention,
    ),
    Step("tests", 180, "all tests marked gpu pass, and none is skipped", _tests, _judge_tests, suffix=".xml"),
    Step("busy-share", 100, "20 passes in a row only decode, and the GPU computes in most of their time", _busy, _judge_busy),
    Step(
        "categorise-256",
        210,
        "prompts/s and the ratio to the released way, 256 rows at once",
        _categorise("categorise-256", 256),
        _judge_categorise,
        PROMPTS_PER_SECOND,
    ),
    Step(
        "categorise-1024",
        150,
        "the same with 1,024 rows at once, which must fit",
        _categorise("categorise-1024", 1024),
        _judge_categorise,
        PROMPTS_PER_SECOND,
    ),
    Step(
        "continuous",
        170,
        "the ratio to continuous batching of transformers, warmed up, pages of 16 tokens",
        _categorise("continuous", 256, continuous=True),
        _judge_categorise,
        PROMPTS_PER_SECOND,
    ),
    Step(
        "train-256",
        160,
        "tokens/s on 256 rows; the released way ends with the same loss",
        _train("train-256", 256),
        _judge_train,
        TOKENS_PER_SECOND,
    ),
    Step("train-1024", 180, "the same on 1,024 rows", _train("train-1024", 1024), _judge_train, TOKENS_PER_SECOND),
    Step(
        "reopening",
        110,
        "five trials, one of them out of memory, leave no more than the first",
        _reopening,
        _judge_reopening,
    ),
)  # fmt: skip
"""In the order in which they run."""
