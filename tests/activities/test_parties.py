"""What is issued keeps the seller and the buyer that it was issued with, whenever it is printed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date

from activities.printing import printable
from models.customer import change_customer
from models.database import transaction
from models.entity import change_entity
from models.invoice import parties
from tests.activities.company import Company


def printed(company: Company) -> list[tuple[str, tuple[str, ...], str, str]]:
    """Of each invoice in order: seller, and name, address and tax id of the buyer."""
    ids = company.sql("select id from invoice order by issued_at, customer_id")
    with transaction(company.engine) as session:
        documents = [printable(session, key) for (key,) in ids]
    return [(d.seller.name, d.buyer.address_lines, d.buyer.name, d.buyer.vat_id) for d in documents]


def test_issued_invoices_keep_what_they_print(company: Company) -> None:
    company.customer("ada")
    company.sign("ada")
    company.live("2026-01-03")
    before = printed(company)
    with transaction(company.engine) as session:
        change_customer(session, "ada", {"name": "Ada SE", "address": "Am Ring 4\n1010 Wien", "vat_id": "DE136695976"})
        change_entity(session, "acme", {"name": "Acme SE"})
    assert printed(company) == before == [("acme", (), "ada", "")]
    company.live("2026-02-03")
    assert printed(company) == [*before, ("Acme SE", ("Am Ring 4", "1010 Wien"), "Ada SE", "DE136695976")]


def test_payment_terms_are_those_that_were_agreed(company: Company) -> None:
    for name in ("ada", "bob"):
        company.customer(name)
    company.sign("ada")
    with transaction(company.engine) as session:
        change_entity(session, "acme", {"payment_terms_days": 30})
    company.sign("bob")
    company.live("2026-01-03")
    due = company.sql("select customer_id, due_on - issued_on from invoice order by 1")
    assert due == [("ada", 14), ("bob", 30)]


def test_another_country_is_taxed_from_the_next_invoice_on(company: Company) -> None:
    company.customer("ada", vat_id=True)
    company.sign("ada")
    company.live("2026-01-03")
    with transaction(company.engine) as session:
        change_customer(session, "ada", {"country": "AT"})
    company.live("2026-02-03")
    taxes = "select jurisdiction, category, percent::int from invoice_tax t join invoice i on i.id = t.invoice_id"
    assert company.sql(f"{taxes} order by issued_at") == [("DE", "S", 19), ("AT", "S", 20)]


def test_who_moves_while_bills_are_made_is_on_each_of_them_as_a_whole(
    company: Company, threads: ThreadPoolExecutor
) -> None:
    names = [f"c{n}" for n in range(12)]
    for name in names:
        company.customer(name)
        company.sign(name, starts_on=date(2026, 1, 1))
    company.live("2025-12-31")
    company.set_clock(company.now().replace(year=2026, month=1, day=2))
    for (subject,) in company.sql("select subject from agenda where kind = 'activate' and done_at is null"):
        company.lifecycle.look(subject.removeprefix("subscription/"))

    def move(name: str) -> None:
        for n in range(5):
            with transaction(company.engine) as session:
                change_customer(session, name, {"name": f"{name} {n}", "address": f"Street {n}"})

    moves = [threads.submit(move, name) for name in names]
    assert company.bill().invoices == len(names)
    for done in moves:
        done.result()
    with transaction(company.engine) as session:
        buyers = [parties(session, key)[1] for (key,) in company.sql("select id from invoice")]
    assert all(b.address == "" or b.name == f"{b.customer_id} {b.address.removeprefix('Street ')}" for b in buyers)
    versions = company.sql("select customer_id, array_agg(version order by version) from customer_version group by 1")
    assert dict(versions) == {name: [1, 2, 3, 4, 5, 6] for name in names}
