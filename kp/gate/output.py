"""Where the verdict is written: one screen, and the files that are asked for."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from kp.errors import printable
from kp.gate.machine_pages import json_of, junit_of
from kp.gate.pages import markdown_of, screen_of
from kp.gate.verdict import GateResult


@dataclass(frozen=True)
class Output:
    """Files to write, besides the screen."""

    json: Path | None = None
    junit: Path | None = None
    markdown: Path | None = None


def say(line: str) -> None:
    """A line of progress, on stderr: stdout has the screen alone."""
    print(printable(f"gate: {line}"), file=sys.stderr, flush=True)


def write_output(result: GateResult, output: Output) -> None:
    """Print the screen and write the files."""
    texts = {
        output.json: lambda: json.dumps(json_of(result), indent=1, ensure_ascii=False) + "\n",
        output.junit: lambda: junit_of(result),
        output.markdown: lambda: markdown_of(result),
    }
    for path, text in texts.items():
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text(), encoding="utf-8")
    print(printable(screen_of(result)))
