"""The five search attributes, for people in the Temporal UI; the product itself never reads them."""

from __future__ import annotations

from temporalio import workflow
from temporalio.common import SearchAttributeKey

CUSTOMER = SearchAttributeKey.for_keyword("BillingCustomer")
ENTITY = SearchAttributeKey.for_keyword("BillingEntity")
PERIOD = SearchAttributeKey.for_keyword("BillingPeriod")
STAGE = SearchAttributeKey.for_keyword("BillingStage")
INVOICE = SearchAttributeKey.for_keyword("BillingInvoice")
ALL = (CUSTOMER, ENTITY, PERIOD, STAGE, INVOICE)


def tell(stage: str, **found: str) -> None:
    """Set the stage, and what else is known of customer, entity, period and invoice, where it has changed."""
    keys = {"customer": CUSTOMER, "entity": ENTITY, "period": PERIOD, "invoice": INVOICE}
    wanted = {STAGE: stage, **{keys[name]: value for name, value in found.items()}}
    current = workflow.info().typed_search_attributes
    updates = [key.value_set(value) for key, value in wanted.items() if current.get(key) != value]
    if updates:
        workflow.upsert_search_attributes(updates)
