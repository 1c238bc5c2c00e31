"""A local Salesforce: REST v59.0 over TLS under Salesforce's own host names, enough for simple-salesforce unchanged.

`objects` says which objects and fields exist, `records` keeps them, `soql` reads queries, `rest` answers requests
and `server` puts that on a socket. `seed` plays the salesperson. What is left out: bulk, composite, describe,
deletes and the SOAP login.
"""

from __future__ import annotations

# The one user and the one connected app of the local organisation.
USERNAME = "billing@acme.example"
CONSUMER_KEY = "3MVG9sandbox.perennial"

LOGIN_HOST = "login.salesforce.com"
INSTANCE_HOST = "acme.my.salesforce.com"
API = "/services/data/v59.0"
