"""Rows of data sets for fine-tuning chats, as a question and an answer.

A fact is one question with one answer, so a chat of more turns is none. What a system message says is left out: a study asks all its
questions under one prompt.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from kp.facts.cells import MISSING, as_text, is_list, stripped
from kp.facts.literals import parsed

TURNS = ("messages", "conversations")  # OpenAI's column, and ShareGPT's
COLUMNS = (*TURNS, "instruction", "input", "output", "history", "prompt", "completion")  # and Alpaca's, and TRL's
_ROLES = {"user": "question", "human": "question", "assistant": "answer", "gpt": "answer", "system": "system", "developer": "system"}


class ChatError(Exception):
    """Why a chat is no fact."""


def as_question(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with `question` and `answer` if it is a chat, otherwise as it is; ChatError for a chat that is no fact, CellError."""
    if "question" in row:
        return dict(row)
    rest = {name: cell for name, cell in row.items() if name not in COLUMNS}
    turns = next((row[column] for column in TURNS if row.get(column) is not None), None)
    if turns is not None:
        return rest | _of_turns(turns)
    if "instruction" in row and "output" in row:
        _check_history(row.get("history"))
        parts = (as_text(row.get(column), column) for column in ("instruction", "input"))
        return rest | {"question": " ".join(part for part in parts if part), "answer": row["output"]}
    if "prompt" in row and "completion" in row:
        if isinstance(row["prompt"], list) and isinstance(row["completion"], list):
            return rest | _of_turns([*row["prompt"], *row["completion"]])
        return rest | {"question": row["prompt"], "answer": row["completion"]}
    return dict(row)


def _of_turns(cell: Any) -> dict[str, Any]:
    turns = list(_turns(cell))
    asked = [text for role, text in turns if role != "system"]
    if [role for role, _ in turns if role != "system"] != ["question", "answer"]:
        raise ChatError(f"a chat of {len(asked)} turns, not one question and one answer")
    return {"question": asked[0], "answer": _one(asked[1])}


def _one(reply: Any) -> Any:
    """What an assistant says is one answer, and no cell that holds a list, whatever it looks like."""
    return [reply] if isinstance(reply, str) and is_list(reply) else reply


def _check_history(cell: Any) -> None:
    """ChatError if there are turns before an instruction."""
    if isinstance(cell, str):
        cell = stripped(cell)
    if cell and cell != "[]" and not (isinstance(cell, str) and cell in MISSING) and cell == cell:
        raise ChatError("a chat with a history, not one question and one answer")


def _turns(cell: Any) -> Iterator[tuple[str, Any]]:
    """Role and text of each message."""
    try:
        messages = parsed(stripped(cell)) if isinstance(cell, str) else cell
    except ValueError as error:
        raise ChatError(f"a chat that is {error}") from error
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ChatError("a chat that is no list of messages")
    for message in messages:
        role = message.get("role") or message.get("from")
        yield _ROLES.get(str(role), str(role)), message["content"] if "content" in message else message.get("value")
