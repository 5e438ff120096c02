"""Sets of images in the idx format of MNIST: gzipped arrays of bytes with a short header.

Format: two zero bytes, the type of the numbers (8 for unsigned bytes), the number of dimensions,
each dimension as four bytes with the most significant first, and then the numbers.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posterior_collapse.datasets.registry import opened
from posterior_collapse.errors import BadInput

_UNSIGNED_BYTES = 0x08
_MOST_BYTES = 1 << 28  # of one array; a header that asks for more is refused before it is read


def read_idx(path: Path, *sha256: str) -> NDArray[np.uint8]:
    """The array in a gzipped idx file.

    Args:
        path: the compressed file.
        sha256: hexadecimal checksums, of which the compressed file must have one.

    Raises:
        BadInput: another checksum, a broken file, or one that is not an array of bytes.
        DataMissing: the file cannot be opened.
    """
    with opened(path, *sha256) as stream:
        try:
            with gzip.open(stream, "rb") as content:
                return _parse(content, path)
        except (EOFError, zlib.error, gzip.BadGzipFile, struct.error) as error:
            raise BadInput(f"{path}: broken idx file ({error})") from error


def _parse(content: gzip.GzipFile, path: Path) -> NDArray[np.uint8]:
    """Header and numbers; the size that the header states is checked before memory is taken."""
    zero, kind, dimensions = struct.unpack(">HBB", content.read(4))
    if zero != 0 or kind != _UNSIGNED_BYTES or not 1 <= dimensions <= 3:
        raise BadInput(f"{path} is no idx file of bytes with one to three dimensions")
    shape = struct.unpack(f">{dimensions}I", content.read(4 * dimensions))
    size = int(np.prod([float(n) for n in shape]))
    if size > _MOST_BYTES:
        raise BadInput(f"{path} states {size} bytes for shape {shape}; most: {_MOST_BYTES}")
    data = content.read(size + 1)
    if len(data) != size:
        count = "more" if len(data) > size else str(len(data))
        raise BadInput(f"{path} states {size} numbers for shape {shape} and holds {count}")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
