"""The environment of its own that vLLM's actors run in, as the driver sees it.

vLLM pins torch and transformers to versions that kp's own environment cannot have. Ray starts an actor under any interpreter that its
runtime environment names as `py_executable`, if that has the same Python and Ray; so vLLM's environment is made once on every node
(`make vllm-env`), and not by Ray at the start of each job: Ray's own `pip` environments inherit the packages that clash.

An interpreter that will not do kills its actor before anything is said, and Ray starts it anew; so it is looked at here first.
"""

import json
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from kp.errors import UserError

FIELD = "resources.vllm_python"
NEEDED = ("vllm", "ray", "torch", "transformers", "polars", "pyarrow", "pydantic", "kp")

_PROBE_SECONDS = 120.0
_PROBE = """
import importlib.metadata, importlib.util, json, sys
missing = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]
ray = None if "ray" in missing else importlib.metadata.version("ray")
print(json.dumps({"python": list(sys.version_info[:2]), "ray": ray, "missing": missing}))
"""


def remote_options(python: str, threads: int) -> dict[str, Any]:
    """What Ray must be told to start an actor under the interpreter `python`, with kp as it is here and `threads` CPU threads."""
    return {"runtime_env": {"py_executable": shlex.quote(python), "env_vars": _variables() | {"OMP_NUM_THREADS": str(threads)}}}


def validate_interpreter(python: str) -> None:
    """Raise UserError naming resources.vllm_python unless, on this node, it is an interpreter that can hold a vLLM actor of this study."""
    found = _probed(python)
    own: dict[str, Any] = {"python": list(sys.version_info[:2]), "ray": metadata.version("ray")}
    if found["missing"]:
        raise UserError(f"{python} lacks {', '.join(found['missing'])}; `make vllm-env` makes an environment that has them", field=FIELD)
    for name, wanted in own.items():
        if found[name] != wanted:
            raise UserError(
                f"{python} has {name} {_dotted(found[name])}, the study runs on {_dotted(wanted)}; they must be the same", field=FIELD
            )


def _probed(python: str) -> dict[str, Any]:
    command = [python, "-c", _PROBE, *NEEDED]
    try:
        # From the root, since Python looks for modules in the present folder too, and an actor is not started there.
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=True, env=_variables(), cwd="/")
    except OSError as error:
        raise UserError(f"{python}: cannot be run: {error.strerror}", field=FIELD) from error
    except subprocess.CalledProcessError as error:
        raise UserError(f"{python}: is no Python interpreter that runs: {error.stderr.strip()[-200:]}", field=FIELD) from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{python}: did not answer within {_PROBE_SECONDS:.0f} s", field=FIELD) from error
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _variables() -> dict[str, str]:
    """kp's own folder on the path of the other interpreter, and nothing else of this environment.

    A kp that is installed among this environment's packages cannot be shared without them: there, that environment must have its own.
    """
    parent = Path(__file__).resolve().parents[2]
    return {"PYTHONPATH": ""} if parent.name in ("site-packages", "dist-packages") else {"PYTHONPATH": str(parent)}


def _dotted(version: str | list[int]) -> str:
    return version if isinstance(version, str) else ".".join(map(str, version))
