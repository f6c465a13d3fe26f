"""The commit at which a data set on the Hub stands, by which everything that is taken from it is pinned.

`datasets` and its Hub client fail in many ways (no network, no such data set, no such split), which mean the same to the author of a study:
the field's source is not available. They become one error that says so and quotes the first line of the cause.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from kp.errors import MissingSourceError, first_line

TIMEOUT_S = 5.0


def data_set_commit(name: str, revision: str | None, asked: str, field: str, remedy: str = "") -> str:
    """The commit of a revision, by default of the main branch; raises MissingSourceError as `explained` does if the Hub tells none."""
    from huggingface_hub import HfApi

    with explained(asked, field, remedy):
        return str(HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT_S).sha)


@contextmanager
def explained(asked: str, field: str, remedy: str = "") -> Iterator[None]:
    """Raise MissingSourceError for `field` where the Hub's libraries fail to bring `asked`; `remedy` ends its message."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    transport = HfHubHTTPError.__bases__  # the errors of the Hub client's HTTP library, which depends on the client's version
    try:
        yield
    except (OSError, ValueError, DatasetsError, *transport) as error:
        ending = f"; {remedy}" if remedy else ""
        raise MissingSourceError(f"'{asked}' cannot be loaded: {first_line(error)}{ending}", field=field) from error
