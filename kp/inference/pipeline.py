"""One streaming Ray Data pipeline for all work of models: chunks -> a pool of actors, each with the base model loaded -> parquet.

One row of the pipeline is one chunk, what one actor does in one go, written whole or not at all. After a crash, Ray Data's checkpoint
determines what is missing: a chunk's id is committed with its answers, and a rerun does only chunks without a committed id. With results
in a bucket, the actors put their chunks there themselves (kp.inference.bucket_chunks).

An actor works on two chunks at once, but its model on one (kp.inference.shared_generator): while it answers, the next chunk's prompts are
rendered and tokenised, and the last one's answers are judged and written.

The pool grows and shrinks with the cluster. It starts with the actors that the cluster has room for, uses GPUs that come later, and needs
no more than one: a lost node costs the chunks that were in progress there.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from kp.cluster.sizing import Cluster
from kp.cluster.tally import Tally
from kp.errors import UserError
from kp.inference.answering import EngineSpec
from kp.inference.bucket_chunks import BucketChunks, Chunks, keep_chunk
from kp.inference.chunk_files import ANSWERED_CHUNKS, ChunkFiles, packed
from kp.inference.shared_generator import CHUNKS_AT_ONCE, GeneratorShare, SharedGenerator
from kp.models.names import ResolvedModel
from kp.store.bucket_folder import BucketFolder
from kp.store.hardware import process_hardware
from kp.vocabulary import Engine

POLL_SECONDS = 0.25
GROWS_ABOVE, SHRINKS_BELOW = 0.875, 0.25
"""Of the tasks that all actors may have: the pool grows while they have nearly all, and idle ones leave it when few are left."""

Answerer = Callable[[GeneratorShare, Mapping[str, Any]], pa.Table]
"""From a generator and a chunk to the chunk's answers; several threads may call it at once."""


class PipelineJob(Protocol):
    """Work for actors that hold the base model. Every actor gets the whole job."""

    @property
    def engine(self) -> EngineSpec:
        """How an actor makes its generator."""
        ...

    def answerer(self, base: ResolvedModel) -> Answerer:
        """What answers the chunks of this base model and its adapters; made once per actor."""
        ...


class _ChunkAnswerer:
    """One actor of the pool, which loads the base model once. Ray calls it from several threads."""

    def __init__(self, job: PipelineJob, tally: Tally, kept_in: BucketFolder | None = None) -> None:
        self._tally, self._kept_in = tally, kept_in
        began = time.time()
        base, generator = job.engine.load()
        self._generator, self._answer = SharedGenerator(generator), job.answerer(base)
        self._load = {"load_began": began, "load_ended": time.time()}
        self._hardware = json.dumps(process_hardware())  # only now, because the GPU is known once the model is loaded

    def __call__(self, batch: pa.Table) -> pa.Table:
        answered = pa.Table.from_pylist([self._answered(chunk) for chunk in batch.to_pylist()], schema=ANSWERED_CHUNKS)
        if self._kept_in is None:
            return answered
        keep_chunk(self._kept_in, answered)
        return answered.select(["chunk_id"])

    def _answered(self, chunk: dict[str, Any]) -> dict[str, Any]:
        began, share = time.time(), self._generator.share()
        with self._tally.counting(chunk["chunk_id"]) as share.on_answered:
            answers = packed(self._answer(share, chunk))
        made = {"chunk_id": chunk["chunk_id"], "answers": answers, "hardware": self._hardware}
        # What came before its turn took place while the model answered another chunk.
        return {**made, "began": share.took_turn or began, "ended": time.time(), **self._load}


def answer_chunks(job: PipelineJob, chunks: pa.Table, files: Chunks, cluster: Cluster, tally: Tally) -> Iterator[frozenset[str]]:
    """Answer these chunks (`chunk_id`, and whatever the job's answerer needs) in about this order.

    Yields the ids of chunks while the pipeline continues, soon after they have been committed. The caller has settled the files. Raises
    what an actor raised.
    """
    if not len(chunks):
        return
    failed: list[BaseException] = []

    def run() -> None:
        try:
            _run(job, chunks, files, cluster, tally)
        except BaseException as error:  # raised below, in the thread that works with the results
            failed.append(error)

    # The pipeline has the other thread, because signals and whatever fails in committing must end this one.
    pipeline = threading.Thread(target=run, daemon=True)
    pipeline.start()
    running = True
    while running:
        pipeline.join(POLL_SECONDS)
        running = pipeline.is_alive()  # before the look at what is committed, or the last chunks could be missed
        if committed := files.committed_since():
            yield committed
    if failed:
        raise _stalled(failed[0], cluster) or failed[0]


def _stalled(error: BaseException, cluster: Cluster) -> UserError | None:
    """The error for users if the pipeline made no progress for too long."""
    import ray
    from ray.data.exceptions import ExecutionTimeoutError

    if not isinstance(error, ExecutionTimeoutError):
        return None
    kind, there = ("GPU" if cluster.use_gpu else "CPU"), ray.cluster_resources()
    needed = f"{cluster.actor_gpus:g} {cluster.gpu_name}" if cluster.use_gpu else f"{cluster.actor_cpus:g} CPU"
    has = f"a generator needs {needed}, and the cluster has {there.get(kind, 0):g} {kind}s in all"
    return UserError(
        f"nothing was answered for {cluster.patience / 60:.0f} minutes: {has}; add nodes and run it again, or allow more time for a chunk",
        field="resources.stalled_after",
    )


def _run(job: PipelineJob, chunks: pa.Table, files: Chunks, cluster: Cluster, tally: Tally) -> None:
    import ray.data
    from ray.data import SaveMode

    _configure(files, cluster.patience, _calls_at_once(job.engine))
    actors = min(len(chunks), cluster.generators)
    if isinstance(files, BucketChunks):
        answered = _answered(ray.data.from_arrow(chunks), job, cluster, actors, tally, files.folder)
        for batch in answered.iter_batches(batch_size=None, batch_format="pyarrow"):
            files.note(batch["chunk_id"].to_pylist())
        return
    pq.write_table(chunks, files.chunks / "chunks.parquet")
    asked = ray.data.read_parquet(str(files.chunks))
    answered = _answered(asked, job, cluster, actors, tally, None)
    answered.write_parquet(str(files.answers), mode=SaveMode.APPEND)


def _answered(chunks: Any, job: PipelineJob, cluster: Cluster, actors: int, tally: Tally, kept_in: BucketFolder | None) -> Any:
    """The dataset of answered chunks; of their ids alone, if their actors keep them in a bucket."""
    import ray.data

    return chunks.repartition(target_num_rows_per_block=1).map_batches(
        _ChunkAnswerer,
        fn_constructor_kwargs={"job": job, "tally": tally, "kept_in": kept_in},
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=1,
            initial_size=actors,
            max_size=cluster.most_generators,
            max_concurrent_calls_per_actor=_calls_at_once(job.engine),
            max_tasks_in_flight_per_actor=CHUNKS_AT_ONCE,  # and no more, or actors that come later would find nothing to do
            enable_true_multi_threading=True,
        ),
        **cluster.actor_options(),
        **job.engine.remote_options(),
    )


def _calls_at_once(engine: EngineSpec) -> int:
    """Calls of an actor at the same time; vLLM reads prompts and computes by turns of its own."""
    return CHUNKS_AT_ONCE if engine.engine is Engine.HF else 1


def _configure(files: Chunks, patience: float, calls_at_once: int) -> None:
    import ray.data
    from ray.data.checkpoint import CheckpointConfig
    from ray.data.context import AutoscalingConfig

    context = ray.data.DataContext.get_current()
    # Ray counts the tasks of an actor for each call that it makes at once.
    tasks = CHUNKS_AT_ONCE / calls_at_once
    context.autoscaling_config = AutoscalingConfig(
        actor_pool_util_upscaling_threshold=GROWS_ABOVE * tasks, actor_pool_util_downscaling_threshold=SHRINKS_BELOW * tasks
    )
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = int(patience)
    context.raise_original_map_exception = True  # Ray Data's own has it as its cause, which pickling drops
    context.checkpoint_config = None
    if isinstance(files, ChunkFiles):
        path = str(files.committed)
        context.checkpoint_config = CheckpointConfig(id_column="chunk_id", checkpoint_path=path, delete_checkpoint_on_success=False)
