"""The printed invoice: its figures, its pages, text that looks like markup, and the same bytes every time."""

from __future__ import annotations

import io
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from decimal import Decimal
from multiprocessing import get_context

import pypdf
import pytest

from activities.rendering import (
    DocumentLine,
    DocumentTax,
    InvoiceDocument,
    LineStep,
    Party,
    _sum,
    render_invoice,
)
from billing.errors import Broken, Refused
from billing.money import CURRENCIES, Money, exponent
from billing.period import Period

JANUARY = Period(date(2026, 1, 1), date(2026, 2, 1))
FEBRUARY = Period(date(2026, 2, 1), date(2026, 3, 1))


def eur(major: str) -> Money:
    return Money.of(Decimal(major), "EUR")


SELLER = Party(
    name="Evergreen Software GmbH",
    address_lines=("Lindenstraße 12", "10969 Berlin"),
    country="DE",
    vat_id="DE136695976",
    email="billing@evergreen.example",
    registration="Amtsgericht Charlottenburg, HRB 123456 B",
)
BUYER = Party("Northwind Analytics AG", ("Accounts Payable", "20457 Hamburg"), "DE", "DE811569869")
TIERS = (
    LineStep("First 100,000", Decimal(100_000), Decimal("0.0030"), Decimal(300)),
    LineStep("Next 900,000", Decimal(900_000), Decimal("0.0022"), Decimal(1980)),
    LineStep("Above 1,000,000", Decimal(376_512), Decimal("0.001756999"), Decimal("661.5312074")),
)
SEATS_BEFORE = Period(date(2026, 1, 17), date(2026, 2, 1))
LINES = (
    DocumentLine("Platform, Enterprise plan", eur("1200.00"), Decimal(1), "month", Decimal(1200), FEBRUARY),
    DocumentLine("Seats", eur("1125.00"), Decimal(25), "seats", Decimal(45), FEBRUARY),
    DocumentLine("Seats until now", eur("-435.48"), Decimal(-20), "seats", Decimal(45), SEATS_BEFORE, "15 of 31 days"),
    DocumentLine("Seats from now on", eur("544.35"), Decimal(25), "seats", Decimal(45), SEATS_BEFORE, "15 of 31 days"),
    DocumentLine("Output tokens", eur("2941.53"), Decimal(1_376_512), "thousand", period=JANUARY, steps=TIERS),
)
INVOICE = InvoiceDocument(
    kind="invoice",
    number="ES-2026-00042",
    issued_on=date(2026, 2, 1),
    due_on=date(2026, 3, 3),
    service_period=FEBRUARY,
    seller=SELLER,
    buyer=BUYER,
    purchase_order="PO-4500018273",
    currency="EUR",
    lines=LINES,
    subtotal=eur("5375.40"),
    discounts=(("Discount 10%", eur("537.54")),),
    net=eur("4837.86"),
    taxes=(DocumentTax("VAT", "DE", Decimal(19), eur("4837.86"), eur("919.19")),),
    total=eur("5757.05"),
    credits_applied=eur("500.00"),
    amount_due=eur("5257.05"),
    payment_terms="Payable within 30 days without deduction.",
    pay_to=(("IBAN", "DE89 3704 0044 0532 0130 00"),),
)


def reader(document: InvoiceDocument) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(render_invoice(document)))


def pages(document: InvoiceDocument) -> list[str]:
    return [page.extract_text() for page in reader(document).pages]


def addressed_to(name: str) -> InvoiceDocument:
    return replace(INVOICE, buyer=replace(BUYER, name=name))


@pytest.mark.parametrize(
    "printed",
    [
        "ES-2026-00042",
        "1 February 2026",
        "by 3 March 2026",
        "1 Feb 2026 – 28 Feb 2026",
        "17 Jan 2026 – 31 Jan 2026 · 15 of 31 days",
        "1 month 1,200.00 1,200.00",
        "−20 seats 45.00 −435.48",
        "Above 1,000,000 376,512 × 0.001756999 661.5312074",
        "Subtotal €5,375.40",
        "Discount 10% −€537.54",
        "VAT 19% €919.19",
        "VAT 19%, Germany 4,837.86 919.19",
        "Total €5,757.05",
        "Prepaid credit applied −€500.00",
        "€5,257.05",
        "DE89 3704 0044 0532 0130 00",
        "PO-4500018273",
        "HRB 123456 B",
        "Page 1 of 1",
    ],
)
def test_every_fact_is_on_the_page(printed: str) -> None:
    (page,) = pages(INVOICE)
    assert printed in page


def test_without_discount_or_credit_there_is_no_row_for_them() -> None:
    (page,) = pages(replace(INVOICE, discounts=(), credits_applied=eur("0.00")))
    assert "Subtotal" not in page
    assert "Prepaid credit" not in page


def test_a_discount_that_a_line_already_had_is_said_under_it() -> None:
    (page,) = pages(replace(INVOICE, lines=(replace(LINES[0], discount=eur("120.00")),)))
    assert "Discount of €120.00 already taken off" in page


def test_the_same_document_gives_the_same_bytes_in_any_thread_and_process() -> None:
    first = render_invoice(INVOICE)
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(render_invoice, [INVOICE] * 4)) == [first] * 4
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as elsewhere:
        assert elsewhere.submit(render_invoice, INVOICE).result() == first
    assert render_invoice(addressed_to("Someone Else AG")) != first


def test_it_is_pdf_a_3b_dated_on_the_day_of_issue() -> None:
    pdf = reader(INVOICE)
    metadata = pdf.trailer["/Root"]["/Metadata"].get_object().get_data().decode()
    assert "<pdfaid:part>3</pdfaid:part>" in metadata
    assert "<pdfaid:conformance>B</pdfaid:conformance>" in metadata
    assert pdf.metadata is not None
    assert pdf.metadata.creation_date is not None
    assert pdf.metadata.creation_date.date() == date(2026, 2, 1)
    assert pdf.metadata.title == "Invoice ES-2026-00042"


@pytest.mark.parametrize(
    "name",
    [
        '#import "x"',
        "*bold* $x$ _it_ `raw`",
        "<label> @ref //c /*d*/",
        "\\u{41} -- --- ... ~ = x",
        '#{panic()} {{7*7}} %s "q"',
        "Ελληνική Εταιρεία, Москва, Łódź",
    ],
)
def test_text_is_printed_as_it_is_and_never_read_as_markup(name: str) -> None:
    (page,) = pages(addressed_to(name))
    assert f"Bill to\n{name}\n" in page


@pytest.mark.parametrize("odd", ["bell\x07", "nul\x00", "half\ud83d", "rocket🚀"])
def test_a_symbol_without_a_glyph_is_a_box_and_the_rest_stays(odd: str) -> None:
    (page,) = pages(addressed_to(f"{odd} Ltd"))
    assert f"{odd[:-1]}□ Ltd" in page
    assert "€5,257.05" in page


def test_a_letter_without_a_glyph_is_refused_by_name() -> None:
    with pytest.raises(Refused) as refusal:
        render_invoice(addressed_to("日本 Ltd"))
    assert refusal.value.code == "letters_without_font"
    assert "日" in refusal.value.reason
    assert "activities/templates" in refusal.value.remedy


def test_a_very_long_word_breaks_instead_of_leaving_its_column() -> None:
    (page,) = pages(addressed_to("Donau" * 60))
    assert page.replace("\u200b", "").replace("\n", "").count("Donau") == 60
    assert page.count("Donau" * 30) == 0


def numbered(count: int) -> InvoiceDocument:
    return replace(INVOICE, lines=tuple(replace(LINES[1], description=f"Cluster {n:03d}") for n in range(1, count + 1)))


def test_sixty_lines_run_over_pages_that_all_say_what_they_are() -> None:
    found = pages(numbered(60))
    assert len(found) >= 3
    for at, page in enumerate(found, start=1):
        assert "Description Quantity" in page
        assert "ES-2026-00042" in page
        assert f"Page {at} of {len(found)}" in page
    assert all(f"Cluster {n:03d}" in "".join(found) for n in range(1, 61))


@pytest.mark.parametrize("count", range(8, 18))
def test_the_sums_stay_together_and_never_without_a_line(count: int) -> None:
    (closing,) = [page for page in pages(numbered(count)) if "Subtotal" in page]
    assert "Amount due" in closing
    assert f"Cluster {count:03d}" in closing
    assert f"Cluster {count - 1:03d}" in closing


def test_a_last_line_longer_than_a_page_loses_nothing() -> None:
    endless = replace(LINES[0], description="word " * 2500 + "end.")
    text = "\n".join(pages(replace(INVOICE, lines=(endless,))))
    assert text.count("word") == 2500
    assert "end." in text
    assert "Amount due" in text


def test_sums_longer_than_a_page_lose_nothing() -> None:
    taxes = tuple(replace(INVOICE.taxes[0], name=f"Tax of county {n:03d},", note="By law. " * 9) for n in range(80))
    text = "\n".join(pages(replace(INVOICE, taxes=taxes, notes="note " * 900)))
    assert all(text.count(f"county {n:03d}") == 2 for n in range(80))
    assert text.count("note ") + text.count("note\n") == 900
    assert "€5,257.05" in text


def test_yen_have_no_decimals_but_their_unit_price_may() -> None:
    def yen(minor: int) -> Money:
        return Money(minor, "JPY")

    calls = DocumentLine("Calls", yen(38_251), Decimal(1_530_040), "calls", Decimal("0.025"))
    tax = DocumentTax("Consumption tax", "JP", Decimal(10), yen(38_251), yen(3_825))
    (page,) = pages(
        replace(
            INVOICE,
            currency="JPY",
            lines=(calls,),
            discounts=(),
            taxes=(tax,),
            subtotal=yen(38_251),
            net=yen(38_251),
            total=yen(42_076),
            credits_applied=yen(0),
            amount_due=yen(42_076),
        )
    )
    assert "1,530,040 calls 0.025 38,251" in page
    assert "Amount JPY" in page
    assert "Consumption tax 10% JP¥3,825" in page
    assert "JP¥42,076" in page


def test_a_credit_note_is_negative_and_names_what_it_corrects() -> None:
    line = DocumentLine("Platform", eur("-600.00"), Decimal("-0.5"), "month", Decimal(1200), FEBRUARY)
    (page,) = pages(
        replace(
            INVOICE,
            kind="credit_note",
            number="ES-CN-3",
            corrects="ES-2026-00042",
            due_on=None,
            lines=(line,),
            discounts=(),
            taxes=(DocumentTax("VAT", "DE", Decimal(19), eur("-600.00"), eur("-114.00")),),
            net=eur("-600.00"),
            total=eur("-714.00"),
            credits_applied=eur("0.00"),
            amount_due=eur("-714.00"),
        )
    )
    assert "Credit note" in page
    assert "Corrects invoice ES-2026-00042" in page
    assert "−0.5 month 1,200.00 −600.00" in page
    assert "Amount credited −€714.00" in page
    assert "-714" not in page


@pytest.mark.parametrize("currency", sorted(CURRENCIES))
def test_every_currency_shows_its_minor_unit_and_nothing_more(currency: str) -> None:
    places = exponent(currency)
    shown = _sum(Money(-1_234_567, currency), currency)
    assert shown.startswith("−")
    digits = "".join(one for one in shown if one.isdigit())
    assert digits == "1234567"
    whole_and_rest = shown[next(i for i, one in enumerate(shown) if one.isdigit()) :]
    assert len(whole_and_rest.partition(".")[2]) == places


@pytest.mark.parametrize("currency", ["AED", "INR", "KRW", "ILS", "NGN", "VND", "KZT", "GEL"])
def test_signs_of_currencies_have_glyphs(currency: str) -> None:
    line = replace(LINES[1], amount=Money(1_000, currency))
    sums = {name: Money(1_000, currency) for name in ("subtotal", "net", "total", "credits_applied", "amount_due")}
    (page,) = pages(replace(INVOICE, currency=currency, lines=(line,), taxes=(), discounts=(), **sums))
    assert f"Total {_sum(Money(1_000, currency), currency)}" in page


def test_money_of_another_currency_is_our_bug() -> None:
    stray = replace(LINES[0], amount=Money(100, "USD"))
    with pytest.raises(Broken, match="stands on a document in EUR"):
        render_invoice(replace(INVOICE, lines=(stray,)))


def test_a_document_without_lines_is_refused() -> None:
    with pytest.raises(Refused) as refusal:
        render_invoice(replace(INVOICE, lines=()))
    assert refusal.value.code == "empty_document"
