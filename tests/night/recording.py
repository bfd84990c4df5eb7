"""What a camera sent in a night, taken apart as Flower put it together, and what must not be in it."""

from __future__ import annotations

import base64
import contextlib
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from flwr.app import Message, RecordDict
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

_WINDOW = 16  # float32 in a row that are a feature's, whatever stands around them
_PACKED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")  # gzip (RFC 1952) and zlib (RFC 1950)
_PICTURES = {"a JPEG": b"\xff\xd8\xff", "a JFIF header": b"JFIF", "a PNG": b"\x89PNG"}


@dataclass(frozen=True)
class Request:
    """One HTTP request.

    Attributes:
        path: Of its first line.
        body: As it came.
    """

    path: str
    body: bytes


def requests(stream: bytes) -> Iterator[Request]:
    """The requests of a connection, in order; an HTTP client of Flower's never sends in chunks."""
    while stream:
        head, _, rest = stream.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        assert "transfer-encoding" not in headers
        assert "content-encoding" not in headers
        size = int(headers.get("content-length", 0))
        yield Request(lines[0].split(" ")[1], rest[:size])
        stream = rest[size:]


def sent_messages(streams: Iterable[bytes], others: Iterable[bytes] = ()) -> list[tuple[str, RecordDict]]:
    """(kind, content) of every message that these connections carried, put together from its objects.

    Args:
        streams: Of one camera.
        others: Of other cameras: an object that the server has from one of them is not sent again.

    Raises:
        AssertionError: There is an object that belongs to no message, or one is missing.
    """
    everything = [request for stream in streams for request in requests(stream)]
    objects = _objects(everything)
    known = _objects(request for stream in others for request in requests(stream)) | objects
    found, belonging = [], set[str]()
    for each in everything:
        if each.path.endswith("/push-messages"):
            announced = PushMessagesRequest.FromString(each.body)
            (proto,), (tree,) = announced.messages_list, announced.message_object_trees
            belonging |= {node.object_id for node in iterate_object_tree(tree)}
            message = inflate_object_from_contents(tree.object_id, dict(known))
            assert isinstance(message, Message)
            found.append((proto.metadata.message_type, message.content))
    assert set(objects) <= belonging, "an object that belongs to no message"
    return found


def _objects(everything: Iterable[Request]) -> dict[str, bytes]:
    pushed = (PushObjectRequest.FromString(each.body) for each in everything if each.path.endswith("/push-object"))
    return {push.object_id: push.object_content for push in pushed}


def arrays_of(content: RecordDict) -> dict[str, bytes]:
    """Every array in a message, in its serialised form, by record and name."""
    return {
        f"{record}/{name}": array.data
        for record, arrays in content.array_records.items()
        for name, array in arrays.items()
    }


def unpacked(data: bytes) -> bytes:
    """The same, and behind it whatever in it can be inflated."""
    found = [data]
    for match in _PACKED.finditer(data):
        with contextlib.suppress(zlib.error):  # these bytes come up by chance too
            found.append(zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data[match.start() :]))
    return b"\0".join(found)


def check_no_picture(data: bytes, pictures: Iterable[npt.NDArray[np.uint8]]) -> None:
    """No picture file, and no row of these decoded pictures, uint8 [H, W, 3], as bytes or as float32.

    Raises:
        AssertionError: There is one.
    """
    for what, magic in _PICTURES.items():
        assert magic not in data, what
    for number, picture in enumerate(pictures):
        scaled = picture.astype(np.float32)
        for pixels in (picture, scaled, scaled / np.float32(255), scaled / np.float32(127.5) - np.float32(1)):
            for row in pixels.reshape(len(pixels), -1):
                assert row[: 3 * _WINDOW].tobytes() not in data, f"a row of picture {number} as {row.dtype}"


def check_no_features(data: bytes, vectors: npt.NDArray[np.float32]) -> None:
    """No piece of any of these vectors, float32 [n, features].

    Raises:
        AssertionError: There is one.
    """
    width = vectors.shape[1]
    length = min(_WINDOW, width)
    for number, vector in enumerate(vectors):
        for start in range(width - length + 1):
            piece = vector[start : start + length]
            if np.count_nonzero(piece) > length // 4:  # zeros are everywhere, and tell nothing
                assert piece.tobytes() not in data, f"features of vector {number}"


def pieces(array: bytes, *, size: int = 64) -> Iterator[bytes]:
    """Pieces of an array's numbers, from each float32 on, without its .npy header; and each in base64."""
    numbers = array[array.index(b"\n") + 1 :] if array.startswith(b"\x93NUMPY") else array
    for start in range(0, max(1, len(numbers) - size + 1), 4):
        piece = numbers[start : start + size]
        if any(piece):
            yield piece
            for shift in range(3):  # base64 looks different at each of three places
                yield base64.b64encode(piece[shift : shift + (size - 2) // 3 * 3])
