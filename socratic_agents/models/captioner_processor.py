"""How a captioner's processor is spoken to, and how its model's words are read.

Everything goes in by name: the first argument of most processors is images, and they
open a text in its place that looks like an address or a path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

__all__ = ("ProcessorTalk",)

THOUGHT = ("<think>", "</think>")
"""Between them stands the deliberation of models that think before they answer."""

WIDTH = 16
"""Tokens of a question are filled up to a multiple of so many."""


class ProcessorTalk:
    """Makes a model's inputs of images and texts, and texts of its outputs.

    Args:
        model: A transformers image-text-to-text model.
        processor: Its processor; its tokenizer is set to pad where it does no harm.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor
        self.chats = getattr(processor, "chat_template", None) is not None
        # Models that think on request only are not asked to.
        template = str(getattr(processor, "chat_template", None))
        self._may_think = "enable_thinking" in template
        self._thinks = THOUGHT[0] in template
        kind = getattr(model.config, "model_type", "")
        self._blip, self._git = kind == "blip", kind == "git"
        language = getattr(model.config, "text_config", model.config)
        encodes = getattr(language, "is_encoder_decoder", False)
        processor.tokenizer.padding_side = "right" if encodes else "left"
        if getattr(processor, "num_query_tokens", 0) is None:
            # Old BLIP-2 checkpoints do not say it, and questions would fail.
            processor.num_query_tokens = model.config.num_query_tokens

    @property
    def padding(self) -> dict[str, Any]:
        """What is said of padding when it generates; BLIP says it itself."""
        pad = {"pad_token_id": self._processor.tokenizer.pad_token_id}
        return {} if self._blip else pad

    def prompt(self, inputs: Any) -> Any:
        """Return the tokens of prompts that stand before what is said; maybe none."""
        prompt = inputs.get("input_ids")
        # BLIP goes on from before the mark of the end.
        return prompt[:, :-1] if self._blip and prompt is not None else prompt

    def width(self, text: str) -> int:
        """Return how many tokens a text is filled up to, alone."""
        tokens = len(self._processor.tokenizer(text=text).input_ids)
        if self.chats or not self._padded:
            return tokens
        return -(-tokens // WIDTH) * WIDTH

    @property
    def _padded(self) -> bool:
        """Whether questions may be filled up: BLIP and GIT count from the left end."""
        return not (self._blip or self._git)

    def alike(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the places of texts that may share a call."""
        if self._padded or self.chats:
            return [[*range(len(texts))]] if texts else []
        groups: dict[int, list[int]] = {}
        for place, text in enumerate(texts):
            groups.setdefault(self.width(text), []).append(place)
        return list(groups.values())

    def tokens(self, word: str) -> list[int]:
        """Return the tokens that are this one word, in any case and spacing."""
        tokenizer, found = self._processor.tokenizer, set[int]()
        for form in (word, word.capitalize(), word.upper()):
            for text in (form, f" {form}"):
                ids = tokenizer(text=text, add_special_tokens=False).input_ids
                if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
                    found.add(ids[0])
        return sorted(found)

    def said(self, tokens: Any, prompt: Any) -> list[str]:
        """Return what was said after the prompts, on one line each.

        Args:
            tokens: As the model returned them.
            prompt: As from ``prompt``.
        """
        if prompt is not None:
            # Decoders repeat the prompt before their answer; encoder-decoders do not.
            length = prompt.shape[1]
            if tokens[:, :length].tolist() == prompt.tolist():
                tokens = tokens[:, length:]
        decode = self._processor.tokenizer.batch_decode
        if not self.chats:
            said = decode(tokens, skip_special_tokens=True)
            return [" ".join(text.split()) for text in said]
        rows = [self._after_thought(row) for row in tokens]
        said = decode(rows, skip_special_tokens=True)
        # The marks may be special tokens, which are left out above.
        whole = decode(rows)
        began = decode(prompt) if self._thinks and prompt is not None else said
        return [
            _answer_of(
                text,
                everything,
                closed=len(row) < tokens.shape[1],
                opened=self._thinks and _opened(before),
            )
            for text, everything, row, before in zip(
                said, whole, rows, began, strict=True
            )
        ]

    def _after_thought(self, row: Any) -> Any:
        """Return the tokens after the mark that ends a deliberation, or all."""
        tokenizer = self._processor.tokenizer
        find = getattr(tokenizer, "convert_tokens_to_ids", None)
        mark = find(THOUGHT[1]) if find else None
        if mark is None or mark == tokenizer.unk_token_id:
            return row
        places = (row == mark).nonzero()
        return row[int(places[-1]) + 1 :] if len(places) else row

    def inputs(self, images: list[Image], texts: Sequence[str] | None) -> Any:
        """Return what the model takes.

        Args:
            images: RGB.
            texts: One for each image; ``None``: the images alone.
        """
        if not self.chats:
            told: dict[str, Any] = {}
            if texts is not None:
                told = {"text": [*texts], "padding": True}
                told |= {"pad_to_multiple_of": WIDTH} if self._padded else {}
            look = getattr(self._processor, "image_processor", None)
            if getattr(look, "backend", None) == "torchvision":
                # Images are resized where the model is, and not in this thread.
                told["device"] = self._model.device
            inputs = self._processor(images=images, return_tensors="pt", **told)
            return self._taken(inputs)
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
        quick = {"enable_thinking": False} if self._may_think else {}
        return self._processor.apply_chat_template(
            conversations,
            **quick,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            padding=True,
        )

    def _taken(self, inputs: Any) -> Any:
        """Return a processor's inputs without what its model does not take."""
        if "token_type_ids" in inputs and (self._blip or self._git):
            del inputs["token_type_ids"]
        if self._git and "input_ids" in inputs:
            # It goes on after the words, not after the mark of their end.
            for name in ("input_ids", "attention_mask"):
                inputs[name] = inputs[name][:, :-1]
        return inputs


def _opened(prompt: str) -> bool:
    """Return whether a prompt ends within a deliberation."""
    opening, closing = THOUGHT
    return prompt.rfind(opening) > prompt.rfind(closing)


def _answer_of(said: str, whole: str, *, closed: bool, opened: bool) -> str:
    """Return what was said after a deliberation; nothing where that has no end.

    Args:
        said: Without special tokens.
        whole: With them.
        closed: Whether a deliberation before it was left out already.
        opened: Whether it goes on with one that the prompt began.
    """
    opening, closing = THOUGHT
    if not closed and closing not in said and (opened or opening in whole):
        return ""
    return " ".join(said.rpartition(closing)[2].split())
