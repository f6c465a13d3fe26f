"""The model in training: PEFT's adapter on the base, in a DeepSpeed engine; and saving the adapter from it.

Adapters are saved as plain LoRA, however they were initialised: an init that moves a part of the base weights into the adapter (PiSSA,
OLoRA) trains W - s*B0*A0 + s*B*A, which is W with the adapter [B, -B0][A; A0] of twice the rank.
"""

import gc
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.config.layers import ALL_LAYERS, layer_numbers
from kp.training.spec import TrialSpec

_A, _B = ".lora_A.weight", ".lora_B.weight"

State = dict[str, Any]  # PEFT's names -> tensors


@dataclass(frozen=True)
class Place:
    """This worker's rank and the number of workers."""

    rank: int
    world: int

    def gathered(self, value: Any) -> list[Any]:
        """Every worker's value, in the order of ranks; all workers must call this at the same point."""
        import torch.distributed

        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values


def lora_config(spec: TrialSpec, base: Any) -> Any:
    """PEFT's configuration of a trial's adapter on this model."""
    from peft import LoraConfig

    count = base.config.get_text_config().num_hidden_layers
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=spec.rank,
        lora_alpha=spec.lora_alpha,  # type: ignore[arg-type]
        use_rslora=spec.training.use_rslora,
        lora_dropout=spec.training.lora_dropout,
        target_modules=list(spec.training.target_modules),
        layers_to_transform=None if spec.layers == ALL_LAYERS else layer_numbers(spec.layers, count),
        init_lora_weights=True if spec.training.init == "default" else spec.training.init,  # type: ignore[arg-type]
    )


def with_lora(base: Any, spec: TrialSpec) -> Any:
    """A PEFT model with the adapter in the base's dtype, because DeepSpeed keeps float32 master weights and ZeRO needs one dtype."""
    from peft import get_peft_model

    from kp.models.lora_product import use_lean_products

    model = get_peft_model(base, lora_config(spec, base), autocast_adapter_dtype=False)
    if spec.training.zero_stage < 3:  # at stage 3 a weight is there only while PEFT's own module of it computes
        use_lean_products(model)
    return model


def deepspeed_engine(model: Any, spec: TrialSpec, dtype: str, place: Place, micro_batches: int, multiplier: Callable[[int], float]) -> Any:
    """A DeepSpeed engine that takes a step after `micro_batches` backward passes, at `multiplier(step)` times the peak learning rate."""
    import deepspeed
    import deepspeed.ops
    import torch

    # This op serves inference_all_reduce alone, and building it at first use takes most of a minute.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=spec.learning_rate, weight_decay=spec.training.weight_decay)
    config = {
        "train_micro_batch_size_per_gpu": math.ceil(spec.training.batch_size / (place.world * micro_batches)),
        "gradient_accumulation_steps": micro_batches,
        "gradient_clipping": spec.training.max_grad_norm,
        "bf16": {"enabled": dtype == "bfloat16"},
        # By default gradients of passes and workers are summed in the model's dtype, so a step would depend on how its batch is cut.
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "zero_optimization": {
            "stage": spec.training.zero_stage,
            # DeepSpeed allocates a bucket whole, by default for 500 million numbers. All gradients of an adapter fit in one of its size.
            "reduce_bucket_size": sum(map(parameter_count, trainable)),
        },
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)
    return deepspeed.initialize(model=model, optimizer=optimizer, lr_scheduler=scheduler, config=config)[0]


def collect_memory() -> None:
    """Free what is no longer used: engines are part of cycles, and the GPU's freed memory is kept for tensors of the same sizes."""
    from kp.generation.memory import release_memory

    gc.collect()
    release_memory()


def keep_out_frozen(model: Any) -> None:
    """Keep frozen weights out of checkpoints; DeepSpeed's own switch misses a frozen head that is tied to the embeddings."""

    def drop_frozen(module: Any, state: State, prefix: str, metadata: Any) -> None:
        trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
        for name in [name for name in state if name.removeprefix(prefix) not in trained]:
            del state[name]

    model.register_state_dict_post_hook(drop_frozen)


def gathered_adapter(engine: Any, zero_stage: int) -> State:
    """The complete adapter weights on the CPU, from any ZeRO stage; all workers must call it."""
    import deepspeed
    from peft import get_peft_model_state_dict

    model = engine.module
    trainable = [p for p in model.parameters() if p.requires_grad]
    with deepspeed.zero.GatheredParameters(trainable, enabled=zero_stage == 3):
        # No embeddings are trained; to find that out by itself, PEFT would look the base model up on the hub at every save.
        found = get_peft_model_state_dict(model, save_embedding_layers=False)
        return {name: tensor.detach().cpu().clone() for name, tensor in found.items()}


def save_adapter(model: Any, state: State, started_as: State | None, folder: Path) -> None:
    """Write the adapter in PEFT's format; `started_as` has its initial weights if these were subtracted from the base."""
    if started_as is not None:
        state = _less(state, started_as)
    model.save_pretrained(folder, state_dict=state, save_embedding_layers=False)
    path = folder / "adapter_config.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    # PEFT keeps the module names in a set and writes them in an order that changes from process to process.
    written["target_modules"] = sorted(written["target_modules"])
    if started_as is not None:
        # Twice the rank at the same scale: alpha/r, or alpha/sqrt(r) with rsLoRA.
        written |= {"r": 2 * written["r"], "init_lora_weights": True}
        written["lora_alpha"] *= math.sqrt(2) if written["use_rslora"] else 2
    path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _less(state: State, started_as: State) -> State:
    import torch

    joined = {}
    for name, tensor in state.items():
        first = started_as[name]
        if name.endswith(_A):
            joined[name] = torch.cat([tensor, first], dim=0)
        else:
            assert name.endswith(_B), f"{name} is no matrix of LoRA"
            joined[name] = torch.cat([tensor, -first], dim=1)
    return joined


def parameter_count(parameter: Any) -> int:
    """The number of elements of a parameter; with ZeRO-3 a worker holds only a part of them."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))
