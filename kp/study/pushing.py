"""`kp push`: one adapter of a study and its model card, to a repository on the Hub.

A step's folder never changes, so the card is made of the study's report when it is pushed. The adapter's config is made to name a base
that others can load: in the study it may be a folder of this machine, whose path is nobody else's business.
"""

import json
from pathlib import Path
from typing import Any

from kp.config.study import StudyConfig
from kp.errors import UserError, first_line, printable
from kp.generation.adapters import CONFIG_FILE, WEIGHTS_FILE, read_adapter
from kp.progress import Display
from kp.report.model_card import CardBase, card_base, model_card
from kp.report.reading import read_report
from kp.study.finished_adapters import TRIAL_FIELD, FoundAdapter, find_adapter, study_folder

REPO_FIELD = "REPO"  # the argument, in messages
CARD_FILE = "README.md"


def push_adapter(config: StudyConfig, root: Path, wanted: str, repo: str, *, private: bool, dry_run: bool) -> int:
    """Upload an adapter with its card, or print what would be uploaded; returns the exit code.

    Raises UserError if the study has no such adapter or no report yet, or if the Hub does not take it.
    """
    study = study_folder(config, root)
    adapter = find_adapter(study, wanted)
    files = pushed_files(config, study, adapter, repo)
    display = Display()
    if dry_run:
        for name, content in files.items():
            size = content.stat().st_size if isinstance(content, Path) else len(content)
            display.line(f"{name}: {size:,} bytes")
        display.console.print(printable(_text(files[CARD_FILE])), markup=False, highlight=False, soft_wrap=True)
        return 0
    display.line(f"pushed: {_upload(files, repo, f'Adapter of kp trial {adapter.name}', private)}")
    return 0


def pushed_files(config: StudyConfig, study: Path, adapter: FoundAdapter, repo: str) -> dict[str, bytes | Path]:
    """What a repository gets, by file name: the weights as they are, the config with a base that others have, the card."""
    if adapter.scaled:
        reason = "is another scale of a trial's adapter, whose effects the report does not have in full"
        raise UserError(f"'{adapter.name}' {reason}; push {adapter.trial_id} as it was trained", field=TRIAL_FIELD)
    if not (study / "report").is_dir():
        raise UserError(f"study '{config.name}' has no report yet, of which the card is made: run `kp report` first", field=TRIAL_FIELD)
    read_adapter(adapter.folder)
    tables, context = read_report(study / "report", config.report)
    base = card_base(context)
    return {
        CARD_FILE: model_card(tables, context, adapter.trial_id, base, repo).encode(),
        CONFIG_FILE: portable_config(adapter.folder / CONFIG_FILE, base).encode(),
        WEIGHTS_FILE: (adapter.folder / WEIGHTS_FILE).resolve(),
    }


def portable_config(file: Path, base: CardBase) -> str:
    """The adapter's config, with a base that PEFT can load elsewhere."""
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": base.hub_id or base.name, "revision": base.revision}
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def _text(content: bytes | Path) -> str:
    return content.read_text(encoding="utf-8") if isinstance(content, Path) else content.decode()


def _upload(files: dict[str, bytes | Path], repo: str, message: str, private: bool) -> str:
    """Upload the files as one commit into `repo`, which is made if it is missing; returns its address."""
    from httpx2 import HTTPError
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    added = [CommitOperationAdd(name, str(content) if isinstance(content, Path) else content) for name, content in files.items()]
    try:
        made = HfApi().create_repo(repo, private=private, exist_ok=True)
        HfApi().create_commit(made.repo_id, added, commit_message=message)
    except HFValidationError as error:
        raise UserError(f"'{repo}' is no name that the Hub allows: {first_line(error)}", field=REPO_FIELD) from None
    except LocalTokenNotFoundError:
        raise UserError(f"'{repo}': no token for the Hub on this machine; run `hf auth login` or set HF_TOKEN", field=REPO_FIELD) from None
    except HfHubHTTPError as error:
        raise UserError(f"'{repo}': the Hub refuses: {_refusal(error)}", field=REPO_FIELD) from None
    except (HTTPError, ConnectionError, TimeoutError) as error:
        raise UserError(f"'{repo}': the Hub cannot be reached ({type(error).__name__})", field=REPO_FIELD) from None
    return str(made)


def _refusal(error: Any) -> str:
    """What the Hub says, and what to do where that is known."""
    if error.response.status_code in (401, 403):
        return f"status {error.response.status_code}; log in with a token that may write there: `hf auth login`, or HF_TOKEN"
    return first_line(error)
