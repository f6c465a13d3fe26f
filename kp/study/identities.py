"""The inputs of a study, identified by digests of their contents: the same model, facts and shots with other names give the same steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kp.config.derived import PARAPHRASER_FIELD, base_shot_sets, paraphraser, replay_settings
from kp.config.study import FactsConfig, StudyConfig
from kp.errors import MissingSourceError, UserError
from kp.facts import hub
from kp.facts.replay import replay_identity
from kp.facts.shots import shots_identity
from kp.facts.sources import drawing_identity, source_identity
from kp.models.loading import describe_model, resolve_model
from kp.models.names import EMBEDDED, NAME_FIELD, NOT_FETCHED, NamedModel
from kp.study.probing import ProbedStudy
from kp.study.task_data import TaskData

NOT_HERE = "not here"  # the identity of an input that is missing in a dry run


@dataclass(frozen=True)
class Identities:
    """Digests of the contents of the study's inputs, independent of their names."""

    model: str
    facts: str
    shots: str
    paraphraser: str | None = None  # the model that writes paraphrases, if the study names one
    drawing: Mapping[str, str] | None = None  # if the source is a dump: templates, aliases and so on, by their field
    replay: str | None = None  # the source of the replayed facts, if the study names one
    task_data: Mapping[str, TaskData] = field(default_factory=dict)  # of lm-eval tasks by their names, as far as they are known


@dataclass(frozen=True)
class Missing:
    """An input of a study that is not here, and the field from which its price is estimated."""

    error: UserError
    estimated_from: str | None = None

    def __str__(self) -> str:
        return f"{self.error} ({f'priced by {self.estimated_from}' if self.estimated_from else 'it is read when the study begins'})"


def described_identities(config: StudyConfig, revision_of: Callable[[NamedModel, str], str], note: Callable[[Missing], None]) -> Identities:
    """The identities of a study's inputs, as far as they are known on this machine; `note` is called for each missing input.

    `revision_of` returns the revision of a model, given the config field of the model. Raises UserError if an input is unusable, or if a
    missing one has no known count.
    """
    revision = revision_of(config.model, NAME_FIELD)
    facts = _identity_if_here(note, config.facts, "facts.count", lambda: source_identity(config.facts))
    replay = _identity_if_here(note, replay_settings(config), "search.replay_count", lambda: replay_identity(config))
    try:
        shots = shots_identity(config.categorise.shots, base_shot_sets(config))
    except MissingSourceError as error:
        note(Missing(error))
        shots = NOT_HERE
    rephrasing = paraphraser(config)
    writer = revision_of(rephrasing, PARAPHRASER_FIELD) if rephrasing else None
    return Identities(revision, facts or NOT_HERE, shots, writer, drawing_identity(config.facts), replay)


def _identity_if_here(
    note: Callable[[Missing], None], settings: FactsConfig | None, field: str, find: Callable[[], str | None]
) -> str | None:
    """The identity of a source of facts; if it is not here, the count of facts in `field` is enough.

    A data set on the Hub needs none: it is read when the study begins, and until then its size is not known.
    """
    try:
        return find()
    except MissingSourceError as error:
        count = settings.count if settings else None
        if count is None and not (settings and settings.source.startswith(hub.PREFIX)):
            raise
        note(Missing(error, field if count is not None else None))
        return NOT_HERE


def identities_here(study: ProbedStudy) -> Identities:
    """The identities of the study's inputs; UserError if one is not here, because trials are identified by them."""

    def refuse(missing: Missing) -> None:
        raise UserError(
            f"{missing.error.message}; trials are identified by their inputs: run this where the study runs, or run `kp facts` here first",
            field=missing.error.field,
        )

    return described_identities(study.config, lambda model, field: study.identity(_revision(model, field), field), refuse)


def _revision(model: NamedModel, field: str) -> str:
    """The model's revision as in a run, found without fetching anything."""
    if model.name != EMBEDDED and Path(model.name).expanduser().is_dir():
        return resolve_model(model, field).revision
    revision = describe_model(model, field)
    if revision == NOT_FETCHED:
        raise UserError(
            f"{model.name} is {revision}; trials are identified by it: run this where the study runs, or run `kp facts` here first",
            field=field,
        )
    return revision
