"""The start of a vLLM engine next to others, and the comparison of tokens before it: with engines and environments that stand in for it."""

import dataclasses
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kp.errors import UserError
from kp.generation.prompt_tokens import PromptTokens, prompt_tokens, tokenizer_versions
from kp.generation.vllm_start import RETRY_SECONDS, alone_on_gpu, started
from tests.conftest import REPOSITORY
from tests.tiny_model import TEMPLATE, tiny_tokenizer

TAKEN = "Free memory on device cuda:0 (12.1/79.1 GiB) on startup is less than desired GPU memory utilization (0.9, 71.2 GiB)."
CHATS = [[{"role": "user", "content": f"Question: Who wrote book {number}?"}] for number in range(3)]


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def _failing(*errors: Exception) -> Callable[[], str]:
    """An engine that does not start as often as there are errors."""
    left = list(errors)

    def make() -> str:
        if left:
            raise left.pop(0)
        return "engine"

    return make


@pytest.mark.parametrize("message", [TAKEN, "Error in memory profiling. Initial free memory 3 GiB", "EADDRINUSE: port 29511"])
def test_engine_that_finds_memory_or_port_taken_is_tried_once_more_in_one_line(message: str, caplog: pytest.LogCaptureFixture) -> None:
    done: list[Any] = []
    with caplog.at_level(logging.WARNING):
        engine = started(_failing(ValueError(message)), lambda: done.append("cleaned"), done.append)

    assert (engine, done) == ("engine", ["cleaned", RETRY_SECONDS])
    (line,) = caplog.messages
    assert message in line
    assert "tried once more" in line


def test_engine_whose_error_has_the_taken_memory_as_its_cause_is_tried_once_more() -> None:
    error = RuntimeError("engine core initialization failed")
    error.__cause__ = ValueError(TAKEN)

    assert started(_failing(error), lambda: None, lambda seconds: None) == "engine"


def test_engine_without_memory_twice_names_the_share_to_lower() -> None:
    with pytest.raises(UserError, match=r"resources\.vllm_memory_share: .*too little free memory, twice \(Free memory on device cuda:0"):
        started(_failing(ValueError(TAKEN), ValueError(TAKEN)), lambda: None, lambda seconds: None)


def test_engine_with_another_error_is_not_tried_again() -> None:
    def wait(seconds: float) -> None:
        raise AssertionError("waited")

    with pytest.raises(ValueError, match="unknown architecture"):
        started(_failing(ValueError("unknown architecture")), lambda: None, wait)


HOLDING = """
import sys, time
from pathlib import Path
from kp.generation.vllm_start import alone_on_gpu
with alone_on_gpu(Path(sys.argv[1])):
    print("holds it", flush=True)
    sys.stdin.read()
"""


def _holder(folder: Path, gpus: str) -> "subprocess.Popen[str]":
    environment = {"PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": gpus, "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", HOLDING, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds it\n"
    return process


def test_engines_of_one_gpu_start_one_after_another_and_those_of_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = _holder(tmp_path, "0")
    _holder(tmp_path, "1").communicate()  # came in although GPU 0 is held
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    waiting = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)
        holder.kill()  # a process that dies leaves nothing locked
        holder.wait()
        said, _ = waiting.communicate(timeout=60)
        assert said == "holds it\n"
    finally:
        waiting.kill()
    began = time.monotonic()
    with alone_on_gpu(tmp_path):
        assert time.monotonic() - began < 30


def test_lock_that_is_a_link_of_another_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1/2,3")
    with alone_on_gpu(tmp_path):
        pass
    (lock,) = tmp_path.iterdir()
    assert lock.name.endswith("-GPU-1-2-3.lock")
    lock.unlink()
    lock.symlink_to(tmp_path / "somewhere")
    with pytest.raises(OSError, match="symbolic link"), alone_on_gpu(tmp_path):
        pass
    assert not (tmp_path / "somewhere").exists()


def test_prompts_that_both_environments_read_the_same_are_accepted_after_a_journey_as_json() -> None:
    sent = json.loads(json.dumps(dataclasses.asdict(prompt_tokens(tiny_tokenizer(), CHATS))))

    PromptTokens(sent["chats"], tuple(map(tuple, sent["ids"])), sent["versions"]).validate(tiny_tokenizer())


def test_prompt_that_the_other_environment_reads_otherwise_is_refused_by_prompt_token_and_versions() -> None:
    expected = dataclasses.replace(prompt_tokens(tiny_tokenizer(), CHATS), versions="transformers 5.23.0, tokenizers 0.23.3")
    other = tiny_tokenizer()
    other.chat_template = TEMPLATE.replace("<e>", "<s>")

    with pytest.raises(UserError, match=r"resources\.vllm_python: its environment") as refused:
        expected.validate(other)

    message = refused.value.message
    assert "transformers 5.23.0, tokenizers 0.23.3" in message
    assert tokenizer_versions() in message
    assert "is 2 ('<s>') in place of 1 ('<e>')" in message
    assert "ends with 'Question: Who wrote book 0?'" in message


def test_prompt_that_the_other_environment_cuts_short_is_refused_by_its_length() -> None:
    expected = prompt_tokens(tiny_tokenizer(), CHATS)
    longer = dataclasses.replace(expected, ids=(expected.ids[0], (*expected.ids[1], 7), expected.ids[2]))

    with pytest.raises(
        UserError, match=rf"vllm_python: .*{len(expected.ids[1])} tokens in place of {len(expected.ids[1]) + 1}, .*book 1\?"
    ):
        longer.validate(tiny_tokenizer(), "vllm_python")
