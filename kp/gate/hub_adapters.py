"""An adapter of the Hub, fetched into the Hub's cache on this machine."""

from pathlib import Path

from kp.errors import UserError, first_line
from kp.generation.adapters import CONFIG_FILE, WEIGHTS_FILE


def fetched_adapter(name: str, field: str) -> Path:
    """The folder with the adapter's config and weights; without a network, what the cache holds.

    Raises UserError for `field` if the Hub has no such adapter, or if it cannot be reached and the cache does not hold it.
    """
    from httpx2 import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = [CONFIG_FILE, WEIGHTS_FILE]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError) as error:
        raise UserError(
            f"'{name}' is no folder, and the Hub has no such adapter, or not for this user: {first_line(error)}", field=field
        ) from None
    except (LocalEntryNotFoundError, HTTPError, ConnectionError, TimeoutError) as error:
        reason = f"the Hub cannot be reached ({type(error).__name__})"
        raise UserError(f"'{name}' is no folder, {reason}, and its cache on this machine does not hold it", field=field) from None
