"""vLLM's half of the benchmark, run by the interpreter of an environment with vLLM: requests in, answers out, one JSON text per line.

    {"engine": {...}, "prompt_tokens": {...}}
                           -> {"version": ..., "threads": ..., "processes": ...}
                              the arguments of VLLMGenerator and of PromptTokens, sent first
    {"warm_up": [chats]}   -> {"texts": [...], "seconds": ...}
    {"answer": [chats]}    -> the same; keys and values of earlier requests are dropped first
    anything refused       -> {"refused": {"message": ..., "field": ...}}      of a UserError

Seconds are measured here, where the work is done, so that vLLM is not charged for the pipe between the processes.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import IO, Any

from kp.errors import UserError
from kp.prompts import Messages


def serve(requests: IO[str], replies: IO[str]) -> None:
    """Answer requests until there are no more."""
    import torch

    first = json.loads(requests.readline())
    generator = _engine(first["engine"], first["prompt_tokens"])
    import vllm  # only now, because the engine sets variables that vllm reads when it is imported

    _reply(replies, {"version": vllm.__version__, "threads": torch.get_num_threads(), "processes": _processes()})
    for line in requests:
        ((verb, chats),) = json.loads(line).items()
        if verb == "answer":
            generator.forget_prefixes()
        try:
            _reply(replies, _answer(generator, chats))
        except UserError as error:
            _reply(replies, _refusal(error))


def _processes() -> int:
    """This process and all that it has started, without helpers of multiprocessing that compute nothing."""
    import psutil

    helpers = ("resource_tracker", "multiprocessing.forkserver")
    children = psutil.Process().children(recursive=True)
    return 1 + sum(not any(helper in " ".join(child.cmdline()) for helper in helpers) for child in children)


def _engine(settings: dict[str, Any], tokens: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer

    from kp.generation.prompt_tokens import PromptTokens
    from kp.generation.vllm import VLLMGenerator

    tokenizer = AutoTokenizer.from_pretrained(settings["model_path"], local_files_only=True, trust_remote_code=False)
    PromptTokens(tokens["chats"], tuple(map(tuple, tokens["ids"])), tokens["versions"]).validate(tokenizer, "vllm_python")
    return VLLMGenerator(tokenizer=tokenizer, **settings)


def _answer(generator: Any, chats: Sequence[Messages]) -> dict[str, Any]:
    start = time.perf_counter()
    made = generator.generate(chats)
    return {"seconds": time.perf_counter() - start, "texts": [answer.text for answer in made]}


def _refusal(error: UserError) -> dict[str, Any]:
    return {"refused": {"message": error.message, "field": error.field}}


def _reply(replies: IO[str], reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


def main() -> None:
    """Serve on standard input and output; what libraries print goes to standard error, or it would mix with the replies."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as replies:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        try:
            serve(sys.stdin, replies)
        except UserError as error:
            _reply(replies, _refusal(error))
        except ModuleNotFoundError as error:
            _reply(replies, _refusal(UserError(f"{sys.executable} has no package {error.name}", field="vllm_python")))


if __name__ == "__main__":
    main()
