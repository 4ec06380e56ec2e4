"""Image to text with BLIP-2 and any other image-text-to-text model."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from socratic_agents.core.errors import CandidateError, ConfigurationError
from socratic_agents.core.history import Status
from socratic_agents.models.captioner_processor import ProcessorTalk
from socratic_agents.models.devices import choose_device
from socratic_agents.models.eyes.first_words import FirstWords
from socratic_agents.models.eyes.opening import open_eye
from socratic_agents.models.eyes.placement import Placement
from socratic_agents.models.eyes.wording import (
    A_NUMBER,
    AS_WRITTEN,
    CHAT_QUESTION,
    YES_OR_NO,
)
from socratic_agents.models.loading import quiet
from socratic_agents.models.validation import caption_fault
from socratic_agents.models.writing.within import Writes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

    from socratic_agents.core.checklist import Answer
    from socratic_agents.core.counts import Count
    from socratic_agents.models.captioner_processor import Thought
    from socratic_agents.models.eyes.first_words import FirstSaid

__all__ = ("Captioner", "shows")

SHOWS = 'Does this image show "{prompt}"?'
"""Source: Z. Lin et al., VQAScore (ECCV 2024), section 3, in our own words."""

SECOND_TRY = {"num_beams": 5, "repetition_penalty": 1.5}
"""Other decoding for captions of no use: it seeks further and shuns repetition."""

FEW_WORDS, WORDS_READ = 4, 8
"""Tokens of an answer that is yes, no or a number; of a chat model, more come first."""

SCORED = {"return_dict_in_generate": True, "output_logits": True}
"""Decoding that tells of each word how probable all words were in its place."""

DELIBERATION = 1024
"""Tokens that a deliberation may have, where one is asked for."""


class Captioner(Writes):
    """Says what an image shows, and answers questions about it.

    A model whose processor has a chat template is spoken to through it; any
    other, such as BLIP-2, sees the image alone, or the image and a question.

    Args:
        model: A transformers image-text-to-text model, on its device.
        processor: Its processor; its tokenizer is set to pad where it does no harm:
            on the left, since what is generated must follow the prompt without a gap,
            but on the right for an encoder, where BLIP-2's image comes first.
        instruction: What a chat model is told when it shall caption.
        question_format: How a question is put, with ``{question}`` for its words;
            ``None`` takes what BLIP-2 was trained with, or suits a chat model.
        max_new_tokens: How long a caption or answer may become, in tokens.
        options: What its chat template or its processor is told besides, by name, such
            as ``enable_thinking``.
        placement: Where it computes and rests; ``None``: where it is.

    Raises:
        ConfigurationError: If ``question_format`` has no place for the question.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        instruction: str = "Describe this image in one sentence.",
        question_format: str | None = None,
        max_new_tokens: int = 60,
        options: Mapping[str, Any] | None = None,
        placement: Placement | None = None,
    ) -> None:
        self._processor, self._placement = processor, placement or Placement(model)
        self._model, self.notices = model.eval(), self._placement.notices
        self._talk = ProcessorTalk(model, processor, options)
        self._words = FirstWords(processor.tokenizer, self._talk.ends)
        self._chats, family = self._talk.chats, self._talk.family
        self.answers = self._chats or family.answers
        """Whether it answers questions, and not only captions."""
        self._instruction = instruction if self._chats else family.instruction
        default = CHAT_QUESTION if self._chats else family.question
        self._question_format = default if question_format is None else question_format
        if "{question}" not in self._question_format:
            message = (
                "expected a question format with {question} in it, got "
                f"{question_format!r}; say where the question goes"
            )
            raise ConfigurationError(message)
        self._max_new_tokens = max_new_tokens

    @classmethod
    def load(
        cls,
        name: str,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        revision: str | None = None,
        quantization: str | None = None,
        offload: str | None = None,
        pixels: int | None = None,
        reader: bool = False,
        **options: Any,
    ) -> Self:
        """Open a model by name; safetensors only, and no code from the hub.

        Args:
            name: A hub id such as ``"Salesforce/blip2-opt-2.7b"``, or a folder.
            device: Where to run; ``None`` takes the best of this machine.
            dtype: Number format of the weights; ``None`` takes what suits the device.
            revision: The hub's branch, tag or commit.
            quantization: Bits of its weights: ``4bit``, ``8bit``, or as they are.
            offload: What is kept in main memory while it does not run: ``model``,
                ``sequential`` or ``group``; ``None``: nothing.
            pixels: Of an image that it looks at, at most, width times height; ``None``:
                as its processor has it.
            reader: Whether it need only read, as models for documents do.
            options: As in the constructor.

        Raises:
            ConfigurationError: If an argument does not fit the machine.
            LoadError: If there is no such model, or it cannot be opened safely.
        """
        model, processor, placement = open_eye(
            name,
            device=choose_device(device),
            dtype=dtype,
            revision=revision,
            quantization=quantization,
            offload=offload,
            pixels=pixels,
            reader=reader,
        )
        return cls(model, processor, placement=placement, **options)

    def caption(self, images: Sequence[Image]) -> list[str | CandidateError]:
        """Say what each image shows, in order.

        A caption of no use (empty, looping, only "a photo of", or an echo of the
        instruction) is tried once more with other decoding.

        Args:
            images: Images of any mode and size.

        Returns:
            Captions, or an error of status ``caption_failed`` for each image that
            twice got none of use.
        """
        said = self._captions(images, {})
        captions: list[str | CandidateError] = [*said]
        failed = [
            index
            for index, caption in enumerate(said)
            if caption_fault(caption, self._instruction)
        ]
        # One by one: how many others fail beside it must not decide a caption.
        retried = dict[int, str]()
        for index in failed:
            image = images[index]
            if id(image) not in retried:  # a copy that fills up the call
                [retried[id(image)]] = self._captions([image], SECOND_TRY)
            caption = retried[id(image)]
            fault = caption_fault(caption, self._instruction)
            if fault is None:
                captions[index] = caption
                continue
            message = (
                f"expected a caption that describes its image, but {fault}, at the "
                "second try too; use another captioner, or another seed"
            )
            captions[index] = CandidateError(Status.CAPTION_FAILED, message)
        return captions

    def answer(self, questions: Sequence[tuple[Image, str]]) -> list[str]:
        """Answer a question about each image, in order.

        Args:
            questions: Images with what is asked of them.

        Returns:
            Answers without the prompt; an empty one means that there was none.
        """
        texts = [self._asked(question) for _, question in questions]
        return self._answers([image for image, _ in questions], texts)

    def read(self, questions: Sequence[tuple[Image, str]]) -> list[str]:
        """Return what is written on each image, in order; all of it, if taught to read.

        Args:
            questions: Images with "What is written …?".
        """
        family, images = self._talk.family, [image for image, _ in questions]
        if family.reading:
            return self._answers(images, [family.reading] * len(images))
        if not family.describes or not self.answers:
            return self._generate(images, [""] * len(images) if self._chats else None)
        held = AS_WRITTEN if self._chats else "{question}"
        texts = [self._asked(held.replace("{question}", q)) for _, q in questions]
        return self._answers(images, texts)

    def decide(self, questions: Sequence[tuple[Image, str]]) -> list[Answer]:
        """Answer a question about each image by yes, no or unknown, in order.

        Where the model knows both words, its own probabilities decide; elsewhere
        what it writes does, and anything but yes or no is unknown.

        Args:
            questions: Images with what is asked of them.

        Source: P(yes) of one forward pass: Z. Lin et al., VQAScore (ECCV 2024),
            section 3.
        """
        held = YES_OR_NO if self._chats else "{question}"
        return [one.answer() for one in self._first_said(questions, held)]

    def count(self, questions: Sequence[tuple[Image, str]]) -> list[Count]:
        """Say how many there are on each image, in order; decided as yes and no are.

        Args:
            questions: Images with "How many …?".
        """
        held = A_NUMBER if self._chats else "{question}"
        return [one.count() for one in self._first_said(questions, held, counted=True)]

    def fit(self, pairs: Sequence[tuple[str, Image]]) -> list[float]:
        """Return how surely each image shows its text: P(yes), in [0, 1].

        Raises:
            CandidateError: If the model says neither yes nor no.
        """
        answers = self.decide([(image, shows(text)) for text, image in pairs])
        for answer in answers:
            if answer.probability is None:
                message = (
                    "expected yes or no of the captioner, got neither; use another "
                    "captioner or another scorer"
                )
                raise CandidateError(Status.OK, message)
        return [answer.probability or 0.0 for answer in answers]

    def first_words(
        self, images: Sequence[Image], questions: Sequence[str] | None = None
    ) -> list[NDArray[np.float32]]:
        """Return for each image the numbers from which its first words are chosen.

        Args:
            images: Images of any mode and size.
            questions: What is asked of each; ``None``: they are captioned.
        """
        plain = [self._instruction] * len(images) if self._instruction else None
        texts = (
            [self._asked(question) for question in questions] if questions else plain
        )
        told = {"max_new_tokens": 2, **SCORED}
        output, _ = self._run(images, texts, told, "ended")
        words = [logits.float().cpu().numpy() for logits in output.logits]
        return [np.stack(row) for row in zip(*words, strict=True)]

    def width(self, question: str) -> int:
        """Return how many tokens a question is filled up to, alone.

        Only among questions of one width does none change what is beside it, to the
        last bit: a longer one would be filled up to by the others.

        Args:
            question: As it is asked of an image.
        """
        return self._talk.width(self._asked(question))

    def _asked(self, question: str) -> str:
        words = " ".join(self._talk.plain(question).split())
        return self._question_format.replace("{question}", words)

    def _first_said(
        self,
        questions: Sequence[tuple[Image, str]],
        held: str,
        *,
        counted: bool = False,
    ) -> list[FirstSaid]:
        """Return what the model says first to each question.

        Args:
            questions: Images with what is asked of them.
            held: How it is held to a word, with ``{question}``.
            counted: Whether numbers are listened for.
        """
        texts = [self._asked(held.replace("{question}", q)) for _, q in questions]
        found: dict[int, FirstSaid] = {}
        for places in self._talk.alike(texts):
            asked = [(questions[place][0], texts[place]) for place in places]
            said = self._said_to(asked, "ended", counted=counted)
            found |= dict(zip(places, said, strict=True))
        return [found[place] for place in range(len(texts))]

    def _said_to(
        self, asked: Sequence[tuple[Image, str]], thought: Thought, *, counted: bool
    ) -> list[FirstSaid]:
        """Return what is said in one call; who would deliberate first is asked again."""
        images, texts = [image for image, _ in asked], [text for _, text in asked]
        told = {**SCORED, "max_new_tokens": WORDS_READ if self._chats else FEW_WORDS}
        output, prompt = self._run(images, texts, told, thought)
        texts = self._talk.said(output.sequences, prompt)
        said = self._words.said(texts, output.logits, counted=counted)
        for place, token in enumerate(output.logits[0].argmax(-1).tolist()):
            if thought != "none" and self._talk.deliberation.begins_with(token):
                [said[place]] = self._said_to([asked[place]], "none", counted=counted)
        return said

    def _answers(self, images: Sequence[Image], texts: Sequence[str]) -> list[str]:
        """Return what the model says to each text, in as many calls as it needs."""
        said = [""] * len(texts)
        for places in self._talk.alike(texts):
            some = [images[place] for place in places]
            answers = self._generate(some, [texts[place] for place in places])
            for place, text in zip(places, answers, strict=True):
                said[place] = text
        return said

    def _captions(
        self, images: Sequence[Image], decoding: Mapping[str, Any]
    ) -> list[str]:
        texts = [self._instruction] * len(images) if self._instruction else None
        return self._generate(images, texts, decoding)

    def _generate(
        self,
        images: Sequence[Image],
        texts: Sequence[str] | None,
        decoding: Mapping[str, Any] = MappingProxyType({}),
        thought: Thought | None = None,
    ) -> list[str]:
        """Return what the model says after its prompts, on one line each.

        Nothing is left of a deliberation without an end: it is asked again without one.
        """
        if not images:
            return []
        thought = thought or ("free" if self._talk.deliberates else "ended")
        room = DELIBERATION if thought == "free" else 0
        longest = {"max_new_tokens": self._max_new_tokens + room}
        tokens, prompt = self._run(images, texts, {**longest, **decoding}, thought)
        said = self._talk.said(tokens, prompt)
        may_think = self._talk.deliberation.possible and thought != "none"
        for place, text in enumerate(said):
            if not text and texts and may_think:
                # One by one: how many others think beside it must not decide an answer.
                alone = [images[place]], [texts[place]]
                [said[place]] = self._generate(*alone, decoding, "none")
        return said

    def _run(
        self,
        images: Sequence[Image],
        texts: Sequence[str] | None,
        decoding: Mapping[str, Any],
        thought: Thought,
    ) -> tuple[Any, Any]:
        """Return what the model gives back, and the tokens of its prompts."""
        with quiet(self.notices), self._placement.at_work():
            inputs = self._talk.inputs(
                [image.convert("RGB") for image in images], texts, thought=thought
            )
            output = self._model.generate(
                **inputs.to(self._placement.device, self._model.dtype),
                do_sample=False,
                **self._talk.padding,
                **{"num_beams": 1, **decoding},
            )
        return output, self._talk.prompt(inputs)


def shows(prompt: str) -> str:
    """Return the question of a whole prompt.

    Args:
        prompt: What an image should show.
    """
    return SHOWS.replace("{prompt}", prompt)
