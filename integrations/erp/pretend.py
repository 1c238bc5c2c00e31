"""An ERP in memory, for tests of other rooms; it can lose its answer after it has posted."""

from __future__ import annotations

from threading import Lock

from billing.errors import Refused, Unavailable
from integrations.erp import JournalBatch, Posted


class PretendErp:
    """`journals` is what was posted, by our reference."""

    def __init__(self) -> None:
        self.journals: dict[str, JournalBatch] = {}
        self._lost_answers = 0
        self._lock = Lock()

    def lose_answer(self) -> None:
        """The next posting happens, and its answer is lost."""
        self._lost_answers += 1

    def post_journal(self, batch: JournalBatch) -> Posted:
        with self._lock:
            standing = self.journals.setdefault(batch.external_id, batch)
            if standing != batch:
                raise Refused(f"{batch.external_id} holds another journal.", code="erp_differs")
            if self._lost_answers:
                self._lost_answers -= 1
                raise Unavailable("The answer was lost.")
        return self._posted(batch)

    def find(self, external_id: str) -> Posted | None:
        batch = self.journals.get(external_id)
        return self._posted(batch) if batch else None

    def _posted(self, batch: JournalBatch) -> Posted:
        return Posted(f"pretend-{batch.external_id}", str(hash(batch)))
