"""The models of a study, probed in the driver before anything is asked of them: see kp.models.probe."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.benchmarks.harness_tasks import validate_tasks
from kp.config.derived import PARAPHRASER_FIELD, paraphraser
from kp.config.layers import SEARCHED_LAYERS_FIELD, layer_numbers
from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.models.loading import small_files
from kp.models.names import NAME_FIELD, NamedModel
from kp.models.probe import ModelProbe, probe_model
from kp.study.machine_choices import with_machine_choices
from kp.training.spec import searched_layers
from kp.vocabulary import LAYERS_FIELD, Packing


@dataclass(frozen=True)
class ProbedStudy:
    """A study in which what depends on its model is settled, such as the target modules, and the digests of its models' chats by the field
    that names the model."""

    config: StudyConfig
    chats: Mapping[str, str]

    def identity(self, revision: str, field: str) -> str:
        """What identifies a model in every step: its revision, and how it reads a chat, as far as that is known."""
        return f"{revision}-{self.chats[field]}" if field in self.chats else revision


def probed(config: StudyConfig, root: Path, note: Callable[[str], None], fetch: bool, trains: bool) -> ProbedStudy:
    """Probe the models of a study; `note` is called with what was settled, and if not `trains`, with why no adapter can be trained.

    Without `fetch`, a Hub model whose small files are not here is not probed. Raises UserError naming the field if a model cannot be used.
    """
    validate_tasks(config.evaluate)
    config = with_machine_choices(config, root, note, fetch, trains)
    chats = {}
    rephrasing = paraphraser(config)
    asked: list[tuple[str, NamedModel]] = [(NAME_FIELD, config.model), *([(PARAPHRASER_FIELD, rephrasing)] if rephrasing else [])]
    for field, model in asked:
        folder = small_files(model, fetch, field)
        if folder is None:
            continue
        mine = field == NAME_FIELD
        found = probe_model(model, folder, config.training.target_modules if mine else (), field)
        chats[field] = found.chat_digest
        for line in found.notes:
            note(f"{field}: {line}")
        if mine:
            _validate_layers(config, found.layers)
            config = _settled(config, found, note, trains)
    return ProbedStudy(config, chats)


def _validate_layers(config: StudyConfig, count: int) -> None:
    field = SEARCHED_LAYERS_FIELD if config.search.layers else LAYERS_FIELD
    for layers in searched_layers(config):
        layer_numbers(layers, count, field)


def _settled(config: StudyConfig, found: ModelProbe, note: Callable[[str], None], trains: bool) -> StudyConfig:
    """The study with the settings of training that depend on the model's architecture."""
    settled: dict[str, Any] = {}
    if not isinstance(found.modules, UserError):
        settled["target_modules"] = found.modules
    elif trains:
        raise found.modules
    else:
        note(f"no adapter can be trained: {found.modules}")
    if found.against_trees and config.training.packing is Packing.PREFIX_TREE:
        note(f"training.packing: rows are {Packing.PADDED}, because {found.against_trees}")
        settled["packing"] = Packing.PADDED
    return config.model_copy(update={"training": config.training.model_copy(update=settled)})
