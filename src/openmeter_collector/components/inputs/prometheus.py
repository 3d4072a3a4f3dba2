"""Instant queries to Prometheus, one for each window of time, with no window left out.

Guarantees: each query has its own ledger of windows, so one that fails holds up no other; a window that
failed or was missed is asked for again at its own time, as long as the server has it; a partial
answer is not taken for a whole one.
"""

from __future__ import annotations

import asyncio
import base64
import re
import urllib.parse
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import orjson

from openmeter_collector.api import (
    Authorizer,
    Batch,
    ByteSize,
    CatchUp,
    ClientTls,
    ConfigError,
    Duration,
    Env,
    Example,
    HttpBasicAuth,
    HttpClient,
    HttpResponse,
    Input,
    Intake,
    Jwt,
    Message,
    OAuth,
    OAuth2,
    Retryable,
    Url,
    WindowedInput,
    check_clock,
    check_schedule,
    field,
    input,  # noqa: A004
    raise_for_answer,
    section,
    windows_of,
)
from openmeter_collector.values import json
from openmeter_collector.values.units import format_duration
from openmeter_collector.values.windows import Window, moment_text

_CONNECTIONS: Final = 16
_ANNOTATION: Final = re.compile(r"PromQL (info|warning): ")
_MOST_TOLD: Final = 300

PER_MINUTE = Example(
    "CPU seconds by instance, each minute, as soon as they are a minute old",
    """
    input:
      prometheus:
        url: http://localhost:9090
        schedule: '0 * * * * *'
        query_offset: 1m
        queries:
          - query:
              name: node_cpu_usage
              promql: sum(increase(node_cpu_seconds_total{mode!='idle'}[$__window])) by (instance)
    """,
)
PER_SERIES = Example(
    "One message for each series, with the value as a number",
    """
    input:
      prometheus:
        url: http://localhost:9090
        schedule: '@every 1h'
        values: series
        queries:
          - query:
              name: requests
              promql: sum by (customer) (requests_total - requests_total offset $__window)
    pipeline:
      processors:
        - mapping: |
            root = {
              "id": event_id(this.name, this.metric, meta("window_end")),
              "specversion": "1.0",
              "type": this.name,
              "source": "prometheus",
              "time": this.timestamp,
              "subject": this.metric.customer,
              "data": {"value": this.value}
            }
    """,
)


@section
class Promql:
    """What is asked, and what it is called."""

    name: str = field(doc="Name, which is in each message; keep it, for windows are known by it.")
    promql: str = field(
        doc="The expression; its result has to be an instant vector. `$__window` is the length of the "
        "window as PromQL writes it (`60s`), `$__window_seconds` the same as a number, "
        "`$__window_open` one millisecond less (for servers before 3.0, which count a sample that "
        "lies on an edge in both windows), `$__start` and `$__end` its edges in Unix seconds.",
        examples=["sum(increase(requests_total[$__window])) by (customer)"],
    )


@section
class Query:
    """One of several queries."""

    query: Promql = field(doc="The query.")


@input("prometheus", categories=("Services",), examples=[PER_MINUTE, PER_SERIES])
class PrometheusInput:
    """Asks Prometheus, or what speaks its API, for the value of expressions at the end of each window.

    The time of a query is the end of its window less `query_offset`, never the time of the request, so
    ranges as long as the window (`[$__window]`) follow each other without gap or overlap. Each query is
    asked by itself. When one fails, or the collector did not run, it is asked later, at the time it was
    meant for, oldest window first; see `catch_up` and `openmeter-collector gaps`.

    A message has `name`, `query`, `timestamp` (of the query) and `values`: the API's list of samples,
    each with `metric` and `value`, a pair of Unix time and number as text (or `histogram`). With
    `values: series` there is a message for each sample, with `metric` and `value`, a number.

    Metadata: `scrape_time` (end of the window on the schedule), `scrape_interval`, `query_offset`,
    `query_name`, `window_start` and `window_end` (what the query is about: `query_offset` earlier).

    An answer that says it is partial (warnings of the storage, of Thanos and the like) is not taken; the
    window stays open until a whole one comes. Remarks on the expression itself are logged once.
    With leader election, runs only on the leader.
    """

    leader_only: ClassVar[bool] = True

    url: Url = field(doc="Address of the server.", examples=["http://localhost:9090"])
    queries: list[Query] = field(doc="What to ask.", minimum=1)
    schedule: str = field(
        default="0 * * * * *",
        doc="Where windows end: a cron expression with six fields, seconds first, `TZ=zone` before it "
        "if need be, or `@every 1m`, `@hourly` and the like.",
        examples=["0 * * * * *", "@every 15m"],
        lint=check_schedule,
    )
    query_offset: Duration = field(
        default=Duration("0s"),
        doc="How much earlier than the end of the window the query is about, so that samples which "
        "arrive late are in it.",
    )
    headers: dict[str, str] = field(
        default_factory=dict,
        secret=True,
        doc="Headers for each request, such as a tenant's name.",
    )
    values: Literal["list", "series"] = field(
        default="list",
        ours=True,
        choices={
            "list": "One message for a query, with all samples in it.",
            "series": "One message for each sample, with its value as a number.",
        },
        doc="Shape of messages.",
    )
    partial: Literal["refuse", "take"] = field(
        default="refuse",
        ours=True,
        choices={
            "refuse": "Ask again later, until the answer is whole.",
            "take": "Take what came; what was missing in it is not asked for again.",
        },
        doc="What to do with an answer that says it is partial.",
    )
    timeout: Duration = field(default=Duration("30s"), ours=True, doc="Time for one request.")
    max_response_bytes: ByteSize = field(
        default=ByteSize("64MiB"), ours=True, doc="Size of one answer at most.", advanced=True
    )
    params: dict[str, str] = field(
        default_factory=dict,
        ours=True,
        advanced=True,
        doc="Further fields of each request, such as `dedup: 'true'` for Thanos.",
    )
    bearer_token_file: str = field(
        default="", file=bool, ours=True, doc="A file with a token to send; read for each request."
    )
    basic_auth: HttpBasicAuth = field(
        default_factory=HttpBasicAuth, ours=True, doc="User name and password."
    )
    oauth2: OAuth2 = field(
        default_factory=OAuth2, ours=True, advanced=True, doc="OAuth 2.0 tokens."
    )
    tls: ClientTls = field(default_factory=ClientTls, ours=True, advanced=True, doc="TLS settings.")
    catch_up: CatchUp = field(
        default_factory=CatchUp, ours=True, doc="Windows that were missed or failed."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        """Nothing is sent on opening."""
        async with env.http(
            tls=self.tls.context(env.node.path + ".tls"),
            max_connections=_CONNECTIONS,
            max_response_bytes=int(self.max_response_bytes),
        ) as client:
            yield _Prometheus(self, env, client)


class _Prometheus:
    def __init__(self, config: PrometheusInput, env: Env, client: HttpClient) -> None:
        grid = windows_of(config.schedule, f"{env.node.path}.schedule")
        server = _Server(config, env, client)
        self._inputs = []
        names: set[str] = set()
        for one in config.queries:
            name, count = one.query.name, 2
            while name in names:
                name, count = f"{one.query.name}#{count}", count + 1
            names.add(name)
            source = _Query(config, one.query, server, env)
            self._inputs.append(WindowedInput(env, source, config.catch_up.plan(grid, name)))

    async def run(self, intake: Intake) -> None:
        async with asyncio.TaskGroup() as tasks:
            for one in self._inputs:
                tasks.create_task(one.run(intake))


class _Server:
    """The HTTP API."""

    def __init__(self, config: PrometheusInput, env: Env, client: HttpClient) -> None:
        self._config = config
        self._env = env
        self._client = client
        # A password in the address must not get into error texts.
        parts = urllib.parse.urlsplit(config.url)
        self._own_header = ""
        if parts.username is not None:
            pair = f"{urllib.parse.unquote(parts.username)}:"
            pair += urllib.parse.unquote(parts.password or "")
            self._own_header = f"Basic {base64.b64encode(pair.encode()).decode()}"
            parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        self._url = f"{urllib.parse.urlunsplit(parts).rstrip('/')}/api/v1/query"
        self._auth = Authorizer(env, client, config.basic_auth, OAuth(), config.oauth2, Jwt())
        self._by_get = False

    async def query(self, promql: str, at: int) -> tuple[dict[str, Any], list[str]]:
        """The value of an expression at a moment (Unix ms), and what the server remarks.

        Raises:
            CollectorError: there is no good answer.
        """
        form = {**self._config.params, "query": promql, "time": f"{at / 1000:.3f}"}
        response = await self._request(urllib.parse.urlencode(form))
        if response.status in {405, 501} and not self._by_get:
            self._by_get = True
            response = await self._request(urllib.parse.urlencode(form))
        if response.status == 401:
            self._auth.forget()
        raise_for_answer(self._url, response)
        check_clock(self._url, response, at / 1000)
        if len(response.body) >= int(self._config.max_response_bytes):
            raise Retryable(
                f"{self._url}: the answer is longer than max_response_bytes; raise it, or ask for less"
            )
        try:
            answer = orjson.loads(response.body)
            if answer["status"] != "success":
                raise Retryable(f"{self._url}: {str(answer.get('error'))[:_MOST_TOLD]}")
            return answer["data"], [str(one) for one in answer.get("warnings") or ()]
        except (ValueError, KeyError, TypeError) as error:
            raise Retryable(
                f"{self._url}: the answer is none of Prometheus; check `url`"
            ) from error

    async def _request(self, form: str) -> HttpResponse:
        headers = dict(self._config.headers)
        method = "GET" if self._by_get else "POST"
        authorization = await self._authorization(method)
        if authorization:
            headers["Authorization"] = authorization
        timeout = float(self._config.timeout)
        if self._by_get:
            address = f"{self._url}?{form}"
            return await self._client.request(method, address, headers=headers, timeout=timeout)
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return await self._client.request(
            method, self._url, headers=headers, body=form.encode(), timeout=timeout
        )

    async def _authorization(self, method: str) -> str:
        path = self._config.bearer_token_file
        if path:
            try:
                return f"Bearer {_read(path)}"
            except OSError as error:
                raise Retryable(f"bearer_token_file {path}: {error.strerror}") from error
        return await self._auth.header(method, self._url) or self._own_header


class _Query:
    """One query as a source of windows."""

    def __init__(self, config: PrometheusInput, query: Promql, server: _Server, env: Env) -> None:
        self._config = config
        self._query = query
        self._server = server
        self._env = env
        self._offset = round(float(config.query_offset) * 1000)
        self._remarked: set[str] = set()

    async def fetch(self, window: Window, rest: Sequence[str]) -> AsyncIterator[Batch]:
        del rest
        about = Window(window.start - self._offset, window.end - self._offset)
        promql = filled(self._query.promql, about)
        data, warnings = await self._server.query(promql, about.end)
        self._heed(warnings)
        if not isinstance(data, dict) or data.get("resultType") != "vector":
            found = data.get("resultType") if isinstance(data, dict) else "nothing"
            raise ConfigError(
                f"query {self._query.name!r}: the result is a {found}; write an expression "
                "that gives an instant vector, such as vector(...) around a scalar"
            )
        yield self._messages(data.get("result") or [], promql, window, about)

    def _messages(
        self, samples: list[dict[str, Any]], promql: str, window: Window, about: Window
    ) -> Batch:
        metadata = {
            "scrape_time": moment_text(window.end),
            "scrape_interval": format_duration((window.end - window.start) * 1_000_000),
            "query_offset": format_duration(self._offset * 1_000_000),
            "query_name": self._query.name,
            "window_start": moment_text(about.start),
            "window_end": moment_text(about.end),
        }
        head = {
            "name": self._query.name,
            "query": promql,
            "timestamp": moment_text(about.end),
        }
        if self._config.values == "list":
            return [Message(None, metadata, value={**head, "values": samples})]
        return [Message(None, metadata, value={**head, **numbers_of(one)}) for one in samples]

    def _heed(self, warnings: Sequence[str]) -> None:
        for text in warnings:
            if not _ANNOTATION.match(text) and self._config.partial == "refuse":
                raise Retryable(
                    f"query {self._query.name!r}: the answer is partial: {text[:_MOST_TOLD]}"
                )
            if len(self._remarked) < 100 and text not in self._remarked:
                self._remarked.add(text)
                self._env.log.warning(
                    "prometheus remarked on a query",
                    query=self._query.name,
                    remark=text[:_MOST_TOLD],
                )


def _read(path: str) -> str:
    return Path(path).read_text("utf-8").strip()


def filled(promql: str, about: Window) -> str:
    """The expression with what it says of its window."""
    length = about.end - about.start
    known: Mapping[str, str] = {
        "$__window_seconds": _seconds(length),
        "$__window_open": f"{length - 1}ms",
        "$__window": f"{length // 1000}s" if length % 1000 == 0 else f"{length}ms",
        "$__start": _seconds(about.start),
        "$__end": _seconds(about.end),
    }
    for name, text in known.items():  # longer names first: one begins with another
        promql = promql.replace(name, text)
    return promql


def numbers_of(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample of the API with its texts as numbers, digit by digit."""
    made: dict[str, Any] = {"metric": sample.get("metric") or {}}
    if "histogram" in sample:
        histogram = sample["histogram"][1]
        made["histogram"] = {
            "count": _number(histogram["count"]),
            "sum": _number(histogram["sum"]),
            "buckets": [
                {
                    "boundaries": rule,
                    "from": _number(low),
                    "to": _number(high),
                    "count": _number(count),
                }
                for rule, low, high, count in histogram.get("buckets") or ()
            ],
        }
        return made
    text = sample["value"][1]
    made["value"] = _number(text)
    if made["value"] is None:
        made["special"] = text
    return made


def _number(text: str) -> Any:
    """None for what JSON has no number for: NaN and the infinities."""
    try:
        return json.loads(text.encode())
    except ValueError:
        return None


def _seconds(milliseconds: int) -> str:
    whole, rest = divmod(milliseconds, 1000)
    return f"{whole}.{rest:03d}" if rest else str(whole)
