"""The server as a process: prints `ready URL` when it listens, and ends on SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import signal
import threading

from sandbox.stripe import API_KEY, WEBHOOK_SECRET, StripeServer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.stripe", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--api-key", default=API_KEY, help="the only key that is let in")
    parser.add_argument("--webhook-url", default=None, help="where events are sent; none are sent without it")
    parser.add_argument("--webhook-secret", default=WEBHOOK_SECRET)
    parser.add_argument("--settle-after", type=float, default=0.3, help="seconds a pending payment stays so")
    chosen = parser.parse_args()

    server = StripeServer(
        host=chosen.host,
        port=chosen.port,
        api_key=chosen.api_key,
        webhook_url=chosen.webhook_url,
        webhook_secret=chosen.webhook_secret,
        settle_after=chosen.settle_after,
    )
    ended = threading.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: ended.set())
    server.start()
    print(f"ready {server.url}", flush=True)
    ended.wait()
    server.stop()


if __name__ == "__main__":
    main()
