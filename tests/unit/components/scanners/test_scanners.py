"""Scanners: what they cut, where they stop, and what they say."""

import bz2
import gzip
import io
import tarfile
import zlib

import cramjam
import pytest
import xxhash

from kit.scanning import scan, scanner_node, until_unreadable
from openmeter_collector.api import ConfigError
from openmeter_collector.components.scanners import decompression
from openmeter_collector.config import InvalidConfig


def contents(messages):
    return [message.content for message in messages]


async def test_lines_end_with_a_line_feed_or_both_and_the_last_need_not_end():
    found = await scan("lines: {}", b"a\r\nb\n\nc\rd")
    assert contents(found) == [b"a", b"b", b"", b"c\rd"]
    assert contents(await scan("lines: {}", b"a\n")) == [b"a"]
    assert contents(await scan("lines: {}", b"")) == []


async def test_empty_lines_are_left_out_when_asked():
    assert contents(await scan("lines: {omit_empty: true}", b"\n\na\n\nb\n")) == [b"a", b"b"]
    assert contents(await scan("lines: {omit_empty: true}", b"\n\n")) == []


async def test_a_delimiter_of_several_bytes_may_come_in_two_pieces():
    found = await scan('lines: {custom_delimiter: "<>"}', b"a\r\n<>b<<>c")
    assert contents(found) == [b"a\r\n", b"b<", b"c"]


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_a_line_that_is_too_long_ends_the_reading_there(size):
    found, error = await until_unreadable(
        "lines: {max_buffer_size: 4}", b"abcd\nx\nabcde\nz\n", "f.txt", size
    )
    assert found == [b"abcd", b"x"]
    assert error.startswith("Unreadable: f.txt: record 3 at byte 7: the line is longer than")


async def test_more_lines_than_a_group_holds():
    data = b"".join(b"%d\n" % n for n in range(1000))
    assert contents(await scan("lines: {}", data)) == [b"%d" % n for n in range(1000)]


async def test_to_the_end_makes_one_message_of_all():
    assert contents(await scan("to_the_end: {}", b"a\nb")) == [b"a\nb"]
    assert contents(await scan("to_the_end: {}", b"")) == [b""]
    _, error = await until_unreadable("to_the_end: {max_bytes: 10B}", b"x" * 11)
    assert "larger than max_bytes (10)" in error


async def test_chunker_cuts_pieces_of_a_size():
    assert contents(await scan("chunker: {size: 3}", b"abcdefgh")) == [b"abc", b"def", b"gh"]
    assert contents(await scan("chunker: {size: 2}", b"abcd")) == [b"ab", b"cd"]


async def test_csv_rows_are_objects_with_the_names_of_the_first():
    found = await scan("csv: {}", b'\xef\xbb\xbfid,note\r\n1,"a ""b"",\r\nc"\r\n\r\n2,\xc3\xa9\n')
    assert [message.structured() for message in found] == [
        {"id": "1", "note": 'a "b",\nc'},
        {"id": "2", "note": "é"},
    ]
    assert [message.metadata["csv_row"] for message in found] == [0, 1]


async def test_csv_rows_are_arrays_without_a_header():
    text = 'csv: {parse_header_row: false, custom_delimiter: ";"}'
    found = await scan(text, b"1;a,b\n2;c")
    assert [message.structured() for message in found] == [["1", "a,b"], ["2", "c"]]


async def test_a_wrong_csv_row_ends_the_reading_or_is_flagged():
    data = b'a,b\n1,2\n3\n4,x"y\n5,6\n'
    found, error = await until_unreadable("csv: {}", data, "f.csv")
    assert found == [b'{"a":"1","b":"2"}']
    assert "f.csv: record 2: record on line 3: wrong number of fields" in error
    found = await scan("csv: {continue_on_error: true}", data)
    assert [message.structured() for message in found] == [
        {"a": "1", "b": "2"},
        {"a": "3"},
        {},
        {"a": "5", "b": "6"},
    ]
    assert [str(message.error or "") for message in found] == [
        "",
        "record on line 3: wrong number of fields",
        'parse error on line 4, column 4: bare " in non-quoted-field',
        "",
    ]
    found = await scan("csv: {lazy_quotes: true}", b'a,b\n1,x"y\n2,"q"r"\n')
    assert [message.structured()["b"] for message in found] == ['x"y', 'q"r']


async def test_a_quote_that_is_never_closed_does_not_fill_the_memory():
    data = b'a\n"' + b"x\n" * 1000
    _, error = await until_unreadable("csv: {max_row_bytes: 100B}", data, size=50)
    assert "the row is longer than max_row_bytes (100); look for a quote" in error


async def test_json_documents_stand_behind_each_other():
    data = b'{"a":"}\\"{"}\n[1, [2]]"x"  12 true{"b":{}}\nnull'
    assert contents(await scan("json_documents: {}", data)) == [
        b'{"a":"}\\"{"}',
        b"[1, [2]]",
        b'"x"',
        b"12",
        b"true",
        b'{"b":{}}',
        b"null",
    ]
    assert contents(await scan("json_documents: {}", b" \n")) == []


async def test_a_document_that_is_none_does_not_cost_its_neighbours():
    found = await scan("json_documents: {}", b'{"a":1} {"b":tru} {"c":2} nul ] 5')
    assert [message.error is None for message in found] == [True, False, True, False, False, True]
    assert found[1].content == b'{"b":tru}'
    assert "not a JSON document" in str(found[1].error)


async def test_a_document_that_does_not_end_is_said():
    found, error = await until_unreadable("json_documents: {}", b'{"a":1} {"b":[1', "f.json")
    assert found == [b'{"a":1}']
    assert "f.json: record 2 at byte 8: the document does not end" in error
    _, error = await until_unreadable("json_documents: {max_bytes: 5B}", b'["123456', size=4)
    assert "larger than max_bytes (5)" in error


async def test_json_arrays_give_their_elements():
    data = b'[{"a":[1]}, 2,"x, ]" ,null]\n[] [5]'
    assert contents(await scan("json_array: {}", data)) == [
        b'{"a":[1]}',
        b"2",
        b'"x, ]"',
        b"null",
        b"5",
    ]
    assert contents(await scan("json_array: {}", b"")) == []
    assert [m.error is None for m in await scan("json_array: {}", b"[1, x, 2]")] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("data", "found", "told"),
    [
        (b'{"a":1}', [], "record 1 at byte 0: found '{' where an array was expected"),
        (b"[1 2]", [b"1"], "found '2' where a comma or the end of the array was expected"),
        (b"[1,]", [b"1"], "found ']' where an element was expected"),
        (b"[1, 2", [b"1", b"2"], "the array does not end"),
        (b"[1", [b"1"], "the array does not end"),
    ],
)
async def test_what_is_no_json_array_is_said(data, found, told, size):
    got, error = await until_unreadable("json_array: {}", data, size=size)
    assert got == found
    assert told in error


async def test_re_match_begins_messages_at_matches():
    text = r"re_match: {pattern: '(?m)^\d\d:'}"
    data = "intro\n01: ä\n more\n02: b\n03:".encode() + b"\xff"
    assert contents(await scan(text, data)) == [
        b"intro\n",
        "01: ä\n more\n".encode(),
        b"02: b\n",
        b"03:\xff",
    ]
    found, error = await until_unreadable(
        r"re_match: {pattern: '(?m)^\d\d:', max_buffer_size: 8}", b"01: a\n02: a longer text\n"
    )
    assert found == [b"01: a\n"]
    assert "record 2 at byte 6: longer than max_buffer_size (8)" in error
    with pytest.raises(InvalidConfig, match="error parsing regexp"):
        scanner_node("re_match: {pattern: '('}")


def tar_of(files, **how):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **how) as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("how", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
async def test_tar_gives_the_files_of_an_archive(how):
    long = "n" * 90 if how == tarfile.USTAR_FORMAT else "ä" + "n" * 300
    files = {"a.txt": b"one", "empty": b"", long: b"x" * 1000}
    found = await scan("tar: {}", tar_of(files, format=how))
    assert [(message.metadata["tar_name"], message.content) for message in found] == list(
        files.items()
    )


async def test_what_is_no_tar_archive_is_said():
    _, error = await until_unreadable("tar: {}", b"x" * 600, "f.tar")
    assert "f.tar: record 1 at byte 0: not a tar archive" in error
    data = tar_of({"a": b"x" * 600, "b": b"y" * 600})
    found, error = await until_unreadable("tar: {}", data[:2500])
    assert found == [b"x" * 600]
    assert "the archive ends too early" in error
    _, error = await until_unreadable("tar: {max_bytes: 100B}", data)
    assert "a file of 600 bytes; max_bytes allows 100" in error


def snappy_framed(data):
    return bytes(cramjam.snappy.compress(data))


def lz4_framed(data, *, block=64 << 10, sums=True):
    flags, descriptor = (0x60 | (0x14 if sums else 0)), 0x40
    head = b"\x04\x22\x4d\x18" + bytes((flags, descriptor))
    made = head + bytes(((xxhash.xxh32_intdigest(head[4:]) >> 8) & 0xFF,))
    for at in range(0, len(data), block):
        packed = bytes(cramjam.lz4.compress_block(data[at : at + block], store_size=False))
        made += len(packed).to_bytes(4, "little") + packed
        if sums:
            made += xxhash.xxh32_intdigest(packed).to_bytes(4, "little")
    made += bytes(4)
    return made + (xxhash.xxh32_intdigest(data).to_bytes(4, "little") if sums else b"")


def flate(data):
    engine = zlib.compressobj(wbits=-15)
    return engine.compress(data) + engine.flush()


def zstd_framed(data):
    zstd = decompression.zstd
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


COMPRESSED = {
    "gzip": gzip.compress,
    "pgzip": gzip.compress,
    "zlib": zlib.compress,
    "flate": flate,
    "bzip2": bz2.compress,
    "zstd": zstd_framed,
    "snappy": snappy_framed,
    "lz4": lz4_framed,
}
PLAIN = b"".join(b'{"id":"%d"}\n' % number for number in range(20000))


@pytest.mark.parametrize("algorithm", COMPRESSED)
async def test_compressed_streams_are_opened_in_small_pieces(algorithm):
    compress = COMPRESSED[algorithm]
    text = f"decompress: {{algorithm: {algorithm}, into: {{lines: {{}}}}}}"
    few = b"a\nb\nc"
    assert contents(await scan(text, compress(few) + compress(b"d\n"))) == [b"a", b"b", b"cd"]
    data = compress(PLAIN)
    made, error = await until_unreadable(text, data)
    assert error is None
    assert b"".join(one + b"\n" for one in made) == PLAIN
    made, error = await until_unreadable(text, data[:-5], "f")
    assert f"f: near byte {len(data) - 5}: not valid {algorithm}: it ends too early" in error
    damaged = data[:100] + b"\xff\xff\xff\xff" + data[104:]
    _, error = await until_unreadable(text, damaged)
    assert f"not valid {algorithm}" in error


@pytest.mark.parametrize("algorithm", ["gzip", "zstd", "bzip2", "lz4", "snappy"])
def test_a_few_bytes_do_not_become_gigabytes_at_once(algorithm):
    made = decompression.opener(algorithm)
    bomb = COMPRESSED[algorithm](bytes(8 << 20))
    largest = total = 0
    for piece in made.feed(bomb):
        largest = max(largest, len(piece))
        total += len(piece)
    assert total == 8 << 20
    assert largest <= 4 << 20


def test_lz4_blocks_that_depend_on_each_other_are_refused():
    head = b"\x04\x22\x4d\x18" + bytes((0x40, 0x40))
    head += bytes(((xxhash.xxh32_intdigest(head[4:]) >> 8) & 0xFF,))
    with pytest.raises(decompression.Damaged, match="independent blocks"):
        list(decompression.opener("lz4").feed(head + bytes(4)))


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(decompression.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'openmeter-collector\[files\]'"):
        decompression.opener("snappy")


async def test_skip_bom_leaves_out_the_mark_only_at_the_beginning():
    text = "skip_bom: {into: {lines: {}}}"
    mark = b"\xef\xbb\xbf"
    assert contents(await scan(text, mark + b"a\n" + mark + b"b")) == [b"a", mark + b"b"]
    assert contents(await scan(text, b"\xff\xfea")) == [b"a"]
    assert contents(await scan(text, b"a")) == [b"a"]
    assert contents(await scan("skip_bom: {}", b"")) == [b""]


async def test_switch_chooses_by_the_name():
    text = r"switch: [{re_match_name: '\.csv$', scanner: {csv: {}}}, {scanner: {lines: {}}}]"
    assert contents(await scan(text, b"a\n1\n", "x.csv")) == [b'{"a":"1"}']
    assert contents(await scan(text, b"a\n1\n", "x.csv.txt")) == [b"a", b"1"]
    _, error = await until_unreadable("switch: [{re_match_name: a, scanner: {csv: {}}}]", b"", "b")
    assert "b: no case of the scanner `switch` fits its name" in error
    with pytest.raises(InvalidConfig, match="error parsing regexp"):
        scanner_node("switch: [{re_match_name: '(', scanner: {csv: {}}}]")


async def test_tar_in_gzip_in_a_switch():
    text = (
        r"switch: [{re_match_name: '\.tar\.gz$', scanner: "
        "{decompress: {algorithm: gzip, into: {tar: {}}}}}]"
    )
    found = await scan(text, gzip.compress(tar_of({"a": b"1", "b": b"2"})), "x.tar.gz")
    assert contents(found) == [b"1", b"2"]
