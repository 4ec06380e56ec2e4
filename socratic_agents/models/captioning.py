"""Image to text with BLIP-2 and any other image-text-to-text model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.errors import CandidateError, ConfigurationError
from socratic_agents.history import Status
from socratic_agents.models.devices import choose_device, choose_dtype
from socratic_agents.models.loading import check_folder, local_folder, opening, quiet
from socratic_agents.models.sanity import caption_fault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    import torch
    from PIL.Image import Image

__all__ = ("Captioner",)

INDEX = "config.json"
"""The file that every saved transformers model has."""

BLIP_2_QUESTION = "Question: {question} Answer:"
"""Source: Li et al., BLIP-2 (2023), section 4.1."""

CHAT_QUESTION = "{question} Answer in a few words."

SECOND_TRY = {"num_beams": 5, "repetition_penalty": 1.5}
"""Other decoding for captions of no use: it seeks further and shuns repetition."""


class Captioner:
    """Says what an image shows, and answers questions about it.

    A model whose processor has a chat template is spoken to through it; any
    other, such as BLIP-2, sees the image alone, or the image and a question.

    Args:
        model: A transformers image-text-to-text model, on its device.
        processor: Its processor; its tokenizer is set to pad on the left, since
            what is generated must follow the prompt without a gap.
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
        self._processor = processor
        self._chats = getattr(processor, "chat_template", None) is not None
        self._instruction = instruction if self._chats else ""
        default = CHAT_QUESTION if self._chats else BLIP_2_QUESTION
        self._question_format = default if question_format is None else question_format
        if "{question}" not in self._question_format:
            message = (
                "expected a question format with {question} in it, got "
                f"{question_format!r}; say where the question goes"
            )
            raise ConfigurationError(message)
        self._max_new_tokens = max_new_tokens
        processor.tokenizer.padding_side = "left"
        if getattr(processor, "num_query_tokens", 0) is None:
            # Old BLIP-2 checkpoints do not say it, and questions would fail.
            processor.num_query_tokens = model.config.num_query_tokens

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
        elif revision is not None:
            safely["revision"] = revision
        with quiet(), opening("an image-text-to-text model", name):
            from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: PLC0415 - heavy

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
        retried = self._captions([images[index] for index in failed], SECOND_TRY)
        for index, caption in zip(failed, retried, strict=True):
            fault = caption_fault(caption, self._instruction)
            if fault is None:
                captions[index] = caption
                continue
            message = (
                f"expected a caption that tells of its image, but {fault}, at the "
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
        return self._generate(
            [image for image, _ in questions],
            [
                self._question_format.replace("{question}", " ".join(question.split()))
                for _, question in questions
            ],
            {},
        )

    def _captions(
        self, images: Sequence[Image], decoding: Mapping[str, Any]
    ) -> list[str]:
        texts = [self._instruction] * len(images) if self._chats else None
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
        tokenizer = self._processor.tokenizer
        with quiet():
            inputs = self._inputs([image.convert("RGB") for image in images], texts)
            tokens = self._model.generate(
                **inputs.to(self._model.device, self._model.dtype),
                do_sample=False,
                max_new_tokens=self._max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                **{"num_beams": 1, **decoding},
            )
        prompt = inputs.get("input_ids")
        if prompt is not None:
            # Decoders repeat the prompt before their answer; encoder-decoders do not.
            length = prompt.shape[1]
            if tokens[:, :length].tolist() == prompt.tolist():
                tokens = tokens[:, length:]
        said = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in said]

    def _inputs(self, images: list[Image], texts: Sequence[str] | None) -> Any:
        if not self._chats:
            text = {} if texts is None else {"text": [*texts], "padding": True}
            return self._processor(images=images, return_tensors="pt", **text)
        conversations = [
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "image": image},
                        {"type": "text", "text": text},
                    ],
                }
            ]
            for image, text in zip(images, texts or (), strict=True)
        ]
        return self._processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            padding=True,
        )
