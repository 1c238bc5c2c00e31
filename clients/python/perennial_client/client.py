"""The connection: address, key, and every request with its retries. What is sent and read is for others."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TypeVar

import httpx

from perennial_client.encoding import Json, dumps, loads
from perennial_client.events import Events
from perennial_client.forks import begin_in_children
from perennial_client.problem import ProblemError, UnreadableAnswer
from perennial_client.retries import Retries, asked_wait, is_passing

T = TypeVar("T")


class Perennial:
    """A server of Perennial at `base_url`, as the holder of `api_key`. May be shared by threads; close it at the end.

    `timeout` is in seconds, for connecting and for each silence of the server. Events are packed with gzip if they
    take more than `gzip_above` bytes; None: never.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout: float = 30.0,
        retries: Retries = Retries(),
        gzip_above: int | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}", "User-Agent": "perennial-client/0.1.0"}
        verify = httpx.create_ssl_context()
        self._open = partial(httpx.Client, base_url=base_url, headers=headers, timeout=timeout, verify=verify)
        self._begin()
        begin_in_children(self)
        self._retries = retries
        self._gzip_above = gzip_above
        self.events = Events(self)

    def get(self, path: str, **query: str | int | bool) -> Json:
        """Read it. Raises ProblemError, UnreadableAnswer, or httpx.TransportError if the server cannot be reached."""
        return self._call(self._http.build_request("GET", path, params=query), _as_it_is, repeat=True)

    def post(self, path: str, body: Json = None, *, repeat: bool = False) -> Json:
        """Ask for it. With `repeat` it is tried again like a reading: only if `body` carries the ids you chose."""
        content = None if body is None else dumps(body)
        headers = None if body is None else {"Content-Type": "application/json"}
        request = self._http.build_request("POST", path, content=content, headers=headers)
        return self._call(request, _as_it_is, repeat=repeat)

    def post_events(self, written: str, read: Callable[[Json], T], *, whatever_time: bool = False) -> T:
        """Send events that are written as JSON, with commas between them, and give what `read` makes of the answer;
        if it raises ValueError, they are sent again. `Events` does this for you.
        """
        content, headers = f'{{"events":[{written}]}}'.encode(), {"Content-Type": "application/json"}
        if self._gzip_above is not None and len(content) > self._gzip_above:
            content = gzip.compress(content, compresslevel=1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        path = "/v1/events?whatever_time=true" if whatever_time else "/v1/events"
        return self._call(self._http.build_request("POST", path, content=content, headers=headers), read, repeat=True)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Perennial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """A connection that two processes share would give one the other's answers."""
        self._http = self._open()

    def _call(self, request: httpx.Request, read: Callable[[Json], T], *, repeat: bool) -> T:
        """What `read` makes of the answer. What stands in the way is raised once the retries are used up."""
        retries = self._retries if repeat else Retries(attempts=1)
        trouble: Exception
        failed, asked = 0, None
        while True:
            try:
                answer = self._http.send(request)
                if answer.is_success:
                    return _read(answer, read)
                trouble, asked = ProblemError.of(answer), asked_wait(answer)
                if not is_passing(answer):
                    raise trouble
            except (httpx.UnsupportedProtocol, httpx.LocalProtocolError):
                raise  # Of what is asked itself, no attempt will do.
            except (httpx.TransportError, UnreadableAnswer) as error:
                trouble, asked = error, None
            except httpx.DecodingError as error:
                trouble, asked = UnreadableAnswer(str(error)), None
            failed += 1
            pause = retries.pause(failed, asked)
            if pause is None:
                raise trouble
            time.sleep(pause)


def _read(answer: httpx.Response, read: Callable[[Json], T]) -> T:
    try:
        return read(loads(answer.content) if answer.content else None)
    except (ValueError, RecursionError) as error:
        raise UnreadableAnswer(str(error)) from error


def _as_it_is(answer: Json) -> Json:
    return answer
