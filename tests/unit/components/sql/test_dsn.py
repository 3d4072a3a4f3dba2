"""Where a DSN of the Go drivers leads."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from openmeter_collector.components.sql import clickhouse, mysql
from openmeter_collector.components.sql.contract import Options
from openmeter_collector.components.sql.postgres import conninfo
from openmeter_collector.errors import ConfigError


def postgres(dsn, driver="postgres"):
    return conninfo_to_dict(conninfo(Options(driver, dsn, "here")))


def test_a_postgres_url_is_understood(monkeypatch):
    monkeypatch.delenv("PGSSLMODE", raising=False)
    made = postgres("postgres://u:p%40ss@db:5433/shop?sslmode=verify-full&connect_timeout=3")
    assert (made["host"], made["port"], made["dbname"]) == ("db", "5433", "shop")
    assert (made["user"], made["password"], made["sslmode"]) == ("u", "p@ss", "verify-full")
    assert made["connect_timeout"] == "3"


def test_without_a_word_about_tls_it_is_required_as_it_always_was(monkeypatch):
    monkeypatch.delenv("PGSSLMODE", raising=False)
    assert postgres("postgres://db/shop")["sslmode"] == "require"
    assert "sslmode" not in postgres("postgres://db/shop", driver="pgx")
    assert postgres("host=db dbname=shop")["sslmode"] == "require"


def test_parameters_libpq_does_not_know_are_settings_of_the_session():
    made = postgres("postgres://db/shop?search_path=a,b&binary_parameters=yes&application_name=x")
    assert made["options"].startswith("-c search_path=a,b -c TimeZone=UTC")
    assert made["application_name"] == "x"


def test_a_dsn_that_cannot_be_read_is_not_repeated():
    with pytest.raises(ConfigError) as told:
        postgres("postgres://u:secret@[bad/shop")
    assert "secret" not in str(told.value)
    assert "it looks like postgres://" in str(told.value)


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("u:p@tcp(db:3307)/shop", ("u", "p", "db", 3307, "shop")),
        ("u:p@ss:/?@tcp(db)/shop?parseTime=true", ("u", "p@ss:/?", "db", 3306, "shop")),
        ("u@tcp([::1]:3307)/", ("u", "", "::1", 3307, "")),
        ("/shop", ("", "", "127.0.0.1", 3306, "shop")),
    ],
)
def test_a_mysql_dsn_is_understood(dsn, expected):
    made = mysql.target_of(dsn, "here")
    assert (made.user, made.password, *made.places[0], made.database) == expected


def test_parameters_of_a_mysql_dsn():
    made = mysql.target_of(
        "u@unix(/run/my.sock)/shop?parseTime=true&loc=Europe%2FBudapest&timeout=5s&tls=skip-verify"
        "&charset=utf8mb4&time_zone=%27%2B00%3A00%27",
        "here",
    )
    assert made.socket == "/run/my.sock"
    assert (made.parse_time, made.zone.name, made.connect_timeout) == (True, "Europe/Budapest", 5)
    assert (made.tls, made.settings) == ("skip-verify", (("time_zone", "'+00:00'"),))


@pytest.mark.parametrize("dsn", ["u:secret@db:3306/shop", "postgres://u:secret@db/shop", "shop"])
def test_what_is_no_mysql_dsn_is_said_without_repeating_it(dsn):
    with pytest.raises(ConfigError, match=r"it looks like user:password@tcp") as told:
        mysql.target_of(dsn, "here")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("http://u:p@ch:8124/shop", ("ch", 8124, False, "u", "p", "shop", False)),
        ("https://ch", ("ch", 8443, True, "default", "", "default", False)),
        (
            "clickhouse://default:pw@ch:9000/chat",
            ("ch", 8123, False, "default", "pw", "chat", True),
        ),
        ("clickhouse://ch:9440/?secure=true", ("ch", 8443, True, "default", "", "default", True)),
        (
            "tcp://ch:9000?username=u&password=p&database=d",
            ("ch", 8123, False, "u", "p", "d", True),
        ),
    ],
)
def test_a_clickhouse_dsn_leads_to_the_http_interface(dsn, expected):
    made = clickhouse.target_of(dsn, "here")
    assert (
        *made.places[0], made.secure, made.user, made.password, made.database, made.translated,
    ) == expected  # fmt: skip


def test_settings_of_a_clickhouse_dsn_go_along_and_the_native_drivers_own_do_not():
    made = clickhouse.target_of(
        "clickhouse://ch:9000/d?dial_timeout=200ms&max_execution_time=60&compress=lz4", "here"
    )
    assert made.settings == {"max_execution_time": "60"}


def test_a_native_port_that_says_nothing_about_http_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match=r"give the address of its HTTP interface") as told:
        clickhouse.target_of("clickhouse://u:secret@ch:9999/d", "here")
    assert "secret" not in str(told.value)


def test_several_hosts_are_taken_in_their_order():
    made = clickhouse.target_of("clickhouse://u:p@a:9000,b,[::1]:8123/shop", "here")
    assert made.places == (("a", 8123), ("b", 8123), ("::1", 8123))
    assert (made.spread, made.user, made.database) == (False, "u", "shop")
    made = clickhouse.target_of("http://a,b:80/?connection_open_strategy=round_robin", "here")
    assert (made.places, made.spread) == ((("a", 8123), ("b", 80)), True)
    made = mysql.target_of("u:p@tcp(a:3307,b,[::1]:1)/shop", "here")
    assert made.places == (("a", 3307), ("b", 3306), ("::1", 1))
    made = postgres("postgres://u@a:1,b:2/shop")
    assert (made["host"], made["port"]) == ("a,b", "1,2")
