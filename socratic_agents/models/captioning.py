"""Image to text with BLIP-2 and any other image-text-to-text model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from socratic_agents.core.checklist import Answer, YesNo, read_answer
from socratic_agents.core.errors import CandidateError, ConfigurationError
from socratic_agents.core.history import Status
from socratic_agents.models.captioner_processor import ProcessorTalk
from socratic_agents.models.devices import choose_device, choose_dtype
from socratic_agents.models.hub import hub_options
from socratic_agents.models.loading import (
    check_folder,
    load_errors,
    local_folder,
    quiet,
)
from socratic_agents.models.validation import caption_fault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ("Captioner", "shows")

INDEX = "config.json"
"""The file that every saved transformers model has."""

WHAT = "an image-text-to-text model"

BLIP_2_QUESTION = "Question: {question} Answer:"
"""Source: Li et al., BLIP-2 (2023), section 4.1."""

CHAT_QUESTION = "{question} Answer in a few words."

YES_OR_NO = "{question} Answer yes or no."
"""How a chat model is held to one of the two words; BLIP-2 says them by itself."""

SHOWS = 'Does this image show "{prompt}"?'
"""The question of the whole prompt.

Source: Z. Lin et al., VQAScore (ECCV 2024), section 3, in our own words.
"""

HEARD = 0.02
"""Least share of all words that "yes" and "no" must have together to be an answer."""

SECOND_TRY = {"num_beams": 5, "repetition_penalty": 1.5}
"""Other decoding for captions of no use: it seeks further and shuns repetition."""


SHORT = "A short image description:"
"""What InstructBLIP is told when it shall caption; its Q-Former wants words.

Source: W. Dai et al., InstructBLIP (NeurIPS 2023), appendix, among the templates.
"""


class Captioner:
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
    ) -> None:
        self._model = model.eval()
        self._talk = ProcessorTalk(model, processor)
        self._chats = self._talk.chats
        # Its own words matter to its Q-Former, and it repeats none of them.
        reads = getattr(processor, "qformer_tokenizer", None) is not None
        self._instruction = instruction if self._chats else SHORT if reads else ""
        default = CHAT_QUESTION if self._chats else BLIP_2_QUESTION
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
        **options: Any,
    ) -> Self:
        """Open a model by name; safetensors only, and no code from the hub.

        Args:
            name: A hub id such as ``"Salesforce/blip2-opt-2.7b"``, or a folder.
            device: Where to run; ``None`` takes the best of this machine.
            dtype: Number format of the weights; ``None`` takes what suits the device.
            revision: The hub's branch, tag or commit.
            options: As in the constructor.

        Raises:
            ConfigurationError: If an argument does not fit the machine.
            LoadError: If there is no such model, or it cannot be opened safely.
        """
        chosen = choose_device(device)
        format_ = choose_dtype(dtype, chosen)
        # Said outright: left open, transformers asks the person at the terminal.
        safely: dict[str, Any] = {"trust_remote_code": False}
        folder = local_folder(name)
        if folder is not None:
            check_folder(folder, INDEX)
        else:
            safely |= hub_options(WHAT, name, index=INDEX, revision=revision)
        with quiet(), load_errors(WHAT, name):
            from transformers import AutoModelForImageTextToText, AutoProcessor

            processor = AutoProcessor.from_pretrained(folder or name, **safely)
            model = AutoModelForImageTextToText.from_pretrained(
                folder or name, dtype=format_, use_safetensors=True, **safely
            ).to(chosen)
        return cls(model, processor, **options)

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
        captions: list[str | CandidateError] = [*self._captions(images, {})]
        failed = [
            index
            for index, caption in enumerate(captions)
            if caption_fault(str(caption), self._instruction)
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
        said = [""] * len(texts)
        for places in self._talk.alike(texts):
            images = [questions[place][0] for place in places]
            some = self._generate(images, [texts[place] for place in places], {})
            for place, text in zip(places, some, strict=True):
                said[place] = text
        return said

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
        texts = [
            self._asked(held.replace("{question}", question))
            for _, question in questions
        ]
        found: dict[int, Answer] = {}
        for places in self._talk.alike(texts):
            images = [questions[place][0] for place in places]
            said, shares = self._decisions(images, [texts[place] for place in places])
            for place, text, (yes, no) in zip(places, said, shares, strict=True):
                found[place] = _decision(text, yes, no)
        return [found[place] for place in range(len(texts))]

    def fit(self, pairs: Sequence[tuple[str, Image]]) -> list[float]:
        """Return how surely each image shows its text: P(yes), in [0, 1].

        Raises:
            CandidateError: If the model's first word is no yes and no no.
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
        texts = [self._instruction] * len(images) if self._instruction else None
        if questions is not None:
            texts = [self._asked(question) for question in questions]
        told = {"return_dict_in_generate": True, "output_logits": True}
        output, _ = self._run(images, texts, {"max_new_tokens": 2, **told})
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
        return self._question_format.replace("{question}", " ".join(question.split()))

    def _decisions(
        self, images: Sequence[Image], texts: Sequence[str]
    ) -> tuple[list[str], list[tuple[float, float]]]:
        """Return what the model says, and its shares of yes and no at the first word."""
        if not images:
            return [], []
        told = {"return_dict_in_generate": True, "output_logits": True}
        output, prompt = self._run(images, texts, {"max_new_tokens": 4, **told})
        said = self._talk.said(output.sequences, prompt)
        shares = output.logits[0].float().softmax(-1)
        yes, no = (self._talk.tokens(word) for word in ("yes", "no"))
        if not yes or not no:
            return said, [(0.0, 0.0)] * len(said)
        pairs = zip(shares[:, yes].sum(-1), shares[:, no].sum(-1), strict=True)
        return said, [(float(a), float(b)) for a, b in pairs]

    def _captions(
        self, images: Sequence[Image], decoding: Mapping[str, Any]
    ) -> list[str]:
        texts = [self._instruction] * len(images) if self._instruction else None
        return self._generate(images, texts, decoding)

    def _generate(
        self,
        images: Sequence[Image],
        texts: Sequence[str] | None,
        decoding: Mapping[str, Any],
    ) -> list[str]:
        """Return what the model says after its prompts, on one line each."""
        if not images:
            return []
        tokens, prompt = self._run(images, texts, decoding)
        return self._talk.said(tokens, prompt)

    def _run(
        self,
        images: Sequence[Image],
        texts: Sequence[str] | None,
        decoding: Mapping[str, Any],
    ) -> tuple[Any, Any]:
        """Return what the model gives back, and the tokens of its prompts."""
        with quiet():
            inputs = self._talk.inputs(
                [image.convert("RGB") for image in images], texts
            )
            output = self._model.generate(
                **inputs.to(self._model.device, self._model.dtype),
                do_sample=False,
                **self._talk.padding,
                **{
                    "max_new_tokens": self._max_new_tokens,
                    "num_beams": 1,
                    **decoding,
                },
            )
        return output, self._talk.prompt(inputs)


def shows(prompt: str) -> str:
    """Return the question of a whole prompt.

    Args:
        prompt: What an image should show.
    """
    return SHOWS.replace("{prompt}", prompt)


def _decision(text: str, yes: float, no: float) -> Answer:
    """Read an answer from the shares of yes and no, or else from its text."""
    if yes + no >= HEARD:
        probability = yes / (yes + no)
        said = YesNo.YES if probability >= 0.5 else YesNo.NO  # noqa: PLR2004 - even odds
        return Answer(said=said, probability=probability)
    return read_answer(text)
