"""Every command of the tutorials runs: they are taken from the pages, so a command that is added there is one that is run here.

What costs little runs as it stands. What takes long or needs what a test has not (GPUs, a Hub, an adapter that took an hour) is made
smaller here, by `SMALLER`: the same command with other arguments, never another command.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kp.models.embedded import resolve_embedded
from kp.models.names import EMBEDDED
from tests.conftest import Done, Kp, run_kp
from tests.gate_adapters import save_adapter

REPOSITORY = Path(__file__).parents[2]
TUTORIALS = sorted((REPOSITORY / "docs" / "tutorials").glob("*.md"))
QUICKSTART = "ray_jobs/studies/quickstart.toml"
PAPER = "ray_jobs/studies/paper.toml"
ADAPTER = "company_facts-pack/adapter"
_FENCE = re.compile(r"^```\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    """The commands of a page: lines of its blocks without a language that begin with `kp` or `make`."""
    blocks = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if re.match(r"(?:kp|make) [a-z]", line)]


COMMANDS = {page.stem: commands(page) for page in TUTORIALS}
ALL = list(dict.fromkeys(command for found in COMMANDS.values() for command in found))
SMALLER: dict[str, Callable[[list[str]], list[str]]] = {
    # the grid of the paper and a search for an adapter take hours; their dry forms read the study and plan every step
    "study": lambda words: words if "--dry-run" in words else [*words, "facts.count=21036", "--dry-run"],
    "pack": lambda words: words if "--dry-run" in words else [*words, "--dry-run"],
    # these need the Hub or GPUs, so they take the quickstart
    "prefetch": lambda words: [QUICKSTART if word == PAPER else word for word in words],
    "doctor": lambda words: [QUICKSTART if word == PAPER else word for word in words],
}
FOLDERS = {"/mnt/kp/results": "results", "/mnt/kp/hub": "hub"}


def run(command: str, kp: Kp, folder: Path) -> Done:
    """Run a `kp` command of a tutorial, made smaller, with its folders in `folder`."""
    _, name, *words = shlex.split(command, comments=True)
    words = SMALLER[name](words)
    return kp(name, *(str(folder / FOLDERS[word]) if word in FOLDERS else word for word in words))


def test_tutorials_have_commands_and_none_is_written_in_another_way() -> None:
    assert set(COMMANDS) == {"start-here", "teach-100-facts", "gate-in-ci", "paper-on-8-gpus"}
    assert all(COMMANDS.values())
    for page in TUTORIALS:
        assert "```bash" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [one for one in ALL if one.startswith("make")])
def test_make_targets_of_the_tutorials_run_what_the_tutorials_say(command: str) -> None:
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/installed", *shlex.split(command)[1:]], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    assert {"make demo": "kp demo", "make test": "pytest"}[command] in done.stdout


@pytest.mark.parametrize("command", [one for one in ALL if re.match(r"kp (?:study|prefetch) ", one)])
def test_commands_about_studies_run(command: str, tmp_path: Path) -> None:
    done = run(command, run_kp, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


@pytest.mark.studies  # which finish the tiny study anyway
@pytest.mark.parametrize("command", [one for one in ALL if one.startswith("kp trials ")])
def test_trials_of_the_tutorials_are_shown_for_a_finished_study(command: str, tiny_study: Path, finished_tiny: Path) -> None:
    """Of the tiny study in place of the tutorial's, which takes hours; its trials have all ended, so `--watch` ends as well."""
    words = [word for word in shlex.split(command)[2:] if not word.endswith(".toml") and word not in ("--results", *FOLDERS)]
    done = run_kp("trials", tiny_study, "--results", finished_tiny, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 trials: 3 completed" in done.stdout


@pytest.mark.parametrize("command", [one for one in ALL if one.startswith("kp doctor ")])
def test_doctor_of_the_tutorial_looks_at_the_cluster(command: str, kp_on_ray: Kp, tmp_path: Path) -> None:
    done = run(command, kp_on_ray, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", [one for one in ALL if one.startswith("kp pack ")])
def test_pack_of_the_tutorial_plans_a_search_for_all_100_facts(command: str, tmp_path: Path) -> None:
    done = run(f"{command} --results {tmp_path} --out {tmp_path / 'out'}", run_kp, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 facts" in done.stdout + done.stderr


@pytest.mark.slow
def test_gate_commands_of_the_tutorial_run_one_after_the_other(tmp_path: Path) -> None:
    """On an adapter that changes nothing and 20 facts, so each is not resolved; with `--facts` it fails, as it has learned none."""
    base = Path(resolve_embedded("model.name").path)
    save_adapter(base, tmp_path / ADAPTER, name=EMBEDDED, rate=0.0, seed=0, steps=0)
    (tmp_path / "docs").symlink_to(REPOSITORY / "docs")
    gates = [one for one in ALL if one.startswith("kp gate ")]
    assert len(gates) >= 4
    for command in gates:
        words = shlex.split(command)[1:]
        words += [] if "--controls" in words else ["--controls", "20"]
        done = subprocess.run([sys.executable, "-m", "kp.cli", *words], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == (1 if "--facts" in words else 3), done.stdout + done.stderr
    assert (tmp_path / "gate.xml").is_file()
    assert (tmp_path / "gate.md").is_file()


def test_every_command_of_the_tutorials_is_one_that_a_test_runs() -> None:
    run_here = ("make ", "kp study ", "kp trials ", "kp prefetch ", "kp doctor ", "kp pack ", "kp gate ")
    assert [command for command in ALL if not command.startswith(run_here)] == []
