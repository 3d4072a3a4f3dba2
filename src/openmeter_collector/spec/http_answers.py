"""What an HTTP answer means for the data that was sent."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from openmeter_collector.component.env import HttpResponse
from openmeter_collector.errors import Overloaded, Paused, Rejected

_OF_THE_DATA = frozenset({400, 413, 422})
_LATER = frozenset({408, 425, 429})
_SHOWN = 2_000


def raise_for_answer(url: str, response: HttpResponse, now: float | None = None) -> None:
    """Raise what an answer that is no success stands for. Returns for 2xx.

    Raises:
        Rejected: 400, 413, 422: the data is refused.
        Overloaded: 408, 425, 429 and 5xx, with the time of `Retry-After` when there is one.
        Paused: everything else, redirects included: it is we, or the address, that is refused.
    """
    status = response.status
    if 200 <= status < 300:
        return
    shown = response.body[:_SHOWN].decode(errors="replace").strip()
    text = f"POST {url}: answered {status} {_phrase(status)}"
    detail = f": {shown}" if shown else ""
    if status in _OF_THE_DATA:
        raise Rejected(f"{text}{detail}", shown)
    if status in _LATER or status >= 500:
        raise Overloaded(f"{text}{detail}", retry_after(response, now))
    if 300 <= status < 400:
        target = response.headers.get("location", "nowhere")
        raise Paused(
            f"{text} to {target}; redirects are not followed, set `url` to the final address"
        )
    raise Paused(f"{text}{detail}; check `url`, the token and what it may do")


def check_clock(url: str, response: HttpResponse, moment: float) -> None:
    """Make sure that a server has seen a moment (Unix seconds) that it was asked about.

    With a clock of ours that is fast it would answer with what it has so far, and that would be taken
    for all there is. A server that does not tell its time is believed.

    Raises:
        Overloaded: it has not; with the time after which it will have.
    """
    try:
        server = parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    except ValueError:
        return
    behind = moment - server
    if behind > 1:  # the header has whole seconds
        raise Overloaded(
            f"{url}: its clock is {behind:.0f}s before the end of the window; "
            "set the clocks, or ask about an earlier time (query_offset, metrics_offset)",
            behind,
        )


def retry_after(response: HttpResponse, now: float | None = None) -> float | None:
    """Seconds the peer asks us to wait: both forms of RFC 9110 10.2.3; None when it does not say."""
    text = response.headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
    return max(0.0, at - (time.time() if now is None else now))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
