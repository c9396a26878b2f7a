"""
uvicorn's WebSocket protocol, which may be told to end at any moment.

Promises: the end of the server is not spoilt by a peer that says goodbye at that moment. uvicorn
0.54 sends each connection a close frame then, and raises where one was sent in answer to the
peer's: the whole server would end with an error.
"""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection."""

    def shutdown(self) -> None:
        """End the connection with code 1012, unless it is ending already."""
        try:
            super().shutdown()
        except InvalidState:
            self.transport.close()
