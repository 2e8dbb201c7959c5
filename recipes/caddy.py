"""Caddy's configuration, through its admin API.

Objects are found by their "@id", so that the rest of the configuration stays the operator's.
Environment: CADDY_ADMIN (http://127.0.0.1:2019), CADDY_SERVER (srv0).
"""
from recipe import Later, http, setting


def url(path):
    return setting("CADDY_ADMIN", "http://127.0.0.1:2019").rstrip("/") + path


def get(name):
    """The object with the id; None where there is none."""
    status, found = http("GET", url("/id/" + name), allowed=(200, 404))
    return found if status == 200 else None


def put(name, document, where):
    """The object with the id is the document: put first into the list "where", or in its place.

    True where that changed it.
    """
    document = {"@id": name, **document}
    found = get(name)
    if found == document:
        return False
    if found is not None:
        http("PATCH", url("/id/" + name), document)
        return True
    if make_list(where):
        http("PUT", url(f"/config/{where}/0"), document)
    else:
        http("POST", url(f"/config/{where}"), document)
    return True


def make_list(where):
    """The path exists, as a list; its length."""
    parts = where.split("/")
    _, config = http("GET", url("/config/"))
    for depth, part in enumerate(parts):
        if not isinstance(config, dict):
            raise Later(f"Caddy has no configuration at {'/'.join(parts[:depth])}")
        if config.get(part) is None:
            rest = []
            for missing in reversed(parts[depth + 1:]):
                rest = {missing: rest}
            http("PUT", url("/config/" + "/".join(parts[:depth + 1])), rest)
            return 0
        config = config[part]
    return len(config)


def remove(name):
    """True where it was there."""
    if get(name) is None:
        return False
    http("DELETE", url("/id/" + name), allowed=(200, 404))
    return True


def reload():
    """Begin anew with the same configuration: certificates kept in memory are forgotten."""
    # A part that no recipe changes, so that no change of another is undone.
    _, config = http("GET", url("/config/apps/tls/automation"))
    if config is not None:
        http("PATCH", url("/config/apps/tls/automation"), config,
             headers={"Cache-Control": "must-revalidate"})


