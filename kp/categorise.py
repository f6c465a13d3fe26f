"""The base model's answers, as one streaming Ray Data pipeline: chunks of questions -> a pool of generators -> parquet.

Ray Data's own checkpoint decides what is left after a crash: a chunk's id is committed with its answers, and a rerun reads only chunks
whose id is not. One row of the pipeline is one chunk, some facts under all prompts of a shot set, written whole or not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from kp import schema
from kp.answering import EngineSpec, FactIndex, answer_chunk, make_chunks, sorted_answers
from kp.cluster import Cluster, Tally
from kp.progress import Display
from kp.prompts import PROMPTS_PER_SET, ShotSets
from kp.vocabulary import ShotSet

NO_PROGRESS_SECONDS = 1800


@dataclass(frozen=True)
class Categorisation:
    """What is asked of the base model."""

    facts: pa.Table  # FACTS
    shot_sets: ShotSets
    asked: Sequence[ShotSet]
    engine: EngineSpec

    @property
    def prompts(self) -> int:
        """Generations in all."""
        return len(self.facts) * PROMPTS_PER_SET * len(self.asked)


class _ChunkAnswerer:
    """One generator of the pool; the model is loaded once per actor."""

    def __init__(self, job: Categorisation, tally: Tally) -> None:
        self._job, self._tally = job, tally
        self._index = FactIndex(job.facts)
        self._model, self._generator = job.engine.load()

    def __call__(self, batch: pa.Table) -> pa.Table:
        answered = [self._answer(chunk) for chunk in batch.to_pylist()]
        return pa.table({"chunk_id": batch["chunk_id"], "answers": pa.array(answered, pa.list_(pa.struct(schema.ANSWERS)))})

    def _answer(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        facts = self._index.take(chunk["fact_ids"])
        answers = answer_chunk(self._generator, facts, self._job.shot_sets, chunk, self._model.revision)
        self._tally.add(len(answers))
        return answers.to_pylist()


def base_answers(job: Categorisation, work: Path, cluster: Cluster, display: Display) -> pa.Table:
    """Ask the base model everything that is not yet answered in `work`; returns all answers (ANSWERS), sorted.

    Raises RuntimeError where a question came back twice or not at all.
    """
    import ray.data
    from ray.data import SaveMode

    chunks = make_chunks(pl.DataFrame(pl.from_arrow(job.facts)), job.asked)
    pending = work / "chunks"
    pending.mkdir(exist_ok=True)
    pq.write_table(chunks, pending / "chunks.parquet")
    finished = _finished_rows(work, chunks)
    tally = Tally()
    _configure(work)
    with display.bar("categorise", job.prompts, "prompts") as bar, tally.shown_on(bar, already=finished):
        pipeline = (
            ray.data.read_parquet(str(pending))
            .repartition(target_num_rows_per_block=1)
            .map_batches(
                _ChunkAnswerer,
                fn_constructor_kwargs={"job": job, "tally": tally},
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=cluster.generators),
                num_cpus=cluster.actor_cpus,
                num_gpus=cluster.actor_gpus,
            )
        )
        pipeline.write_parquet(str(work / "answers"), mode=SaveMode.APPEND)
    return _collect(work, job)


def _configure(work: Path) -> None:
    import ray.data
    from ray.data.checkpoint import CheckpointConfig

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_SECONDS
    (work / "committed").mkdir(exist_ok=True)
    context.checkpoint_config = CheckpointConfig(
        id_column="chunk_id", checkpoint_path=str(work / "committed"), delete_checkpoint_on_success=False
    )


def _finished_rows(work: Path, chunks: pa.Table) -> int:
    committed = {
        chunk_id
        for path in (work / "committed").glob("*.parquet")
        if ".pending" not in path.name
        for chunk_id in pq.read_table(path)["chunk_id"].to_pylist()
    }
    return PROMPTS_PER_SET * sum(len(chunk["fact_ids"]) for chunk in chunks.to_pylist() if chunk["chunk_id"] in committed)


def _collect(work: Path, job: Categorisation) -> pa.Table:
    found = pq.read_table(work / "answers", columns=["answers"])["answers"].combine_chunks()
    answers = pa.Table.from_struct_array(found.flatten()).cast(schema.ANSWERS)
    unique = answers.group_by(["fact_id", "shot_set", "prompt_index"]).aggregate([])
    if len(answers) != job.prompts or len(unique) != job.prompts:
        raise RuntimeError(f"{job.prompts} answers were asked for, {len(answers)} came back, of {len(unique)} questions")
    return sorted_answers(answers)
