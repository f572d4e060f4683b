"""The key of a stage: content of inputs and code decide, addresses and order do not."""

import datetime
from pathlib import Path

import pytest

from indexes.chunkers.spec import ChunkSpec
from infra.settings import Spec
from infra.store import ArtifactRef, code_version
from models.release import ModelPart, Release
from tasks.policy import StageResult, stage, stage_key

CODE = ("infra/errors.py",)


class Word(Spec):
    """A spec with a set."""

    words: frozenset[str] = frozenset()


def ref(digest: str = "a" * 64, uri: str = "/store/x", kind: str = "corpus") -> ArtifactRef:
    return ArtifactRef(kind=kind, digest=digest, uri=uri)


def release(digest: str = "a" * 64, uri: str = "/store/x") -> Release:
    part = ref(digest, uri)
    return Release(
        model=ModelPart(base=part), prompt=part, index=part, retrieval={"k": 5}, guards={}, judge="1", code="2"
    )


SAME = [
    (ref(), ref(uri="s3://bucket/x")),
    (release(), release(uri="s3://bucket/x")),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ([1, 2], (1, 2)),
    (Word(words=frozenset({"a", "b", "c", "d"})), Word(words=frozenset({"d", "c", "b", "a"}))),
    (ChunkSpec(), ChunkSpec(max_tokens=ChunkSpec().max_tokens)),
    (StageResult(refs={"corpus": ref()}, computed=3), StageResult(refs={"corpus": ref(uri="/y")}, computed=0)),
]
OTHER = [
    (ref(), ref("b" * 64)),
    (ref(), ref(kind="chunks")),
    (release(), release("b" * 64)),
    (ChunkSpec(), ChunkSpec(max_tokens=ChunkSpec().max_tokens + 1)),
    ([1, 2], [2, 1]),
    (1, "1"),
    (None, ""),
    (Word(words=frozenset({"a"})), Word()),
    (datetime.date(2026, 1, 2), datetime.date(2026, 1, 3)),
    (StageResult(refs={"corpus": ref()}), StageResult(refs={"corpus": ref("b" * 64)})),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_same_content_same_key(one: object, other: object) -> None:
    assert stage_key("x", CODE, {"value": one}) == stage_key("x", CODE, {"value": other})


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_other_content_other_key(one: object, other: object) -> None:
    assert stage_key("x", CODE, {"value": one}) != stage_key("x", CODE, {"value": other})


def test_name_and_code_are_part_of_it() -> None:
    keys = {stage_key("x", CODE, {}), stage_key("y", CODE, {}), stage_key("x", ("infra/store.py",), {})}
    assert len(keys) == 3


def test_a_changed_line_of_a_package_is_other_code(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "one.py").write_text("A = 1\n")
    before = code_version("package", root=tmp_path)
    assert code_version("package", root=tmp_path) == before
    (tmp_path / "package" / "one.py").write_text("A = 2\n")
    changed = code_version("package", root=tmp_path)
    (tmp_path / "package" / "two.py").write_text("")
    assert len({before, changed, code_version("package", root=tmp_path)}) == 3


def test_a_stage_that_names_no_source_of_this_project_is_refused() -> None:
    with pytest.raises(AssertionError, match="no such source"):
        stage("indexes/nowhere.py")(lambda: StageResult())


def test_a_whole_number_has_one_form() -> None:
    assert stage_key("cut", (), {"spec": ChunkSpec()}) == stage_key(
        "cut", (), {"spec": ChunkSpec.model_validate(ChunkSpec().model_dump(mode="json"))}
    )
