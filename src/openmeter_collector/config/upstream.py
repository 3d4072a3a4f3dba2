"""What this collector does differently from the Go collector under the same config, and why.

One declaration: `compare-upstream` prints what of it concerns a config, and the migration guide holds
the whole of it. Lists differences in behaviour only; fields and components that are known here only say
so themselves (`ours=True`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from openmeter_collector.config.difference import Difference
from openmeter_collector.config.upstream_sql import SQL

AREAS: Final = ("delivery", "files", "service", "logs", "command line")
"""What concerns every config."""

DIFFERENCES: Final[tuple[Difference, ...]] = (
    Difference(
        "delivery",
        "what the destination refuses for good",
        "A 400 is retried for ever, or drops the whole batch, as the output is configured.",
        "The batch is halved until the bad event is alone; it becomes a dead letter, its neighbours "
        "are delivered.",
        "One bad event must not cost its neighbours, and must not be lost without a trace.",
    ),
    Difference(
        "delivery",
        "failures that pass",
        "Each output gives up after its retries; what comes then depends on the buffer, which "
        "gives the messages out again at once.",
        "With a buffer the output is tried for ever, with growing pauses and never before "
        "`Retry-After`. 401, 403 and 404 pause delivery and are said aloud.",
        "A destination in trouble is not helped by a loop without pauses.",
    ),
    Difference(
        "delivery",
        "`batching.count`",
        "A trigger: a batch that arrives larger goes out as it is. Without `period` messages wait "
        "for the count for ever.",
        "A cap: a larger batch is cut. Without `period` nothing waits for company.",
        "Requests have a largest size, and events must not lie about until others come.",
    ),
    Difference(
        "delivery",
        "order in a pipeline",
        "`pipeline.threads` batches are processed at a time, so their order is not kept.",
        "Batches are processed in order; only writes of the output overlap.",
        "Order costs nothing here, and mappings that count or deduplicate need it.",
    ),
    Difference(
        "files",
        "a key that is given twice",
        "The last one counts.",
        "A fault, with both lines.",
        "One of the two is a mistake, and nobody can tell which.",
        "Remove one of them.",
    ),
    Difference(
        "files",
        "numbers in quotes",
        'A fault at the start: `count: "5"`.',
        "Taken as the number.",
        "Variables are often put in quotes.",
    ),
    Difference(
        "files",
        "words in number fields",
        "Found at the start, not by `lint`.",
        "Found by `lint` as well; all faults are told at once, with place and remedy.",
        "A linter should find what stops a start.",
    ),
    Difference(
        "files",
        "references to resources that are not there",
        "Found when the component is used, or at the start.",
        "Found at the start, and by `lint` when it is given the resources (`-r`).",
        "A reference to nothing never works.",
    ),
    Difference(
        "service",
        "`/ready`",
        "Says nothing about destinations that refuse, or a buffer that cannot be written.",
        "503 with the reasons when a destination refuses us for a minute, or the buffer fails. One "
        "that is merely away does not matter: taking events meanwhile is what the buffer is for.",
        "A probe should be green only when events are safe here.",
    ),
    Difference(
        "service",
        "`/version`",
        "The version of the library below.",
        "The version of the collector.",
        "That is what is asked for.",
    ),
    Difference(
        "service",
        "`/debug/pprof/...`",
        "Profiles in the format of Go.",
        "501, and what to use instead. `/debug/stack` and `/debug/config/...` are there.",
        "Those profiles are of the Go runtime.",
    ),
    Difference(
        "service",
        "`basic_auth` and probes",
        "Asks for the password at /ping and /ready, too.",
        "The same, unless `except_probes` is set.",
        "Probes of an orchestrator have no password.",
    ),
    Difference(
        "service",
        "`go_*` metrics, latencies",
        "`go_*` with `add_go_metrics`; each message is timed.",
        "No `go_*`; up to a hundred deliveries a second are timed.",
        "There is no Go runtime here, and a clock for each event costs more than it tells.",
        "Remove panels that show `go_*`.",
    ),
    Difference(
        "logs",
        "tokens and contents",
        "`dump_request_log_level` writes headers, tokens included, and bodies.",
        "Never: neither headers nor bodies are logged at any level.",
        "A log is not a place for secrets or for other people's data.",
    ),
    Difference(
        "command line",
        "`list --format cue`, `studio`",
        "There.",
        "Not there. `schema` prints a JSON Schema.",
        "Nobody who meters usage was found to use them.",
    ),
    Difference(
        "command line",
        "`-w` and a bad config",
        "A config that cannot be opened stops the stream.",
        "The one before goes on, and the log says why.",
        "A typing mistake must not end the taking of events.",
    ),
    Difference(
        "buffer sqlite",
        "what an acknowledgement means",
        "The row was inserted, without an fsync (`synchronous = 0`): a power cut loses it.",
        "It is on disk, with an fsync behind it. Many senders share one.",
        "What was acknowledged is never sent again by its sender.",
    ),
    Difference(
        "buffer sqlite",
        "the file",
        "A table `messages`, a row a batch.",
        "A file of our own format; one of the Go collector is refused at the start.",
        "Events must be found by key, not by scanning, however many wait.",
        "Let the Go collector deliver what it holds, then start with a new file.",
    ),
    Difference(
        "buffer sqlite",
        "after a failure",
        "The whole row is sent again, and rows after it that are under way as well; after a restart "
        "some rows may not be read at all.",
        "What failed is sent again, and nothing else.",
        "Nothing counts twice, nothing is forgotten.",
    ),
    Difference(
        "buffer sqlite",
        "a full disk",
        "No limit; writes fail.",
        "`max_bytes` and `min_free_bytes`: senders get 503 with `Retry-After`.",
        "What is stored must stay intact.",
    ),
    Difference(
        "buffer memory",
        "what is held at the end",
        "Lost silently.",
        "Delivered for as long as `shutdown_timeout`; what is lost is said.",
        "A loss has a name and a number.",
    ),
    Difference(
        "input http_server",
        "a request that cannot be taken now",
        "408 after `timeout` (and it may be delivered all the same), 502 for a failure, 429 with "
        "`Retry-After: 0`.",
        "503 with `Retry-After`.",
        "Senders' libraries repeat after 503 and give up after 408.",
    ),
    Difference(
        "input http_server",
        "metadata",
        "All headers, `Authorization` included; a query parameter can replace any of it.",
        "Not `Authorization`; what a client chooses never replaces what is there already.",
        "Secrets must not get into buffers, and senders must not steer the pipeline.",
    ),
    Difference(
        "service",
        "leader election",
        "`kubernetes_resources`, `prometheus` and `run_ai` run on the leader; what a former leader did is "
        "not known to the next one, and it may go on for a while.",
        "`schedule` and `kubernetes_usage` do, too, and what `leader_election.only_on_leader` names; the next "
        "leader goes on where the former one stopped, which can advance nothing any more. Positions are in "
        "a second Lease, NAME-state.",
        "No window may be left out because the leader changed.",
    ),
    Difference(
        "input http_server",
        "`ws_path`",
        "Served at /post/ws even when only `path` is set.",
        "Served when it is set.",
        "An open door that nobody knows of.",
        "Set `ws_path` if you use WebSockets.",
    ),
    Difference(
        "input http_server",
        "limits",
        "None on size, headers, slow clients.",
        "Bounds on all of them (`max_body_bytes`, `max_connections`).",
        "A public port needs them.",
    ),
    Difference(
        "input prometheus",
        "the time of a query",
        "The moment at which the job happens to run, less `query_offset`: ranges overlap or leave gaps.",
        "The end of the window on the schedule, less `query_offset`: ranges as long as the window "
        "follow each other exactly.",
        "An overlap is billed twice, a gap never.",
    ),
    Difference(
        "input prometheus",
        "a query that fails, a restart, an outage",
        "All results of that time are thrown away and never asked for again.",
        "Each query is asked by itself, and again later for the same time; `gaps` lists what is missing.",
        "Usage of the past can still be fetched.",
    ),
    Difference(
        "input schedule",
        "when it reads, and how old the data is",
        "At multiples of the interval after the start of the process, up to a second late, and the data "
        "is of one interval before.",
        "At multiples of the interval on the clock, the same for all replicas and restarts; the data is "
        "of the window that it carries.",
        "The same window must be the same event, whoever reads it.",
    ),
    Difference(
        "input schedule",
        "a reading that takes too long or fails",
        "The tick is left out, silently.",
        "It is tried again until the next window ends; then the window is named in the log, in "
        "`gaps_impossible` and by `gaps`.",
        "Holes have names.",
    ),
    Difference(
        "input kubernetes_resources",
        "rights and memory",
        "Watches the whole cluster, whatever `namespaces` says.",
        "Lists the namespaces that are named, page by page.",
        "A Role in each of them is enough.",
    ),
    Difference(
        "input kubernetes_resources",
        "a failure on the way",
        "The reading is lost: acknowledgements are ignored.",
        "It is tried again.",
        "Nothing is lost silently.",
    ),
    Difference(
        "input kubernetes_resources",
        "without `schedule` around it",
        "Lists again and again, as fast as it can.",
        "Lists once, and the pipeline ends.",
        "Nobody wants a loop without a pause.",
        "Put it into a `schedule`, as the published configs do.",
    ),
    Difference(
        "input run_ai",
        "measurements that cannot be had",
        "Are 0, or the workload is left out.",
        "The resource is asked for again until it answers; missed windows are asked for later.",
        "A 0 that nobody measured is a wrong bill.",
    ),
    Difference(
        "input aws_s3",
        "expressions in `prefix`",
        "Taken literally, so nothing is found.",
        "Evaluated when the input connects.",
        "The documentation shows one.",
    ),
    *SQL,
    Difference(
        "input otel_log",
        "a request that cannot be taken now",
        "Answered with a code after which exporters throw the records away.",
        "`UNAVAILABLE` with `RetryInfo`: exporters repeat it.",
        "Nothing is lost between two machines.",
    ),
    Difference(
        "output drop_on",
        "speed, and what is judged",
        "One write at a time, a whole batch at once: about one event a second in the published preset.",
        "Writes overlap, each message is judged by itself, drops are counted (`drop_on_dropped`).",
        "The neighbours of a bad event are fine.",
    ),
    Difference(
        "output http_client",
        "messages that were delivered",
        "Sent again when a later one of their batch failed.",
        "Only what failed is sent again; `Retry-After` is honoured.",
        "Nothing counts twice.",
    ),
    Difference(
        "output openmeter",
        "a message that is no event, a server that hangs",
        "Its neighbours are acknowledged and not sent; there is no timeout.",
        "It becomes a dead letter, its neighbours are delivered; `timeout` is 30s.",
        "Nothing is acknowledged that was not delivered.",
    ),
    Difference(
        "output openmeter",
        "`url`",
        "The v1 path is always added.",
        "v3 addresses (Konnect) are understood, too.",
        "The documentation shows them.",
    ),
    Difference(
        "output switch",
        "failures",
        "One failed message fails the batch for all cases.",
        "Only messages that failed are reported.",
        "What was delivered is not sent again.",
    ),
    Difference(
        "output broker",
        "`fan_out` with one output in trouble",
        "The batch is sent again to all.",
        "That one is tried again on its own.",
        "The others must not get it twice.",
    ),
    Difference(
        "output fallback",
        "what is handed on",
        "The whole batch.",
        "The messages that failed.",
        "What was delivered is not sent again.",
    ),
    Difference(
        "output sync_response",
        "requests that were put together",
        "All answers go to the requests of the batch.",
        "Each request gets the answer to its own messages.",
        "A sender must not see another's answer.",
    ),
    Difference(
        "processor dedupe",
        "when a key is remembered",
        "Before delivery: what fails then and comes again is dropped as a duplicate.",
        "When the message is safe or delivered.",
        "A retry is not a duplicate.",
    ),
    Difference(
        "processor dedupe",
        "a cache that fails",
        "`drop_on_err` is true by default: the message is dropped.",
        "The message passes, unless `drop_on_err: true` is written.",
        "Better twice than never: OpenMeter knows events by their ids.",
    ),
    Difference(
        "processor archive",
        "a message that is no JSON, with `json_array`",
        "The whole batch fails.",
        "It goes on alone, flagged; the others become the array.",
        "One bad message must not cost its neighbours.",
    ),
    Difference(
        "processor bounds_check",
        "one message out of bounds",
        "The whole batch is dropped.",
        "That message is dropped and counted in `bounds_check_dropped`; the others pass.",
        "One bad message must not cost its neighbours.",
    ),
    *(
        Difference(
            f"processor {name}",
            "permission",
            "Any config may start programs, one that came over the API as well.",
            "A config that starts programs is refused unless the collector is started with "
            "`--allow programs` (for streams made over the API: `--allow-api programs`).",
            "Who writes a config is not always who answers for the machine.",
            "Start with `--allow programs`, or set `OPENMETER_COLLECTOR_ALLOW=programs`.",
        )
        for name in ("command", "subprocess")
    ),
    Difference(
        "processor command",
        "a program that hangs or says too much",
        "It is waited for, and everything it writes is kept in memory.",
        "It is ended after `timeout` (30s) or `max_output` (16MiB), and costs its message.",
        "One message must not stop all that come after it.",
    ),
    Difference(
        "processor subprocess",
        "a program that does not answer",
        "It is waited for.",
        "It is started again after `timeout` (30s), and the message is flagged.",
        "One message must not stop all that come after it.",
    ),
    Difference(
        "processor grok",
        "patterns",
        "Those of the Go library.",
        "The same names, with expressions of our own; a value that is not of its type makes an "
        "expression fail, as before.",
        "They are written for RE2 and checked by tests.",
        "Check expressions that lean on the last detail of a pattern; `pattern_definitions` wins.",
    ),
    Difference(
        "processor jq",
        "the engine",
        "gojq, with whole numbers of any size.",
        "jq itself, in a process of its own with an empty environment. It computes with doubles; a "
        "message with a number that they cannot hold is flagged.",
        "A number must not change on its way; a program that never ends can be ended.",
        "Use `mapping` where ids are numbers beyond 2^53.",
    ),
    Difference(
        "processor json_schema",
        "`file://./cloudevents.spec.json`",
        "The file has to be in the working directory.",
        "The schema that comes with the collector is used when it is not there.",
        "Published configs name it.",
    ),
    Difference(
        "cache memory",
        "growth",
        "Without bound.",
        "`max_items`, the oldest go first.",
        "Everything has a bound.",
    ),
)


def concerning(components: Iterable[tuple[str, str]]) -> list[Difference]:
    """The differences that concern components, given as kinds and names, in the table's order."""
    named = {f"{kind} {name}" for kind, name in components}
    return [one for one in DIFFERENCES if one.about in named]


def general() -> list[Difference]:
    """The differences that concern every config."""
    return [one for one in DIFFERENCES if one.about in AREAS]


def markdown(differences: Sequence[Difference] = DIFFERENCES) -> str:
    """The table for the guide: a section for each area and component."""
    lines: list[str] = []
    for about in dict.fromkeys(one.about for one in differences):
        kind, _, name = about.partition(" ")
        plain = about in AREAS
        lines += ["", f"### {about.capitalize()}" if plain else f"### `{name}` {kind}", ""]
        lines += ["| | Go collector | Here | Why |", "| --- | --- | --- | --- |"]
        for one in differences:
            if one.about == about:
                here = one.here + (f" **{one.act}**" if one.act else "")
                lines.append(f"| {one.title} | {one.there} | {here} | {one.why} |")
    return "\n".join(lines).strip("\n") + "\n"
