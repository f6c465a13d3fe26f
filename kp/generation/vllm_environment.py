"""The separate environment of vLLM's actors, as the driver sees it.

vLLM pins torch and transformers to versions that conflict with kp's environment. Ray starts an actor under any interpreter that its runtime
environment names as `py_executable`, if it has the same Python and Ray versions. So vLLM's environment is made once on every node
(`make vllm-env`), and not by Ray at the start of each job: Ray's `pip` environments inherit the conflicting packages.

An unsuitable interpreter kills its actor before it can report anything, and Ray restarts it; so the interpreter is checked here first.
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
    """Ray options that start an actor under the interpreter `python`, with this copy of kp and `threads` CPU threads."""
    return {"runtime_env": {"py_executable": shlex.quote(python), "env_vars": _variables() | {"OMP_NUM_THREADS": str(threads)}}}


def validate_interpreter(python: str) -> None:
    """Raise UserError naming resources.vllm_python unless, on this node, it is an interpreter that can run this study's vLLM actors."""
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
        # From the root, because Python also looks for modules in the current folder, and an actor does not start there.
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
    """Put kp's folder on the path of the other interpreter, and nothing else of this environment.

    If kp is installed in this environment's site-packages, it cannot be shared without the other packages: then that environment must have
    its own kp.
    """
    parent = Path(__file__).resolve().parents[2]
    return {"PYTHONPATH": ""} if parent.name in ("site-packages", "dist-packages") else {"PYTHONPATH": str(parent)}


def _dotted(version: str | list[int]) -> str:
    return version if isinstance(version, str) else ".".join(map(str, version))
