"""Follows a WebSocket by PyPI's websockets: `websocket.py URL [HEADER=VALUE…]`.

Prints each message as a line. The first one is followed by a ping, and by a line `pong` when that is answered. The last line is
`closed CODE`, or `refused STATUS` if there was no WebSocket.
"""

import sys

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


def say(line):
    print(line, flush=True)


url, *headers = sys.argv[1:]
pairs = [header.split("=", 1) for header in headers]
try:
    with connect(url, additional_headers=pairs, open_timeout=60) as socket:
        say(socket.recv())
        socket.ping().wait(60)
        say("pong")
        for message in socket:
            say(message)
        say(f"closed {socket.protocol.close_code}")
except InvalidStatus as refused:
    say(f"refused {refused.response.status_code}")
except ConnectionClosed as closed:
    say(f"closed {closed.rcvd and closed.rcvd.code}")
