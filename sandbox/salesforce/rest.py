"""Answers requests: the login, queries, records and limits of the REST API, and the sandbox's own `/_sandbox/` verbs.

No sockets here. Where the documentation leaves the wording of a message open, it is what an organisation answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import RLock
from urllib.parse import parse_qsl, unquote

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from sandbox.salesforce import API, CONSUMER_KEY, INSTANCE_HOST, LOGIN_HOST, USERNAME, soql
from sandbox.salesforce.faults import Fault, ordered
from sandbox.salesforce.objects import OBJECTS, ApiError, ObjectType
from sandbox.salesforce.records import Ambiguous, Record, Records

_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LARGEST_PAGE = 2000
_RESULTS_KEPT = 50


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> object:
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise ApiError(400, "JSON_PARSER_ERROR", f"Unexpected character: {error}") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` goes out as JSON; None is an empty body."""

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Organisation:
    """One Salesforce organisation with one user and one connected app. `answer` may be called from many threads."""

    def __init__(self, public_key: RSAPublicKey, *, daily_requests: int = 100_000) -> None:
        self.records = Records()
        self._public_key = public_key
        self._daily_requests = daily_requests
        self._used = 0
        self._logins = 0
        self._queries = 0
        self._sessions: set[str] = set()
        self._results: dict[str, list[Record]] = {}
        self._faults: list[Fault] = []
        self._lock = RLock()

    def close(self) -> None:
        with self._lock:
            self.records.close()

    def answer(self, request: Request) -> Answer | None:
        """None if the work is done and its answer is to get lost."""
        with self._lock:
            try:
                if request.path.startswith("/_sandbox/"):
                    return self._control(request)
                fault = next((f for f in self._faults if f.meets(request.method, request.path)), None)
                if fault is not None:
                    fault.count -= 1
                    if (error := fault.error()) is not None:
                        raise error
                answer = self._served(request)
                return None if fault is not None else answer
            except ApiError as error:
                return Answer(error.status, error.body, self._usage())
            except Ambiguous as several:
                return Answer(300, several.urls, self._usage())

    def _served(self, request: Request) -> Answer:
        if request.path == "/services/oauth2/token" and request.method == "POST":
            return self._log_in(dict(parse_qsl(request.body.decode())))
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self._sessions:
            raise ApiError(401, "INVALID_SESSION_ID", "Session expired or invalid")
        self._used += 1
        if self._used > self._daily_requests:
            raise ApiError(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
        answer = self._resource(request)
        return Answer(answer.status, answer.body, {**answer.headers, **self._usage()})

    # The login: OAuth 2.0 JWT bearer (RFC 7523), whose errors have a shape of their own.

    def _log_in(self, form: Mapping[str, str]) -> Answer:
        if form.get("grant_type") != _JWT_BEARER:
            return _no_login("unsupported_grant_type", "grant type not supported")
        try:
            claims = jwt.decode(
                form.get("assertion", ""),
                self._public_key,
                algorithms=["RS256"],
                audience=[f"https://{LOGIN_HOST}", f"https://{INSTANCE_HOST}"],
            )
        except jwt.InvalidAudienceError:
            return _no_login("invalid_grant", "audience is invalid")
        except jwt.ExpiredSignatureError:
            return _no_login("invalid_grant", "expired authorization code")
        except jwt.PyJWTError:
            return _no_login("invalid_grant", "invalid assertion")
        if claims.get("iss") != CONSUMER_KEY:
            return _no_login("invalid_client_id", "client identifier invalid")
        if claims.get("sub") != USERNAME:
            return _no_login("invalid_grant", "user hasn't approved this consumer")
        self._logins += 1
        token = f"00D000000000001!{self._logins:06d}"
        self._sessions.add(token)
        body = {
            "access_token": token,
            "scope": "api",
            "instance_url": f"https://{INSTANCE_HOST}",
            "id": f"https://{LOGIN_HOST}/id/00D000000000001EAA/005000000000001AAA",
            "token_type": "Bearer",
        }
        return Answer(200, body)

    # The REST resources.

    def _resource(self, request: Request) -> Answer:
        path = request.path.removeprefix(API).rstrip("/")
        match [request.method, *path.split("/")[1:]]:
            case ["GET", "limits"]:
                left = self._daily_requests - self._used
                return Answer(200, {"DailyApiRequests": {"Max": self._daily_requests, "Remaining": left}})
            case ["GET", "query" | "queryAll"]:
                return self._query(request)
            case ["GET", "query" | "queryAll", locator]:
                return self._page(locator, request)
            case ["POST", "sobjects", name]:
                record_id = self.records.create(_kind(name), _values(request))
                return Answer(201, {"id": record_id, "success": True, "errors": []})
            case ["GET", "sobjects", name, record_id]:
                fields = [f for f in request.query.get("fields", "").split(",") if f]
                return Answer(200, self.records.get(_kind(name), record_id, fields))
            case ["PATCH", "sobjects", name, record_id]:
                self.records.update(_kind(name), record_id, _values(request))
                return Answer(204)
            case ["PATCH", "sobjects", name, field_name, key]:
                return self._upsert(_kind(name), field_name, unquote(key), request)
        raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")

    def _upsert(self, kind: ObjectType, field_name: str, key: str, request: Request) -> Answer:
        external = kind.field(field_name)
        if external is None or not external.external_id:
            message = f"Provided external ID field does not exist or is not accessible: {field_name}"
            raise ApiError(404, "NOT_FOUND", message)
        record_id, created = self.records.upsert(kind, external, key, _values(request))
        body = {"id": record_id, "success": True, "errors": [], "created": created}
        return Answer(201 if created else 200, body)

    def _query(self, request: Request) -> Answer:
        query = soql.read(request.query.get("q", ""))
        if not query.paths:
            return Answer(200, {"totalSize": self.records.count(query), "done": True, "records": []})
        self._queries += 1
        locator = f"0r8{self._queries:012d}AAA"
        self._results[locator] = self.records.select(query)
        if len(self._results) > _RESULTS_KEPT:
            del self._results[min(self._results)]
        return self._page(f"{locator}-0", request)

    def _page(self, locator: str, request: Request) -> Answer:
        """One page of a result that was fixed when it was asked for."""
        name, _, start = locator.partition("-")
        if name not in self._results or not start.isdigit():
            raise ApiError(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        found, first = self._results[name], int(start)
        after = first + _page_size(request)
        body: dict[str, object] = {"totalSize": len(found), "done": after >= len(found)}
        if after < len(found):
            body["nextRecordsUrl"] = f"{API}/query/{name}-{after}"
        return Answer(200, {**body, "records": found[first:after]})

    def _usage(self) -> dict[str, str]:
        return {"Sforce-Limit-Info": f"api-usage={self._used}/{self._daily_requests}"}

    # The sandbox's own verbs, open to everyone on the machine.

    def _control(self, request: Request) -> Answer:
        match [request.method, *request.path.split("/")[2:]]:
            case ["POST", "faults"]:
                self._faults.append(ordered(request.json()))
                return Answer(204)
            case ["DELETE", "faults"]:
                self._faults.clear()
                return Answer(204)
            case ["POST", "expire_sessions"]:
                self._sessions.clear()
                return Answer(204)
            case ["GET", "records", name]:
                return Answer(200, self.records.every(_kind(name)))
            case ["GET", "writes"]:
                return Answer(200, self.records.log())
        raise ApiError(404, "NOT_FOUND", "The sandbox has no such verb.")


def _no_login(error: str, description: str) -> Answer:
    return Answer(400, {"error": error, "error_description": description})


def _kind(name: str) -> ObjectType:
    if (kind := OBJECTS.get(name.lower())) is None:
        raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")
    return kind


def _values(request: Request) -> Mapping[str, object]:
    values = request.json()
    if not isinstance(values, dict):
        raise ApiError(400, "JSON_PARSER_ERROR", "Can not deserialize SObject out of START_ARRAY token")
    return values


def _page_size(request: Request) -> int:
    """From `Sforce-Query-Options: batchSize=200`. Salesforce takes 200 to 2,000; here one record is enough."""
    wish = re.search(r"batchSize=(\d+)", request.headers.get("Sforce-Query-Options", ""))
    return min(max(int(wish[1]), 1), _LARGEST_PAGE) if wish else _LARGEST_PAGE
