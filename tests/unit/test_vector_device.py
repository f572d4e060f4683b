"""Searches on a GPU: for the kinds that have them, and a clear word where there is none."""

import numpy as np
import pytest
from pydantic import ValidationError

from indexes.vectors.faiss import FaissIndex
from indexes.vectors.kinds import library
from indexes.vectors.spec import VectorSpec
from infra.errors import SetupError


def test_a_gpu_is_for_the_kinds_that_faiss_searches_there() -> None:
    with pytest.raises(ValidationError, match="device gpu searches flat, and ivf-pq with pq_bits 8; hnsw stays"):
        VectorSpec(device="gpu")
    with pytest.raises(ValidationError, match="ivf-pq stays on the cpu"):
        VectorSpec(kind="ivf-pq", device="gpu")
    assert VectorSpec(kind="ivf-pq", pq_bits=8, device="gpu").device == "gpu"


def test_a_gpu_finds_what_the_cpu_finds_or_is_said_to_be_missing() -> None:
    vectors = np.random.default_rng(0).standard_normal((3000, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = FaissIndex(VectorSpec(kind="flat", device="gpu"))
    if not library().get_num_gpus():
        with pytest.raises(SetupError, match=r"index\.device: gpu, but this FAISS sees no GPU"):
            index.build(vectors)
        return
    index.build(vectors)
    expected = FaissIndex(VectorSpec(kind="flat"))
    expected.build(vectors)
    for query in vectors[:20]:
        assert index.search(query, 10)[0].tolist() == expected.search(query, 10)[0].tolist()
