"""The API over HTTP, as anyone would call it."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from sandbox.process import StartFailed
from sandbox.stack import Stack

Json = Any  # What a JSON document holds; the story reads a few fields of many documents.


class Door:
    """One key at one API. An answer that is no success ends the story with the problem document."""

    def __init__(self, url: str, key: str) -> None:
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False
        )

    def close(self) -> None:
        self._client.close()

    def get(self, path: str) -> Json:
        return self._answer(self._client.get(path))

    def post(self, path: str, body: Json) -> Json:
        return self._answer(self._client.post(path, json=body))

    def put(self, path: str, body: Json) -> Json:
        return self._answer(self._client.put(path, json=body))

    def bytes(self, path: str) -> bytes:
        return self._client.get(path).raise_for_status().content

    def elsewhere(self, url: str, body: Json) -> None:
        """Tell a sandbox server what to do next."""
        httpx.post(url, json=body, timeout=10, trust_env=False).raise_for_status()

    def read(self, url: str, stack: Stack) -> Json:
        """Look into a sandbox server that speaks TLS with its own authority."""
        trust = ssl.create_default_context(cafile=str(stack.folder / "salesforce" / "ca.pem"))
        return httpx.get(url, timeout=10, verify=trust, trust_env=False).raise_for_status().json()

    @staticmethod
    def _answer(response: httpx.Response) -> Json:
        if response.is_success:
            return response.json()
        where = f"{response.request.method} {response.request.url.path}"
        raise StartFailed("demo", f"{where} answered {response.status_code}", response.text)
