"""What both implementations of `kp bench train` report of their model and device, computed the same way for both."""

import hashlib
from collections.abc import Mapping

import torch

from kp.bench.options import Device


def adapter_digest(state: Mapping[str, torch.Tensor]) -> str:
    """A digest of LoRA's weights by PEFT's names, as float32 whatever they are kept as."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def count_parameters(model: torch.nn.Module) -> int:
    """Numbers in a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def device_name(device: str) -> str:
    """What the device is called."""
    return torch.cuda.get_device_name() if device == Device.CUDA else device


def peak_device_memory() -> int | None:
    """Bytes that this process has held on its GPU at most, None on a CPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
