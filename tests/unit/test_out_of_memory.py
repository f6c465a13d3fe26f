"""Which errors mean that memory ran out, so that less may succeed in the same process, and which that a process is of no more use."""

import pytest
import torch

from kp.generation.memory import is_out_of_memory
from kp.search.worker import is_infrastructure, memory_ran_out


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError("Unable to allocate 8.00 TiB"),
    ],
)
def test_memory_that_ran_out_is_no_fault_of_the_process(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert memory_ran_out(error)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
    ],
)
def test_any_other_cuda_error_is_one_of_the_process(error: Exception) -> None:
    assert not is_out_of_memory(error)
    assert not memory_ran_out(error)
    assert is_infrastructure(error)


def test_error_that_quotes_another_is_not_out_of_memory() -> None:
    assert not is_out_of_memory(ValueError("the log says: CUDA error: out of memory"))
