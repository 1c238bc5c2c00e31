"""Bodies that are packed: unpacked piece by piece, so that nobody makes us hold more than a piece."""

from __future__ import annotations

import zlib
from asyncio import sleep
from collections.abc import AsyncIterator, Iterator

from backports import zstd

from billing.errors import Refused

PIECE = 256 * 1024
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
            for part in packed.parts(piece) if piece else ():
                went += len(part)
                if went > MOST_TIMES * came + PIECE:
                    raise Refused(
                        f"The body is more than {MOST_TIMES} times as large when unpacked.",
                        code="too_large",
                        remedy="Send it less packed.",
                    )
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


class _Gzip:
    """One member of gzip (RFC 1952)."""

    def __init__(self) -> None:
        self._unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def complete(self) -> bool:
        return self._unpacker.eof

    def parts(self, piece: bytes) -> Iterator[bytes]:
        part = b""
        while not self._unpacker.eof and (piece or len(part) == PIECE):
            part = self._unpacker.decompress(piece, PIECE)
            piece = self._unpacker.unconsumed_tail
            yield part
        if piece or self._unpacker.unused_data:
            raise EOFError("more follows the end")


class _Zstd:
    """One frame of Zstandard (RFC 8878), with a window of at most 8 MiB as that asks."""

    def __init__(self) -> None:
        self._unpacker = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 23})

    @property
    def complete(self) -> bool:
        return self._unpacker.eof

    def parts(self, piece: bytes) -> Iterator[bytes]:
        if self._unpacker.eof:
            raise EOFError("more follows the end")
        yield self._unpacker.decompress(piece, PIECE)
        while not self._unpacker.eof and not self._unpacker.needs_input:
            yield self._unpacker.decompress(b"", PIECE)
        if self._unpacker.unused_data:
            raise EOFError("more follows the end")
