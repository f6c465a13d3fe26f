"""A real GPU: weights are read onto it without a copy in main memory, and processes that share it keep to their parts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kp.config.study import ModelConfig
from kp.models.loading import load_model, resolve_model
from tests.tiny_model import save_tiny_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

_SHARING = """
import sys
import torch
from kp.generation.memory import _free_bytes
from kp.models.memory import memory_part, share_gpu

share_gpu(int(sys.argv[1]))
device = torch.device("cuda", torch.cuda.current_device())
total = torch.cuda.get_device_properties(device).total_memory
part = int(memory_part(total, int(sys.argv[1])) * total)
assert abs(_free_bytes(device) - part) < 64 << 20, (_free_bytes(device), part)
half = torch.empty(part // 2, dtype=torch.uint8, device=device)
try:
    torch.empty(part // 2 + (64 << 20), dtype=torch.uint8, device=device)
except torch.OutOfMemoryError:
    print("held", flush=True)
sys.stdin.readline()
"""


def test_all_weights_and_buffers_are_on_the_current_gpu(tmp_path: Path) -> None:
    resolved = resolve_model(ModelConfig(name=str(save_tiny_model(tmp_path))))
    on_cpu, on_gpu = load_model(resolved, "float32", "cpu"), load_model(resolved, "float32", "cuda")
    device = torch.device("cuda", torch.cuda.current_device())
    assert {tensor.device for tensor in (*on_gpu.parameters(), *on_gpu.buffers())} == {device}
    for (name, expected), found in zip(on_cpu.named_parameters(), on_gpu.parameters(), strict=True):
        assert torch.equal(expected, found.cpu()), name
    for (name, expected), found in zip(on_cpu.named_buffers(), on_gpu.buffers(), strict=True):
        torch.testing.assert_close(found.cpu(), expected, msg=name)


def test_two_processes_on_one_gpu_are_each_held_to_half_of_it() -> None:
    """Both at once, with expandable segments as kp has them."""
    environment = os.environ | {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    command = [sys.executable, "-c", _SHARING, "2"]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    said = [process.stdout.readline() for process in both if process.stdout is not None]
    codes = [process.communicate("\n")[0] is not None and process.returncode for process in both]
    assert said == ["held\n"] * 2
    assert codes == [0, 0]
