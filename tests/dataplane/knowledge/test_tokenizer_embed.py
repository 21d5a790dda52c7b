"""Terms and vectors are the same everywhere and always."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane_dataplane.knowledge.embed import HashingEmbedder, embedder
from tenantplane_dataplane.knowledge.tokenizer import TERM_MAX, estimate_tokens, stem, terms


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("policies", "policy"), ("returns", "returned"), ("calibrate", "calibrating"), ("boxes", "box"),
        ("planned", "plan"), ("invoices", "invoice"), ("stopped", "stopping"),
    ],
)  # fmt: skip
def test_stems_agree(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@pytest.mark.parametrize(("one", "other"), [("status", "stat"), ("glass", "gla"), ("ring", "r"), ("us", "use")])
def test_stems_stay_apart(one: str, other: str) -> None:
    assert stem(one) != stem(other)


def test_numbers_codes_and_other_scripts() -> None:
    assert "1200" in terms("EUR 1,200 per month")
    assert set(terms("RX-200")) == set(terms("rx 200")) | {"rx200"}
    assert terms("the of and") == []
    assert terms("東京都") == ["東京", "京都"]
    assert terms("The customer\u2019s crate") == ["customer", "crat"]


@given(st.text())
def test_terms_of_anything(text: str) -> None:
    assert all(0 < len(term) <= TERM_MAX for term in terms(text))
    assert estimate_tokens(text) >= 0


@given(st.lists(st.text(max_size=80), min_size=1, max_size=5), st.sampled_from([16, 384]))
def test_vectors_are_unit_or_zero(texts: list[str], dimension: int) -> None:
    vectors = HashingEmbedder(dimension).embed(texts)
    assert vectors.shape == (len(texts), dimension)
    assert vectors.dtype == np.float32
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    assert all(abs(length - 1) < 1e-5 or length == 0 for length in lengths)


@pytest.mark.parametrize("hostile", ["a-" * 100_000, "a" * 200_000, "1." * 100_000, "1" * 200_000, "'" * 200_000])
def test_hostile_text_takes_linear_time(hostile: str) -> None:
    """A quadratic pattern would run into the test's timeout by far."""
    assert all(len(term) <= TERM_MAX for term in terms(hostile))


def test_near_texts_are_nearer() -> None:
    question, near, far = HashingEmbedder().embed(
        ["calibrating the thermometer", "how a thermometer is calibrated", "price list for pallets"]
    )
    assert question @ near > question @ far + 0.2


def test_vectors_do_not_depend_on_the_process() -> None:
    code = (
        "from tenantplane_dataplane.knowledge.embed import HashingEmbedder;"
        "import hashlib; print(hashlib.sha256(HashingEmbedder().embed(['Cold chain, 4.5 °C'])).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_unknown_embedder_names_what_there_is() -> None:
    with pytest.raises(ValueError, match="'magic' is not installed; there is hashing"):
        embedder("magic", 384)
