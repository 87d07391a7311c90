"""HTTP byte by byte, for what no client sends."""

import socket


def answer_to(url: str, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """What comes on a fresh connection until the server hangs up: the first status and its headers, and the rest."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)  # who refuses a body would else wait for it a while
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, rest = answer.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    return int(line.split()[1]), dict(one.lower().split(": ", 1) for one in headers), rest
