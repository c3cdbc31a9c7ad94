"""A file that is written in parts: it can be gone on with, and has its name once it is whole."""

from __future__ import annotations

import gzip
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final, Self

from sessioncache.operations.iteration import digest_of

from .access import USAGE, CommandError

CHUNK: Final = 2**20


class Parts:
    """Lines that go to `FILE.part`, each write whole, until they are all there."""

    def __init__(self, file: Path, *, resume: bool) -> None:
        self.file = file
        self.part = file.with_name(file.name + ".part")
        self.done: set[int] = set()
        """Digests of the sessions that are written."""
        self.is_pipe = str(file) == "-" or (file.exists() and not file.is_file())
        self._resumes = resume
        self._stream: IO[bytes] | None = None
        if file.exists() and not self.is_pipe:
            raise CommandError(f"{file} is there already", USAGE)

    @property
    def n_done(self) -> int:
        """Return how many sessions are written."""
        return len(self.done)

    def __enter__(self) -> Self:
        if self.is_pipe:
            self._stream = sys.stdout.buffer if str(self.file) == "-" else self.file.open("wb", buffering=0)
            return self
        if self.part.exists() and not self._resumes:
            raise CommandError(f"{self.part} is there: go on with --resume, or remove it", USAGE)
        good = self._read() if self.part.exists() else 0
        self._stream = self.part.open("r+b" if self.part.exists() else "w+b", buffering=0)
        self._stream.truncate(good)
        self._stream.seek(good)
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None and self._stream is not sys.stdout.buffer:
            self._stream.close()

    def write(self, lines: Mapping[int, bytes]) -> None:
        """Write lines, by the digests of what they are of; a write that fails is undone."""
        if self._stream is None or not lines:
            return
        data = b"".join(lines.values())
        start = 0 if self.is_pipe else self._stream.tell()
        try:
            left = memoryview(gzip.compress(data, 6) if self.file.suffix == ".gz" else data)
            while left:
                left = left[self._stream.write(left) :]
            self._stream.flush()
        except OSError as exc:
            if not self.is_pipe:
                os.truncate(self.part, start)
            where = self.file if self.is_pipe else self.part
            message = f"{where} cannot be written: {exc.strerror}; {self.n_done:,} sessions are in it"
            raise CommandError(message) from exc
        self.done |= lines.keys()

    def finish(self) -> None:
        """Give the file its name: it is whole."""
        if self._stream is None or self.is_pipe:
            return
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.part.rename(self.file)

    def _read(self) -> int:
        """Read what is written already; return where it ends."""
        good = 0
        with self.part.open("rb") as stream:
            pieces = _members(stream) if self.file.suffix == ".gz" else _lines(stream)
            for lines, end in pieces:
                for line in lines:
                    self._note(line)
                good = end
        return good

    def _note(self, line: bytes) -> None:
        try:
            self.done.add(digest(json.loads(line)["session_id"]))
        except (ValueError, KeyError, TypeError) as exc:
            raise CommandError(f"{self.part} is no export") from exc


def digest(session_id: str) -> int:
    """Return a number that stands for a session: eight bytes for each are held."""
    return digest_of(session_id.encode(errors="surrogatepass"))


def _lines(stream: IO[bytes]) -> Iterator[tuple[list[bytes], int]]:
    """Yield the lines that are whole, and where each ends."""
    end = 0
    for line in stream:
        if not line.endswith(b"\n"):
            return
        end += len(line)
        yield [line], end


def _members(stream: IO[bytes]) -> Iterator[tuple[Iterable[bytes], int]]:
    """Yield the lines of each member of a gzip file that is whole, and where it ends."""
    end, data = 0, b""
    while True:
        reader, used, lines = zlib.decompressobj(31), 0, []
        while not reader.eof:
            data = data or stream.read(CHUNK)
            if not data:
                return
            try:
                lines.append(reader.decompress(data))
            except zlib.error:
                return
            used += len(data) - len(reader.unused_data)
            data = reader.unused_data
        end += used
        yield b"".join(lines).splitlines(), end
