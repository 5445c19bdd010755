"""The one part of a multipart HTTP answer, in pieces, so that its size does not matter."""

from collections.abc import Iterator
from email.message import Message
from typing import Final

import requests

CHUNK_BYTES: Final = 2**20
HEADER_END: Final = b"\r\n\r\n"
MOST_HEADER_BYTES: Final = 2**16


class Broken(ValueError):
    """The answer is not what the protocol says."""


def only_part(answer: requests.Response) -> Iterator[bytes]:
    """Yield the content of the first part of an answer; some servers send it without the wrapping, which is taken too."""
    described = Message()
    described["Content-Type"] = answer.headers.get("Content-Type", "")
    chunks = answer.iter_content(CHUNK_BYTES)
    if described.get_content_type() == "application/dicom":
        yield from chunks
        return
    boundary = described.get_boundary()
    if described.get_content_maintype() != "multipart" or not boundary:
        raise Broken("neither multipart nor DICOM")
    yield from _until(f"\r\n--{boundary}".encode(), _after_header(chunks), chunks)


def _after_header(chunks: Iterator[bytes]) -> bytes:
    start = b""
    for chunk in chunks:
        start += chunk
        before, end, after = start.partition(HEADER_END)
        if end:
            return after
        if len(before) > MOST_HEADER_BYTES:
            break
    raise Broken("no part in it")


def _until(delimiter: bytes, held: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    while (end := held.find(delimiter)) < 0:
        # the delimiter may begin in what is held and end in the next chunk
        keep = len(delimiter) - 1
        yield held[:-keep]
        held = held[-keep:]
        chunk = next(chunks, None)
        if chunk is None:
            raise Broken("it ended before its part did")
        held += chunk
    yield held[:end]
