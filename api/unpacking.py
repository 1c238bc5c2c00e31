"""Bodies that are packed: unpacked piece by piece, so that nobody makes us hold more than a piece."""

from __future__ import annotations

import zlib
from asyncio import sleep
from collections.abc import AsyncIterator, Iterator

from backports import zstd

from billing.errors import Refused

PIECE = 256 * 1024
BITE = 16 * 1024
"""What follows the end of a member or frame is copied; of very many small ones in a piece, that would take long."""
MOST_TIMES = 200


async def unpacked(pieces: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """The body's bytes; what is packed, in pieces of at most 256 KiB. Refused if it is not packed as it says."""
    if encoding in ("", "identity"):
        async for piece in pieces:
            yield piece
        return
    if encoding not in ("gzip", "zstd"):
        raise Refused(
            f"The body is packed with {encoding!r}.",
            code="unsupported_encoding",
            remedy="Use gzip or zstd, or send it as it is.",
        )
    packed = _Gzip() if encoding == "gzip" else _Zstd()
    came = went = 0
    try:
        async for piece in pieces:
            came += len(piece)
            for part in _parts(packed, piece):
                went += len(part)
                if went > MOST_TIMES * came + PIECE:
                    raise Refused(
                        f"The body is more than {MOST_TIMES} times as large when unpacked.",
                        code="too_large",
                        remedy="Send it less packed.",
                    )
                if part:
                    yield part
                await sleep(0)  # Others have their turn, however much a small piece becomes.
    except (zlib.error, zstd.ZstdError, EOFError) as error:
        raise _broken(encoding) from error
    if not packed.complete:
        raise _broken(encoding)


def _broken(encoding: str) -> Refused:
    return Refused(
        f"The body is not {encoding}, or not all of it.", code="invalid_body", remedy="Pack it again and send it again."
    )


def _parts(packed: _Gzip | _Zstd, piece: bytes) -> Iterator[bytes]:
    for start in range(0, len(piece), BITE):
        yield from packed.parts(piece[start : start + BITE])


class _Gzip:
    """Members of gzip, one behind the other (RFC 1952, 2.2)."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def complete(self) -> bool:
        return self._unpacker.eof

    def parts(self, piece: bytes) -> Iterator[bytes]:
        while piece:
            if self._unpacker.eof:
                self._begin()
            part = b""
            while not self._unpacker.eof and (piece or len(part) == PIECE):
                part = self._unpacker.decompress(piece, PIECE)
                piece = self._unpacker.unconsumed_tail
                yield part
            piece = self._unpacker.unused_data


class _Zstd:
    """Frames of Zstandard, one behind the other (RFC 8878, 3.1), with windows of at most 8 MiB as that asks."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._unpacker = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 23})

    @property
    def complete(self) -> bool:
        return self._unpacker.eof

    def parts(self, piece: bytes) -> Iterator[bytes]:
        while piece:
            if self._unpacker.eof:
                self._begin()
            yield self._unpacker.decompress(piece, PIECE)
            while not self._unpacker.eof and not self._unpacker.needs_input:
                yield self._unpacker.decompress(b"", PIECE)
            piece = self._unpacker.unused_data
