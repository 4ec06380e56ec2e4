"""The captioner: a BLIP-2 that describes scenes and answers questions about them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    OPTConfig,
)

from socratic_agents.pocket.prompt_writer import caption
from socratic_agents.pocket.scene import RADII, SIDE, Scene, distance, sample_scene
from socratic_agents.pocket.train.data import draw_scenes, pixels
from socratic_agents.pocket.train.questions import (
    PLACES,
    QUESTION_WORDS,
    ask_about,
    places,
)
from socratic_agents.pocket.train.tokenizers import EVERY, GLUE, build_tokenizer
from socratic_agents.pocket.train.trainer import fit
from socratic_agents.pocket.vocabulary import BACKGROUNDS, COLOURS, SHAPES, SIZES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast

__all__ = ("build_captioner", "captioner_tokenizer", "train_captioner")

WIDTH, PATCH, QUERIES, LENGTH = 96, 8, 8, 32
BATCH, QUESTIONS = 48, 6
"""A batch: images, and how many questions are asked about each."""
BEFORE = 3
"""Tokens before a question: the start, and ``question :``."""
LABELS = {
    "shape": len(SHAPES) + 1,
    "colour": len(COLOURS) + 1,
    "size": len(SIZES) + 1,
    "background": len(BACKGROUNDS),
}


def captioner_tokenizer() -> PreTrainedTokenizerFast:
    """Return the captioner's tokenizer; a text is not closed, so that it goes on."""
    tokenizer = build_tokenizer(
        (*EVERY, *GLUE, *QUESTION_WORDS), LENGTH, end=False, side="left"
    )
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    return tokenizer


def build_captioner() -> Blip2ForConditionalGeneration:
    """Return the untrained captioner."""
    tokenizer = captioner_tokenizer()
    shared = {"hidden_size": WIDTH, "num_attention_heads": 4}
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            **shared,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=4,
            image_size=SIDE,
            patch_size=PATCH,
            initializer_range=0.02,
        ),
        qformer_config=Blip2QFormerConfig(
            **shared,
            vocab_size=4,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            cross_attention_frequency=1,
            encoder_hidden_size=WIDTH,
            max_position_embeddings=LENGTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        text_config=OPTConfig(
            **shared,
            vocab_size=len(tokenizer),
            ffn_dim=2 * WIDTH,
            num_hidden_layers=4,
            # More than is trained: a model that does not stop must not break.
            max_position_embeddings=4 * LENGTH,
            word_embed_proj_dim=WIDTH,
            dropout=0.0,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=3,
        ),
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = Blip2ForConditionalGeneration(config)
    # Three times as fast to train in bfloat16 on a CPU as the fused attention.
    model.set_attn_implementation("eager")
    # The stock queries start at zero, all alike, and then stay alike for ever.
    torch.nn.init.normal_(model.query_tokens, std=0.5)
    return model


def train_captioner(
    folder: Path,
    examples: tuple[list[Scene], torch.Tensor],
    *,
    steps: int,
    start: Path | None = None,
) -> Blip2ForConditionalGeneration:
    """Train the captioner on captions and questions at the same time.

    Half of the images are rendered, and half are the generator's own.

    Every patch is also asked what it shows: without that a small vision transformer
    never learns shapes from captions alone.

    Args:
        folder: Gets checkpoints and a log.
        examples: What the generator drew, as ``generated_examples`` returns it.
        steps: How many steps in all.
        start: Folder of the weights to continue from; ``None`` starts from scratch.
    """
    torch.manual_seed(41)
    model, tokenizer = build_captioner(), captioner_tokenizer()
    if start:
        _load_weights(model, start)
    heads = torch.nn.ModuleDict(
        {name: torch.nn.Linear(WIDTH, classes) for name, classes in LABELS.items()}
    )
    place = torch.nn.Linear(WIDTH, len(PLACES))
    modules = torch.nn.ModuleDict({"model": model, "heads": heads, "place": place})
    rng = random.Random(41)
    generated, generated_pixels = examples

    def loss(_: int) -> torch.Tensor:
        count = len(generated)
        chosen = [rng.randrange(count) for _ in range(BATCH // 2) if count]
        scenes = draw_scenes(rng, BATCH - len(chosen))
        images = torch.cat([pixels(scenes), generated_pixels[chosen]])
        scenes += [generated[i] for i in chosen]
        return _loss(modules, tokenizer, scenes, images, rng)

    fit(
        modules,
        loss,
        folder,
        steps=steps,
        learning_rate=1e-3 if start else 2e-3,
        weight_decay=0.01,
        float32_share=0.2,
        evaluate=lambda _: _evaluate(model, tokenizer),
        evaluate_every=250,
    )
    return model.eval()


def _loss(
    modules: torch.nn.ModuleDict,
    tokenizer: PreTrainedTokenizerFast,
    scenes: list[Scene],
    images: torch.Tensor,
    rng: random.Random,
) -> torch.Tensor:
    """Return the loss of captions, answers, places of objects, and patches."""
    model, heads = modules["model"], modules["heads"]
    seen = model.vision_model(images).last_hidden_state
    queries = model.qformer(
        query_embeds=model.query_tokens.expand(len(scenes), -1, -1),
        encoder_hidden_states=seen,
    ).last_hidden_state
    prefix = model.language_projection(queries)
    captions = [("", caption(_ordered(scene))) for scene in scenes]
    asked = [
        (scene, *ask_about(scene, rng)) for scene in scenes for _ in range(QUESTIONS)
    ]
    described, _ = _language_loss(model, prefix, *_token_rows(tokenizer, captions))
    questions = [(_question_prompt(text), answer) for _, text, answer in asked]
    answered, states = _language_loss(
        model,
        prefix.repeat_interleave(QUESTIONS, dim=0),
        *_token_rows(tokenizer, questions),
    )
    spots = [
        (row, QUERIES + BEFORE + word, PLACES.index(where))
        for row, (scene, text, _) in enumerate(asked)
        for word, where in places(text, scene)
    ]
    rows, columns, stands = torch.tensor(spots).T
    placed = torch.nn.functional.cross_entropy(
        modules["place"](states[rows, columns]), stands
    )
    classes = _patches(scenes)
    patches = [
        torch.nn.functional.cross_entropy(
            head(seen[:, 1:]).flatten(0, 1), classes[name].flatten()
        )
        for name, head in heads.items()
    ]
    return described / 2 + answered + placed / 2 + torch.stack(patches).mean()


@torch.no_grad()
def _evaluate(
    model: Blip2ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
) -> dict[str, float]:
    """Return shares of right words, captions, answers and relations on new scenes."""
    model.eval()
    rng = random.Random(42)
    scenes = draw_scenes(rng, 200)
    images = pixels(scenes)
    captions = _generate(model, tokenizer, images, [""] * len(scenes))
    words = [
        sum(a == b for a, b in zip(c.split(), t.split(), strict=False)) / len(t.split())
        for c, t in zip(captions, map(caption, scenes), strict=True)
    ]
    exact = sum(_same(c, s) for c, s in zip(captions, scenes, strict=True))
    asked = [ask_about(scene, rng) for scene in scenes]
    answers = _accuracy(model, tokenizer, images, asked)
    pairs = [sample_scene(rng, pair=1.0) for _ in scenes]
    asked = [ask_about(scene, rng, kind="relation") for scene in pairs]
    relations = _accuracy(model, tokenizer, pixels(pairs), asked)
    model.train()
    return {
        "words": sum(words) / len(words),
        "exact": exact / len(scenes),
        "answers": answers,
        "relations": relations,
    }


def _accuracy(
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    images: torch.Tensor,
    asked: Sequence[tuple[str, str]],
) -> float:
    """Return the share of right answers to one question and answer for each image."""
    prompts = [_question_prompt(question) for question, _ in asked]
    answers = _generate(model, tokenizer, images, prompts)
    right = sum(a == t for a, (_, t) in zip(answers, asked, strict=True))
    return right / len(asked)


def _load_weights(model: Blip2ForConditionalGeneration, start: Path) -> None:
    """Take weights from a folder; layers that they lack change nothing at first."""
    old = Blip2ForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
    missing = model.load_state_dict(old.state_dict(), strict=False).missing_keys
    for name, parameter in model.named_parameters():
        if name in missing and ("out_proj" in name or "fc2" in name):
            torch.nn.init.zeros_(parameter)


def _same(text: str, scene: Scene) -> bool:
    return text in {
        caption(scene),
        caption(Scene(scene.objects[::-1], scene.background)),
    }


def _question_prompt(question: str) -> str:
    return f"question : {question} answer :"


def _ordered(scene: Scene) -> Scene:
    objects = sorted(scene.objects, key=lambda t: (round(t.x / 8), t.y))
    return Scene(tuple(objects), scene.background)


def _token_rows(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[tuple[str, str]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and labels of texts: what is given, and what goes on."""
    given = tokenizer([before for before, _ in texts]).input_ids
    wanted = tokenizer([after for _, after in texts], add_special_tokens=False)
    pairs = [(a, [*b, 1]) for a, b in zip(given, wanted.input_ids, strict=True)]
    length = max(len(before) + len(after) for before, after in pairs)
    rows, labels = [], []
    for before, after in pairs:
        fill = length - len(before) - len(after)
        rows.append(before + after + [3] * fill)
        labels.append([-100] * len(before) + after + [-100] * fill)
    return torch.tensor(rows), torch.tensor(labels)


def _language_loss(
    model: Blip2ForConditionalGeneration,
    prefix: torch.Tensor,
    rows: torch.Tensor,
    labels: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the language model's loss, and its states after two layers.

    There is one text for every prefix.
    """
    embedded = torch.cat([prefix, model.get_input_embeddings()(rows)], dim=1)
    mask = torch.cat([torch.ones(prefix.shape[:2]), (rows != 3).float()], dim=1)
    out = model.language_model(
        inputs_embeds=embedded, attention_mask=mask.long(), output_hidden_states=True
    )
    losses = torch.nn.functional.cross_entropy(
        out.logits[:, QUERIES - 1 : -1].transpose(1, 2),
        labels,
        ignore_index=-100,
        reduction="none",
    )
    # Every text weighs the same: an answer has two tokens, a caption fifteen.
    said = (losses.sum(1) / (labels != -100).sum(1)).mean()
    return said, out.hidden_states[2]


def _patches(scenes: list[Scene]) -> dict[str, torch.Tensor]:
    """Return what every patch shows: class numbers of shape (n, patches)."""
    middle = torch.arange(PATCH / 2, SIDE, PATCH).numpy()
    x = middle[None, :].repeat(len(middle), 0)
    classes: dict[str, list[torch.Tensor]] = {name: [] for name in LABELS}
    for scene in scenes:
        labels = {
            "shape": torch.full((x.size,), len(SHAPES)),
            "colour": torch.full((x.size,), len(COLOURS)),
            "size": torch.full((x.size,), len(SIZES)),
        }
        for obj in scene.objects:
            edge = distance(obj.shape, x - obj.x, x.T - obj.y, RADII[obj.size])
            near = torch.from_numpy(edge < PATCH / 2).flatten()
            labels["shape"][near] = SHAPES.index(obj.shape)
            labels["colour"][near] = COLOURS.index(obj.colour)
            labels["size"][near] = SIZES.index(obj.size)
        for name, label in labels.items():
            classes[name].append(label)
        ground = BACKGROUNDS.index(scene.background)
        classes["background"].append(torch.full((x.size,), ground))
    return {name: torch.stack(label) for name, label in classes.items()}


def _generate(
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    images: torch.Tensor,
    prompts: list[str],
) -> list[str]:
    """Return what the model says after each prompt."""
    tokens = tokenizer(prompts, padding=True, return_tensors="pt")
    count = len(prompts)
    image = torch.full((count, QUERIES), model.config.image_token_index)
    given = torch.cat([image, tokens.input_ids], dim=1)
    out = model.generate(
        pixel_values=images,
        input_ids=given,
        attention_mask=torch.cat([torch.ones_like(image), tokens.attention_mask], 1),
        max_new_tokens=22,
        do_sample=False,
    )
    return tokenizer.batch_decode(out[:, given.shape[1] :], skip_special_tokens=True)
