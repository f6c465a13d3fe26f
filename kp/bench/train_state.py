"""What both implementations of `kp bench train` report of their model and device, computed the same way for both."""

import hashlib
from collections.abc import Mapping

import torch

from kp.bench.options import Device


def start_digest(state: Mapping[str, torch.Tensor]) -> str:
    """A digest of LoRA's weights under PEFT's names, converted to float32."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def count_parameters(model: torch.nn.Module) -> int:
    """The number of parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def device_name(device: str) -> str:
    """The device's name."""
    return torch.cuda.get_device_name() if device == Device.CUDA else device


def peak_device_memory() -> int | None:
    """Peak bytes of this process on its GPU, None on a CPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
