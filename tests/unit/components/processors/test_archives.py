"""archive and unarchive."""

import io
import json
import tarfile
import zipfile

import pytest

from kit.chains import errors, message, processors, shown
from openmeter_collector.errors import ConfigError


@pytest.mark.parametrize(
    ("form", "made"),
    [
        ("concatenate", b'{ "a":1 }2'),
        ("lines", b'{ "a":1 }\n2'),
        ("json_array", b'[{ "a":1 },2]'),
        ("binary", b'\0\0\0\2\0\0\0\x09{ "a":1 }\0\0\0\x012'),
    ],
)
async def test_a_batch_becomes_one_message_with_the_first_ones_metadata(form, made):
    async with processors(f"- archive: {{format: {form}}}") as opened:
        batches = await opened.run_batch(
            [message('{ "a":1 }', metadata={"k": "1"}), message("2", metadata={"k": "2"})]
        )
    ((one,),) = batches
    assert (one.content, one.metadata, one.origin) == (made, {"k": "1"}, (0, 1))


async def test_what_is_no_json_goes_on_alone_and_costs_the_others_nothing():
    async with processors("- archive: {format: json_array}") as opened:
        batches = await opened.run("1", "{nope", "3")
        assert shown(batches) == [["[1,3]"], ["{nope"]]
        assert [one.origin for batch in batches for one in batch] == [(0, 2), 1]
        assert errors(batches)[0] is None
        assert errors(batches)[1].startswith("failed to parse message as JSON: ")
        assert shown(await opened.run("{nope")) == [["{nope"]]


@pytest.mark.parametrize("form", ["tar", "zip", "binary", "lines", "json_array"])
async def test_what_was_archived_can_be_taken_apart(form):
    text = f"- archive: {{format: {form}, path: 'f-${{! this.n }}.json'}}\n- unarchive: {{format: {form}}}"
    async with processors(text) as opened:
        batches = await opened.run('{"n":1}', '{ "n":2 }', metadata={"k": "v"})
    assert shown(batches) == [['{"n":1}', '{ "n":2 }']]
    names = [one.metadata.get("archive_filename") for one in batches[0]]
    assert names == (["f-1.json", "f-2.json"] if form in {"tar", "zip"} else [None, None])
    assert all(one.metadata["k"] == "v" for one in batches[0])


@pytest.mark.parametrize(
    ("form", "content", "parts"),
    [
        ("json_array", '[ {"a" : 1.0}, "x", null ]', ['{"a" : 1.0}', '"x"', "null"]),
        ("json_array", "[]", []),
        ("json_documents", '{"a" : 1} \n [2]3 "x"', ['{"a" : 1}', "[2]", "3", '"x"']),
        ("json_documents", " ", []),
        ("lines", "a\n\nb", ["a", "", "b"]),
        ("csv", 'a,b\n1,"x,y"\n2,z\n', ['{"a":"1","b":"x,y"}', '{"a":"2","b":"z"}']),
        ("csv:;", "a;b\n1;2", ['{"a":"1","b":"2"}']),
    ],
)
async def test_formats(form, content, parts):
    async with processors(f"- unarchive: {{format: '{form}'}}") as opened:
        batches = await opened.run(content)
    assert [one for batch in shown(batches) for one in batch] == parts
    assert not any(errors(batches))


async def test_values_of_a_map_carry_their_keys():
    async with processors("- unarchive: {format: json_map}") as opened:
        (batch,) = await opened.run('{"x":1,"y":{ }}')
    assert [(one.content, one.metadata["archive_key"]) for one in batch] == [
        (b"1", "x"),
        (b"{ }", "y"),
    ]


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("json_array", '{"a":1}'),
        ("json_array", "[1"),
        ("json_array", "[1,nope]"),
        ("json_map", "[1]"),
        ("json_documents", "{} {nope"),
        ("tar", "no tar"),
        ("zip", "no zip"),
        ("binary", "\0\0\0\1\0\0\0\5ab"),
        ("binary", "ab"),
        ("csv", "a,b\n1"),
        ("csv", 'a\n"x'),
    ],
)
async def test_what_cannot_be_taken_apart_stays_whole_flagged_and_alone(form, content):
    good = {"json_array": "[1]", "json_map": '{"a":1}', "json_documents": "1", "csv": "a\n1"}
    async with processors(f"- unarchive: {{format: {form}}}") as opened:
        batches = await opened.run(content, good.get(form, content))
    assert shown(batches)[0][0] == content
    assert errors(batches)[0]
    if form in good:
        assert errors(batches)[1] is None


async def test_more_messages_than_allowed_are_not_made():
    async with processors("- unarchive: {format: json_array, max_messages: 2}") as opened:
        assert errors(await opened.run("[1,2]", "[1,2,3]"))[2] == (
            "more than max_messages (2) in one message"
        )


async def test_a_zip_that_swells_is_not_unpacked():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"0" * 100_000)
    async with processors("- unarchive: {format: zip, max_bytes: 50KB}") as opened:
        (text,) = errors(await opened.run(packed.getvalue()))
    assert "more than max_bytes (50000)" in text


async def test_links_and_folders_in_a_tar_are_no_messages():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        folder = tarfile.TarInfo("d")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        link = tarfile.TarInfo("l")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        file = tarfile.TarInfo("f")
        file.size = 1
        archive.addfile(file, io.BytesIO(b"x"))
    async with processors("- unarchive: {format: tar}") as opened:
        assert shown(await opened.run(packed.getvalue())) == [["x"]]


@pytest.mark.parametrize("form", ["rar", "csv:", "csv:ab"])
async def test_formats_that_are_none_are_refused(form):
    with pytest.raises(ConfigError, match="is no format"):
        async with processors(f"- unarchive: {{format: '{form}'}}"):
            pass


async def test_an_array_of_many_is_one_valid_document():
    async with processors("- archive: {format: json_array}") as opened:
        batches = await opened.run(*(json.dumps({"n": n}) for n in range(300)))
    assert json.loads(batches[0][0].content) == [{"n": n} for n in range(300)]
