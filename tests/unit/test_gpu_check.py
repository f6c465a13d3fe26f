"""`make gpu-check`: its steps, their time, what it takes for wrong; the steps themselves run in the slow test of its dry form."""

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from tests.conftest import REPOSITORY
from tests.gpu_check.__main__ import MINUTES, file_name
from tests.gpu_check.busy_share import PassesEndedError, Window, device_spans
from tests.gpu_check.carrying import check_python, joined, split
from tests.gpu_check.environment import CARRIED, GIVEN, Package, packages, pins
from tests.gpu_check.page import check_page, check_record
from tests.gpu_check.reopening import TOLERANCE, WITHOUT_MEMORY, Left, faults
from tests.gpu_check.running import Outcome, Status, run_steps
from tests.gpu_check.steps import PASSES, STEPS, TRIALS, Judged, Setting, Step

JUDGES = {step.name: step.judge for step in STEPS}


def _step(name: str, code: str, seconds: int = 30, **others: Any) -> Step:
    """A step that runs this code, with the file of its result as `result`."""

    def command(setting: Setting) -> list[str]:
        begin = f"import pathlib; result = pathlib.Path({str(setting.file(name))!r})"
        return [sys.executable, "-c", f"{begin}\n{code}"]

    return Step(name, seconds, "it runs", command, lambda found, said, setting: Judged((str(found),)), **others)


def _run(folder: Path, *steps: Step, seconds: float = 60.0) -> list[Outcome]:
    return list(run_steps(steps, Setting(False, folder), seconds))


def test_step_that_writes_its_result_passes_and_is_judged(tmp_path: Path) -> None:
    (outcome,) = _run(tmp_path, _step("good", "result.write_text('[1]')"))

    assert (outcome.status, outcome.shown, outcome.measured) == (Status.PASSED, ("[1]",), [1])


def test_step_that_overruns_is_ended_with_its_children_and_the_next_runs(tmp_path: Path) -> None:
    child = "import subprocess, sys, time; p = subprocess.Popen(['sleep', '60']); result.with_suffix('.pid').write_text(str(p.pid))"
    slow, good = _run(tmp_path, _step("slow", child + "; time.sleep(60)", seconds=3), _step("good", "result.write_text('[]')"))

    assert (slow.status, good.status) == (Status.OVERRAN, Status.PASSED)
    assert slow.seconds < 30
    pid = int((tmp_path / "slow.pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_step_that_breaks_shows_its_last_lines_and_the_next_runs(tmp_path: Path) -> None:
    broken, good = _run(tmp_path, _step("broken", "raise OSError('no disk')"), _step("good", "result.write_text('[]')"))

    assert (broken.status, good.status) == (Status.FAILED, Status.PASSED)
    assert any("OSError: no disk" in line for line in broken.wrong)


def test_step_with_a_result_and_exit_code_one_fails_although_nothing_was_judged_wrong(tmp_path: Path) -> None:
    (outcome,) = _run(tmp_path, _step("unequal", "result.write_text('[]'); raise SystemExit(1)"))

    assert (outcome.status, outcome.wrong[0]) == (Status.FAILED, "exit code 1")


def test_steps_after_a_needed_one_that_failed_are_not_run(tmp_path: Path) -> None:
    outcomes = _run(tmp_path, _step("first", "raise SystemExit(3)", is_needed=True), _step("second", "result.write_text('[]')"))

    assert [(outcome.status, outcome.wrong[0]) for outcome in outcomes] == [
        (Status.FAILED, "exit code 3"),
        (Status.NOT_RUN, "first failed"),
    ]


def test_step_for_which_no_time_is_left_is_not_begun(tmp_path: Path) -> None:
    (outcome,) = _run(tmp_path, _step("late", "result.write_text('[]')"), seconds=5)

    assert (outcome.status, list(tmp_path.iterdir())) == (Status.NOT_RUN, [])


def test_budgets_of_all_steps_fit_into_the_time_of_all() -> None:
    assert sum(step.seconds for step in STEPS) <= 60 * MINUTES
    assert [step.name for step in STEPS if step.is_needed] == ["environment"] == [STEPS[0].name]


def test_commands_of_both_forms_name_their_device_and_shape(tmp_path: Path) -> None:
    for dry, device, shape in ((False, "cuda", "llama-3.1-8b"), (True, "cpu", "tiny")):
        for step in STEPS:
            command = step.command(Setting(dry, tmp_path))
            assert "--device" not in command or command[command.index("--device") + 1] == device
            assert "--shape" not in command or command[command.index("--shape") + 1] == shape


def test_page_says_that_estimates_are_no_results_and_that_the_dry_form_measured_no_gpu(tmp_path: Path) -> None:
    step = next(step for step in STEPS if step.name == "train-256")
    outcomes = [Outcome(step, Status.PASSED, 12.3, ("kp 17,000 tokens/s",)), Outcome(step, Status.FAILED, 1.0, (), ("it broke",))]
    real, dry = (check_page(check_record(outcomes, gpu)).markdown() for gpu in ("NVIDIA H100", None))

    assert "| train-256 | passed | 12 |" in real
    assert "- kp 17,000 tokens/s" in real
    assert "expected, as an estimate: 16,000 to 21,000 tokens/s" in real
    assert "they are no results" in real
    assert "- WRONG: it broke" in real
    assert "no GPU was measured" in dry
    assert "no GPU was measured" not in real


def test_file_of_results_is_named_for_the_gpu() -> None:
    assert file_name("NVIDIA H100 80GB HBM3") == "gpu-check-nvidia-h100-80gb-hbm3"
    assert file_name(None) == "gpu-check-dry"


def test_environment_tells_missing_packages_and_other_versions() -> None:
    assert pins("# a comment\ntorch==2.13.0  # CPU\n\nray==2.60.0\n") == {"torch": "2.13.0", "ray": "2.60.0"}
    (torch_here,) = packages(("torch",))
    assert torch_here.found == torch.__version__
    assert not torch_here.differs
    assert Package("torch", "2.11.0+cu130", "2.13.0").differs
    assert packages(("no-such-package-of-kp",)) == [Package("no-such-package-of-kp", None, None)]
    found = {"python": "3.12.3", "gpu": None, "other_versions": [], "missing": ["polars==2.1.0"], "cannot": []}
    assert JUDGES["environment"](found, "", Setting(True, Path())).wrong == ("missing, to be carried as wheels: polars==2.1.0",)


def test_packages_to_carry_are_those_of_the_development_environment() -> None:
    assert [package.name for package in packages(GIVEN + CARRIED) if package.found is None] == []


def test_carried_files_are_the_same_after_their_parts(tmp_path: Path) -> None:
    for name, size in {"a-1.whl": 10, "b-1.whl": 95, "c-1.whl": 3}.items():
        (tmp_path / name).write_bytes(bytes(number % 251 for number in range(size)))
    files = sorted(tmp_path.glob("*.whl"))
    split(files, tmp_path / "carried", most=40)
    (tmp_path / "whole").mkdir()

    whole = joined(tmp_path / "carried", tmp_path / "whole")

    assert [(file.name, file.read_bytes()) for file in whole] == [(file.name, file.read_bytes()) for file in files]
    parts = [sum(file.stat().st_size for file in part.iterdir()) for part in (tmp_path / "carried").iterdir()]
    assert max(parts) <= 40
    assert len(parts) >= 3


def _passes(window: Window, *tokens: int) -> None:
    for count in tokens:
        window.before_pass(torch.nn.Identity(), (), {"input_ids": torch.zeros(1, count)})


def test_window_is_twenty_decode_passes_in_a_row_after_the_last_one_that_reads_questions() -> None:
    events: list[str] = []
    window = Window(8, lambda: events.append("begin"), lambda: events.append("end"))
    _passes(window, 100, 8, 30, *[8] * 2)
    assert events == []
    _passes(window, *[7] * PASSES)
    assert events == ["begin"]
    with pytest.raises(PassesEndedError):
        _passes(window, 7)
    assert (events, window.passes) == (["begin", "end"], PASSES)


def test_spans_are_those_of_the_device_in_seconds() -> None:
    kinds = torch.autograd.DeviceType
    events = [
        SimpleNamespace(device_type=kind, time_range=SimpleNamespace(start=start, end=start + 500_000))
        for kind, start in ((kinds.CUDA, 0), (kinds.CPU, 0), (kinds.CUDA, 1_000_000))
    ]

    assert device_spans(events, torch.device("cuda")) == [(0.0, 0.5), (1.0, 1.5)]
    assert device_spans(events, torch.device("cpu")) == [(0.0, 0.5)]


def _lefts(**changed: Any) -> list[Left]:
    left = [Left("out of memory" if number == WITHOUT_MEMORY else "completed", 16 << 30, 1, 0) for number in range(TRIALS)]
    left[4] = Left(**(vars(left[4]) | changed))
    return left


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"allocated": (16 << 30) + TOLERANCE}, []),
        ({"allocated": 17 << 30}, ["after trial 5: 1024 MiB more are allocated than after the first"]),
        ({"models": 2}, ["after trial 5: 2 base models and 0 engines are alive"]),
        ({"engines": 1}, ["after trial 5: 1 base models and 1 engines are alive"]),
        ({"ended": "failed"}, ["trial 5 ended failed, expected completed"]),
    ],
)
def test_trials_that_leave_more_than_the_first_are_faults(changed: dict[str, Any], said: list[str]) -> None:
    assert faults(_lefts(**changed)) == said


def _categorised(**others: Any) -> dict[str, Any]:
    return {
        "implementations": {"kp": {"prompts_per_s": 1000.0}},
        "kp": {"share_of_prefill": 0.5},
        "ratios": {"released": {"all": 9.0}},
        "model": {"dtype": "float32"},
        "agreement": {"kp/released": {"equal_answers": 1.0, "answers": 10}},
    } | others


def test_categorise_is_wrong_if_float32_answers_differ_or_the_engine_goes_the_slow_way() -> None:
    judge, setting = JUDGES["categorise-256"], Setting(True, Path())
    differing = {"kp/released": {"equal_answers": 0.9, "answers": 10}}

    assert judge(_categorised(), "", setting).wrong == ()
    assert judge(_categorised(agreement=differing), "", setting).wrong == ("answers differ in float32 (kp/released)",)
    assert judge(_categorised(agreement=differing, model={"dtype": "bfloat16"}), "", setting).wrong == ()
    said = "noise\nllama: prompts are computed anew for every question, because its kernel is missing\n"
    assert "its kernel is missing" in judge(_categorised(), said, setting).wrong[0]
    assert "9.00 times released" in judge(_categorised(), "", setting).shown


@pytest.mark.parametrize(("counts", "dry", "is_wrong"), [
    ({"tests": 5}, False, False),
    ({"tests": 5, "skipped": 5}, False, True),
    ({"tests": 5, "skipped": 5}, True, False),
    ({"tests": 5, "failures": 1}, True, True),
    ({"tests": 5, "errors": 1}, False, True),
    ({"tests": 0}, False, True),
])  # fmt: skip
def test_tests_are_wrong_if_one_fails_or_on_a_gpu_is_skipped(counts: dict[str, int], dry: bool, is_wrong: bool) -> None:
    report = ElementTree.Element("testsuites")
    ElementTree.SubElement(report, "testsuite", {name: str(count) for name, count in counts.items()})

    assert bool(JUDGES["tests"](report, "", Setting(dry, Path())).wrong) is is_wrong


def test_attention_is_wrong_where_a_kernel_or_a_family_differs() -> None:
    kernel = {"output": 1e-6, "weight": 2e-6, "passes": True}
    family = {"family": "llama", "dtype": "torch.float32", "answers": 6, "equal": 6, "passes": True}
    judge, setting = JUDGES["attention"], Setting(True, Path())

    good = judge({"kernels": [kernel], "families": [family]}, "", setting)
    assert (good.wrong, good.shown[0]) == ((), "1 kernels, the largest difference 2.0e-06")
    assert "a kernel differs" in judge({"kernels": [kernel | {"passes": False}], "families": [family]}, "", setting).wrong[0]
    assert "llama" in judge({"kernels": [kernel], "families": [family | {"passes": False}]}, "", setting).wrong[0]


def test_record_of_a_check_is_json(tmp_path: Path) -> None:
    outcomes = _run(tmp_path, _step("good", "result.write_text('[1]')"))
    assert json.loads(json.dumps(check_record(outcomes, None)))["steps"][0]["measured"] == [1]


def test_page_of_the_docs_names_every_step_and_its_seconds() -> None:
    text = (REPOSITORY / "docs" / "gpu-check.md").read_text(encoding="utf-8")
    for step in STEPS:
        assert f"| `{step.name}` | {step.seconds} |" in text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no part-1"),
        (["six-1.17.0-py2.py3-none-any.whl", "pyarrow-26.0.1-cp399-cp399-manylinux_2_28_x86_64.whl"], "for cp399, but this Python is cp3"),
    ],
)
def test_carried_wheels_that_this_python_cannot_use_are_refused_in_one_line(names: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        check_python([Path(name) for name in names])


def test_carried_wheels_of_any_python_and_of_this_one_pass() -> None:
    here = f"cp{sys.version_info.major}{sys.version_info.minor}"
    check_python([Path("six-1.17.0-py2.py3-none-any.whl"), Path("ray-1-cp37-abi3-any.whl"), Path(f"pyarrow-1-{here}-{here}-any.whl")])
