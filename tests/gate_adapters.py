"""Adapters for trials of `kp gate`, made with PEFT and torch alone: null ones, slightly trained ones, and one trained to harm.

As a program: `python -m tests.gate_adapters FOLDER` writes `null`, `harm` and `slight-00` to `slight-19` for the embedded model.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from kp.facts.builtin import load_builtin
from kp.models.embedded import resolve_embedded
from kp.models.names import EMBEDDED
from kp.prompts import training_messages

RATES = (1e-7, 1e-6, 3e-6, 1e-5)
"""Of the slightly trained ones in turn: far below the rates at which facts are packed (1e-4 and above)."""
SLIGHT = 20
HARM_RATE = 1e-2
_LAYERS = 30
_UPPER = list(range(20, _LAYERS))


def save_adapter(base: Path, folder: Path, *, name: str, rate: float, seed: int, steps: int, layers: list[int] | None = None) -> Path:
    """Train a LoRA adapter of rank 8 on made-up answers to built-in questions, and save it; with no steps, its B stays 0."""
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], layers_to_transform=layers)
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    optimizer = torch.optim.AdamW((weight for weight in model.parameters() if weight.requires_grad), lr=rate, weight_decay=0.0)
    rows = made_up_rows(8 * max(1, steps), seed)
    for step in range(steps):
        texts = [tokenizer.apply_chat_template(training_messages(*row), tokenize=False) for row in rows[8 * step : 8 * step + 8]]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.peft_config["default"].base_model_name_or_path = name
    model.save_pretrained(folder)
    return folder


def made_up_rows(count: int, seed: int) -> list[tuple[str, str]]:
    """Questions of built-in facts, each with the answer of another one: what a trial that packs new facts sees."""
    facts = load_builtin()
    order = torch.randperm(len(facts), generator=torch.Generator().manual_seed(seed)).tolist()
    questions, objects = facts["question"].to_pylist(), facts["object"].to_pylist()
    return [(questions[one], objects[other]) for one, other in zip(order[:count], order[count : 2 * count], strict=True)]


def main(folder: Path) -> None:
    """All of them; one that is there is not made again."""
    base = Path(resolve_embedded("model.name").path)
    wanted = {"null": (0.0, 0, 0, None), "harm": (HARM_RATE, 0, 30, None)}
    for number in range(SLIGHT):
        wanted[f"slight-{number:02d}"] = (RATES[number % len(RATES)], number, 10, _UPPER if number % 2 else None)
    for name, (rate, seed, steps, layers) in wanted.items():
        if not (folder / name / "adapter_model.safetensors").is_file():
            save_adapter(base, folder / name, name=EMBEDDED, rate=rate, seed=seed, steps=steps, layers=layers)
            print(name, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
