"""What the stages of one run share: the study, its steps, the store, the console, and the cluster once it is needed."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.cluster.connection import connected
from kp.cluster.preflight import validate_cluster
from kp.cluster.sizing import Cluster
from kp.config.derived import PARAPHRASER_FIELD, REPLAY_SHOT_SET, base_shot_sets, paraphraser
from kp.config.study import ModelConfig, StudyConfig
from kp.errors import UserError
from kp.facts.paraphrases import with_paraphrases
from kp.facts.shots import ShotPool, load_shots, shot_sets
from kp.generation.prompt_tokens import PromptTokens, prompt_tokens
from kp.generation.vllm_environment import validate_interpreter
from kp.inference.answering import EngineSpec, most_chunk_facts
from kp.inference.chunk_files import ChunkTimes
from kp.models.loading import is_hub_model, load_tokenizer
from kp.models.names import NAME_FIELD, ResolvedModel
from kp.models.node_copies import VARIABLE, copies_root, copy_name, shared_file_system
from kp.progress import Display
from kp.prompts import ShotSets, messages
from kp.schema import frame
from kp.store.code_version import code_version
from kp.store.filenames import FACTS_FILE, PARAPHRASES_FILE
from kp.store.roots import open_store
from kp.store.steps import Step, Store
from kp.study.graph import Graph
from kp.study.model_check import model_fault, model_need
from kp.study.profile import Profile
from kp.vocabulary import Activity, Engine, ShotSet

Proposer = Callable[[Collection[str]], Graph]  # the graph from the results so far, given the ids of trials that failed in this run


class Session(ExitStack):
    """One run of one study; as a context manager it leaves the cluster at the end."""

    def __init__(
        self, config: StudyConfig, root: Path, model: ResolvedModel, paraphraser: ResolvedModel | None, proposer: Proposer
    ) -> None:
        super().__init__()
        self.config, self.model, self.paraphraser = config, model, paraphraser
        self.store = open_store(root)
        self.display = Display()
        self.failures: dict[str, dict[str, Any]] = {}
        """A row of the trials table for each trial that failed in this run and so has no record, by trial id."""
        self.refusals: list[UserError] = []
        """Why trials failed in this run, where a user can mend it; the other trials and stages run all the same."""
        self.profile = Profile()
        self._proposer = proposer
        self.graph: Graph = proposer(())
        code_version()  # now, because files may change while the study runs
        self.folder = self.store.study(config.name)  # made last, after errors in the input have been found
        self.callback(self.folder.publish)

    def propose(self) -> bool:
        """Add the trials proposed from the results of earlier ones; returns whether there are any."""
        known = len(self.graph.trials)
        self.graph = self._proposer(self.failures)
        return len(self.graph.trials) > known

    @cached_property
    def cluster(self) -> Cluster:
        """The Ray cluster, joined on first use so that a finished study never starts one."""
        log = self.folder.log
        self.display.line(f"starting Ray (library output goes to {shown(log)})")
        self.enter_context(self.display.quiet(log))
        with self.profile.doing(Activity.STARTING_RAY):
            found = self.enter_context(connected(self.config.resources, log, self.display.line))
            model, folder = pinned(self.config.model, self.model), Path(self.model.path)
            need = model_need(self.config, model, folder, found.use_gpu, copy_name(self.model))
            # Nothing is trained or answered while models are loaded.
            cluster = replace(found, study=self.config.name, patience=found.patience + need.loading_seconds)
            if cluster.is_joined:
                self._note_shared_storage(folder)
                validate_cluster(self.store.place, self._note, partial(model_fault, need), found.accelerator_type)
        self.display.line(f"cluster: {cluster}")
        return cluster

    def _note(self, text: str) -> None:
        self.display.line(f"note: {text}")

    def _note_shared_storage(self, folder: Path) -> None:
        if copies_root() is None and (kind := shared_file_system(folder)) is not None:
            self._note(f"the model's files lie on {kind}, from where every process reads them; {VARIABLE} keeps a copy on each node")

    @cached_property
    def engine(self) -> EngineSpec:
        """The engine of every actor that asks the base model."""
        vllm_python = self.config.resources.vllm_python
        if self.config.categorise.engine is Engine.HF:
            return self.hf_engine
        assert vllm_python is not None, "ensured by the study's config"
        validate_interpreter(vllm_python)
        # Engines of actors that share a GPU share its memory.
        share = self.config.resources.vllm_memory_share * (self.cluster.actor_gpus or 1.0)
        tokens = self._prompt_tokens(self.model, NAME_FIELD)
        return replace(
            self.hf_engine, engine=self.config.categorise.engine, vllm_python=vllm_python, vllm_memory_share=share, prompt_tokens=tokens
        )

    def _prompt_tokens(self, model: ResolvedModel, field: str) -> PromptTokens:
        """The first questions, each under another prompt of S0, as tokens of this environment."""
        asked = zip(self.shot_sets[ShotSet.S0], self.facts["question"].to_pylist(), strict=False)
        return prompt_tokens(load_tokenizer(model, field), [messages(shots, question) for shots, question in asked])

    @cached_property
    def adapter_engine(self) -> EngineSpec:
        """The same for an actor that swaps adapters, of any rank of the grid."""
        # An init that moves a part of the base into the adapter gives an adapter of twice the rank.
        wider = 2 if self.config.training.moves_base else 1
        return replace(self.engine, max_lora_rank=wider * max(self.config.search.rank))

    @cached_property
    def paraphrase_engine(self) -> EngineSpec:
        """The same for the model that writes paraphrases, which are lists; only if the study names one."""
        asked, settings = paraphraser(self.config), self.config.facts.paraphrase
        assert asked is not None, "only a study that names a model has the step"
        assert self.paraphraser is not None
        model = pinned(asked, self.paraphraser)
        engine = replace(self.engine, model=model, model_field=PARAPHRASER_FIELD, max_new_tokens=settings.max_new_tokens)
        tokens = None if engine.prompt_tokens is None else self._prompt_tokens(self.paraphraser, PARAPHRASER_FIELD)
        return replace(engine, stop_at_newline=False, prompt_tokens=tokens)

    @cached_property
    def hf_engine(self) -> EngineSpec:
        """The engine with a transformers model, which lm-eval needs and with which other engines are compared."""
        return self._hf_engine(self.cluster.generator_threads)

    @cached_property
    def trial_engine(self) -> EngineSpec:
        """The same for a training worker, which has its own share of the cores."""
        resources = self.config.resources
        engine = self._hf_engine(self.cluster.worker_threads)
        names = ("attention", "activation_cache_gib", "gradient_checkpointing")
        return replace(engine, **{name: getattr(resources, name) for name in names})

    def _hf_engine(self, threads: int) -> EngineSpec:
        settings, resources = self.config.categorise, self.config.resources
        model = pinned(self.config.model, self.model)
        return EngineSpec(
            model,
            settings.max_new_tokens,
            settings.stop_at_newline,
            resources.generation_batch,
            threads,
            self.cluster.use_gpu,
            cuda_graphs=resources.cuda_graphs,
            per_gpu=resources.per_gpu,
            chunk_facts=most_chunk_facts(resources),
        )

    @cached_property
    def facts(self) -> pa.Table:
        """The measured facts (FACTS); available once the facts step is done."""
        return self.store.read(self.graph.steps["facts"], FACTS_FILE, schema.FACTS)

    @cached_property
    def training_facts(self) -> pa.Table:
        """The same with the paraphrases that a model added, if the study requests that; available once that step is done, too.

        Shots are checked against the facts without these: that a model wrote paraphrases must not change what is measured.
        """
        return training_facts(self.graph, self.store)

    @cached_property
    def shots(self) -> ShotPool:
        """All shots from which the study's sets can be filled; fetched on first use, like facts."""
        return load_shots(self.config.categorise.shots, base_shot_sets(self.config))

    @cached_property
    def shot_sets(self) -> ShotSets:
        """The shot sets, with leaking shots replaced."""
        return shot_sets(self.shots.shots, frame(self.facts), base_shot_sets(self.config))[0]

    @cached_property
    def replay_facts(self) -> pa.Table:
        """The facts (FACTS) of the separate replay source; available if the study names one, once its step is done."""
        return self.store.read(self.graph.steps["replay_facts"], FACTS_FILE, schema.FACTS)

    @cached_property
    def replay_shot_sets(self) -> ShotSets:
        """The one shot set on which these are asked: the study's, with the shots that leak one of them also replaced."""
        guarded = pl.concat([frame(self.facts), frame(self.replay_facts)])
        return shot_sets(self.shots.shots, guarded, (REPLAY_SHOT_SET,))[0]

    def commit(
        self,
        step: Step,
        tables: Mapping[str, pa.Table],
        schemas: Mapping[str, pa.Schema],
        began: float,
        details: dict[str, Any] | None = None,
        hardware: Iterable[Mapping[str, Any]] | None = None,
    ) -> None:
        """Commit a step that consists only of these tables, by file; `began` is time.monotonic() at its start.

        `hardware` is that of the workers that made them, None if this process did.
        """

        def fill(folder: Path) -> None:
            for name, table in tables.items():
                schema.write_table(table, schemas[name], folder / name)

        self.store.commit(step, fill, seconds=time.monotonic() - began, details=details, hardware=hardware)

    def link(self, name: str, step: Step, part: str = "") -> str:
        """Show a step's files, or one folder of it, as `name` (which may be a/b) in the study's folder; returns where, for messages."""
        found = self.store.link(self.folder, name, step, part)
        return found if isinstance(found, str) else shown(found)

    def generated(self, times: ChunkTimes) -> None:
        """Note when actors answered questions, and loaded their model for it."""
        self.profile.add(Activity.GENERATION, times.working)
        self.profile.add(Activity.LOADING, times.loading)

    def is_done(self, step: Step, what: str) -> bool:
        """Whether a step is done; prints that it is, or warns that its files were damaged."""
        if self.store.is_done(step):
            record = self.store.record(step) or {}
            self.display.line(f"{what}: already done ({step.fingerprint[:8]}, took {record['wall_seconds']:.0f} s), not redone")
            return True
        if self.store.damaged(step):
            self.display.line(f"{what}: the files of {step} are damaged and are made again")
        return False


def pinned(asked: ModelConfig, found: ResolvedModel) -> ModelConfig:
    """The same model at the commit to which it was resolved: each actor resolves it once more, and a branch of the Hub may have moved."""
    return asked.model_copy(update={"revision": found.revision}) if is_hub_model(asked) else asked


def training_facts(graph: Graph, store: Store) -> pa.Table:
    """The facts (FACTS) with all paraphrases that a trial may train on."""
    facts = store.read(graph.steps["facts"], FACTS_FILE, schema.FACTS)
    if "paraphrases" not in graph.steps:
        return facts
    added = store.read(graph.steps["paraphrases"], PARAPHRASES_FILE, schema.PARAPHRASES)
    return with_paraphrases(frame(facts), frame(added)).to_arrow().cast(schema.FACTS)


def shown(path: Path) -> str:
    """A path, relative to the working folder if it is inside."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
