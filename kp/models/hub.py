"""Models on the Hub: their revision is the commit that a name stands for."""

from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from kp.errors import UserError, first_line
from kp.models.folders import PICKLED, pickled_weights, require_model, require_small_files
from kp.models.names import CONFIG_FILE, EMBEDDED, TEXT_FILES, TOKENIZER_FILES, WEIGHT_FILES, NamedModel, ResolvedModel
from kp.store import prefetched

_TIMEOUT_S = 5.0


class _PickledError(Exception):
    """A repository whose only weights are pickles; its text is the name of one."""


def resolve_hub(config: NamedModel, field: str) -> ResolvedModel:
    """The current commit on the Hub; without a network, the commit in the Hub's cache on this machine.

    Raises UserError for `field`, the config field of the model, with what was tried.
    """
    snapshot = _snapshot(config, _fetch_snapshot, field)
    require_model(config, snapshot, field)
    return ResolvedModel(name=config.name, path=str(snapshot), revision=snapshot.name)


def fetch_into(config: NamedModel, cache: Path, field: str) -> ResolvedModel:
    """Fetch the whole model into a folder in the layout of the Hub's cache; raises UserError as `resolve_hub` does."""
    snapshot = _snapshot(config, lambda named: _fetch_snapshot(named, cache), field, cache)
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


def _snapshot(config: NamedModel, fetch: Callable[[NamedModel], Path], field: str, cache: Path | None = None) -> Path:
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if cache is None and (store := prefetched.in_use()):
        return _prefetched_snapshot(config, store, field)
    try:
        return fetch(config)
    except _PickledError as error:
        raise UserError(f"'{config.name}' {pickled_weights(str(error))}", field=field) from None
    except HFValidationError as error:
        raise _nowhere(config, f"the Hub allows no such name: {first_line(error)}", field) from None
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403, 404):
            raise _nowhere(config, f"the Hub has no such model, or not for this user: {first_line(error)}", field) from None
        return _cached_or_raise(config, error, field, cache)
    except (HTTPError, ConnectionError, TimeoutError) as error:
        return _cached_or_raise(config, error, field, cache)


def _prefetched_snapshot(config: NamedModel, store: prefetched.Prefetched, field: str) -> Path:
    snapshot = cached_snapshot(config)
    if snapshot is None:
        raise _nowhere(config, f"{store.folder} does not hold it: run `kp prefetch` for this study", field)
    return snapshot


def _fetch_texts(config: NamedModel) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    HfApi().model_info(config.name, revision=config.revision, timeout=_TIMEOUT_S)  # answers or fails within seconds
    return Path(snapshot_download(config.name, revision=config.revision, allow_patterns=[*TEXT_FILES]))


def _fetch_snapshot(config: NamedModel, cache: Path | None = None) -> Path:
    """Raises _PickledError if the repository has no safetensors."""
    from huggingface_hub import HfApi, snapshot_download

    listing = HfApi().model_info(config.name, revision=config.revision, timeout=_TIMEOUT_S).siblings or []
    pickled = sorted(entry.rfilename for entry in listing if any(fnmatch(entry.rfilename, pattern) for pattern in PICKLED))
    if pickled and not any(entry.rfilename.endswith(".safetensors") for entry in listing):
        raise _PickledError(pickled[0])
    wanted = [*TEXT_FILES, *WEIGHT_FILES]
    # By branch or tag, not by commit: only then does the cache record what the name stood for, which a run without a network needs.
    return Path(snapshot_download(config.name, revision=config.revision, allow_patterns=wanted, cache_dir=cache))


def _cached_or_raise(config: NamedModel, error: Exception, field: str, cache: Path | None) -> Path:
    snapshot = cached_snapshot(config, cache)
    if snapshot is None:
        reason = f"the Hub cannot be reached ({type(error).__name__}) and its cache on this machine does not hold it"
        raise _nowhere(config, reason, field) from None
    return snapshot


def cached_snapshot(config: NamedModel, cache: Path | None = None) -> Path | None:
    """The folder of the commit that a cache on this machine holds, by default the Hub's, or the prefetched one; None if there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    if cache is None and (store := prefetched.in_use()):
        cache = store.hub
    try:
        # Requests only the config: the weights are checked afterwards, and files that are never needed must not count as missing.
        found = snapshot_download(
            config.name, revision=config.revision, allow_patterns=[CONFIG_FILE], local_files_only=True, cache_dir=cache
        )
        return Path(found)
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def _nowhere(config: NamedModel, hub: str, field: str) -> UserError:
    asked = config.name if config.revision is None else f"{config.name}@{config.revision}"
    message = f"'{asked}' was not found: it is not the embedded model '{EMBEDDED}', no folder of that name exists, and {hub}"
    return UserError(message, field=field)
