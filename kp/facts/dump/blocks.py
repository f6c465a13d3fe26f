"""The text of a dump's file as blocks of whole lines, for files of any length.

Blocks are small enough that what is computed from one fits into a core's cache. A thread reads them ahead of the parser; a compressed file
is decompressed by another process (see kp.facts.dump.decompressing), so that decompression and parsing run in parallel.
"""

import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import fsspec

from kp.errors import UserError
from kp.facts.dump import converting, decompressing
from kp.facts.dump.contents import head_of, is_turtle, validate_text
from kp.facts.dump.files import FIELD, Compression, DumpFile
from kp.facts.dump.reasons import CUT

BLOCK = 4 << 20  # bytes; if a line is longer than a block, the rest of it is skipped and replaced by CUT
AHEAD = 4  # blocks fetched and not yet parsed


@contextmanager
def reading_blocks(file: DumpFile, workers: int, field: str = FIELD) -> Iterator[Iterator[bytearray]]:
    """The file's text in blocks of whole lines; `workers` threads decompress it.

    Turtle that lines do not hold is converted to N-Triples. Raises UserError naming the file, for the config field of the dump, if it
    cannot be read or is no dump, and at the end of the context if it is damaged or truncated.
    """
    with _local(file, field) as path:
        head = head_of(path, file, field)
        validate_text(head, file, field)
        opened = _turtle_of(path, file, field) if is_turtle(head) else _text_of(path, file, workers, field)
        with opened as text, ThreadPoolExecutor(1) as fetcher:
            yield _fetched(blocks_of(text), fetcher)


def is_converted(file: DumpFile, field: str = FIELD) -> bool:
    """Whether a file of this machine is Turtle that lines do not hold; raises UserError as `reading_blocks` does at its beginning."""
    return os.path.isfile(file.address) and is_turtle(head_of(file.address, file, field))


def _fetched(blocks: Iterator[bytearray], fetcher: ThreadPoolExecutor) -> Iterator[bytearray]:
    coming = deque(fetcher.submit(next, blocks, None) for _ in range(AHEAD))
    while (block := coming.popleft().result()) is not None:
        coming.append(fetcher.submit(next, blocks, None))
        yield block


@contextmanager
def _local(file: DumpFile, field: str) -> Iterator[str]:
    """The file's local path: parallel decoders seek a lot, which is slow for a remote file."""
    if "://" not in file.address:
        yield file.address
        return
    with tempfile.TemporaryDirectory(prefix="kp-dump-") as folder:
        path = str(Path(folder) / f"file{file.compression}")
        filesystem, remote = fsspec.core.url_to_fs(file.address)
        try:
            filesystem.get_file(remote, path)
        except OSError as error:
            raise UserError(f"'{file.address}': cannot be fetched: {error}", field=field) from error
        yield path


@contextmanager
def _text_of(path: str, file: DumpFile, workers: int, field: str) -> Iterator[BinaryIO]:
    if file.compression is Compression.NONE:
        try:
            plain = Path(path).open("rb")  # noqa: SIM115  entered below
        except OSError as error:
            raise UserError(f"'{file.address}': cannot be read: {error.strerror}", field=field) from error
        with plain:
            yield plain
        return
    with _written_by([decompressing.__file__, os.path.abspath(path), file.compression, str(workers)]) as running:
        yield running.text
    if running.fault:
        raise UserError(f"'{file.address}': damaged or cut short: {running.fault}", field=field)


@contextmanager
def _turtle_of(path: str, file: DumpFile, field: str) -> Iterator[BinaryIO]:
    with _written_by([converting.__file__, os.path.abspath(path), file.compression]) as running:
        yield running.text
    if running.fault:
        raise UserError(f"'{file.address}': its Turtle cannot be read: {running.fault}", field=field)


@dataclass
class _Running:
    """The output of a program; after its end also what it said on standard error, which is empty if all went well."""

    text: BinaryIO
    fault: str = ""


@contextmanager
def _written_by(program: list[str]) -> Iterator[_Running]:
    """A Python program that runs without kp's packages on its path."""
    command = [sys.executable, "-P", *program]
    with tempfile.TemporaryFile() as messages, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages, bufsize=0) as process:
        assert process.stdout is not None
        running = _Running(process.stdout)  # type: ignore[arg-type]
        yield running
        process.stdout.close()
        status = process.wait()
        messages.seek(0)  # a decoder also warns if bytes follow the last stream: they may have been data
        said = messages.read().decode("utf-8", "replace").strip()
        running.fault = said or (f"the program ended with status {status}" if status else "")


def blocks_of(text: BinaryIO, size: int = BLOCK) -> Iterator[bytearray]:
    """Cut a stream into blocks of whole lines, about `size` bytes each; a last line without an end gets one."""
    held = b""
    while True:
        block = bytearray(len(held) + size)
        block[: len(held)] = held
        filled = _fill(text, block, len(held))
        end = block.rfind(b"\n", 0, filled) + 1
        if filled < len(block):  # the file's end
            del block[filled:]
            if filled and end < filled:
                block += b"\n"
            if block:
                yield block
            return
        held = bytes(block[end:]) if end else bytes(block[:size]) + CUT.encode() + _rest_after_line(text)
        del block[end:]
        if block:
            yield block


def _fill(text: BinaryIO, block: bytearray, filled: int) -> int:
    with memoryview(block) as view:
        while filled < len(view) and (got := text.readinto(view[filled:])):  # type: ignore[attr-defined]
            filled += got
    return filled


def _rest_after_line(text: BinaryIO) -> bytes:
    """Skip to the end of a line; returns the line end and what was read beyond it, or nothing if the file ends first."""
    while piece := text.read(BLOCK):
        end = piece.find(b"\n")
        if end >= 0:
            return piece[end:]
    return b""
