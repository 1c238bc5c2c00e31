"""`python -m sandbox.salesforce --port 0 --folder DIR`: the local Salesforce, until it is stopped."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from sandbox.salesforce.server import SalesforceServer


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m sandbox.salesforce", description=__doc__)
    options.add_argument("--port", type=int, default=0, help="0 takes a free one")
    options.add_argument("--folder", type=Path, required=True, help="where ca.pem and connected_app.pem go")
    chosen = options.parse_args()
    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)  # Before there are threads, so that they all inherit it.
    with SalesforceServer(chosen.port) as server:
        server.write_files(chosen.folder)
        print(f"ready https://{server.address}", flush=True)
        signal.sigwait(stops)


if __name__ == "__main__":
    main()
