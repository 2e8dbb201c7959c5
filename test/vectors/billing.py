"""Runs cases of billing against the SQL functions.

A case has an input and an expected result; its kind says which rule is asked, the members of its
input say how.  Nothing here knows a case by its id.  Amounts are in units of the currency, or in
its minor units where a name ends in _cents or _minor; sources that give minor units once give them
throughout.  A member "exact" beside "expected" is what we are expected to say where the source
rounds midway.
"""
import json
import sys
from decimal import Decimal, InvalidOperation

import billing_document
import billing_price
import billing_time
from billing_case import Case, NotUnderstood, disagreements
from psql import Session, SqlError

HANDLERS = {**billing_price.HANDLERS, **billing_time.HANDLERS, **billing_document.HANDLERS}


def run(session, description):
    """What is wrong with a case; nothing where it passes."""
    handler = HANDLERS.get(description["kind"])
    if handler is None:
        return ["kind \"%s\" is unknown" % description["kind"]]
    expected = dict(description["expected"])
    expected.update(description.get("exact", {}))
    case = Case(session, description)
    try:
        return disagreements(handler(case), expected, case)
    except NotUnderstood as reason:
        return ["the input was not understood: %s" % reason]
    except (SqlError, InvalidOperation, ArithmeticError, LookupError, TypeError, ValueError) as error:
        return ["%s: %s" % (type(error).__name__, str(error).split("\n")[0])]


def main(paths):
    cases = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            cases += json.load(file, parse_float=Decimal, parse_int=Decimal)
    session = Session()
    passed = failed = 0
    for description in cases:
        faults = run(session, description)
        if faults:
            failed += 1
            print("not ok %s (%s): %s" % (description["id"], description["kind"], "; ".join(faults)))
        else:
            passed += 1
            print("ok %s (%s)" % (description["id"], description["kind"]))
    session.close()
    print("%d passed, %d failed" % (passed, failed))
    return 0 if failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
