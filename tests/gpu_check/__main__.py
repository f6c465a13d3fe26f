"""`python -m tests.gpu_check`: run the steps on this machine's GPU, or in their dry form on a CPU where there is none.

python -m tests.gpu_check --out results/bench
python -m tests.gpu_check --dry --steps environment attention
"""

import argparse
import importlib.util
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.gpu_check.page import check_page, check_record, lines_of
from tests.gpu_check.running import Outcome, Status, run_steps
from tests.gpu_check.steps import STEPS, Setting, Step

MINUTES, DRY_MINUTES = 25.0, 60.0
DRY = "dry"


def gpu_name() -> str | None:
    """The GPU of this machine, None if torch sees none or is missing."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def file_name(gpu: str | None) -> str:
    """Of the results, without a suffix: gpu-check-nvidia-h100-80gb-hbm3."""
    return f"gpu-check-{re.sub(r'[^a-z0-9]+', '-', (gpu or DRY).lower()).strip('-')}"


def check(steps: Sequence[Step], setting: Setting, gpu: str | None, minutes: float, out: Path | None) -> list[Outcome]:
    """Run the steps, print each as it ends, and keep what is known so far in the folder `out`."""
    outcomes: list[Outcome] = []
    for outcome in run_steps(steps, setting, 60 * minutes):
        outcomes.append(outcome)
        print("\n".join(lines_of(outcome.record())), flush=True)
        if out is not None:
            record = check_record(outcomes, gpu)
            (out / f"{file_name(gpu)}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            (out / f"{file_name(gpu)}.md").write_text(check_page(record).markdown(), encoding="utf-8")
    return outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exits with 1 unless every step has passed."""
    names = [step.name for step in STEPS]
    parser = argparse.ArgumentParser(prog="python -m tests.gpu_check", description="What to run in 25 minutes on one GPU.")
    parser.add_argument("--dry", action="store_true", help="the dry form, also where there is a GPU")
    parser.add_argument("--steps", nargs="+", choices=names, default=names, help="some of the steps, in the order of all")
    parser.add_argument("--minutes", type=float, help=f"for all steps together: {MINUTES:g} on a GPU, by default")
    parser.add_argument("--out", type=Path, help="a folder for the results, which is rewritten after every step")
    asked = parser.parse_args(arguments)
    if asked.out is not None and not asked.out.is_dir():
        parser.error(f"--out: {asked.out} is no folder")
    gpu = None if asked.dry else gpu_name()
    print("no GPU was found: this is the dry form" if gpu is None and not asked.dry else gpu or "the dry form", flush=True)
    with tempfile.TemporaryDirectory(prefix="kp-gpu-check-") as scratch:
        steps = [step for step in STEPS if step.name in asked.steps]
        minutes = asked.minutes or (DRY_MINUTES if gpu is None else MINUTES)
        outcomes = check(steps, Setting(gpu is None, Path(scratch)), gpu, minutes, asked.out)
    print("\n" + check_page(check_record(outcomes, gpu)).text().partition("\n\n" + lines_of(outcomes[0].record())[0])[0])
    return 0 if all(outcome.status is Status.PASSED for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
