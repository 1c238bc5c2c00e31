"""What is printed follows from what was issued."""

from __future__ import annotations

from datetime import date

from activities.printing import printable
from models.database import transaction
from tests.activities.company import Company


def test_terms_of_payment_stand_only_where_something_is_due(company: Company) -> None:
    company.customer("ada")
    company.sign("ada", "bigger")
    company.live("2026-01-10")
    assert company.amend("amd", "sub-ada", date(2026, 1, 10), "usage").accepted
    company.live("2026-02-05")
    issued = company.sql("select id, due_minor > 0 from invoice order by due_minor desc")
    assert [due for _, due in issued] == [True, False]
    with transaction(company.engine) as session:
        invoice, credit_note = (printable(session, key) for key, _ in issued)
    assert invoice.payment_terms == "Payable within 14 days. Cards on file are charged automatically."
    assert (credit_note.kind, credit_note.payment_terms) == ("credit_note", "")
