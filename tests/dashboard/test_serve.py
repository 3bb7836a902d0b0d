"""The site over HTTP: the same pages, read-only, from this machine only, new when the log grows."""

import threading
from http.client import HTTPConnection

import pytest

from helpers.browser import browser, opened, problems
from helpers.year import Clock
from ssmith.core.errors import InputError
from ssmith.dashboard import read_story
from ssmith.dashboard.serve import make_server
from ssmith.dashboard.site import render
from ssmith.release.begin import init


@pytest.fixture
def line(tmp_path):
    return init(tmp_path / "line", clock=Clock())


@pytest.fixture
def server(line):
    made = make_server([line.path], 0)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def ask(server, path, *, method="GET", host=None):
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    headers = {} if host is None else {"Host": host}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer, answer.read()


def test_pages_are_those_of_the_site(server, line):
    for page in render([read_story(line.path)], "en"):
        answer, body = ask(server, f"/{page.path}")
        assert answer.status == 200
        assert body == page.html.encode()
        assert answer.headers["Refresh"] == "30"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert ask(server, "/")[1] == ask(server, "/index.html")[1]
    assert ask(server, "/", method="HEAD")[1] == b""


def test_nothing_can_be_written_or_reached_beside_the_pages(server):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert ask(server, "/index.html", method=method)[0].status == 501
    for path in ("/log.jsonl", "/../line/log.jsonl", "/%2e%2e/line/log.jsonl", "//etc/passwd"):
        assert ask(server, path)[0].status == 404
    assert ask(server, "/", host="attacker.example")[0].status == 403
    assert ask(server, "/", host=f"localhost:{server.server_port}")[0].status == 200
    assert server.server_address[0] == "127.0.0.1"


def test_a_line_that_grows_is_read_again(server, line):
    assert b"watch went wrong" not in ask(server, "/line/audit.html")[1]
    line.record("note", version=None, reason="the watch went wrong")
    assert b"watch went wrong" in ask(server, "/line/audit.html")[1]


def test_a_port_that_is_taken_is_said(server, line):
    with pytest.raises(InputError, match="cannot be used"):
        make_server([line.path], server.server_port)
    with pytest.raises(InputError, match="allowed: 0 to 65535"):
        make_server([line.path], 70000)


def test_a_browser_shows_served_pages_under_their_own_rules(server):
    with browser() as running:
        address = f"http://127.0.0.1:{server.server_port}/line/audit.html"
        with opened(running, address) as shown:
            assert problems(shown) == []
