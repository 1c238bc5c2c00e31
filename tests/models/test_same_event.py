"""An event is the same under each name of its customer: as it was sent, and as it is exported, by the customer's id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from time import process_time
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine

from billing.errors import Refused
from models import discard
from models.database import transaction
from models.discard import discard_named, discard_subject
from models.event import Event, Named, conflicts, events_of
from models.same_event import MOST_WORK, Names, Unlike, the_same
from tests.models.test_quarantine import again, ago, kinds, numbers
from tests.models.test_usage import event, total

Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def known(sql: Sql) -> Sql:
    sql("insert into customer_alias values ('crm-7', 'berlin'), ('crm-8', 'berlin'), ('crm-9', 'york')")
    return sql


def called(e: Event, *subjects: str) -> list[Event]:
    return [replace(e, subject=subject) for subject in subjects]


def test_it_is_a_duplicate_under_each_name_of_its_customer(engine: Engine, known: Sql) -> None:
    first, id_, other, of_york = called(event(1, 5, at=ago()), "crm-7", "berlin", "crm-8", "crm-9")
    assert kinds(engine, first) == ["accepted"]
    assert kinds(engine, id_, other, of_york) == ["duplicate", "duplicate", "conflict"]
    assert kinds(engine, replace(id_, data={"n": 6}), replace(id_, type="x")) == ["conflict", "conflict"]
    assert (total(engine), numbers(engine)) == (5, (1, 2, 1, 0))
    with transaction(engine) as session:
        kept = [one.customer_id for one in conflicts(session, None, None, 10)]
    assert sorted(str(one) for one in kept) == ["berlin", "berlin", "york"]


def test_in_one_batch_too(engine: Engine, known: Sql) -> None:
    batch = called(event(1, 5, at=ago()), "berlin", "crm-7", "crm-9", "crm-8")
    assert kinds(engine, *batch) == ["accepted", "duplicate", "conflict", "duplicate"]
    assert total(engine) == 5


def test_what_is_stored_comes_again_as_it_is(engine: Engine, known: Sql) -> None:
    """As an export has it: by the customer's id, to the last digit."""
    kinds(engine, *(event(no, no, "crm-7", ago()) for no in range(3)))
    with transaction(engine) as session:
        stored = events_of(session, "berlin", (date(2000, 1, 1), date(2199, 1, 1)), None, None, 10)
    exported = [event(one.id, int(one.id), one.customer_id, one.occurred_at) for one in stored]
    assert kinds(engine, *exported) == ["duplicate"] * 3
    for month in {one.occurred_at.date() for one in stored}:  # It need not be there still.
        known("select make_usage_month(%s), take_usage_month(%s)", (month, month))
    assert known("select count(*) from usage_event") == [(0,)]
    assert kinds(engine, *exported) == ["duplicate"] * 3


def test_what_waits_for_its_time_is_known_under_each_name(engine: Engine, known: Sql) -> None:
    old, id_, of_york = called(event(1, 5, at=ago(days=500)), "crm-7", "berlin", "crm-9")
    assert kinds(engine, old, id_) == ["quarantined", "duplicate"]
    assert kinds(engine, id_, of_york, replace(id_, data={"n": 6})) == ["duplicate", "conflict", "conflict"]
    assert numbers(engine) == (0, 2, 1, 1)
    assert again(engine, None) == {"accepted": 1}
    assert kinds(engine, id_) == ["duplicate"]
    assert (total(engine), numbers(engine)) == (5, (1, 3, 1, 0))


def test_what_waited_under_an_alias_that_nobody_knew(engine: Engine, sql: Sql) -> None:
    """It came again by the customer's id meanwhile, and counts once."""
    stranger, id_ = called(event(1, 5, at=ago()), "crm-7", "berlin")
    assert kinds(engine, stranger, id_) == ["quarantined", "accepted"]
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    assert again(engine) == {"duplicate": 1}
    assert (total(engine), numbers(engine)) == (5, (1, 1, 0, 0))
    assert sql("select count(*) from usage_conflict") == [(0,)]


def test_what_counts_under_another_name_is_not_discarded(engine: Engine, sql: Sql) -> None:
    stranger, id_ = called(event(1, 5, at=ago()), "crm-7", "berlin")
    assert kinds(engine, stranger, id_) == ["quarantined", "accepted"]
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    with transaction(engine) as session:
        assert discard_subject(session, "crm-7", None, "junk", "key-1") == 0
    with transaction(engine) as session, pytest.raises(Refused) as refused:
        discard_named(session, [(stranger.source, stranger.id)], "junk", "key-1")
    assert "the same came again" in refused.value.faults[0].reason
    assert again(engine) == {"duplicate": 1}


def test_others_of_the_subject_are_discarded_though_the_first_counts(
    engine: Engine, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many count: whoever discards until nothing waits comes to an end."""
    monkeypatch.setattr(discard, "MOST", 1)
    first, id_ = called(event(1, 5, at=ago()), "crm-7", "berlin")
    later = [replace(first, id=f"later-{n}") for n in range(2)]
    assert kinds(engine, first, *later, id_) == ["quarantined"] * 3 + ["accepted"]
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    for discarded in (1, 1, 0):
        with transaction(engine) as session:
            assert discard_subject(session, "crm-7", None, "junk", "key-1") == discarded
    assert again(engine) == {"duplicate": 1}


def test_what_was_discarded_is_known_under_each_name(engine: Engine, sql: Sql) -> None:
    stranger, id_ = called(event(1, 5, at=ago()), "crm-7", "berlin")
    assert kinds(engine, stranger) == ["quarantined"]
    with transaction(engine) as session:
        discard_named(session, [(stranger.source, stranger.id)], "junk", "key-1")
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    assert kinds(engine, id_) == ["duplicate"]
    assert total(engine) == 0


def test_of_one_event_under_all_its_names_at_once_one_counts(
    engine: Engine, known: Sql, threads: ThreadPoolExecutor
) -> None:
    names = ("crm-7", "berlin", "crm-8")
    events = [event(no, 1, at=ago(minutes=no)) for no in range(60)]
    sending = [
        threads.submit(kinds, engine, *(replace(e, subject=names[(sender + n) % 3]) for n, e in enumerate(events)))
        for sender in range(9)
    ]
    answers = Counter(kind for one in sending for kind in one.result(30))
    assert answers == {"accepted": 60, "duplicate": 8 * 60}
    assert total(engine) == 60


NAMES = [f"name-{no}" for no in range(300)]


def test_a_name_by_which_many_came_is_tried_first() -> None:
    """And each event is written once, not for each of the names."""
    names = Names(NAMES)
    for work, (no, sent_by) in zip((300, 1, 1, 8, 1), enumerate((299, 299, 299, 6, 6)), strict=True):
        e = event(no, '\u00e4"')
        kept = Named.of(replace(e, subject=NAMES[sent_by])).content
        assert names.call(e, kept) == (work, True)
    assert names.call(event(1), 5) == (300, False)
    assert names.call(event(1, "x" * 2500), 5) == (900, False), "what is long takes longer"


def test_what_is_in_conflict_costs_no_more_than_so_much(engine: Engine, sql: Sql) -> None:
    """10,000 events in conflict of a customer of 300 names took a minute, while others waited for the locks."""
    sql("insert into customer_alias select unnest(%s::text[]), 'berlin'", (NAMES,))
    came = [Named.of(event(no, 5, NAMES[no % 2], ago())) for no in range(10_000)]
    unlike = {
        n: Unlike(Named.of(replace(one.event, subject="berlin")), one.content, "berlin") for n, one in enumerate(came)
    }
    in_conflict = {n: one._replace(kept=5) for n, one in unlike.items()}
    with transaction(engine) as session:
        assert the_same(session, unlike) == set(unlike)
        began = process_time()
        assert the_same(session, in_conflict) == set()
        assert process_time() - began < 15
        assert the_same(session, {0: in_conflict[0], 1: unlike[1]}, 301 + 3) == {1}
        assert the_same(session, {0: in_conflict[0], 1: unlike[1]}, 301) == set(), (
            "in conflict, as if nobody had looked"
        )
    assert MOST_WORK >= 10_000 * 100


def test_what_nobody_had_time_to_compare_does_not_count(
    engine: Engine, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    first, id_ = called(event(1, 5, at=ago()), "crm-7", "berlin")
    monkeypatch.setattr("models.same_event.MOST_WORK", 1)
    assert kinds(engine, first, id_) == ["accepted", "conflict"]
    monkeypatch.undo()
    assert kinds(engine, id_) == ["duplicate"]
    assert (total(engine), numbers(engine)) == (5, (1, 1, 1, 0))
