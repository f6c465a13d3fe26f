"""What a GPU must hold, so that a plan says what a study fits on before hours of work find out.

Counted is what is there whatever the batch: the base model, and the states of the largest adapter. Batches of generation take what is left,
and training goes on with half its micro-batch where a pass does not fit. So what does not fit by this count cannot run, and what fits by a
little runs with small batches. Only training can split a model (ZeRO stage 3); whoever asks one needs it whole on one GPU.
"""

from dataclasses import dataclass

from kp.cluster.stated import GPU_KINDS
from kp.config.layers import layer_numbers
from kp.config.study import StudyConfig
from kp.models.shapes import ModelShape
from kp.study.pricing import NUMBER_BYTES, OPTIMISER_BYTES, PlannedTrials, byte_text
from kp.training.spec import TrialSpec

GIGA = 1e9
BESIDES = 2.0
"""GB of a GPU that neither weights nor states get, for each process: CUDA's context and libraries, and the least of a pass."""
_GRADIENT_BYTES = 4  # they are summed in float32


@dataclass(frozen=True)
class MemoryPrice:
    """Bytes that each process on a GPU must have, at least."""

    weights: int  # of the whole base, for generation
    training: int
    per_gpu: int = 1  # processes on it, each with this

    @property
    def least(self) -> int:
        """For every stage of the study."""
        return max(self.weights, self.training)

    def fits(self, memory_gb: float) -> bool:
        """Whether a GPU of this memory, in GB, can run the study."""
        return self.per_gpu * (self.least + BESIDES * GIGA) <= memory_gb * GIGA


def memory_price(config: StudyConfig, trials: PlannedTrials, shape: ModelShape | None) -> MemoryPrice | None:
    """What one GPU must have; None if the sizes of the model or of its adapters are not known."""
    training, workers = config.training, config.resources.workers_per_trial
    if shape is None or shape.adapter_parameters(training.target_modules, 1) is None:
        return None

    def adapter(spec: TrialSpec) -> int:
        layers = len(layer_numbers(spec.layers, shape.layers))
        return shape.adapter_parameters(training.target_modules, spec.rank, layers) or 0

    width = NUMBER_BYTES[config.model.dtype]
    weights, largest = width * shape.parameters, trials.most(adapter)
    # Master weights, moments and summed gradients are divided among the workers from stage 1 on, weights at stage 3.
    states = largest * (OPTIMISER_BYTES + _GRADIENT_BYTES) // (workers if training.zero_stage else 1)
    held = (weights + largest * width) // (workers if training.zero_stage == 3 else 1)
    return MemoryPrice(weights, held + states, config.resources.per_gpu)


def memory_text(price: MemoryPrice, dtype: str) -> str:
    """What it comes to, and the GPUs that have it."""
    kinds = [kind.name for kind in sorted(GPU_KINDS.values(), key=lambda kind: kind.memory_gb) if price.fits(kind.memory_gb)]
    largest = max(GPU_KINDS.values(), key=lambda kind: kind.memory_gb)
    needs = (
        f"{byte_text(price.weights)} of weights in {dtype}, whole on each GPU that answers; at least {byte_text(price.training)} "
        "with the states of the largest adapter on each that trains"
    )
    if price.per_gpu > 1:
        needs += f"; {price.per_gpu} such processes on each"
    if kinds:
        return f"{needs}; fits {', '.join(kinds)}"
    return f"{needs}; does not fit {largest.name} ({largest.memory_gb:g} GB), the largest GPU known here, and only training splits a model"
