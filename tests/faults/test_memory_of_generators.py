"""Memory that runs out under a generator of `kp categorise`: the batch is halved, the answers stay.

The limit is a real one, laid on the running actor from outside. The model is a tiny one with a vocabulary so large that the logits of a
batch are what does not fit.
"""

import resource
import sys
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from kp.config.derived import base_shot_sets
from kp.config.study import load_study
from kp.inference.answering import EngineSpec, FactIndex, answer_chunk, sorted_answers
from kp.inference.base_answers import Categorisation
from kp.metrics.matching import AnswerKeys
from kp.models.loading import load_tokenizer, resolve_model
from kp.study.run import open_session
from tests.conftest import SMOKE
from tests.killing import running_kp

VOCABULARY = 262_144  # logits of one position take 1 MiB
ROOM = 48 << 20  # bytes that a generator may take beyond what it has, once it has begun
OVERRIDES = ("facts.count=48", "resources.generators=1", "resources.threads=1")


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A random model in transformers' format with the embedded model's tokenizer."""
    tokenizer = load_tokenizer(resolve_model(load_study(SMOKE).model))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        model.lm_head.weight[len(tokenizer) :] = 0  # only what the tokenizer can spell is ever the likeliest
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def limit_memory(process: psutil.Process) -> None:
    """Let the process map no more than ROOM bytes beyond what it has now."""
    most = process.memory_info().vms + ROOM
    process.rlimit(resource.RLIMIT_AS, (most, most))


def answers_without_limit(overrides: list[str], root: Path) -> pa.Table:
    """What the same study answers in this process, where memory does not run out."""
    config = load_study(SMOKE, overrides)
    settings, batch = config.categorise, config.resources.generation_batch
    engine = EngineSpec(config.model, settings.max_new_tokens, settings.stop_at_newline, batch, threads=1, use_gpu=False)
    with open_session(config, root) as session:
        job = Categorisation(session.facts, session.shot_sets, base_shot_sets(config), engine)
    model, generator = job.engine.load()
    index, keys = FactIndex(job.facts), AnswerKeys.of_table(job.facts)
    chunks = job.chunks().to_pylist()
    made = [answer_chunk(generator, index.take(chunk["fact_ids"]), job.shot_sets, chunk, model.revision, keys) for chunk in chunks]
    return sorted_answers(pa.concat_tables(made))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of another process")
@pytest.mark.timeout(1800)
@pytest.mark.slow
def test_categorise_out_of_memory_in_a_generator_halves_the_batch_and_gives_the_same_answers(model_folder: Path, tmp_path: Path) -> None:
    overrides = [*OVERRIDES, f"model.name={model_folder}"]

    with running_kp(tmp_path, "categorise", SMOKE, *overrides) as run:
        run.wait_until(lambda: any(".pending" not in path.name for path in tmp_path.glob("work/categorise/*/committed/*.parquet")))
        [generator] = run.generators()
        said = Path(f"/proc/{generator.pid}/fd/2").readlink()
        limit_memory(generator)
        assert run.wait() == 0, run.output()

    assert "out of memory with" in said.read_text(encoding="utf-8")
    [answers] = tmp_path.glob("store/categorise/*/answers.parquet")
    assert pq.read_table(answers).equals(answers_without_limit(overrides, tmp_path))
