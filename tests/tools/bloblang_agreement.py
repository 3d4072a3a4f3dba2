"""How far the language agrees with answers recorded from the engine.

    ./dev python tests/tools/bloblang_agreement.py FOLDER [--all] [--group NAME] [--limit N]

FOLDER has `examples.json` and `matrix.json`. Prints the agreement of each and every disagreement
with its reason; `--all` shows those that have one, too.
"""

from __future__ import annotations

import argparse
import base64
import collections
import json
import os
import posixpath
import sys
import time
from pathlib import Path

os.environ.setdefault("TZ", "UTC")
time.tzset()

from openmeter_collector.bloblang import (  # noqa: E402
    DELETED,
    NOTHING,
    Fail,
    MappingError,
    MappingFailed,
    Services,
    SimpleDocument,
    compile,
    compile_interpolated,
)
from openmeter_collector.bloblang.convert import to_string  # noqa: E402
from openmeter_collector.values import json as value_json  # noqa: E402
from openmeter_collector.values.kinds import is_number  # noqa: E402

COUNTERS: dict = {}  # the engine counts for the whole process


class ComponentError(Exception):
    pass


def reader(files):
    def read(path):
        for name, content in files.items():
            if posixpath.normpath(posixpath.join("/work", name)) == path:
                return content.encode()
        raise FileNotFoundError(2, "No such file or directory")

    return read


def encoded(body):
    return body if isinstance(body, bytes) else value_json.dumps(body)


def message_of(body, message):
    return message.content if body is NOTHING else encoded(body)


def error_of(item):
    if not item:
        return None
    return ComponentError(item if isinstance(item, str) else item.get("message", ""))


def run(mapping, mode, batch, index):
    """What the message holds afterwards: kind and value, and its metadata."""
    message = batch[index]
    try:
        body, meta = (mapping.mutate if mode == "mutation" else mapping.run)(batch, index)
    except MappingFailed as failed:
        return ("error", str(failed)), failed.partial
    meta = message.metadata if meta is None else meta
    if body is DELETED:
        return ("deleted", None), meta
    if body is NOTHING:
        return ("output", message.content), meta
    try:
        return ("output", encoded(body)), meta
    except ValueError as error:
        return ("unencodable", str(error)), meta


def same_meta(wanted, found):
    if set(wanted) != set(found):
        return False
    for key, given in wanted.items():
        typed = isinstance(given, dict) and "t" in given
        value = given if typed else {"t": "", "v": given}
        if "b64" in value:
            good = found[key] == base64.b64decode(value["b64"])
        elif value["t"] == "null":
            good = found[key] is None
        elif is_number(found[key]) and isinstance(value["v"], str):
            good = to_string(found[key]) == value["v"]
        else:
            good = json.loads(value_json.dumps(found[key])) == value["v"]
        if not good:
            return False
    return True


def given_meta(meta):
    made = {}
    for key, value in (meta or {}).items():
        made[key] = value
        if isinstance(value, dict) and "t" in value and len(value) == 2:
            made[key] = base64.b64decode(value["b64"]) if "b64" in value else value["v"]
    return made


def same(expected, found, kind):
    """Whether an output agrees: bytes, else the same JSON with the same numbers."""
    if isinstance(expected, str):
        expected = expected.encode()
    if expected == found:
        return True
    if kind == "raw":
        return False
    try:
        first = json.loads(expected, parse_float=str, parse_int=str)
        second = json.loads(found, parse_float=str, parse_int=str)
    except ValueError:
        return False
    return first == second


def parse_answer(item, services):
    try:
        if item.get("mode") == "field":
            return compile_interpolated(item["mapping"], services=services), None
        return compile(item["mapping"], services=services), None
    except MappingError as error:
        return None, error


def field_answer(compiled, batch, index):
    try:
        return ("output", compiled.bytes(batch, index))
    except MappingFailed as failed:
        return ("error", str(failed))


def judge(item, case, compiled):
    """None if a case agrees, else what was found."""
    if "batch" in case:
        batch = [
            SimpleDocument(
                base64.b64decode(one["content_b64"])
                if "content_b64" in one
                else one.get("content", "").encode(),
                given_meta(one.get("meta") or one.get("metadata")),
                error_of(one.get("error")),
            )
            for one in case["batch"]
        ]
        index = case.get("index", 0)
    else:
        raw = case.get("input", "")
        content = base64.b64decode(case["input_b64"]) if "input_b64" in case else raw.encode()
        meta = given_meta(case.get("input_meta"))
        batch, index = [SimpleDocument(content, meta, error_of(case.get("input_error")))], 0
    if item.get("mode") == "field":
        found, meta = field_answer(compiled, batch, index), None
    else:
        found, meta = run(compiled, item.get("mode"), batch, index)
    kind, value = found
    if "error" in case:
        if kind == "error" and value == case["error"]:
            if "message_after_error" in case and meta is not None:
                body = message_of(meta[0], batch[index])
                after = case["message_after_error"]
                after = after["out"] if isinstance(after, dict) else after
                if not same(after, body, "structured"):
                    return ("partial", body)
            return None
        return found
    if case.get("deleted"):
        return None if kind == "deleted" else found
    expected = base64.b64decode(case["output_b64"]) if "output_b64" in case else case.get("output")
    if expected is None:
        return None
    strict = "raw" if item.get("mode") == "field" else case.get("output_kind", "structured")
    if kind != "output" or not same(expected, value, strict):
        return found
    if (
        "meta" in case
        and case["meta"] is not None
        and meta is not None
        and not same_meta(case["meta"], meta)
    ):
        return ("meta", meta)
    return None


# Disagreements that are meant: the engine damages data without a word, and we say so.
REASONS = {
    "does not fit": "an integer that would wrap around is an error here",
    "has no JSON": "what cannot be written as JSON is an error here",
    "unsupported value": "what cannot be written as JSON is an error here",
    "unsupported key": "what cannot be written as JSON is an error here",
    ".compress(": "another compressor makes other bytes, which decompress to the same",
    "left out": "left out, see the table in the guide",
    "flate: corrupt input": "how far the data could be read is not known here",
    'count("matrix_f")': "the engine had counted once before the recorded case",
}


def reason(found, error, mapping):
    text = f"{found[1]} {mapping}" if found else mapping
    if error is not None:
        text += "".join(one.hint for one in error.diagnostics) + str(error)
    for mark, why in REASONS.items():
        if mark in text:
            return why
    return ""


def outcome(item, cases):
    """Yields (agrees, case, found, reason) for an item."""
    files = item.get("files") or {}
    services = Services(
        counters=COUNTERS,
        env=item.get("env") or dict(os.environ),
        read=reader(files),
        folder="/work",
    )
    compiled, error = parse_answer(item, services)
    wanted = item.get("parse_error")
    if wanted is not None or error is not None:
        if wanted is None or error is None:
            found = ("parse_error", error.diagnostics[0].one_line()) if error else ("parsed", None)
            yield False, None, found, reason(None, error, item["mapping"])
            return
        text = error.diagnostics[0].one_line()
        good = text == wanted
        if good and item.get("parse_error_structured"):
            shown = error.diagnostics[0].rendered()
            good = shown == item["parse_error_structured"]
            text = text if good else shown
        yield good, None, ("parse_error", text), ""
        return
    if not cases:
        yield True, None, None, ""
    for case in cases:
        found = judge(item, case, compiled)
        why = reason(found, None, item["mapping"]) if found else ""
        yield found is None, case, found, why


def skipped(item):
    return (
        item.get("nondeterministic")
        or item.get("dialect") == "bento"
        or item.get("doc_placeholder")
        or item.get("go127_jsonv2_differs")
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--group", default="")
    parser.add_argument("--limit", type=int, default=10_000)
    options = parser.parse_args()
    for name in ("examples.json", "matrix.json"):
        items = json.loads((options.folder / name).read_text())
        total = agreed = meant = 0
        missing = collections.Counter()
        shown = 0
        for item in items:
            if skipped(item) or (
                options.group
                and options.group not in (item.get("group"), item.get("kind"), item["name"])
            ):
                continue
            cases = item["cases"] if name == "examples.json" else [item]
            if name == "matrix.json" and "parse_error" in item:
                cases = []
            try:
                results = list(outcome(item, cases))
            except (Exception, Fail) as error:  # noqa: BLE001
                results = [(False, None, ("crash", f"{type(error).__name__}: {error}"), "")]
            for good, case, found, why in results:
                total += 1
                agreed += good
                if good:
                    continue
                meant += bool(why)
                if found and "unrecognised" in str(found[1]):
                    missing[str(found[1]).split("'")[1]] += 1
                if (why and not options.all) or shown >= options.limit:
                    continue
                shown += 1
                wanted = item.get("parse_error") or (
                    case
                    and {
                        k: v
                        for k, v in case.items()
                        if k
                        in (
                            "error",
                            "output",
                            "output_b64",
                            "deleted",
                            "meta",
                            "message_after_error",
                        )
                    }
                )
                print(
                    f"--- {name} {item['name']} {item.get('mode') or ''} {item.get('id', '')} {why}"
                )
                print(item["mapping"])
                if case:
                    print("  given ", str(case.get("input", case.get("batch")))[:300])
                print("  wanted", str(wanted)[:600])
                print("  found ", str(found)[:600])
        print(
            f"{name}: {agreed} of {total} agree ({100 * agreed / max(total, 1):.2f} %), {meant} differ on purpose"
        )
        if missing:
            print("  missing:", dict(missing))
    return 0


if __name__ == "__main__":
    sys.exit(main())
