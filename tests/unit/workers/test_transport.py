"""A request that makes something is sent once, whatever becomes of its connection."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.waiting import wait_until
from workers.errors import TransientError
from workers.google_rest import GoogleRest

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Takes connections; of each it answers the first request, or none, and hangs up."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.answers = True
        self.hung_up = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                said = connection.recv(65536).decode()
                if said:  # a connection that the client opens and leaves says nothing
                    self.requests.append(said.split()[0])
                    if self.answers:
                        connection.sendall(_ANSWER)
            self.hung_up += 1


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


def test_a_create_whose_answer_is_lost_is_sent_once(server: Server) -> None:
    """The service may have taken it: that is for the caller to find out."""
    server.answers = False
    rest = GoogleRest("dataflow", "v1b3", server.address)
    launch = rest.service.projects().locations().flexTemplates().launch(projectId="p", location="l", body={})
    with pytest.raises(TransientError) as lost:
        rest.send(launch)
    assert lost.value.ambiguous
    rest.close()
    wait_until(lambda: server.hung_up >= 1, timeout_s=10, what="the server has read")
    assert server.requests == ["POST"]


def test_a_connection_that_was_closed_meanwhile_costs_no_answer(server: Server) -> None:
    """Services hang up on idle connections; what is sent after that goes over a new one."""
    rest = GoogleRest("dataflow", "v1b3", server.address)
    calls = rest.service.projects().locations().flexTemplates()
    for number in range(1, 4):
        assert rest.send(calls.launch(projectId="p", location="l", body={})) == {}
        wait_until(lambda n=number: server.hung_up == n, timeout_s=10, what="the server has hung up")
    rest.close()
    assert server.requests == ["POST"] * 3
