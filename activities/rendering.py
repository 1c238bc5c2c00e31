"""What is printed on an invoice or credit note, and the printing of it as PDF/A-3.

A document describes itself in plain facts that were computed elsewhere; here they are only worded, formatted and set.
Nothing is added up here, nothing is read or stored. The layout is `templates/invoice.typ`. Type comes from the fonts
inside typst, and from font files an operator puts beside the template for further scripts; never from the machine.
"""

from __future__ import annotations

import json
import re
import threading
import unicodedata
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TypeAlias

import typst
from babel import Locale
from babel.dates import format_date
from babel.numbers import format_currency, format_decimal, get_currency_symbol

from billing.errors import Broken, Fault, Refused
from billing.invoice import DocumentKind
from billing.money import Money, exponent
from billing.period import Period

LOCALE = "en_GB"  # Figures, dates and countries; the words of the template are English, so the two go together.
TEMPLATES = Path(__file__).parent / "templates"
STAND_IN = "□"
_TITLES: dict[DocumentKind, str] = {"invoice": "Invoice", "credit_note": "Credit note"}

Printed: TypeAlias = "str | bool | int | list[Printed] | dict[str, Printed]"


@dataclass(frozen=True, slots=True)
class Party:
    """Seller or buyer. `country` is ISO 3166-1 alpha-2.

    `registration` is the seller's, for the foot of every page, where there is room for about 400 characters.
    """

    name: str
    address_lines: tuple[str, ...]
    country: str
    vat_id: str = ""
    email: str = ""
    registration: str = ""


@dataclass(frozen=True, slots=True)
class LineStep:
    """A step of a line: a tier, or without a quantity a discount or a bound.

    `amount` is exact in currency units, because only the whole line is rounded. `share` is the part of it that counts.
    """

    label: str
    quantity: Decimal | None
    unit_price: Decimal
    amount: Decimal
    flat_fee: Decimal = Decimal(0)
    share: str = "1"


@dataclass(frozen=True, slots=True)
class DocumentLine:
    """A line with the amount that counts towards the subtotal. A `discount` was already taken off that amount.

    `unit_price` is in currency units, with any number of decimals. `detail` is a second, smaller line.
    """

    description: str
    amount: Money
    quantity: Decimal | None = None
    unit: str = ""
    unit_price: Decimal | None = None
    period: Period | None = None
    detail: str = ""
    discount: Money | None = None
    steps: tuple[LineStep, ...] = ()


@dataclass(frozen=True, slots=True)
class DocumentTax:
    """The tax of one group: `name` without the rate ('VAT', 'Reverse charge'), `percent` 19, `country` ISO 3166-1.

    `note` is a text that law demands, such as the reason of a reverse charge.
    """

    name: str
    country: str
    percent: Decimal
    base: Money
    tax: Money
    note: str = ""


@dataclass(frozen=True, slots=True)
class InvoiceDocument:
    """Everything on the page. All money is in `currency`, with the sign it is to be printed with.

    Except what is taken off: `discounts` (label and money, between subtotal and net) and `credits_applied` are
    positive on an invoice and printed with a minus. `pay_to` is labels and values, such as IBAN; `corrects` is the
    number of the invoice that a credit note corrects.
    """

    kind: DocumentKind
    number: str
    issued_on: date
    seller: Party
    buyer: Party
    currency: str
    lines: tuple[DocumentLine, ...]
    subtotal: Money
    net: Money
    total: Money
    credits_applied: Money
    amount_due: Money
    taxes: tuple[DocumentTax, ...] = ()
    discounts: tuple[tuple[str, Money], ...] = ()
    due_on: date | None = None
    service_period: Period | None = None
    purchase_order: str = ""
    corrects: str = ""
    payment_terms: str = ""
    pay_to: tuple[tuple[str, str], ...] = ()
    notes: str = ""


def render_invoice(document: InvoiceDocument) -> bytes:
    """The document as PDF/A-3b (ISO 19005-3), dated on its day of issue: the same document gives the same bytes.

    Text is printed as it is, never read as markup. A symbol that no font has is printed as a box; a letter that no font
    has is refused, since a name must not be maimed. A document without lines is refused.
    """
    if not document.lines:
        raise Refused(
            f"{_TITLES[document.kind]} {document.number} has no lines.",
            code="empty_document",
            remedy="Issue it with at least one line.",
        )
    payload = json.dumps(_clean(_page(document)), ensure_ascii=False)
    unknown: set[str] = set()
    while True:
        try:
            return _compile(payload)
        except typst.TypstError as error:
            found = _without_glyph(error.diagnostic) - unknown
            if not found:
                raise Broken(f"The invoice template does not compile: {error.diagnostic}") from error
        unknown |= found
        payload = _with_stand_ins(payload, found)


# --- Setting ------------------------------------------------------------------------------------------------


class _Press(threading.local):
    """One compiler a thread: it keeps the parsed template, and is not made for two callers at once."""

    def __init__(self) -> None:
        self.compiler = typst.Compiler(str(TEMPLATES / "invoice.typ"), root=str(TEMPLATES), font_paths=_fonts())


@cache
def _fonts() -> typst.Fonts:
    return typst.Fonts(include_system_fonts=False, font_paths=[str(TEMPLATES)])


@cache
def _press() -> _Press:
    return _Press()


def _compile(payload: str) -> bytes:
    made = _press().compiler.compile(format="pdf", sys_inputs={"document": payload}, pdf_standards="a-3b")
    if not isinstance(made, bytes):
        raise Broken("typst returned something other than one PDF")
    return made


def _without_glyph(diagnostic: str) -> set[str]:
    """The characters that typst names as not displayable (PDF/A forbids a missing glyph, so it never passes one)."""
    named = re.findall(r'the text `"(.*?)"` could not be displayed', diagnostic)
    return {re.sub(r"\\u\{([0-9a-f]+)\}", lambda code: chr(int(code[1], 16)), text) for text in named}


def _with_stand_ins(payload: str, unknown: set[str]) -> str:
    letters = sorted(text for text in unknown if any(unicodedata.category(one).startswith("L") for one in text))
    if letters:
        raise Refused(
            f"No font of the invoice has the letters {' '.join(letters)}",
            code="letters_without_font",
            faults=[Fault("document", f"{text} cannot be printed") for text in letters],
            remedy=f"Put a font file that has them (.ttf or .otf) into {TEMPLATES.parent.name}/{TEMPLATES.name}, "
            "restart the worker, then resume.",
        )
    for text in sorted(unknown, key=len, reverse=True):
        payload = payload.replace(text, STAND_IN)
    return payload


def _clean(value: Printed) -> Printed:
    """Every text of the page without control characters, and with places to break in very long words."""
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if not isinstance(value, str):
        return value
    lines = value.strip().replace("\t", " ").splitlines()
    shown = "\n".join(
        "".join(STAND_IN if unicodedata.category(one) in ("Cc", "Cs") else one for one in line) for line in lines
    )
    return re.sub(r"\S{36,}", lambda word: "\u200b".join(re.findall(".{1,6}", word[0])), shown)


# --- Wording ------------------------------------------------------------------------------------------------


def _page(document: InvoiceDocument) -> dict[str, Printed]:
    issued = document.issued_on
    return {
        "title": _TITLES[document.kind],
        "number": document.number,
        "issued": [issued.year, issued.month, issued.day],
        "currency": document.currency,
        "seller": _party(document.seller),
        "buyer": _party(document.buyer),
        "facts": _facts(document),
        "lines": [_line(line, document.currency) for line in document.lines],
        "taxes": [_tax(tax, document.currency) for tax in document.taxes],
        "sums": _sums(document),
        "due": _due(document),
        "terms": document.payment_terms,
        "pay_to": [[label, value] for label, value in document.pay_to],
        "notes": document.notes,
    }


def _party(party: Party) -> dict[str, Printed]:
    return {
        "name": party.name,
        "address": [*party.address_lines, _country(party.country)],
        "vat_id": party.vat_id,
        "email": party.email,
        "registration": party.registration,
    }


def _facts(document: InvoiceDocument) -> list[Printed]:
    facts = [
        ("Date of issue", _day(document.issued_on)),
        ("Due date", _day(document.due_on) if document.due_on else ""),
        ("Service period", _days(document.service_period) if document.service_period else ""),
        ("Purchase order", document.purchase_order),
        ("Corrects invoice", document.corrects),
    ]
    return [[label, value] for label, value in facts if value]


def _line(line: DocumentLine, currency: str) -> dict[str, Printed]:
    details = [_days(line.period) if line.period else "", line.detail]
    if line.discount:
        details.append(f"Discount of {_sum(line.discount, currency)} already taken off")
    return {
        "description": line.description,
        "detail": " · ".join(detail for detail in details if detail),
        "quantity": _number(line.quantity) if line.quantity is not None else "",
        "unit": line.unit,
        "unit_price": _number(line.unit_price, exponent(currency)) if line.unit_price is not None else "",
        "amount": _figure(line.amount, currency),
        "steps": [_step(step, exponent(currency)) for step in line.steps],
    }


def _step(step: LineStep, places: int) -> list[Printed]:
    if step.quantity is None:
        return [step.label, "", _number(step.amount, places)]
    flat = f" + {_number(step.flat_fee, places)}" if step.flat_fee else ""
    share = f" × {step.share}" if step.share != "1" else ""
    price = f"{_number(step.quantity)} × {_number(step.unit_price, places)}{flat}{share}"
    return [step.label, price, _number(step.amount, places)]


def _tax(tax: DocumentTax, currency: str) -> dict[str, Printed]:
    return {
        "label": _tax_label(tax),
        "country": _country(tax.country),
        "base": _figure(tax.base, currency),
        "tax": _figure(tax.tax, currency),
        "note": tax.note,
    }


def _sums(document: InvoiceDocument) -> list[Printed]:
    """The column of sums above the amount due: label, figure, and whether it is a total."""
    currency = document.currency
    rows: list[tuple[str, Money, bool]] = []
    if document.discounts:
        rows.append(("Subtotal", document.subtotal, False))
        rows += [(label, -taken_off, False) for label, taken_off in document.discounts]
    rows.append(("Net amount", document.net, False))
    rows += [(_tax_label(tax), tax.tax, False) for tax in document.taxes]
    rows.append(("Total", document.total, True))
    if document.credits_applied:
        rows.append(("Prepaid credit applied", -document.credits_applied, False))
    return [[label, _sum(money, currency), strong] for label, money, strong in rows]


def _due(document: InvoiceDocument) -> dict[str, Printed]:
    on = f"by {_day(document.due_on)}" if document.due_on and document.amount_due else ""
    label = "Amount credited" if document.kind == "credit_note" else "Amount due"
    return {"label": label, "on": on, "amount": _sum(document.amount_due, document.currency)}


# --- Formatting ---------------------------------------------------------------------------------------------


def _sum(money: Money, currency: str) -> str:
    """With the currency's sign. The decimals are ours (ISO 4217): CLDR shows the dinar of Iraq, for one, without."""
    symbol = get_currency_symbol(_same(money, currency).currency, locale=LOCALE)
    gap = "\u00a0" if symbol[-1].isalpha() else ""
    pattern = f"¤{gap}{_pattern(exponent(currency))}"
    return _minus(format_currency(money.major, currency, pattern, locale=LOCALE, currency_digits=False))


def _figure(money: Money, currency: str) -> str:
    """Without the currency's sign, for columns that name it in their heading."""
    return _number(_same(money, currency).major, exponent(currency))


def _number(value: Decimal, places: int = 0) -> str:
    """All decimals that the value has, and at least `places`; grouped by thousands."""
    pattern = _pattern(places)
    whole, _, decimals = f"{value:f}".partition(".")
    more = len(decimals.rstrip("0")) - places
    if more > 0:
        pattern += ("" if places else ".") + "0" * more
    return _minus(format_decimal(Decimal(f"{whole}.{decimals}"), pattern, locale=LOCALE, decimal_quantization=False))


def _pattern(places: int) -> str:
    return "#,##0" + ("." + "0" * places if places else "")


def _minus(formatted: str) -> str:
    return formatted.replace("-", "\u2212")


def _same(money: Money, currency: str) -> Money:
    if money.currency != currency:
        raise Broken(f"{money} stands on a document in {currency}")
    return money


def _day(day: date) -> str:
    return str(format_date(day, "d MMMM y", locale=LOCALE))


def _days(period: Period) -> str:
    """As people read it: with the last day included."""
    last = max(period.start, period.end - timedelta(days=1))
    first, final = (str(format_date(day, "d MMM y", locale=LOCALE)) for day in (period.start, last))
    return first if first == final else f"{first} – {final}"


def _country(code: str) -> str:
    return str(Locale.parse(LOCALE).territories.get(code, code))


def _tax_label(tax: DocumentTax) -> str:
    return f"{tax.name} {_number(tax.percent)}%" if tax.percent else tax.name
