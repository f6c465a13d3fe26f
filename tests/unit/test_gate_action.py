"""The GitHub Action: its steps, run here with a kp that only writes down how it was called."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.composite_action import Ran, run_action

ACTION = Path(__file__).parents[2] / ".github" / "actions" / "kp-gate" / "action.yml"
STAND_IN = """#!{python}
import json, os, pathlib, sys
words = sys.argv[1:]
pathlib.Path("called.json").write_text(json.dumps(words))
code = int(os.environ["CODE"])
if code != 2:
    outcome = {{0: "pass", 1: "fail", 3: "not_resolved"}}[code]
    pathlib.Path(words[words.index("--json") + 1]).write_text(json.dumps({{"outcome": outcome}}))
    pathlib.Path(words[words.index("--markdown") + 1]).write_text("### the verdict\\n")
sys.exit(code)
"""


def ran(folder: Path, code: int, **inputs: str) -> Ran:
    programs = folder / "bin"
    programs.mkdir()
    stand_in = programs / "kp"
    stand_in.write_text(STAND_IN.format(python=sys.executable))
    stand_in.chmod(0o755)
    (programs / "python").symlink_to(sys.executable)
    return run_action(ACTION, inputs, folder, {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "CODE": str(code)})


@pytest.mark.parametrize(("code", "outcome"), [(0, "pass"), (1, "fail"), (3, "not_resolved")])
def test_action_ends_with_the_code_of_the_gate_and_shows_its_summary(tmp_path: Path, code: int, outcome: str) -> None:
    found = ran(tmp_path, code, adapter="my adapter", model="tiny", options="--controls 20 --keep keep.csv")
    assert (found.code, found.outputs["outcome"], found.summary) == (code, outcome, "### the verdict\n")
    assert found.outputs["json"] == ".kp-gate/gate.json"
    called = json.loads((tmp_path / "called.json").read_text())
    assert called[:9] == ["gate", "my", "adapter", "--model", "tiny", "--controls", "20", "--keep", "keep.csv"]
    assert called[9:11] == ["--results", ".kp-gate"]


def test_action_without_a_verdict_ends_with_bad_input_and_no_outcome_of_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / ".kp-gate").mkdir()
    (tmp_path / ".kp-gate" / "gate.json").write_text('{"outcome": "pass"}')
    found = ran(tmp_path, 2, candidate="merged folder", model="tiny")
    assert (found.code, found.outputs["outcome"], found.summary) == (2, "", "")
    assert json.loads((tmp_path / "called.json").read_text())[:4] == ["gate", "--candidate", "merged folder", "--model"]


def test_action_does_not_run_what_stands_in_its_inputs(tmp_path: Path) -> None:
    found = ran(tmp_path, 0, adapter="$(touch made) ; touch made", model="`touch made`")
    assert found.code == 0
    assert not (tmp_path / "made").exists()
