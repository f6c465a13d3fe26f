"""A folder like that of `kp bench benchmarks --mmlu`, with made-up questions."""

import gzip
import json
from pathlib import Path

SUBJECTS = ("astronomy", "moral_disputes")


def save_mmlu(folder: Path, compress: bool = True, shots: int = 5) -> Path:
    """The folder; every question has a line separator in it that is no newline."""
    for name, count in (("mmlu_dev", shots), ("mmlu_test", 3)):
        rows = [
            {"subject": subject, "question": f"{name} {number}\u2028 of {subject}?", "choices": ["a", "b", "c", "d"], "answer": number % 4}
            for subject in SUBJECTS
            for number in range(count)
        ]
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        (folder / f"{name}.jsonl{'.gz' if compress else ''}").write_bytes(gzip.compress(data) if compress else data)
    return folder
