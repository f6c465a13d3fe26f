"""A separate program that writes the text of one compressed file to its standard output.

It is a separate process because the bzip2 decoder holds Python's interpreter lock while it waits for its own threads, and would block a
reader in the same process. It is run by its path, without importing kp, so that it starts in a few hundredths of a second.

Of the decoders on PyPI, rapidgzip was the fastest on real and synthetic dumps: 69 to 74 MB/s of text on one core and 137 on two, compared
with 60 MB/s on one core for the standard library's bz2, 64 for cramjam, and 60 and 105 for fbz. It verifies the checksums of every block
and stream. gzip files are many times cheaper to read, so the standard library is used for them.
"""

import gzip
import os
import sys
import zlib
from io import BufferedIOBase

import rapidgzip

PIECE = 1 << 20  # bytes, of text
PIPE = 1 << 20  # bytes, the largest pipe that Linux allows an unprivileged process
DAMAGED = 3  # exit status; the error is on standard error
F_SETPIPE_SZ = 1031  # of fcntl; Linux only


def _opened(path: str, compression: str, workers: int) -> BufferedIOBase:
    if compression == ".gz":
        return gzip.open(path)
    return rapidgzip.IndexedBzip2File(path, parallelization=workers)


def _copy(path: str, compression: str, workers: int) -> None:
    piece = memoryview(bytearray(PIECE))
    with _opened(path, compression, workers) as text:
        while size := text.readinto(piece):
            rest = piece[:size]
            while rest:
                rest = rest[os.write(1, rest) :]


def _widen_pipe() -> None:
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(1, F_SETPIPE_SZ, PIPE)


def main() -> int:
    """Arguments: a path, the ending of its kind of compression, and the number of decoding threads."""
    _, path, compression, workers = sys.argv
    _widen_pipe()
    try:
        _copy(path, compression, int(workers))
    except BrokenPipeError:
        return 0  # the reader has closed the pipe
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error) as error:  # what the two decoders raise for a damaged file
        print(str(error).splitlines()[0], file=sys.stderr)
        return DAMAGED
    return 0


if __name__ == "__main__":
    sys.exit(main())
