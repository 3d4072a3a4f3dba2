"""json_schema."""

import pytest

from kit.chains import errors, processors, shown
from openmeter_collector.api import ConfigError

SHIPPED = "- label: validation\n  json_schema:\n    schema_path: file://./cloudevents.spec.json"
EVENT = '{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"c"}'


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (EVENT.replace(',"subject":"c"', ""), "(root) subject is required"),
        (
            EVENT.replace('"subject":"c"', '"subject":""'),
            "subject string length must be greater than or equal to 1",
        ),
        ("[]", "(root) invalid type. expected: object, given: array"),
        (
            EVENT.replace('"id":"1"', '"id":1').replace('"c"', "true"),
            (
                "id invalid type. expected: string, given: integer\n"
                "subject invalid type. expected: [string,null], given: boolean"
            ),
        ),
        (
            EVENT.replace("}", ',"data":[]}'),
            "data invalid type. expected: [object,null], given: array",
        ),
        (EVENT.replace("}", ',"time":"x"}'), "time does not match format 'date-time'"),
        (
            '{"id":""}',
            (
                "(root) source is required\n(root) specversion is required\n(root) type is required\n"
                "(root) subject is required\nid string length must be greater than or equal to 1"
            ),
        ),
    ],
)
async def test_faults_of_events_in_the_words_that_users_know(elsewhere, content, text):
    async with processors(SHIPPED) as opened:
        batches = await opened.run(EVENT, content, EVENT)
    assert errors(batches) == [None, text, None]
    assert shown(batches) == [[EVENT, content, EVENT]]
    flag = batches[0][1].error
    assert (flag.name, flag.label) == ("json_schema", "validation")


@pytest.mark.parametrize(
    "more",
    [
        '"subject":null',
        '"time":"2024-01-01T00:00:00Z"',
        '"time":"2024-01-01T00:00:00.123+02:00"',
        '"time":"2024-01-01"',
        '"time":null',
        '"data":{"a":[1,1e3,123456789012345678901234567890]}',
        '"data":null',
        '"extension":[1]',
        '"source":"/a b"',
    ],
)
async def test_events_that_fit(elsewhere, more):
    content = EVENT.replace('"subject":"c"', more if "subject" in more else f'"subject":"c",{more}')
    async with processors(SHIPPED) as opened:
        assert errors(await opened.run(content)) == [None]


async def test_what_is_no_json_is_flagged_with_the_parse_error(elsewhere):
    async with processors(SHIPPED) as opened:
        (text,) = errors(await opened.run("{nope"))
    assert "invalid character 'n'" in text


async def test_a_file_that_is_there_comes_before_the_shipped_one(elsewhere):
    (elsewhere / "cloudevents.spec.json").write_text('{"required":["mine"]}')
    async with processors(SHIPPED) as opened:
        assert errors(await opened.run("{}")) == ["(root) mine is required"]


@pytest.mark.parametrize(
    ("schema", "content", "text"),
    [
        ('{"enum":["a","b"]}', '"c"', '(root) (root) must be one of the following: "a", "b"'),
        ('{"properties":{"a":{"const":1}}}', '{"a":2}', "a a does not match: 1"),
        (
            '{"additionalProperties":false}',
            '{"aB":2}',
            "(root) additional property aB is not allowed",
        ),
        (
            '{"items":{"type":"string"}}',
            '["a",1.5]',
            "1 invalid type. expected: string, given: number",
        ),
        ('{"minimum":3,"multipleOf":2}', "1", None),
        ('{"pattern":"^a+$"}', '"b"', "(root) does not match pattern '^a+$'"),
        (
            '{"oneOf":[{"type":"string"},{"type":"null"}]}',
            "1",
            "(root) must validate one and only one schema (oneof)",
        ),
        ('{"anyOf":[{"type":"string"}]}', "1", "(root) must validate at least one schema (anyof)"),
        ("true", "1", ""),
    ],
)
async def test_words_for_other_rules(schema, content, text):
    async with processors(f"- json_schema: {{schema: '{schema}'}}") as opened:
        (found,) = errors(await opened.run(content))
    if text is None:
        assert sorted(found.splitlines()) == [
            "(root) must be a multiple of 2",
            "(root) must be greater than or equal to 3",
        ]
    else:
        assert (found or "") == text


async def test_a_pattern_takes_linear_time():
    async with processors("""- json_schema: {schema: '{"pattern":"^(a+)+$"}'}""") as opened:
        (text,) = errors(await opened.run('"' + "a" * 50_000 + '!"'))
    assert "does not match pattern" in text


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("{}", "set schema or schema_path"),
        ("{schema: '{'}", "the schema cannot be used"),
        ("{schema: '[]'}", "neither an object nor a bool"),
        ("""{schema: '{"type":"nope"}'}""", "the schema cannot be used"),
        ("""{schema: '{"$ref":"http://127.0.0.1:1/x"}'}""", "Retrieval is disabled"),
        ("""{schema: '{"pattern":"(?=a)b"}'}""", "the schema cannot be used"),
        ("{schema_path: 'file://./gone.json'}", "there is no file gone.json"),
        ("{schema_path: 'ftp://x'}", "starts with file://"),
    ],
)
async def test_schemas_that_cannot_be_used_stop_the_start(elsewhere, fields, text):
    with pytest.raises(ConfigError, match=text):
        async with processors(f"- json_schema: {fields}"):
            pass
