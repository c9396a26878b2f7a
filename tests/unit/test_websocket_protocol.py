"""A WebSocket connection that is told to end when it is ending already."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.server import ServerState
from websockets.frames import Close
from websockets.protocol import State

from physicsrunner.server.websocket_protocol import WebSocketProtocol


@pytest.mark.parametrize("state", [State.OPEN, State.CLOSING, State.CLOSED])
def test_the_end_of_the_server_ends_it_whatever_the_peer_does(state: State) -> None:
    """Open, it is told why; where the peer said goodbye first there is nothing to say."""

    async def end() -> Mock:
        config = uvicorn.Config(Mock(), log_config=None)
        config.load()
        protocol = WebSocketProtocol(config=config, server_state=ServerState(), app_state={})
        protocol.transport = Mock()
        protocol.handshake_complete = True
        protocol.conn.state = state
        if state is not State.OPEN:
            protocol.conn.close_rcvd = Close(1000, "")
        protocol.shutdown()
        return protocol.transport

    transport = asyncio.run(end())
    transport.close.assert_called_once_with()
    assert transport.write.called is (state is State.OPEN)
