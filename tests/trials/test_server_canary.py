import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ssmith.core.errors import EndpointError, InputError
from ssmith.trials.canary.endpoint import Completion, Endpoint
from ssmith.trials.canary.interleave import CanaryConfig
from ssmith.trials.canary.server import ServerConfig, is_tie, server_canary

SOME = CanaryConfig(requests=30, slots=6, longest=6, following=5)


class Handler(BaseHTTPRequestHandler):
    """A server of completions that answers with the words of the prompt, the last first."""

    def log_message(self, *given):
        pass

    def do_GET(self):
        self.reply(200, {"data": [{"id": "toy"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        if server.mode == "no logprobs" and "logprobs" in body:
            self.reply(400, {"error": "unknown field"})
            return
        if server.mode == "broken":
            self.reply(500, {"error": "out of memory"})
            return
        if server.mode == "silent":
            server.stopped.wait(20)
        assert (body["model"], body["temperature"]) == ("toy", 0)
        with server.lock:
            server.near.append(body["prompt"])
            server.most = max(server.most, len(server.near))
        time.sleep(0.004)
        if server.mode == "leaks from one" and body["prompt"].startswith(server.loud):
            # It stays until somebody has heard it, or nobody is there.
            server.heard.clear()
            server.heard.wait(0.3)
        text = self.text(body["prompt"])
        with server.lock:
            server.near.remove(body["prompt"])
            server.count += 1
        if body.get("stream"):
            server.streams += 1
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\ndata: {}\n")
            return
        self.reply(200, {"choices": [{"text": text, **self.tokens(text)}]})

    def text(self, prompt):
        words = prompt.split() if isinstance(prompt, str) else [str(item) for item in prompt]
        answer = " ".join(reversed(words))
        server = self.server
        others = [other for other in server.near if other != prompt]
        if server.mode == "leaks" and server.count > server.alone:
            return f"{answer} {server.meet(prompt)[:12]}".strip()
        if server.mode == "leaks from one" and any(item.startswith(server.loud) for item in others):
            server.heard.set()
            return f"{answer} {server.loud}"
        if server.mode == "wears out" and server.count > 2 * SOME.requests:
            return answer + " tired"
        if server.mode == "moody":
            return f"{answer} {server.count}"
        if server.mode == "ties" and others:
            return answer + " maybe"
        return answer + (" perhaps" if server.mode == "ties" else "")

    def tokens(self, text):
        if self.server.mode != "ties":
            return {}
        words = text.split()
        tops = [{word: -0.1} for word in words[:-1]] + [{"perhaps": -0.7, "maybe": -0.71}]
        return {"logprobs": {"tokens": words, "top_logprobs": tops}}

    def reply(self, status, content):
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


class Server(ThreadingHTTPServer):
    """With what the handler remembers."""

    daemon_threads = True
    request_queue_size = 64
    near: list
    loud = "Request 3:"

    def handle_error(self, *given):
        """Clients that go away are no news."""

    def meet(self, prompt):
        """Wait for another request, so that it is no matter of timing who is beside whom."""
        with self.door:
            if self.waiting:
                mate = self.waiting.pop()
                mate["met"] = prompt
                self.door.notify_all()
                return mate["prompt"]
            mine = {"prompt": prompt, "met": ""}
            self.waiting.append(mine)
            if not self.door.wait_for(lambda: mine["met"], 2):
                self.waiting.remove(mine)
            return mine["met"]


@contextmanager
def serving(mode, alone=SOME.requests):
    with Server(("127.0.0.1", 0), Handler) as server:
        server.mode, server.near, server.most, server.count = mode, [], 0, 0
        server.streams, server.lock, server.stopped = 0, threading.Lock(), threading.Event()
        server.heard = threading.Event()
        server.alone = alone
        server.door, server.waiting = threading.Condition(), []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server, f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("mode", ["right", "no logprobs"])
def test_a_server_that_keeps_requests_apart_passes(mode):
    with serving(mode) as (server, url):
        seen = server_canary(ServerConfig(url=url), SOME)
    assert seen.passed, seen.headline
    assert seen.model == "toy"
    assert seen.cancelled == server.streams > 0
    # They were under way together, and as many as was asked for.
    assert server.most > 1
    assert seen.at_once == SOME.slots


def test_token_ids_are_sent_as_they_are():
    with serving("right") as (_, url):
        seen = server_canary(ServerConfig(url=f"{url}/v1", token_ids=50), SOME)
    assert seen.passed


def test_a_server_that_leaks_is_caught_with_the_pair():
    with serving("leaks") as (_, url):
        seen = server_canary(ServerConfig(url=url), SOME)
    assert not seen.passed
    assert len(seen.leaks) <= 3
    for leak in seen.leaks:
        assert leak.repeated
        assert f"request {leak.other} leaked into request {leak.request}" in leak.text


def test_the_one_that_leaks_is_named():
    with serving("leaks from one") as (_, url):
        seen = server_canary(ServerConfig(url=url), CanaryConfig(requests=30, cancel=0.0))
    assert not seen.passed
    assert {leak.other for leak in seen.leaks} == {3}


def test_what_changes_after_others_without_any_beside_is_caught():
    with serving("wears out") as (_, url):
        config = CanaryConfig(requests=SOME.requests, slots=6, longest=6, cancel=0.0)
        seen = server_canary(ServerConfig(url=url), config)
    assert not seen.passed
    assert seen.leaks[0].other is None


def test_tokens_that_are_equally_likely_are_ties():
    with serving("ties") as (_, url):
        seen = server_canary(ServerConfig(url=url), SOME)
    assert seen.passed
    assert seen.ties > 0
    first = Completion(text="a", tokens=("a",), tops=({"a": -0.1, "b": -2.0},))
    second = Completion(text="b", tokens=("b",))
    assert not is_tie(first, second)
    assert is_tie(Completion(text="a", tokens=("a",), tops=({"a": -0.7, "b": -0.72},)), second)


def test_a_server_that_answers_in_two_ways_alone_proves_nothing():
    with serving("moody") as (_, url), pytest.raises(InputError, match="in two ways"):
        server_canary(ServerConfig(url=url), SOME)


def test_a_server_that_is_down_slow_or_broken_is_one_line(ssmith):
    with serving("right") as (_, url):
        pass
    ended = ssmith("canary", "--url", url, "--timeout", "2")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert f"{url} cannot be reached" in ended.err
    with serving("silent") as (_, url):
        ended = ssmith("canary", "--url", url, "--timeout", "0.1")
    assert ended.code == 2
    assert "did not answer within 0.1 seconds" in ended.err
    with serving("broken") as (_, url), pytest.raises(EndpointError, match=r"500.*out of memory"):
        server_canary(ServerConfig(url=url), SOME)


def test_the_command_tells_of_a_leak(ssmith):
    command = ("canary", "--requests", "20", "--cancel", "0")
    with serving("leaks", alone=20) as (_, url):
        ended = ssmith(*command, "--url", url)
    with serving("leaks", alone=20) as (_, url):
        told = ssmith(*command, "--url", url, "--json")
    assert ended.code == told.code == 1
    assert "LEAK: request" in ended.out
    assert told.document["details"]["passed"] is False
    assert told.document["model"]["name"] == url


def test_what_is_no_address_or_no_model_is_refused(ssmith):
    for url in ("127.0.0.1", "ftp://127.0.0.1", "http://", "http://127.0.0.1:x"):
        with pytest.raises(InputError, match="url is"):
            Endpoint(url=url)
    assert "CANDIDATE is missing" in ssmith("canary").err
