"""The chosen settings for other trainers: plain PEFT, axolotl and LLaMA-Factory, with the training rows as chats in a file beside them.

Keys are those that the tools document: axolotl's config reference and its page on conversation data (type `chat_template`), the examples of
LoRA fine-tuning and the README of data in LLaMA-Factory. Neither tool has kp's KL penalty nor its end at a reliability, so the number of
epochs is the one that kp's trial took, and what they leave out is said in the file.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import polars as pl

from kp.prompts import training_messages

ROWS_FILE = "train.jsonl"
DATASET = "kp_facts"
Files = dict[str, str]


@dataclass(frozen=True)
class Recipe:
    """The settings of a trial that other trainers can repeat."""

    base: str  # the model, as others can get it
    target_modules: tuple[str, ...]
    rank: int
    alpha: float
    dropout: float
    learning_rate: float
    epochs: int  # that were run
    batch_size: int
    weight_decay: float
    schedule: str  # linear, cosine or constant, as transformers names them
    warmup_ratio: float
    seed: int
    max_length: int
    kl_coefficient: float
    scale: float  # of the change of the weights, applied after training

    def notes(self) -> list[str]:
        """What another trainer does otherwise."""
        left_out = []
        if self.kl_coefficient:
            left_out.append(
                f"kp's trial had a KL penalty of {self.kl_coefficient:g} on the replayed rows, which this trainer does not have."
            )
        if self.scale != 1:
            left_out.append(f"kp applies the trained adapter at {self.scale:g} of its change: multiply lora_alpha by it after training.")
        left_out.append("Facts are learned by repetition: check them after training, as kp did after each epoch.")
        return left_out


def trainer_files(recipe: Recipe, rows: pl.DataFrame) -> Files:
    """The files by name, from a recipe and the trial's TRAINING_ROWS."""
    return {
        ROWS_FILE: chat_rows(rows),
        "train_peft.py": peft_script(recipe),
        "axolotl.yaml": _yaml(axolotl_config(recipe), recipe, "axolotl train axolotl.yaml"),
        "llamafactory.yaml": _yaml(llamafactory_config(recipe), recipe, "llamafactory-cli train llamafactory.yaml"),
        "dataset_info.json": json.dumps(llamafactory_dataset(), indent=2) + "\n",
    }


def chat_rows(rows: pl.DataFrame) -> str:
    """One chat a line, in OpenAI's format of messages, which all three read: exactly what kp trained on."""
    chats = (training_messages(question, target) for question, target in rows.select("question", "target").iter_rows())
    return "".join(json.dumps({"messages": chat}, ensure_ascii=False) + "\n" for chat in chats)


def axolotl_config(recipe: Recipe) -> dict[str, Any]:
    """The config of axolotl."""
    return {
        "base_model": recipe.base,
        "datasets": [
            {"path": ROWS_FILE, "ds_type": "json", "type": "chat_template", "field_messages": "messages", "roles_to_train": ["assistant"]}
        ],
        "val_set_size": 0.0,
        "output_dir": "./adapter",
        "adapter": "lora",
        "lora_r": recipe.rank,
        "lora_alpha": _whole(recipe.alpha),
        "lora_dropout": recipe.dropout,
        "lora_target_modules": list(recipe.target_modules),
        "sequence_len": recipe.max_length,
        "sample_packing": False,
        "micro_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": 1,
        "num_epochs": recipe.epochs,
        "optimizer": "adamw_torch",
        "lr_scheduler": recipe.schedule,
        "learning_rate": recipe.learning_rate,
        "warmup_ratio": recipe.warmup_ratio,
        "weight_decay": recipe.weight_decay,
        "train_on_inputs": False,
        "bf16": "auto",
        "seed": recipe.seed,
    }


def llamafactory_config(recipe: Recipe) -> dict[str, Any]:
    """The config of LLaMA-Factory; its chat template has a name of its own for each family of models, which the user must know."""
    return {
        "model_name_or_path": recipe.base,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": recipe.rank,
        "lora_alpha": _whole(recipe.alpha),
        "lora_dropout": recipe.dropout,
        "lora_target": ",".join(recipe.target_modules),
        "dataset": DATASET,
        "dataset_dir": ".",
        "template": "default",
        "cutoff_len": recipe.max_length,
        "output_dir": "./adapter",
        "per_device_train_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": 1,
        "learning_rate": recipe.learning_rate,
        "num_train_epochs": float(recipe.epochs),
        "lr_scheduler_type": recipe.schedule,
        "warmup_ratio": recipe.warmup_ratio,
        "weight_decay": recipe.weight_decay,
        "seed": recipe.seed,
    }


def llamafactory_dataset() -> dict[str, Any]:
    """The description of the rows that LLaMA-Factory looks for in `dataset_dir`."""
    roles = {"user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}
    tags = {"role_tag": "role", "content_tag": "content", **roles}
    return {DATASET: {"file_name": ROWS_FILE, "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}}


_ROWS = """rows = []
for line in open(ROWS, encoding="utf-8"):
    chat = json.loads(line)["messages"]
    whole = tokenizer.apply_chat_template(chat, tokenize=False)
    asked = tokenizer.apply_chat_template(chat[:-1], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    start = len(tokenizer(asked, add_special_tokens=False)["input_ids"])
    rows.append((ids, [-100] * start + ids[start:]))
"""
_LOOP = """model.train()
for epoch in range(EPOCHS):
    order = torch.randperm(len(rows)).tolist()
    for first in range(0, len(rows), BATCH):
        batch = [rows[place] for place in order[first : first + BATCH]]
        longest = max(len(ids) for ids, _ in batch)
        ids = torch.tensor([one + [tokenizer.eos_token_id] * (longest - len(one)) for one, _ in batch])
        labels = torch.tensor([one + [-100] * (longest - len(one)) for _, one in batch])
        mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one, _ in batch])
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in (optimizer, scheduler):
            each.step()
        optimizer.zero_grad()
"""


def peft_script(recipe: Recipe) -> str:
    """A script that needs transformers and peft alone and trains on the same rows with the same settings."""
    notes = "\n".join(recipe.notes())
    return f'''"""Train the adapter that kp chose, with transformers and peft alone: python train_peft.py

{notes}
"""

import json
import math

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, get_scheduler

BASE = {json.dumps(recipe.base)}
ROWS = {json.dumps(ROWS_FILE)}
EPOCHS, BATCH = {recipe.epochs}, {recipe.batch_size}

torch.manual_seed({recipe.seed})
tokenizer = AutoTokenizer.from_pretrained(BASE)
model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
config = LoraConfig(
    r={recipe.rank},
    lora_alpha={recipe.alpha:g},
    lora_dropout={recipe.dropout:g},
    target_modules={json.dumps(list(recipe.target_modules))},
    task_type="CAUSAL_LM",
)
model = get_peft_model(model, config)
{_ROWS}
steps = EPOCHS * math.ceil(len(rows) / BATCH)
optimizer = torch.optim.AdamW(
    (weight for weight in model.parameters() if weight.requires_grad), lr={recipe.learning_rate:g}, weight_decay={recipe.weight_decay:g}
)
scheduler = get_scheduler({json.dumps(recipe.schedule)}, optimizer, round({recipe.warmup_ratio:g} * steps), steps)
{_LOOP}model.save_pretrained("adapter")
'''


def _yaml(config: dict[str, Any], recipe: Recipe, command: str) -> str:
    """YAML of scalars, lists and one level of mappings; JSON's texts and lists are YAML, too."""
    notes = "".join(f"# {note}\n" for note in recipe.notes())
    return f"# {command}\n{notes}" + "".join(f"{key}: {_scalar(value)}\n" for key, value in config.items())


def _scalar(value: object) -> str:
    """As YAML 1.1 reads it: a float with an exponent needs a point in front of it, or it is a text."""
    if isinstance(value, float):
        mantissa, _, exponent = f"{value:g}".partition("e")
        return f"{mantissa if '.' in mantissa else mantissa + '.0'}{'e' + exponent if exponent else ''}"
    return json.dumps(value, ensure_ascii=False)


def _whole(alpha: float) -> int:
    """Alpha as the whole number that both tools expect."""
    return max(1, math.floor(alpha + 0.5))
