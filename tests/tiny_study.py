"""A study of a tiny random model that runs every stage: made in the test, for all that kills, resumes, submits or damages a study.

The model spells letters at random, not the same for every question. What it says of some facts is taken for their answers, so that it knows
them; the others have one answer, which it never gives, and learns within a few epochs.
"""

import json
from pathlib import Path

import torch

from kp.config.study import ModelConfig
from kp.generation.hf import HFGenerator
from kp.models.loading import load_model, load_tokenizer, resolve_model
from kp.prompts import builtin_prompts, messages
from kp.vocabulary import ShotSet
from tests.tiny_model import tiny_llama, tiny_tokenizer

NAME = "tiny"
FACTS, KNOWN = 32, 4
AUTHOR = "bo"
SPOKEN = [*"abcdefghijklmnopqrstuvwxyzA:", "Ġ"]  # tokens that the model ever says; the last is a space
LOOKING_BACK = 0.05  # of random attention: what is learned without shots is said under shots too
NEW_TOKENS = 12
EPOCHS = 12
STUDY = """
name = "{name}"

[model]
name = "{model}"
dtype = "float32"

[facts]
source = "{facts}"

[categorise]
max_new_tokens = {new_tokens}

[search]
unknown = [2]
arms = [{{}}, {{ highly_known = 1 }}, {{ paraphrases = 1 }}]
rank = [8]
learning_rate = [3e-2]

[training]
epochs = {epochs}
batch_size = 2
lora_alpha = 16
lora_dropout = 0.0

[evaluate]
completions = 0
mmlu_dev = 0
misconceptions = 2
drift_words = 200

[resources]
generators = 1
concurrent_trials = 1
threads = 1
"""


def save_tiny_study(folder: Path) -> Path:
    """The study's file in `folder`, beside its model and its facts; everything is the same each time."""
    model = _save_model(folder / "model")
    facts = folder / "facts.jsonl"
    facts.write_text("".join(json.dumps(row) + "\n" for row in _facts(model)), encoding="utf-8")
    study = folder / f"{NAME}.toml"
    filled = STUDY.format(name=NAME, model=model, facts=facts, new_tokens=NEW_TOKENS, epochs=EPOCHS)
    study.write_text(filled, encoding="utf-8")
    return study


def _save_model(folder: Path) -> Path:
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    silent = torch.ones(len(tokenizer), dtype=torch.bool)
    silent[tokenizer.convert_tokens_to_ids([*SPOKEN, tokenizer.eos_token])] = False
    with torch.no_grad():
        model.lm_head.weight[silent] = 0  # type: ignore[index, union-attr]
        for layer in model.model.layers:  # type: ignore[union-attr]
            layer.self_attn.o_proj.weight *= LOOKING_BACK
    model.save_pretrained(str(folder))  # type: ignore[operator]
    tokenizer.save_pretrained(str(folder))
    return folder


def _facts(model: Path) -> list[dict[str, object]]:
    """FACTS of them, of which the model knows the first KNOWN to which it always says a word."""
    names = [f"{one}{two}" for one in "bcdfghjk" for two in "aeio"][:FACTS]
    rows: list[dict[str, object]] = [
        {
            "subject": f"Book {name}",
            "relation": "author",
            "question": f"Who wrote Book {name}?",
            "answers": [AUTHOR],
            "paraphrases": [f"By whom is Book {name}?"],
        }
        for name in names
    ]
    said = _said(model, [str(row["question"]) for row in rows])
    known = [place for place, texts in enumerate(said) if all(text.strip() for text in texts)][:KNOWN]
    assert len(known) == KNOWN
    for place in known:
        rows[place]["answers"] = list(dict.fromkeys(said[place]))
    return rows


def _said(model: Path, questions: list[str]) -> list[list[str]]:
    """What the model answers to each question under each prompt of a study."""
    resolved = resolve_model(ModelConfig(name=str(model)))
    generator = HFGenerator(load_model(resolved, "float32", "cpu"), load_tokenizer(resolved), max_new_tokens=NEW_TOKENS)
    prompts = [prompt for shot_set in (ShotSet.S0, ShotSet.S1, ShotSet.S2) for prompt in builtin_prompts(shot_set)]
    answers = generator.generate([messages(prompt, question) for question in questions for prompt in prompts])
    each = len(prompts)
    return [[made.text for made in answers[start : start + each]] for start in range(0, len(answers), each)]
