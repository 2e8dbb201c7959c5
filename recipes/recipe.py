"""What the recipes share: reading what is asked for, judging it, and the ways to end.

A recipe is called with "do", "check" or "undo".  It reads one JSON object from standard input,
does nothing that is done already, prints one JSON object of evidence and ends with 0.  With 75
(EX_TEMPFAIL) it asks to be called again later; any other status is final, and the last line on
standard error says why.  Only the standard library of Python 3 is needed.
"""
import contextlib
import fcntl
import ipaddress
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

TRY_AGAIN = 75
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
BUNDLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?")


class Failure(Exception):
    """It cannot be done: a human has to look."""


class Later(Exception):
    """It cannot be done yet."""


def setting(name, default=None):
    """A line of "environment" in the command file."""
    value = os.environ.get(name, default)
    if value is None:
        raise Failure(f"{name} is not set in the environment of the command")
    return value


def judged(value, pattern, what):
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Failure(f"{what} is not right: {value!r}")
    return value


def tenant(request):
    return judged(request.get("tenant"), UUID, "tenant")


def host(value, what="host name"):
    """A host name, in lower case and without a dot at the end."""
    if not isinstance(value, str) or len(value) > 253 or "." not in value:
        raise Failure(f"{what} is not right: {value!r}")
    for label in value.split("."):
        judged(label, LABEL, what)
    return value


def address(value):
    try:
        # An IPv6 address may have a scope, of any characters.
        if "%" in str(value):
            raise ValueError(f"address is not right: {value!r}")
        return str(ipaddress.ip_address(value))
    except ValueError as error:
        raise Failure(str(error)) from error


def upstream(value, what="upstream"):
    match = re.fullmatch(r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", value or "")
    if not match or not 0 < int(match[2]) < 65536:
        raise Failure(f"{what} is not right: {value!r}")
    return value


def run(*command, stdin="", allowed=(0,), environment=None):
    """A program; what it says.  Its status must be one of those allowed."""
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False,
            env={**os.environ, **(environment or {})})
    except FileNotFoundError as error:
        raise Failure(f"{command[0]} is not installed") from error
    if done.returncode not in allowed:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Failure(f"{os.path.basename(command[0])} ended with {done.returncode}: "
                      f"{' '.join(said[-3:])}")
    return done


# Somebody else was faster, or the server cannot just now.
PASSING = (409, 412, 429, 500, 502, 503, 504)


SYSTEM_PATH = {"PGOPTIONS": "-c search_path=pg_catalog,pg_temp"}


def psql(sql, connect_to, *options, program="psql", environment=None, **names):
    """SQL of ours, with what is to be filled in as variables of psql; what it says.

    Each statement is its own transaction.  Names are looked up in the system's schema alone: what
    somebody else may have made in another is not called by whoever connects here.
    """
    variables = [part for name, value in names.items() for part in ("-v", f"{name}={value}")]
    return run(program, "-XAtq", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse", *options,
               *variables, "-d", connect_to, stdin=sql,
               environment=environment or SYSTEM_PATH).stdout.strip()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is sent to one server is not for another."""

    def redirect_request(self, *_):
        return None


def http(method, url, document=None, allowed=(200,), headers=None):
    """A request for JSON to a server of the operator's: (status, document)."""
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    if body is not None:
        request.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)
    try:
        with opener.open(request, timeout=10) as answer:
            status, said = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, said = error.code, error.read()
    except OSError as error:
        raise Later(f"{method} {url}: {error}") from error
    text = said.decode(errors="replace").strip()
    if status not in allowed:
        kind = Later if status in PASSING and "unknown" not in text else Failure
        raise kind(f"{method} {url}: {status} {text[:200]}")
    try:
        return status, json.loads(text) if text else None
    except ValueError:
        return status, text


@contextlib.contextmanager
def only_one(path):
    """Nobody else is between here and the end with the same path."""
    with open(path, "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_file(path, text, mode=0o644):
    """All of it or nothing; True where that changes the file."""
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        if file.read() == text:
            return False
    handle, name = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.rename(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return True


def remove_file(path):
    """True where it was there."""
    try:
        os.unlink(path)
        return True
    except FileNotFoundError:
        return False


def main(**actions):
    """Call the action that the first argument names."""
    try:
        if len(sys.argv) != 2 or sys.argv[1] not in ("do", "check", "undo"):
            raise Failure("call it with do, check or undo")
        try:
            request = json.load(sys.stdin)
        except ValueError as error:
            raise Failure(f"standard input is no JSON: {error}") from error
        if not isinstance(request, dict):
            raise Failure("standard input is no JSON object")
        tenant(request)
        print(json.dumps(actions[sys.argv[1]](request), sort_keys=True))
    except Later as reason:
        print(reason, file=sys.stderr)
        sys.exit(TRY_AGAIN)
    except Failure as reason:
        print(reason, file=sys.stderr)
        sys.exit(1)
