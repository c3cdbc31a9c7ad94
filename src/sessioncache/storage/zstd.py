"""Zstandard: of the standard library from Python 3.14 on, else of the extra `compression`."""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from typing import Any, Final

from sessioncache.errors import ConfigurationError

LEVEL: Final = 3
"""On real runs, levels beyond it save one part in twenty more, and take twice to nine times as long."""

MIN_BYTES: Final = 512
"""Smallest value that is compressed: heads and most fields are smaller, and would not get much smaller."""

WORTH: Final = 0.9
"""What is compressed has at most so much of its size, or stays as it is."""

_local = threading.local()


def module() -> Any:
    """Return the module; raise ConfigurationError if there is none."""
    try:
        return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError as exc:
        raise ConfigurationError("zstd is needed: pip install 'sessioncache[compression]'") from exc


def compress(data: bytes) -> bytes:
    """Return a frame that declares its size; the compressor of a thread is used again and again."""
    compressor = getattr(_local, "compressor", None)
    if compressor is None:
        compressor = _local.compressor = module().ZstdCompressor(level=LEVEL)
    compressor.set_pledged_input_size(len(data))
    frame: bytes = compressor.compress(data, compressor.FLUSH_FRAME)
    return frame


def decompress(frame: bytes, most: int) -> bytes:
    """Return what a frame holds; raise ValueError if it declares no size, or lies, or has too much."""
    zstd = module()
    try:
        size = zstd.get_frame_info(frame).decompressed_size
        if size is None or size > most:
            raise ValueError(f"a frame of {size} bytes, more than {most}, or of unknown size")
        reader = zstd.ZstdDecompressor()
        data: bytes = reader.decompress(frame, max_length=size + 1)
    except zstd.ZstdError as exc:
        raise ValueError(f"no zstd: {exc}") from exc
    if len(data) != size or not reader.eof or reader.unused_data:
        raise ValueError("a frame of another size than it declares")
    return data
