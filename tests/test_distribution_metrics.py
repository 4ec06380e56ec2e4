"""Metrics of sets: thousands of images, or a refusal that says why."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.metrics.distribution import check_set, evaluate_set

if TYPE_CHECKING:
    from collections.abc import Mapping

MANY = [lambda: Image.new("L", (40, 30), 200)] * 2_000


class Library:
    """Stands where torch-fidelity stands, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def __call__(self, **asked: Any) -> Mapping[str, float]:
        self.asked = asked
        return {"frechet_inception_distance": 12.5, "inception_score_mean": 3.5}


@pytest.mark.parametrize("name", ["fid", "inception_score"])
def test_small_sets_are_refused(name: str) -> None:
    """Below 2,000 images the number says more of their number than of them."""
    with pytest.raises(ConfigurationError, match=r"at least 2,000 .*, got 1,999"):
        check_set(name, 1_999)
    with pytest.raises(ConfigurationError, match="use clipscore"):
        evaluate_set(name, MANY[:200], MANY, calculate=Library())


def test_middling_sets_are_warned_of() -> None:
    """From 2,000 to 9,999 images there is a number, and a warning."""
    assert "fid of 9,999 images is biased" in str(check_set("fid", 9_999))
    assert check_set("fid", 10_000) is None
    with pytest.raises(ConfigurationError, match="a metric of sets"):
        check_set("clipscore", 10_000)


def test_fid_compares_two_sets() -> None:
    """Both are brought to one size in one way, and the smaller decides."""
    library = Library()
    found = evaluate_set("fid", MANY, MANY * 6, calculate=library)

    assert (12.5, 2_000) == (found.value, found.n)
    assert "biased" in str(found.warning)
    assert 12_000 == found.record["references"] == len(library.asked["input2"])
    pixels = library.asked["input1"][0]
    assert (3, 299, 299) == tuple(pixels.shape)
    assert 200 == int(pixels.max()) == int(pixels.min())
    assert (True, False) == (library.asked["fid"], library.asked["isc"])
    with pytest.raises(ConfigurationError, match="got 0"):
        evaluate_set("fid", MANY, calculate=library)


def test_the_inception_score_needs_no_references() -> None:
    """It is of the set alone."""
    library = Library()
    found = evaluate_set("inception_score", MANY, calculate=library)
    assert 3.5 == found.value
    assert "input2" not in library.asked
    assert "references" not in found.record


def test_the_library_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch-fidelity is in the record; where it is missing, it says what to install."""
    fidelity = SimpleNamespace(calculate_metrics=Library(), __version__="9.1")
    monkeypatch.setitem(sys.modules, "torch_fidelity", fidelity)
    found = evaluate_set("inception_score", MANY)
    assert "torch-fidelity 9.1" == found.record["library"]
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ConfigurationError, match="pip install torch-fidelity"):
        evaluate_set("fid", MANY, MANY)
