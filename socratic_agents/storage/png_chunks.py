"""PNG chunks, read one by one without trusting any of them."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.storage.safe_png import MAX_PIXELS

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ("read_text",)

MAX_CHUNKS = 2**16
"""Of a file; the largest image has some thousands."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = 13


def read_text(file: BinaryIO, keyword: bytes, *, most: int, name: str) -> bytes | None:
    """Return the text of the one ``iTXt`` chunk with a keyword; ``None``: there is none.

    Every other chunk is skipped unread, and nothing is decompressed.

    Args:
        file: A file that can seek, at its beginning.
        keyword: In Latin-1.
        most: Bytes of the text at most.
        name: What to call the file in an error.

    Raises:
        ConfigurationError: If it is no whole PNG file, claims more than ``MAX_PIXELS``,
            or if the chunk is too long, compressed, broken, or there are two.
    """
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        message = f"expected a PNG file, got {name}, which is none"
        raise ConfigurationError(message)
    text = None
    for number in range(MAX_CHUNKS):
        head = _whole(file, 8, name)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if number == 0:
            if (kind, length) != (b"IHDR", _HEADER):
                break
            _check_size(_content(file, kind, length, name), name)
        elif kind == b"iTXt":
            start = _whole(file, min(length, len(keyword) + 1), name)
            if start == keyword + b"\0":
                if text is not None or length > most + len(start) + 4:
                    message = (
                        f"expected one text of ours of at most {most:,} bytes in "
                        f"{name}, got {f'{length:,} bytes' if text is None else 'another'}"
                    )
                    raise ConfigurationError(message)
                file.seek(-len(start), io.SEEK_CUR)
                text = _uncompressed(
                    _content(file, kind, length, name)[len(start) :], name
                )
            else:
                file.seek(length - len(start) + 4, io.SEEK_CUR)
        elif kind == b"IEND":
            _whole(file, 4, name)
            return text
        else:
            file.seek(length + 4, io.SEEK_CUR)
    message = f"expected a PNG file, got {name}, which is damaged; copy it again"
    raise ConfigurationError(message)


def _content(file: BinaryIO, kind: bytes, length: int, name: str) -> bytes:
    content, check = _whole(file, length, name), _whole(file, 4, name)
    if zlib.crc32(kind + content) != int.from_bytes(check, "big"):
        message = f"expected a PNG file, got {name}, which is damaged; copy it again"
        raise ConfigurationError(message)
    return content


def _whole(file: BinaryIO, length: int, name: str) -> bytes:
    content = file.read(length)
    if len(content) < length:
        message = f"expected a whole PNG file, got {name}, which is truncated"
        raise ConfigurationError(message)
    return content


def _check_size(header: bytes, name: str) -> None:
    width, height = (int.from_bytes(header[at : at + 4], "big") for at in (0, 4))
    if not 0 < width * height <= MAX_PIXELS:
        message = (
            f"expected an image of at most {MAX_PIXELS:,} pixels, got {name} of "
            f"{width}x{height}; it is none of ours"
        )
        raise ConfigurationError(message)


def _uncompressed(content: bytes, name: str) -> bytes:
    """Return what follows a keyword; a compressed one could unfold to any size."""
    # Two flags, then the ends of a language and a translated keyword: we have neither.
    if content[:4] != b"\0\0\0\0":
        message = (
            f"expected the provenance in {name} as we write it, got another form, such "
            "as a compressed one, which is not opened"
        )
        raise ConfigurationError(message)
    return content[4:]
