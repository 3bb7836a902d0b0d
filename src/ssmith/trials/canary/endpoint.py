"""A server in the OpenAI completions shape: asked one prompt at a time, or many at once."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from ssmith.core.errors import EndpointError, InputError

Prompt = str | list[int]
Tops = tuple[Mapping[str, float], ...]
"""By place in an answer: log-probabilities of the likeliest tokens."""
_TOPS = 2
_MOST_SHOWN = 200


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a server answered; no tokens, or likeliest ones at each place, if it does not say."""

    text: str
    tokens: tuple[str, ...] = ()
    tops: Tops = ()

    @property
    def answer(self) -> tuple[str, ...]:
        """What is compared."""
        return (self.text, *self.tokens)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A server, such as ``http://127.0.0.1:8000``; a path before ``/v1`` is allowed.

    The model is the first that it names if None; ``timeout`` is in seconds.
    """

    url: str
    model: str | None = None
    timeout: float = 60.0

    def __post_init__(self) -> None:
        """Check the address."""
        try:
            parts = urlsplit(self.url)
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            known = None
        if not known:
            raise InputError(f"url is {self.url!r}", allowed="such as http://127.0.0.1:8000")

    def models(self) -> list[str]:
        """Return what models a server names; none if it does not list them."""
        status, content = self._call("GET", "/v1/models", None)
        if status in (404, 405):
            return []
        found = content.get("data") if isinstance(content, dict) and status < 400 else None
        if not isinstance(found, list):
            raise self._said(status, content)
        return [str(item["id"]) for item in found if isinstance(item, dict) and "id" in item]

    def body(self, prompt: Prompt, most: int) -> dict[str, Any]:
        """Return a request for the likeliest continuation."""
        named = {} if self.model is None else {"model": self.model}
        return {**named, "prompt": prompt, "max_tokens": most, "temperature": 0, "seed": 0}

    def complete(self, prompt: Prompt, most: int) -> Completion:
        """Ask for a continuation, of a text or token ids, and wait for it.

        Raises `EndpointError` if the server does not answer in time, or in another form.
        """
        body = self.body(prompt, most)
        status, content = self._call("POST", "/v1/completions", {**body, "logprobs": _TOPS})
        if status in (400, 422, 501):
            # Some know no log-probabilities.
            status, content = self._call("POST", "/v1/completions", body)
        choices = content.get("choices") if isinstance(content, dict) and status < 400 else None
        first = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(first, dict) or not isinstance(first.get("text"), str):
            raise self._said(status, content)
        tokens, tops = _likeliest(first.get("logprobs"))
        return Completion(text=first["text"], tokens=tokens, tops=tops)

    def abandon(self, prompt: Prompt, most: int) -> None:
        """Ask for a continuation, read the beginning of it, and go away.

        Raises `EndpointError` if the server does not answer in time.
        """
        connection = self._connection()
        try:
            response = self._send(
                connection, "POST", "/v1/completions", {**self.body(prompt, most), "stream": True}
            )
            response.readline()
        except (OSError, HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, Any]:
        connection = self._connection()
        try:
            response = self._send(connection, method, path, body)
            raw = response.read()
        except (OSError, HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        try:
            return response.status, json.loads(raw)
        except ValueError:
            return response.status, raw.decode("utf-8", "replace")

    def _connection(self) -> HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme == "https":
            return HTTPSConnection(
                str(parts.hostname), parts.port, timeout=self.timeout,
                context=ssl.create_default_context(),
            )  # fmt: skip
        return HTTPConnection(str(parts.hostname), parts.port, timeout=self.timeout)

    def _send(
        self, connection: HTTPConnection, method: str, path: str, body: Mapping[str, Any] | None
    ) -> HTTPResponse:
        root = urlsplit(self.url).path.rstrip("/").removesuffix("/v1")
        content = None if body is None else json.dumps(body)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        connection.request(method, root + path, content, headers)
        return connection.getresponse()

    def _unreachable(self, error: Exception) -> EndpointError:
        if isinstance(error, TimeoutError):
            return EndpointError(
                f"{self.url} did not answer within {self.timeout:g} seconds",
                next_step="see whether it is overloaded, or wait longer with --timeout",
            )
        return EndpointError(
            f"{self.url} cannot be reached ({error or type(error).__name__})",
            next_step="start the server, or correct --url",
        )

    def _said(self, status: int, content: Any) -> EndpointError:
        said = content if isinstance(content, str) else json.dumps(content)
        return EndpointError(
            f"{self.url} answered {status}: {said[:_MOST_SHOWN]}",
            allowed="the form of OpenAI's /v1/completions",
            next_step="see the server's log; give --model if it serves several",
        )


def _likeliest(logprobs: Any) -> tuple[tuple[str, ...], Tops]:
    """Read log-probabilities in the old form of OpenAI's, or in that of chats."""
    if not isinstance(logprobs, dict):
        return (), ()
    content = logprobs.get("content")
    if isinstance(content, list):
        tokens = tuple(str(item.get("token")) for item in content)
        return tokens, tuple(_by_token(item.get("top_logprobs")) for item in content)
    tokens = tuple(map(str, logprobs.get("tokens") or ()))
    tops = logprobs.get("top_logprobs") or ()
    return tokens, tuple(item if isinstance(item, dict) else {} for item in tops)


def _by_token(items: Sequence[Any] | None) -> dict[str, float]:
    return {str(item["token"]): float(item["logprob"]) for item in items or ()}
