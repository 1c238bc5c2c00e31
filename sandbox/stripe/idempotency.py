"""Stripe's promise about idempotency keys: one key, one request, one effect, and the first answer again.

Only answers of requests that began to work are kept; a rejected parameter leaves the key free.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from sandbox.stripe.answers import Answer, key_in_use, key_reused


@dataclass(frozen=True, slots=True)
class _Use:
    fingerprint: str
    answer: Answer | None


class Keys:
    """Every key that was used. Stripe forgets one after a day or more; this server when it is told to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uses: dict[str, _Use] = {}

    def begin(self, key: str, fingerprint: str) -> Answer | None:
        """The kept answer, or None if the work is ours to do (then `finish` or `release` must follow)."""
        with self._lock:
            use = self._uses.get(key)
            if use is None:
                self._uses[key] = _Use(fingerprint, None)
                return None
        if use.fingerprint != fingerprint:
            raise key_reused(key)
        if use.answer is None:
            raise key_in_use(key)
        return replace(use.answer, headers={**use.answer.headers, "Idempotent-Replayed": "true"})

    def finish(self, key: str, answer: Answer) -> None:
        with self._lock:
            self._uses[key] = replace(self._uses[key], answer=answer)

    def release(self, key: str) -> None:
        with self._lock:
            del self._uses[key]

    def forget(self) -> None:
        """As after a day: keys of finished requests are free again."""
        with self._lock:
            self._uses = {key: use for key, use in self._uses.items() if use.answer is None}
