"""One psql session for test programs: SQL in, rows out, numbers as Decimal."""
import json
import subprocess
from decimal import Decimal

MARK = "-- end of answer --"


class SqlError(Exception):
    """What the server answered instead of rows."""


class Raw(str):
    """A number whose digits stand in a document as they are."""


def document(value):
    """JSON of a value in which numbers are Decimal, int or Raw: no float ever."""
    if isinstance(value, dict):
        return "{" + ", ".join(json.dumps(k) + ": " + document(v) for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(document(v) for v in value) + "]"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, float):
        raise TypeError("a float is no amount")
    return json.dumps(value)


def literal(value):
    """An SQL literal: text, numeric, jsonb for dict, numeric[] for list, and null."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f") + "::numeric"
    if isinstance(value, dict):
        return quote(document(value)) + "::jsonb"
    if isinstance(value, (list, tuple)):
        return quote("{" + ",".join(format(Decimal(v), "f") for v in value) + "}") + "::numeric[]"
    return quote(value)


def quote(text):
    return "'" + text.replace("'", "''") + "'"


class Session:
    """Connects as the environment says; each query is one round trip."""

    def __init__(self):
        self.psql = subprocess.Popen(["psql", "-XAtq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True, encoding="utf-8")
        self.execute("SET client_min_messages = warning; SET timezone = 'UTC'; SET standard_conforming_strings = on")

    def close(self):
        self.psql.stdin.close()
        self.psql.wait()

    def execute(self, sql):
        """Statements without a result; anything that is printed is an error."""
        answer = self._ask(sql + ";")
        if answer.strip():
            raise SqlError(answer.strip())

    def query(self, sql):
        """The rows of one SELECT, as dicts."""
        answer = self._ask("SELECT coalesce(json_agg(r), '[]') FROM (" + sql + ") AS r;")
        if not answer.startswith("["):
            raise SqlError(answer.strip())
        return json.loads(answer, parse_float=Decimal, parse_int=Decimal)

    def row(self, sql):
        return self.query(sql)[0]

    def value(self, expression):
        return self.row("SELECT " + expression + " AS value")["value"]

    def _ask(self, text):
        self.psql.stdin.write(text + "\n\\echo '" + MARK + "'\n")
        self.psql.stdin.flush()
        lines = []
        for line in self.psql.stdout:
            if line.rstrip("\n") == MARK:
                return "".join(lines)
            lines.append(line)
        raise SqlError("the session ended: " + "".join(lines))
