"""Runs the steps of a composite GitHub Action on this machine: `bash` steps with `if`, `env` and `inputs`, and no more."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_EXPRESSION = re.compile(r"\$\{\{\s*([^}]+?)\s*\}\}")
_NOT_EMPTY = re.compile(r"inputs\.(\w+) != ''")


@dataclass(frozen=True)
class Ran:
    """What the steps left: the exit code of the first that failed, the job's summary, and the outputs of the action."""

    code: int
    summary: str
    outputs: dict[str, str]
    text: str  # stdout and stderr


def run_action(file: Path, inputs: Mapping[str, str], work: Path, environment: Mapping[str, str]) -> Ran:
    """Run every step whose condition holds, in `work`, until one fails."""
    action = yaml.safe_load(file.read_text(encoding="utf-8"))
    given = {name: inputs.get(name, str(one.get("default", ""))) for name, one in action["inputs"].items()}
    missing = [name for name, one in action["inputs"].items() if one.get("required") and name not in inputs]
    assert not missing, f"required inputs: {missing}"
    assert not set(inputs) - set(action["inputs"]), "inputs that the action does not have"
    texts, step_outputs, code, summary = [], {}, 0, work / "summary.md"
    summary.touch()
    for step in action["runs"]["steps"]:
        if not _holds(step.get("if"), given):
            continue
        code, text, found = _step(step, given, work, environment, summary)
        texts.append(text)
        step_outputs |= {f"steps.{step.get('id')}.outputs.{name}": value for name, value in found.items()}
        if code:
            break
    values = {f"inputs.{name}": value for name, value in given.items()} | step_outputs
    outputs = {name: _filled(one["value"], values) for name, one in action["outputs"].items()}
    return Ran(code, summary.read_text(encoding="utf-8"), outputs, "".join(texts))


def _holds(condition: str | None, given: Mapping[str, str]) -> bool:
    if condition is None:
        return True
    found = _NOT_EMPTY.fullmatch(condition)
    assert found, f"a condition that this interpreter does not know: {condition}"
    return given[found[1]] != ""


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _EXPRESSION.sub(lambda found: values.get(found[1], ""), text)


def _step(
    step: Mapping[str, Any], given: Mapping[str, str], work: Path, environment: Mapping[str, str], summary: Path
) -> tuple[int, str, dict[str, str]]:
    assert step["shell"] == "bash"
    assert not _EXPRESSION.search(step["run"]), "an input within a script would be run as code"
    output = work / f"output-{step.get('id', 'step')}"
    output.touch()
    values = {f"inputs.{name}": value for name, value in given.items()}
    of_step = {name: _filled(value, values) for name, value in step.get("env", {}).items()}
    files = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=work,
        env={**os.environ, **environment, **of_step, **files},
        capture_output=True,
        text=True,
        check=False,
    )
    found = dict(line.split("=", 1) for line in output.read_text(encoding="utf-8").splitlines())
    return done.returncode, done.stdout + done.stderr, found
