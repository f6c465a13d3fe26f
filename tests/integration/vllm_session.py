"""What the tests of the vLLM engine run in vLLM's own environment: one engine, a list of requests, everything that it answered.

python vllm_session.py REQUESTS.json ANSWERS.json

With `"first_start": "fails"` the engine's first start finds too little free memory, as next to one that starts at the same time.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from kp.errors import UserError
from kp.generation.vllm import PROCESS_SETTINGS, VLLMGenerator


def answer(generator: VLLMGenerator, request: dict[str, Any]) -> Any:
    """The answers as plain JSON; a refusal as its message."""
    try:
        if request.get("prefixes") == "forgotten":
            generator.forget_prefixes()
        generator.load_adapter(request["adapter"])
        if "seeds" in request:
            drawn = generator.sample(request["prompts"], count=request["count"], temperature=0.5, seeds=request["seeds"])
            return [[dataclasses.asdict(made) for made in of_prompt] for of_prompt in drawn]
        return [dataclasses.asdict(made) for made in generator.generate(request["prompts"])]
    except UserError as refusal:
        return {"refused": str(refusal)}


def _fail_once() -> None:
    os.environ.update(PROCESS_SETTINGS)
    from vllm.v1.worker.cpu_worker import CPUWorker

    plain = CPUWorker.determine_available_memory

    def once(worker: Any) -> int:
        CPUWorker.determine_available_memory = plain
        raise ValueError("Free memory on device cpu (1.0/9.0 GiB) on startup is less than desired GPU memory utilization")

    CPUWorker.determine_available_memory = once


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if asked.get("first_start") == "fails":
        _fail_once()
    tokenizer = AutoTokenizer.from_pretrained(asked["engine"]["model_path"], local_files_only=True)
    generator = VLLMGenerator(tokenizer=tokenizer, **asked["engine"])
    answers = {name: answer(generator, request) for name, request in asked["requests"].items()}
    Path(sys.argv[2]).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
