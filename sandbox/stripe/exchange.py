"""From a request to its answer, without sockets: who may ask, faults, idempotency, then the work itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl

from sandbox.stripe import routes
from sandbox.stripe.account import Account, Cause
from sandbox.stripe.answers import Answer, ApiError, rate_limited, server_error, unauthorised
from sandbox.stripe.control import Control
from sandbox.stripe.faults import Faults
from sandbox.stripe.idempotency import Keys


@dataclass(frozen=True, slots=True)
class Request:
    """`headers` have lower-case names; `query` and `content` are as they came."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Exchange:
    account: Account
    api_key: str
    faults: Faults = field(default_factory=Faults)
    keys: Keys = field(default_factory=Keys)

    def answer(self, request: Request) -> Answer:
        try:
            if request.path.startswith("/_sandbox/"):
                control = Control(self.account, self.faults, self.keys)
                return control.answer(request.method, request.path, request.content)
            return self._api(request)
        except ApiError as error:
            return error.answer

    def _api(self, request: Request) -> Answer:
        key = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if key != self.api_key:
            raise unauthorised(key)
        self._refuse_if_told(request)
        text = request.query if request.method == "GET" else request.content.decode(errors="replace")
        work = routes.find(request.method, request.path, parse_qsl(text, keep_blank_values=True))
        answer = self._once(request, work)
        if self.faults.take(request.method, request.path, ("lost_answer",)):
            return replace(answer, lost=True)
        return answer

    def _refuse_if_told(self, request: Request) -> None:
        fault = self.faults.take(request.method, request.path, ("server_error", "rate_limited"))
        if fault is not None:
            raise server_error() if fault.kind == "server_error" else rate_limited(fault.retry_after)

    def _once(self, request: Request, work: routes.Work) -> Answer:
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        if key is None:
            return self._done(request, work, Cause())
        fingerprint = f"{request.path} {hashlib.sha256(request.content).hexdigest()}"
        if kept := self.keys.begin(key, fingerprint):
            return kept
        try:
            answer = self._done(request, work, Cause(key))
        except BaseException:
            self.keys.release(key)
            raise
        self.keys.finish(key, answer)
        return answer

    def _done(self, request: Request, work: routes.Work, cause: Cause) -> Answer:
        try:
            with self.account.lock:
                answer = Answer(200, work(self.account, cause))
        except ApiError as error:
            answer = error.answer
        if fault := self.faults.take(request.method, request.path, ("timeout",)):
            self.faults.hang(fault)
        return answer
