"""The patterns that `grok` knows by name, and how expressions made of them are put together.

The names are those that grok users know; the expressions are for RE2, which has no lookaround and no
backreferences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_REFERENCE: Final = re.compile(r"%\{([A-Za-z0-9_.-]+)(?::([^:{}]+))?(?::([^:{}]+))?\}")
_GROUP: Final = re.compile(r"(?<!\\)\(\?P?<([A-Za-z0-9_]+)>")
TYPES: Final = ("string", "int", "float", "bool")
_DEEPEST: Final = 50
_LONGEST: Final = 1 << 20


class BadPattern(ValueError):
    """A grok expression that cannot be used."""


@dataclass(frozen=True, slots=True)
class Capture:
    """A value that an expression captures: its group, what it is called and its type."""

    group: str
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Expanded:
    """An expression with all references resolved."""

    text: str
    captures: tuple[Capture, ...]


def expand(expression: str, patterns: Mapping[str, str], *, named_only: bool) -> Expanded:
    """Put an expression together.

    Raises:
        BadPattern: a reference leads nowhere, in a circle, or to too much, or has a type there is not.
    """
    captures: list[Capture] = []

    def group(name: str, kind: str) -> str:
        # Names of our own: a name may be used twice, and hold what a group's may not.
        captures.append(Capture(f"g{len(captures)}", name, kind))
        return captures[-1].group

    def resolve(text: str, inside: tuple[str, ...]) -> str:
        def replaced(found: re.Match[str]) -> str:
            name, alias, kind = found.groups()
            if name not in patterns:
                raise BadPattern(f"there is no pattern {name!r}; add it to pattern_definitions")
            if name in inside or len(inside) >= _DEEPEST:
                raise BadPattern(f"pattern {name!r} is made of itself")
            if kind is not None and kind not in TYPES:
                raise BadPattern(f"there is no type {kind!r}; use one of {', '.join(TYPES)}")
            lead = "(?:"
            if alias or not named_only:
                lead = f"(?P<{group(alias or name, kind or 'string')}>"
            return f"{lead}{resolve(patterns[name], (*inside, name))})"

        own = _GROUP.sub(lambda found: f"(?P<{group(found[1], 'string')}>", text)
        made = _REFERENCE.sub(replaced, own)
        if len(made) > _LONGEST:
            raise BadPattern("the expression becomes too long")
        return made

    return Expanded(resolve(expression, ()), tuple(captures))


_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_H16: Final = "[0-9A-Fa-f]{1,4}"
_V4: Final = rf"(?:{_OCTET}\.){{3}}{_OCTET}"

PATTERNS: Final[dict[str, str]] = {
    # Words and numbers
    "WORD": r"\b\w+\b",
    "NOTSPACE": r"\S+",
    "SPACE": r"\s*",
    "DATA": r".*?",
    "GREEDYDATA": r".*",
    "GREEDYLINES": r"(?s).*",
    "INT": r"[+-]?[0-9]+",
    "POSINT": r"\b[1-9][0-9]*\b",
    "NONNEGINT": r"\b[0-9]+\b",
    "BASE10NUM": r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)",
    "NUMBER": r"%{BASE10NUM}",
    "BASE16NUM": r"[+-]?(?:0x)?[0-9A-Fa-f]+",
    "BASE16FLOAT": r"\b[+-]?(?:0x)?(?:[0-9A-Fa-f]+(?:\.[0-9A-Fa-f]*)?|\.[0-9A-Fa-f]+)\b",
    "BOOLEAN": r"(?i:true|false)",
    "QUOTEDSTRING": r'"(?:\\.|[^"\\])*"' + r"|'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`",
    "QS": r"%{QUOTEDSTRING}",
    "UUID": r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}",
    # People
    "USERNAME": r"[a-zA-Z0-9._-]+",
    "USER": r"%{USERNAME}",
    "EMAILLOCALPART": r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-][a-zA-Z0-9!#$%&'*+/=?^_`{|}~.-]*",
    "EMAILADDRESS": r"%{EMAILLOCALPART}@%{HOSTNAME}",
    "HTTPDUSER": r"%{EMAILADDRESS}|%{USER}",
    # Networks
    "CISCOMAC": r"(?:[0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}",
    "WINDOWSMAC": r"(?:[0-9A-Fa-f]{2}-){5}[0-9A-Fa-f]{2}",
    "COMMONMAC": r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}",
    "MAC": r"%{CISCOMAC}|%{WINDOWSMAC}|%{COMMONMAC}",
    "IPV4": rf"\b{_V4}\b",
    "IPV6": (
        rf"(?:{_H16}:){{6}}{_V4}|(?:{_H16}:){{7}}{_H16}|"
        rf"(?:{_H16}:){{1,6}}:{_H16}|(?:{_H16}:){{1,5}}(?::{_H16}){{1,2}}|"
        rf"(?:{_H16}:){{1,4}}(?::{_H16}){{1,3}}|(?:{_H16}:){{1,3}}(?::{_H16}){{1,4}}|"
        rf"(?:{_H16}:){{1,2}}(?::{_H16}){{1,5}}|{_H16}:(?::{_H16}){{1,6}}|"
        rf"::(?:[Ff]{{4}}:)?{_V4}|(?:{_H16}:){{1,4}}:{_V4}|:(?::{_H16}){{1,7}}|"
        rf"(?:{_H16}:){{1,7}}:|::"
    ),
    "IP": r"%{IPV6}|%{IPV4}",
    "HOSTNAME": r"\b[0-9A-Za-z][0-9A-Za-z_-]{0,62}(?:\.[0-9A-Za-z][0-9A-Za-z-]{0,62})*\.?",
    "HOST": r"%{HOSTNAME}",
    "IPORHOST": r"%{IP}|%{HOSTNAME}",
    "HOSTPORT": r"%{IPORHOST}:%{POSINT}",
    # Paths and addresses
    "UNIXPATH": r"(?:/[\w%!$@:.,+~-]*)+",
    "WINPATH": r"(?:[A-Za-z]:|\\)(?:\\[^\\?*]*)+",
    "PATH": r"%{UNIXPATH}|%{WINPATH}",
    "TTY": r"/dev/(?:pts|tty(?:[pq])?)\w*(?:/?[0-9]+)?",
    "URIPROTO": r"[A-Za-z][A-Za-z0-9+.-]*",
    "URIHOST": r"%{IPORHOST}(?::%{POSINT:port})?",
    "URIPATH": r"(?:/[A-Za-z0-9$.+!*'(){},~:;=@#%&_\-]*)+",
    "URIPARAM": r"\?[A-Za-z0-9$.+!*'|(){},~@#%&/=:;_?\-\[\]<>]*",
    "URIPATHPARAM": r"%{URIPATH}(?:%{URIPARAM})?",
    "URI": r"%{URIPROTO}://(?:%{USER}(?::[^@\s]*)?@)?(?:%{URIHOST})?(?:%{URIPATHPARAM})?",
    # Times
    "MONTH": (
        r"\b(?:[Jj]an(?:uary)?|[Ff]eb(?:ruary)?|[Mm]ar(?:ch)?|[Aa]pr(?:il)?|[Mm]ay|[Jj]une?|"
        r"[Jj]uly?|[Aa]ug(?:ust)?|[Ss]ep(?:tember)?|[Oo]ct(?:ober)?|[Nn]ov(?:ember)?|"
        r"[Dd]ec(?:ember)?)\b"
    ),
    "MONTHNUM": r"1[0-2]|0?[1-9]",
    "MONTHNUM2": r"1[0-2]|0[1-9]",
    "MONTHDAY": r"3[01]|[12][0-9]|0?[1-9]",
    "DAY": (
        r"Mon(?:day)?|Tue(?:sday)?|Wed(?:nesday)?|Thu(?:rsday)?|Fri(?:day)?|Sat(?:urday)?|"
        r"Sun(?:day)?"
    ),
    "YEAR": r"(?:[0-9]{2}){1,2}",
    "HOUR": r"2[0-3]|[01]?[0-9]",
    "MINUTE": r"[0-5][0-9]",
    "SECOND": r"(?:[0-5]?[0-9]|60)(?:[:.,][0-9]+)?",
    "TIME": r"%{HOUR}:%{MINUTE}(?::%{SECOND})?",
    "DATE_US": r"%{MONTHNUM}[/-]%{MONTHDAY}[/-]%{YEAR}",
    "DATE_EU": r"%{MONTHDAY}[./-]%{MONTHNUM}[./-]%{YEAR}",
    "DATE_X": r"%{YEAR}/%{MONTHNUM2}/%{MONTHDAY}",
    "DATE": r"%{DATE_US}|%{DATE_EU}|%{DATE_X}",
    "DATESTAMP": r"%{DATE}[- ]%{TIME}",
    "TZ": r"[A-Z]{3}",
    "NUMTZ": r"[+-][0-9]{4}",
    "ISO8601_TIMEZONE": r"Z|[+-]%{HOUR}(?::?%{MINUTE})?",
    "ISO8601_SECOND": r"%{SECOND}",
    "TIMESTAMP_ISO8601": (
        r"%{YEAR}-%{MONTHNUM}-%{MONTHDAY}[T ]%{HOUR}:?%{MINUTE}(?::?%{SECOND})?"
        r"(?:%{ISO8601_TIMEZONE})?"
    ),
    "DATESTAMP_RFC822": r"%{DAY} %{MONTH} %{MONTHDAY} %{YEAR} %{TIME} %{TZ}",
    "DATESTAMP_RFC2822": r"%{DAY}, %{MONTHDAY} %{MONTH} %{YEAR} %{TIME} %{ISO8601_TIMEZONE}",
    "DATESTAMP_OTHER": r"%{DAY} %{MONTH} %{MONTHDAY} %{TIME} %{TZ} %{YEAR}",
    "DATESTAMP_EVENTLOG": r"[0-9]{4}%{MONTHNUM2}[0-3][0-9](?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]",
    "HTTPDERROR_DATE": r"%{DAY} %{MONTH} %{MONTHDAY} %{TIME} %{YEAR}",
    "HTTPDATE": r"%{MONTHDAY}/%{MONTH}/%{YEAR}:%{TIME} %{INT}",
    # Logs
    "LOGLEVEL": (
        r"(?i:alert|trace|debug|notice|info(?:rmation)?|warn(?:ing)?|err(?:or)?|crit(?:ical)?|"
        r"fatal|severe|emerg(?:ency)?)"
    ),
    "PROG": r"[!-Z\\^-~]+",
    "SYSLOGTIMESTAMP": r"%{MONTH} +%{MONTHDAY} %{TIME}",
    "SYSLOGPROG": r"%{PROG:program}(?:\[%{POSINT:pid}\])?",
    "SYSLOGHOST": r"%{IPORHOST}",
    "SYSLOGFACILITY": r"<%{NONNEGINT:facility}\.%{NONNEGINT:priority}>",
    "SYSLOGBASE": (
        r"%{SYSLOGTIMESTAMP:timestamp} (?:%{SYSLOGFACILITY} )?%{SYSLOGHOST:logsource} %{SYSLOGPROG}:"
    ),
    "HTTPD20_ERRORLOG": (
        r"\[%{HTTPDERROR_DATE:timestamp}\] \[%{LOGLEVEL:loglevel}\] "
        r"(?:\[client %{IPORHOST:clientip}\] )?%{GREEDYDATA:errormsg}"
    ),
    "HTTPD24_ERRORLOG": (
        r"\[%{HTTPDERROR_DATE:timestamp}\] \[%{WORD:module}:%{LOGLEVEL:loglevel}\] "
        r"\[pid %{POSINT:pid}:tid %{NUMBER:tid}\]"
        r"(?: \(%{POSINT:proxy_errorcode}\)%{DATA:proxy_errormessage}:)?"
        r"(?: \[client %{IPORHOST:client}:%{POSINT:clientport}\])? %{DATA:errorcode}: "
        r"%{GREEDYDATA:message}"
    ),
    "HTTPD_ERRORLOG": r"%{HTTPD20_ERRORLOG}|%{HTTPD24_ERRORLOG}",
    "COMMONAPACHELOG": (
        r"%{IPORHOST:clientip} %{HTTPDUSER:ident} %{USER:auth} \[%{HTTPDATE:timestamp}\] "
        r'"(?:%{WORD:verb} %{NOTSPACE:request}(?: HTTP/%{NUMBER:httpversion})?|%{DATA:rawrequest})" '
        r"%{NUMBER:response} (?:%{NUMBER:bytes}|-)"
    ),
    "COMBINEDAPACHELOG": r"%{COMMONAPACHELOG} %{QS:referrer} %{QS:agent}",
}
