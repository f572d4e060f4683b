"""The policy file: unreadable, unknown, wrong or missing parts are named with file, section and field."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.checking import NEEDED, SECTIONS, check_policy
from infra.errors import PolicyError
from infra.settings import ROOT, Policy


def written(folder: Path, sections: object) -> Policy:
    path = folder / "sluice.yaml"
    path.write_text(sections if isinstance(sections, str) else yaml.safe_dump(sections), "utf-8")
    return Policy(path)


@pytest.fixture
def sample() -> dict[str, Any]:
    """The project's own sections."""
    sections: dict[str, Any] = yaml.safe_load((ROOT / "sluice.yaml").read_text("utf-8"))
    return sections


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gate: [unclosed", "not readable as YAML"),
        ("- a\n- list\n", "must be a mapping of sections"),
        ("", "must be a mapping of sections"),
        ("!!python/object/apply:os.system ['true']", "not readable as YAML"),
    ],
)
def test_an_unreadable_file(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says) as raised:
        written(tmp_path, text)
    assert str(tmp_path / "sluice.yaml") in str(raised.value)


def test_other_bytes_than_text(tmp_path: Path) -> None:
    (tmp_path / "sluice.yaml").write_bytes(b"gate: \xff\xfe")
    with pytest.raises(PolicyError, match="not readable as YAML"):
        Policy(tmp_path / "sluice.yaml")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"no policy file; copy sluice\.yaml from the project or set SLUICE_POLICY"):
        Policy(tmp_path / "sluice.yaml")


def test_looking_for_personal_data_needs_the_guards(tmp_path: Path, sample: dict[str, Any]) -> None:
    del sample["guards"]
    with pytest.raises(PolicyError, match=r"sluice\.yaml: guards\.\w+: Field required"):
        check_policy(written(tmp_path, sample), "ingest")
    sample["validation"]["max_personal_share"] = None
    check_policy(written(tmp_path, sample), "ingest")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    assert written(tmp_path, {}).folder("../data") == tmp_path.parent / "data"
    assert written(tmp_path, {}).folder("/data") == Path("/data")


@pytest.mark.parametrize(
    ("section", "value", "says"),
    [
        ("gaet", {"alpha": 0.05}, "unknown section 'gaet'; known ones are .*gate"),
        (7, {}, "unknown section '7'"),
        ("gate", {"alpha": 1.2}, r"gate\.alpha: .*got 1\.2"),
        ("canary", {"slo_ms": -5}, r"canary\.slo_ms: .*got -5"),
        ("chunking", {"max_tokens": "many"}, r"chunking\.max_tokens: .*got 'many'"),
        ("chunking", ["max_tokens"], "chunking: "),
        ("quantization", {"margin": 3}, r"quantization\.margin: "),
        ("traces", {"keep_days": 0}, r"traces\.keep_days: "),
        ("model", {"base": "models/../nowhere/at/all"}, r"model\.base: .*neither a folder nor a Hugging Face id"),
    ],
)
def test_one_wrong_value_is_named(tmp_path: Path, sample: dict[str, Any], section: Any, value: Any, says: str) -> None:
    inner = sample.get(section, {}) | value if isinstance(value, dict) else value
    with pytest.raises(PolicyError, match=says) as raised:
        check_policy(written(tmp_path, sample | {section: inner}))
    assert raised.value.exit_code == 2


def test_an_impossible_threshold_of_a_rule_is_named(tmp_path: Path, sample: dict[str, Any]) -> None:
    sample["gate"]["rules"][0]["kind"] = "absolut"
    with pytest.raises(PolicyError, match=r"gate\.rules\.0.*absolut"):
        check_policy(written(tmp_path, sample))


def test_what_a_flow_needs_must_be_there(tmp_path: Path, sample: dict[str, Any]) -> None:
    with pytest.raises(PolicyError, match=r"tools\.accounts\.url: .*copy it there"):
        check_policy(written(tmp_path, sample), "nightly")
    del sample["tools"]["accounts"]
    check_policy(written(tmp_path, sample), "nightly")
    del sample["tools"]
    check_policy(written(tmp_path, sample), "nightly")
    del sample["gate"]
    policy = written(tmp_path, sample)
    check_policy(policy)
    check_policy(policy, "evaluate")
    with pytest.raises(PolicyError, match=r"gate\.\w+: Field required"):
        check_policy(policy, "nightly")


def test_every_section_is_needed_by_a_flow_but_the_optional_ones() -> None:
    assert {name for names in NEEDED.values() for name in names} == set(SECTIONS) - {
        "traffic",
        "index_need",
        "advice",
        "tools",
    }


def test_routing_needs_one_search_and_the_full_precision(tmp_path: Path, sample: dict[str, Any]) -> None:
    sample["routing"]["use"] = True
    with pytest.raises(PolicyError, match=r"routing\.use needs quantization\.precisions: \[\]"):
        check_policy(written(tmp_path, sample))
    sample["quantization"]["precisions"] = []
    check_policy(written(tmp_path, sample), "evaluate")
    sample["answering"]["patterns"] = {"listwise": {}}
    with pytest.raises(PolicyError, match=r"routing\.use: .* not from answering\.patterns\.listwise"):
        check_policy(written(tmp_path, sample))
    sample["answering"] |= {"patterns": {}, "search": {"pattern": "hyde"}}
    with pytest.raises(PolicyError, match=r"routing\.use: .* not from answering\.search\.pattern: hyde"):
        check_policy(written(tmp_path, sample))


@pytest.mark.parametrize(
    ("search", "needs"),
    [
        ({"rerank": {"kind": "late-interaction"}}, "index.token_vectors: true"),
        ({"pattern": "graph"}, "index.graph: true"),
        ({"pattern": "parent-child"}, "chunking.strategy: parent-child"),
        ({"pattern": "sentence-window"}, "chunking.strategy: sentence-window"),
    ],
)
def test_what_a_search_needs_of_the_index(
    tmp_path: Path, sample: dict[str, Any], search: dict[str, Any], needs: str
) -> None:
    asked = sample | {"answering": {**sample["answering"], "search": search}}
    with pytest.raises(PolicyError, match=f"answering.search.* needs {needs}"):
        check_policy(written(tmp_path, asked))
    section, _, value = needs.partition(".")
    field, _, wanted = value.partition(": ")
    given = (
        {**sample[section], "child_tokens": 40, field: yaml.safe_load(wanted)}
        if section == "chunking"
        else {field: True}
    )
    check_policy(written(tmp_path, asked | {section: given}))
