"""A connection without a network, for a server's protocol to write to."""

import asyncio
from typing import Any


class Wire(asyncio.Transport):
    """The client's end of a connection."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.unread = 0  # bytes that the client has not read yet
        self.closed = self.closed_by_server = False
        self.reading = True

    @property
    def said(self) -> bytes:
        """All that the server has written."""
        return b"".join(self.pieces)

    def write(self, data: Any) -> None:
        if not self.closed:  # a real one drops what is written after that
            self.pieces.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
