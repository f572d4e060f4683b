"""What differs between two versions of a corpus."""

from hypothesis import given
from hypothesis import strategies as st

from indexes.changes import Change, changes

CORPORA = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("123"))


def test_each_kind_of_change() -> None:
    before = {"a.md": "1", "b.md": "2", "c.md": "3", "d.md": "4"}
    after = {"a.md": "1", "b.md": "9", "e.md": "3", "f.md": "7"}
    assert changes(before, after) == [
        Change("b.md", "changed"), Change("d.md", "removed"), Change("e.md", "renamed", "c.md"),
        Change("f.md", "added"),
    ]  # fmt: skip
    assert changes(after, after) == []


@given(CORPORA, CORPORA)
def test_changes_lead_from_one_version_to_the_other(before: dict[str, str], after: dict[str, str]) -> None:
    names = set(before)
    for change in changes(before, after):
        if change.change == "changed":
            assert before[change.document] != after[change.document]
        elif change.change == "added":
            names.add(change.document)
        elif change.change == "removed":
            names.remove(change.document)
        else:
            assert before[change.before] == after[change.document]
            names.remove(change.before)
            names.add(change.document)
    assert names == set(after)
