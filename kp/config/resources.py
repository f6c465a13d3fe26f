"""What a study may use of machines, and how it is divided among them."""

from pydantic import Field

from kp.config.section import PositiveInt, Section
from kp.vocabulary import Attention


class ResourcesConfig(Section):
    """Only speed and place: nothing here changes a step's identity.

    A number changes only by rounding; if trials have dropout, also by `workers_per_trial` and `micro_batch`, on which its masks depend.
    """

    generators: PositiveInt | None = None
    """Number of actors that generate and evaluate. Absent: `per_gpu` for each GPU of the cluster, or one."""
    generation_batch: PositiveInt | None = None
    """Most rows decoded together; memory may allow fewer. Absent: 1,024 on a GPU of 80 GB, 512 on one of 40 GB, 256 on a smaller one, on a
    CPU, and where a model in training answers."""
    cuda_graphs: bool = False
    """Record the passes of generators that only decode, once for each size, and replay them: a small model leaves a GPU idle while a
    thousand operations are launched one by one. Only for engine `hf` and on GPUs, where it has not been measured yet."""
    workers_per_trial: PositiveInt = 1
    """Ray Train workers of one trial, each with a GPU of its own."""
    per_gpu: int = Field(1, ge=1, le=64)
    """Generators, or workers of different trials, that share one GPU: where a step or a batch is too small to keep it busy. Each may use
    that part of its memory."""
    accelerator_type: str | None = Field(None, pattern=r"^[A-Za-z0-9][\w.-]*$")
    """Use GPUs of this kind alone, by the name that Ray gives to their nodes (`H100`, `A100`, `L4`). Absent: all GPUs of the cluster."""
    micro_batch: PositiveInt | None = None
    """Most rows of a worker in one pass; a larger share of a batch is accumulated. Absent: all of its share."""
    attention: Attention = Attention.AUTO
    """How attention is computed in training: `sdpa`, torch's fused kernel, or `eager`, matrix products and a softmax, which on a CPU can be
    faster for short rows. `auto`: sdpa on a GPU, otherwise the faster one on this machine, measured when the study begins and kept."""
    gradient_checkpointing: bool = False
    """Keep only what enters each layer in training, and compute a layer again in the backward pass: up to half more work, and the memory of
    one layer's activations in place of all. For long rows; where a smaller `micro_batch` is enough, that is cheaper."""
    activation_cache_gib: float = Field(2.0, ge=0)
    """Most main memory of a training worker, in GiB, for what layers below an adapter of upper layers (`training.layers`) compute of its
    rows; what finds no room is computed again in every step. 0: nothing is kept."""
    concurrent_trials: PositiveInt | None = None
    """Trials that train at once. Absent: as many as fit into the cluster."""
    gpu: bool | None = None
    """Use GPUs. Absent: if the cluster has any, or `max_gpus` says that it may."""
    min_gpus: PositiveInt | None = None
    """GPUs without which the study does not begin; the cluster's autoscaler is asked for them."""
    max_gpus: PositiveInt | None = None
    """GPUs that the cluster may grow to, for one that adds nodes when they are needed. Absent: trials use those that are there at first."""
    wait_for: float = Field(0.0, ge=0)
    """Minutes that a study waits for `min_gpus` before it begins."""
    stalled_after: float = Field(30.0, gt=0)
    """Minutes without a step of training or an answer after which the study ends and names what it waits for, such as lost nodes."""
    threads: PositiveInt | None = None
    """CPU threads of one actor or worker. Absent: the cores of a node are divided among them."""
    vllm_python: str | None = None
    """Absolute path, on every node, of the Python interpreter whose environment has vLLM; needed by `categorise.engine = "vllm"`."""
    vllm_memory_share: float = Field(0.9, gt=0, lt=1)
    """Share of a GPU's memory for the vLLM engines on it together: weights, keys and values, and passes. Several divide it."""
    prefetched: str | None = None
    """A folder that `kp prefetch` has filled, on a file system that every node mounts: the study reads it instead of the Hub."""
    training_tokens_per_second: float | None = Field(None, gt=0)
    """Tokens that one worker trains on per second, as measured by `kp bench train`; the plan prices training with it."""
    prompts_per_second: float | None = Field(None, gt=0)
    """Prompts that one generator answers per second, as measured by `kp bench categorise`; the plan prices generation with it."""

    @property
    def states_gpus(self) -> bool:
        """Whether the study says that it uses GPUs, whatever the cluster has at the moment."""
        return bool(self.gpu or self.min_gpus or self.max_gpus)
