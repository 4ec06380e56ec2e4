"""What holds for scores: the published formula, and records that keep them apart."""

from __future__ import annotations

import json
import logging
import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from socratic_agents.core.errors import ConfigurationError, LoadError
from socratic_agents.models.clip import Clip, _needs_quick_gelu, clip_scores, cosines
from tests import tiny_models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

TEXTS = ("a red circle", "a blue square above a green triangle", "")


def image(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.tiny_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Clip:
    return Clip.load(str(folder), device="cpu")


def test_formula_is_the_published_one() -> None:
    """Golden vectors, by hand: 2.5 times the cosine, and nothing below 0."""
    texts = np.array([[1, 2, 2], [1, 2, 2], [3, 4, 0], [1, 0, 0], [1, 0, 0]])
    images = np.array([[2, 1, 2], [4, 2, 4], [4, 3, 0], [0, 5, 0], [-1, 0, 0]])

    scores = clip_scores(texts, images)

    expected = [2.5 * 8 / 9, 2.5 * 8 / 9, 2.5 * 24 / 25, 0.0, 0.0]
    assert np.abs(np.array(expected) - scores).max() <= 1e-5
    assert (
        np.abs([8 / 9, 24 / 25, -1] - cosines(texts, images)[[0, 2, 4]]).max() <= 1e-5
    )


vectors = arrays(np.float32, (3, 4), elements=st.floats(-9, 9, width=32)).filter(
    lambda a: bool((np.linalg.norm(a, axis=1) > 0.1).all())
)


@given(vectors, vectors, st.floats(0.5, 20))
def test_scores_have_their_range_and_ignore_length(
    texts: NDArray[np.float32], images: NDArray[np.float32], factor: float
) -> None:
    """Scores lie in [0, 2.5], whatever the length of an embedding."""
    scores = clip_scores(texts, images)

    assert (scores >= 0).all()
    assert (scores <= 2.5 + 1e-5).all()
    assert np.allclose(scores, clip_scores(factor * texts, images), atol=1e-5)


def test_score_puts_prefix_and_formula_together(clip: Clip, folder: Path) -> None:
    """A score is the formula over the model's own embeddings of "A photo depicts"."""
    import open_clip

    name = f"local-dir:{folder}"
    model, preprocess = open_clip.create_model_from_pretrained(name)
    tokens = open_clip.get_tokenizer(name)([f"A photo depicts {t}" for t in TEXTS])
    pixels = torch.stack([preprocess(image(seed)) for seed in range(3)])
    with torch.no_grad():
        text = model.encode_text(tokens, normalize=True)
        picture = model.encode_image(pixels, normalize=True)
    expected = 2.5 * (text * picture).sum(dim=1).clamp(min=0)

    scores = clip.score([(t, image(seed)) for seed, t in enumerate(TEXTS)])

    assert pytest.approx(expected.tolist(), abs=1e-5) == scores


@pytest.mark.parametrize("cores", [2, 16, None])
def test_images_are_resized_alike_in_any_number_of_threads(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cores: int | None
) -> None:
    """What the model sees is the transform of each image, to the last bit, in order."""
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    clip = Clip.load(str(folder), device="cpu")
    images = [image(seed).resize((40 + seed, 30)) for seed in range(5)]
    expected = [clip._preprocess(one.convert("RGB")) for one in images]
    before = threading.active_count()

    seen = clip._seen(images)

    assert all(torch.equal(a, b) for a, b in zip(expected, seen, strict=True))
    assert before == threading.active_count()


def test_a_transform_of_ones_own_is_applied_as_it_is(clip: Clip) -> None:
    """Nobody knows which of its steps could be taken in a thread."""
    own = Clip(
        clip._model,
        lambda one: torch.full((3, 2, 2), float(one.width)),
        clip._tokenizer,
        name="own",
        pretrained="none",
    )

    assert [4.0, 6.0] == [
        float(seen.max())
        for seen in own._seen([image(0).resize((w, 2)) for w in (4, 6)])
    ]


def test_batch_scores_as_single_pairs_do(clip: Clip) -> None:
    """A pair's neighbours do not change its score."""
    pairs = [(text, image(seed)) for seed, text in enumerate(TEXTS)]
    alone = [clip.score([pair])[0] for pair in pairs]

    assert pytest.approx(alone, abs=1e-5) == clip.score(pairs)


def test_prefix_is_an_argument(folder: Path) -> None:
    """Without a prefix the text stands alone, and the record tells."""
    plain = Clip.load(str(folder), device="cpu", prefix="")
    published = Clip.load(str(folder), device="cpu")

    with_words = plain.score([("A photo depicts a red circle", image(0))])

    assert pytest.approx(with_words) == published.score([("a red circle", image(0))])
    assert "" == plain.record["prefix"]
    assert plain.record != published.record


def test_similarity_is_one_for_the_same_image(clip: Clip) -> None:
    """Likeness is 1 at most, the same in both directions, and sees any mode."""
    first, second = image(0), image(1)

    one, alpha, other = clip._images([first, first.convert("RGBA"), second])
    pairs = ((one, alpha), (one, other), (other, one))
    same, there, back = (float(cosines(a[None], b[None])[0]) for a, b in pairs)

    assert pytest.approx(1.0) == same
    assert pytest.approx(there) == back
    assert -1 <= there < same


def test_nothing_asked_scores_nothing(clip: Clip) -> None:
    """Empty batches are answered without the model."""
    assert [] == clip.score([])


def test_record_tells_the_model(clip: Clip, tmp_path: Path) -> None:
    """Folders are told apart by what is in them, and not by where they are."""
    same = tiny_models.tiny_clip(tmp_path / "clip")
    other = tiny_models.tiny_clip(tmp_path / "other" / "clip", quick_gelu=True)
    record = clip.record

    assert {"model", "pretrained", "prefix", "w"} == record.keys()
    assert ("clip", 2.5, "A photo depicts ") == (
        record["model"],
        record["w"],
        record["prefix"],
    )
    assert record["pretrained"].startswith("sha256:")
    assert record == Clip.load(str(same), device="cpu").record
    assert record != Clip.load(str(other), device="cpu").record


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_number_formats_score_alike(folder: Path, clip: Clip, dtype: str) -> None:
    """Half precision changes a score a little."""
    half = Clip.load(str(folder), device="cpu", dtype=dtype)

    exact, rounded = (c._images([image(0), image(1)]) for c in (clip, half))
    expected = cosines(exact[:1], exact[1:])
    assert pytest.approx(expected, abs=0.05) == cosines(rounded[:1], rounded[1:])
    assert 1 == len(half.score([("a red circle", image(0))]))


def test_other_number_formats_are_refused(folder: Path) -> None:
    """open_clip knows three."""
    with pytest.raises(ConfigurationError, match="expected dtype float32, float16"):
        Clip.load(str(folder), device="cpu", dtype="float64")


@pytest.mark.parametrize(
    ("architecture", "weights", "forced"),
    [
        ("ViT-B-32", "openai", True),
        ("ViT-B-32-quickgelu", "openai", False),
        ("ViT-B-32", "laion2b_s34b_b79k", False),
    ],
)
def test_openai_weights_get_quick_gelu(
    architecture: str, weights: str, forced: bool
) -> None:
    """The activation is the one that the weights were trained with.

    https://github.com/mlfoundations/open_clip/issues/441
    """
    assert forced == _needs_quick_gelu(architecture, weights)


def test_quick_gelu_is_not_forced_upon_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of plain GELU are refused for an architecture that is built for quick."""
    import open_clip.pretrained

    known = open_clip.pretrained._PRETRAINED["ViT-B-32-quickgelu"]
    monkeypatch.setitem(known, "plain", {"url": "", "quick_gelu": False})

    with pytest.raises(LoadError, match="use ViT-B-32/plain"):
        Clip.load("ViT-B-32-quickgelu/plain", device="cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "which open_clip does not know; check the name or path"),
        ("", "which open_clip does not know"),
        ("openai/clip-vit-base-patch32", "which open_clip does not know"),
        ("ViT-B-32", "expected weights for ViT-B-32 (openai, "),
        ("ViT-B-32/no_such", "got 'no_such'"),
        ("coca_base/x", "(it has none)"),
        ("hf-hub:nobody/no-such-model@v1", "expected a CLIP model, got 'hf-hub:nob"),
    ],
)
def test_names_that_are_no_model_are_one_line(name: str, message: str) -> None:
    """What is there instead is listed."""
    with pytest.raises(LoadError) as caught:
        Clip.load(name, device="cpu")

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hub_weights_that_cannot_be_had_do_not_start_logging(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """open_clip's way to log would print what every library warns of, from then on."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    with warnings.catch_warnings(), pytest.raises(LoadError):
        Clip.load("ViT-B-32-quickgelu/openai", device="cpu")

    assert [] == logging.getLogger().handlers
    assert ("", "") == capfd.readouterr()


def _without_config(folder: Path) -> None:
    (folder / "open_clip_config.json").unlink()


def _without_weights(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").unlink()


def _with_pickles(folder: Path) -> None:
    weights = folder / "open_clip_model.safetensors"
    weights.rename(folder / "open_clip_pytorch_model.bin")


def _with_other_weights(folder: Path) -> None:
    file = folder / "open_clip_config.json"
    config: dict[str, Any] = json.loads(file.read_text())
    config["model_cfg"]["embed_dim"] = 8
    file.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_config, "expected the folder of a model with open_clip_config.json"),
        (_without_weights, "expected safetensors weights in"),
        (_with_pickles, "got only pickles in"),
        (_with_other_weights, "which cannot be opened"),
    ],
)
def test_folders_that_cannot_be_opened_are_one_line(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    """The true reason, and no pickle is read."""
    folder = tiny_models.tiny_clip(tmp_path / "clip")
    spoil(folder)

    with pytest.raises(LoadError) as caught:
        Clip.load(str(folder), device="cpu")

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
