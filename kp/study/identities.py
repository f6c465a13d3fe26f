"""What goes into a study, by the digests of its contents: the same model, facts and shots under other names give the same steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kp.config.derived import PARAPHRASER_FIELD, base_shot_sets, paraphraser
from kp.config.study import StudyConfig
from kp.errors import MissingSourceError, UserError
from kp.facts.replay import replay_identity
from kp.facts.shots import shots_identity
from kp.facts.sources import drawing_identity, source_identity
from kp.models.loading import EMBEDDED, NAME_FIELD, NOT_FETCHED, NamedModel, describe_model, resolve_model

NOT_HERE = "not here"  # the identity of an input that a dry run does without


@dataclass(frozen=True)
class Identities:
    """What the study's inputs are, whatever they are called: digests of contents."""

    model: str
    facts: str
    shots: str
    paraphraser: str | None = None  # the model that writes paraphrases, where the study names one
    drawing: Mapping[str, str] | None = None  # where the facts come out of a dump: templates, aliases and the like, by their field
    replay: str | None = None  # the source of the replayed facts, where the study names one


@dataclass(frozen=True)
class Missing:
    """An input of a study that is not here, and the field by which it is priced all the same."""

    error: UserError
    estimated_from: str | None = None

    def __str__(self) -> str:
        return f"{self.error} (priced by {self.estimated_from})" if self.estimated_from else str(self.error)


def described_identities(config: StudyConfig, revision_of: Callable[[NamedModel, str], str], note: Callable[[Missing], None]) -> Identities:
    """What goes into a study, as far as this machine can tell without it; `note` is told of each input that is not here.

    `revision_of` names the content of a model, given the config field that names the model. Raises UserError where an input is of no use,
    or no count tells how much of it there is.
    """
    revision = revision_of(config.model, NAME_FIELD)
    facts = _identity_if_here(note, config.facts.count, "facts.count", lambda: source_identity(config.facts))
    replay = _identity_if_here(note, config.search.replay_count, "search.replay_count", lambda: replay_identity(config))
    try:
        shots = shots_identity(config.categorise.shots, base_shot_sets(config))
    except MissingSourceError as error:
        note(Missing(error))
        shots = NOT_HERE
    rephrasing = paraphraser(config)
    writer = revision_of(rephrasing, PARAPHRASER_FIELD) if rephrasing else None
    return Identities(revision, facts or NOT_HERE, shots, writer, drawing_identity(config.facts), replay)


def _identity_if_here(note: Callable[[Missing], None], count: int | None, field: str, find: Callable[[], str | None]) -> str | None:
    """What a source of facts holds; of one that is not here, how many there are to be is enough, where the study says so in `field`."""
    try:
        return find()
    except UserError as error:
        if count is None:
            raise
        note(Missing(error, field))
        return NOT_HERE


def identities_here(config: StudyConfig) -> Identities:
    """What goes into the study; UserError where it is not here, since its trials are known by that."""

    def refuse(missing: Missing) -> None:
        raise UserError(
            f"{missing.error.message}; trials are known by what goes into them: look where the study runs, or run `kp facts` here first",
            field=missing.error.field,
        )

    return described_identities(config, _revision, refuse)


def _revision(model: NamedModel, field: str) -> str:
    """What a run calls the model's content, found out without fetching anything."""
    if model.name != EMBEDDED and Path(model.name).expanduser().is_dir():
        return resolve_model(model, field).revision
    revision = describe_model(model, field)
    if revision == NOT_FETCHED:
        raise UserError(
            f"{model.name} is {revision}; trials are known by it: look where the study runs, or run `kp facts` here first", field=field
        )
    return revision
