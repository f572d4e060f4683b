"""Personal data: what is searched for first costs no find that Presidio's recognizers make."""

import re

from hypothesis import example, given, settings
from hypothesis import strategies as some

from models.answering.fake import POLICY
from models.answering.guards.guardrails import personal_data
from models.answering.guards.personal import NEEDS, _recognizers

KEY = (tuple(POLICY.phone_regions), tuple(sorted(POLICY.personal_patterns.items())))
PIECES = [
    "1",
    "42",
    "378",
    "4111",
    "1111",
    "07700900123",
    "GB82",
    "WEST",
    "a.b",
    "@",
    "x.org",
    "-",
    " ",
    ".",
    ":",
    "::",
]
PIECES += ["ffff", "10.0.0.1", "/24", "+44", "(0)", "555-0134", "123-45-6789", "\n", "%eth0", "١٢٣"]


@settings(deadline=None, max_examples=400)
@given(some.lists(some.sampled_from(PIECES), max_size=14).map("".join))
@example("card 4111 1111 1111 1111, 4111-1111-1111-1111")
@example("GB82 WEST 1234 5698 7654 32 and GB82WEST12345698765432")
@example("ssn 123.45.6789 or 123456789 or 12345-6789 or 123-456789")
@example("at 2001:db8::1, ::1, ::ffff:10.0.0.1, fe80::1%eth0, ::/0 and 10.0.0.1/8")
@example("+1 202 555 0100 (020) 7946 0958")
def test_no_find_is_missed_by_what_is_looked_for_first(text: str) -> None:
    for recognizer, needs in _recognizers(*KEY):
        if needs is not None and recognizer.analyze(text, recognizer.supported_entities):
            assert needs.search(text), (recognizer.name, text)


def test_an_own_pattern_is_its_own_look_before_the_search() -> None:
    own = [needs for recognizer, needs in _recognizers(*KEY) if recognizer.supported_entities == ["ACCOUNT_NUMBER"]]
    assert [needs.pattern for needs in own] == [POLICY.personal_patterns["ACCOUNT_NUMBER"]]
    assert personal_data(POLICY).redact("account 7712345678") == "account <ACCOUNT_NUMBER>"
    assert all(isinstance(needs, re.Pattern) for needs in NEEDS.values())
