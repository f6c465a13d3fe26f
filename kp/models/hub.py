"""Models on the Hub: their revision is the commit that a name stands for."""

from collections.abc import Callable
from pathlib import Path

from kp.errors import UserError, first_line
from kp.models.folders import require_model, require_small_files
from kp.models.names import CONFIG_FILE, EMBEDDED, TEXT_FILES, TOKENIZER_FILES, WEIGHT_FILES, NamedModel, ResolvedModel

_TIMEOUT_S = 5.0


def resolve_hub(config: NamedModel, field: str) -> ResolvedModel:
    """The current commit on the Hub; without a network, the commit in the Hub's cache on this machine.

    Raises UserError for `field`, the config field of the model, with what was tried.
    """
    snapshot = _snapshot(config, _fetch_snapshot, field)
    require_model(config, snapshot, field)
    return ResolvedModel(name=config.name, path=str(snapshot), revision=snapshot.name)


def fetch_small_files(config: NamedModel, field: str) -> Path:
    """The folder with the config and the tokenizer, before any weights are fetched; raises UserError as `resolve_hub` does."""
    folder = _snapshot(config, _fetch_texts, field)
    require_small_files(config, folder, field)
    return folder


def cached_small_files(config: NamedModel, field: str) -> Path | None:
    """The folder with the config and the tokenizer if this machine has them; raises UserError for `field` if they are damaged."""
    folder = cached_snapshot(config)
    if folder is not None and any((folder / name).is_file() for name in TOKENIZER_FILES):
        require_small_files(config, folder, field)
        return folder
    return None


def _snapshot(config: NamedModel, fetch: Callable[[NamedModel], Path], field: str) -> Path:
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return fetch(config)
    except HFValidationError as error:
        raise _nowhere(config, f"the Hub allows no such name: {first_line(error)}", field) from None
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403, 404):
            raise _nowhere(config, f"the Hub has no such model, or not for this user: {first_line(error)}", field) from None
        return _cached_or_raise(config, error, field)
    except (HTTPError, ConnectionError, TimeoutError) as error:
        return _cached_or_raise(config, error, field)


def _fetch_texts(config: NamedModel) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    HfApi().model_info(config.name, revision=config.revision, timeout=_TIMEOUT_S)  # answers or fails within seconds
    return Path(snapshot_download(config.name, revision=config.revision, allow_patterns=[*TEXT_FILES]))


def _fetch_snapshot(config: NamedModel) -> Path:
    """Fetch only safetensors if the repository has them, so that the same weights are not fetched twice."""
    from huggingface_hub import HfApi, snapshot_download

    listing = HfApi().model_info(config.name, revision=config.revision, timeout=_TIMEOUT_S).siblings or []
    safe = any(entry.rfilename.endswith(".safetensors") for entry in listing)
    wanted = [*TEXT_FILES, *(WEIGHT_FILES[:2] if safe else WEIGHT_FILES[2:])]
    # By branch or tag, not by commit: only then does the cache record what the name stood for, which a run without a network needs.
    return Path(snapshot_download(config.name, revision=config.revision, allow_patterns=wanted))


def _cached_or_raise(config: NamedModel, error: Exception, field: str) -> Path:
    snapshot = cached_snapshot(config)
    if snapshot is None:
        reason = f"the Hub cannot be reached ({type(error).__name__}) and its cache on this machine does not hold it"
        raise _nowhere(config, reason, field) from None
    return snapshot


def cached_snapshot(config: NamedModel) -> Path | None:
    """The folder of the commit that the cache on this machine holds; None if there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        # Requests only the config: the weights are checked afterwards, and files that are never needed must not count as missing.
        return Path(snapshot_download(config.name, revision=config.revision, allow_patterns=[CONFIG_FILE], local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def _nowhere(config: NamedModel, hub: str, field: str) -> UserError:
    asked = config.name if config.revision is None else f"{config.name}@{config.revision}"
    message = f"'{asked}' was not found: it is not the embedded model '{EMBEDDED}', no folder of that name exists, and {hub}"
    return UserError(message, field=field)
