import socket
import threading

from hotloop.bench.clients import WebSocketClient
from hotloop.bench.frames import PONG, masked_frame

PING_FRAME = bytes((0x89, 2)) + b"hi"


def test_a_ping_that_came_while_nobody_listened_is_answered() -> None:
    heard: list[bytes] = []
    sent = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            server, _ = listener.accept()
            with server:
                while not heard or b"\r\n\r\n" not in heard[0]:
                    heard[:] = [b"".join(heard) + server.recv(4096)]
                server.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                server.sendall(PING_FRAME)
                sent.set()
                heard.append(server.recv(4096))

        thread = threading.Thread(target=serve)
        thread.start()
        with WebSocketClient("127.0.0.1", listener.getsockname()[1]) as client:
            assert sent.wait(10)
            client.socket.recv(len(PING_FRAME), socket.MSG_PEEK)  # it has arrived
            client.attend()
            thread.join(10)
    assert heard[1] == masked_frame(b"hi", PONG)
