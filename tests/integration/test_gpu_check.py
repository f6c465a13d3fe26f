"""The dry form of `make gpu-check`, as a whole on a CPU."""

import json
from pathlib import Path

import pytest

from tests.gpu_check.__main__ import main
from tests.gpu_check.steps import STEPS


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_dry_form_passes_all_steps_and_says_that_no_gpu_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--dry", "--out", str(tmp_path)])
    said = capsys.readouterr().out

    assert code == 0, said
    record = json.loads((tmp_path / "gpu-check-dry.json").read_text(encoding="utf-8"))
    assert [(step["step"], step["status"]) for step in record["steps"]] == [(step.name, "passed") for step in STEPS]
    assert record["gpu"] is None
    assert "no GPU was measured" in (tmp_path / "gpu-check-dry.md").read_text(encoding="utf-8")
