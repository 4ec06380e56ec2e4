"""How a captioner's processor is spoken to, and how its model's words are read.

Everything goes in by name: the first argument of most processors is images, and they
open a text in its place that looks like an address or a path.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.models.eyes.deliberation import Deliberation
from socratic_agents.models.eyes.families import family_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image

__all__ = ("ProcessorTalk", "Thought", "marks_of")

Thought: TypeAlias = Literal["free", "ended", "none"]
"""What becomes of a chat model's deliberation: as its template and the model will; ended
where the template began one; or ended before the model could begin one."""

TAIL = 32
"""Tokens at the end of a prompt within which its template opens a deliberation."""

NOWHERE = "(?!)"
"""A pattern that no text has."""

WIDTH = 16
"""Tokens of a question are filled up to a multiple of so many."""

_OURS = frozenset({"return_tensors", "images_kwargs", "text_kwargs", "videos_kwargs"})
_OURS |= {"audio_kwargs", "device", "messages", "add_generation_prompt"}
"""Options of processors and templates that are set here, or are no values."""

BY_TOKEN = (
    *("attention_mask", "token_type_ids", "mm_token_type_ids"),
    *("cross_attention_mask", "image_attention_mask"),
)
"""Inputs that have an entry for each token of the prompt."""


class ProcessorTalk:
    """Makes a model's inputs of images and texts, and texts of its outputs.

    Args:
        model: A transformers image-text-to-text model.
        processor: Its processor; its tokenizer is set to pad where it does no harm.
        options: What its chat template or its processor is told besides, by name.
    """

    def __init__(
        self, model: Any, processor: Any, options: Mapping[str, Any] | None = None
    ) -> None:
        self._model, self._processor = model, processor
        self.chats = getattr(processor, "chat_template", None) is not None
        self.family = family_of(model.config)
        template = str(getattr(processor, "chat_template", None))
        self.deliberation = Deliberation(
            processor.tokenizer, template if self.chats else ""
        )
        names = set(re.findall(r"\w+", template)) if self.chats else set()
        told = dict(options or {})
        _check_options(processor, told, names)
        # Models that think on request only are not asked to.
        quick = {"enable_thinking": False} if "enable_thinking" in names else {}
        self._to_template = quick | {n: told[n] for n in told if n in names}
        self._to_processor = {
            n: told[n] for n in told if n not in names and n != "enable_thinking"
        }
        self.deliberates = bool(told.get("enable_thinking"))
        kind = getattr(model.config, "model_type", "")
        self._blip, self._git = kind == "blip", kind == "git"
        self._marks = marks_of(processor.tokenizer)
        language = getattr(model.config, "text_config", model.config)
        encodes = getattr(language, "is_encoder_decoder", False)
        processor.tokenizer.padding_side = "right" if encodes else "left"
        if getattr(processor.tokenizer, "pad_token", "") is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        if getattr(processor, "num_query_tokens", 0) is None:
            # Old BLIP-2 checkpoints do not say it, and questions would fail.
            processor.num_query_tokens = model.config.num_query_tokens

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end what is said."""
        own = getattr(self._model, "generation_config", None)
        ends = getattr(own, "eos_token_id", None)
        several = ends if isinstance(ends, list) else [ends]
        known = {*several, getattr(self._processor.tokenizer, "eos_token_id", None)}
        return frozenset(known - {None})

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
        if self.chats or not self.family.padded:
            return tokens
        return -(-tokens // WIDTH) * WIDTH

    def alike(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the places of texts that may share a call."""
        if self.family.padded or self.chats:
            return [[*range(len(texts))]] if texts else []
        groups: dict[int, list[int]] = {}
        for place, text in enumerate(texts):
            groups.setdefault(self.width(text), []).append(place)
        return list(groups.values())

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
        thinking = self.deliberation
        rows = [thinking.after(row) for row in tokens]
        said = decode(rows, skip_special_tokens=True)
        # The marks may be special tokens, which are left out above.
        whole = decode(rows)
        shown = thinking.templated and prompt is not None
        began = decode(prompt) if shown else [""] * len(rows)
        return [
            thinking.answer_of(
                text,
                everything,
                closed=len(row) < tokens.shape[1],
                opened=thinking.opened(before),
            )
            for text, everything, row, before in zip(
                said, whole, rows, began, strict=True
            )
        ]

    def inputs(
        self,
        images: list[Image],
        texts: Sequence[str] | None,
        *,
        thought: Thought = "free",
    ) -> Any:
        """Return what the model takes.

        Args:
            images: RGB.
            texts: One for each image; ``None``: the images alone.
            thought: What becomes of its deliberation.
        """
        if not self.chats:
            told = dict(self._to_processor)
            if texts is not None:
                told |= {"text": [*map(self._placed, texts)], "padding": True}
                told |= {"pad_to_multiple_of": WIDTH} if self.family.padded else {}
            look = getattr(self._processor, "image_processor", None)
            if getattr(look, "backend", None) == "torchvision":
                # Images are resized where the model is, and not in this thread.
                told["device"] = self._model.device
            given = [[image] for image in images] if self.family.nested else images
            inputs = self._processor(images=given, return_tensors="pt", **told)
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
        inputs = self._processor.apply_chat_template(
            conversations,
            **self._to_template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, **self._to_processor},
        )
        return inputs if thought == "free" else self._thoughtless(inputs, thought)

    def _thoughtless(self, inputs: Any, thought: Thought) -> Any:
        """Return inputs whose deliberation is over: the next word is the answer's."""
        import torch

        tokens, tokenizer = inputs["input_ids"], self._processor.tokenizer
        [before] = tokenizer.batch_decode(tokens[:1, -TAIL:])
        opened = self.deliberation.opened(before)
        if not callable(tokenizer) or (not opened and thought != "none"):
            return inputs  # one that only decodes thinks on, and that is cut off later
        text = self.deliberation.ending(opened=opened)
        more = tokenizer(text=text, add_special_tokens=False).input_ids
        for name in BY_TOKEN:
            if name in inputs:
                last = inputs[name][:, -1:]
                repeated = last.repeat(1, len(more), *[1] * (last.ndim - 2))
                inputs[name] = torch.cat([inputs[name], repeated], 1)
        added = tokens.new_tensor([more]).expand(len(tokens), -1)
        inputs["input_ids"] = torch.cat([tokens, added], 1)
        return inputs

    def _placed(self, text: str) -> str:
        """Return a text that says where its image stands, if its processor wants that."""
        mark = getattr(self._processor, "image_token", "") if self.family.marks else ""
        return f"{mark}{text}"

    def plain(self, text: str) -> str:
        """Return a text without marks that would be taken for an image or a turn."""
        return self._marks.sub(" ", text)

    def _taken(self, inputs: Any) -> Any:
        """Return a processor's inputs without what its model does not take."""
        if "token_type_ids" in inputs and (self._blip or self._git):
            del inputs["token_type_ids"]
        if self._git and "input_ids" in inputs:
            # It goes on after the words, not after the mark of their end.
            for name in ("input_ids", "attention_mask"):
                inputs[name] = inputs[name][:, :-1]
        return inputs


def _check_options(processor: Any, options: Mapping[str, Any], names: set[str]) -> None:
    """Refuse options that nobody would look at: processors pass over them in silence.

    Args:
        processor: Of a captioner.
        options: By name.
        names: Of the variables of its chat template.
    """
    lookers = (getattr(processor, "image_processor", None), processor)
    kinds = zip(lookers, ("valid_kwargs", "valid_processor_kwargs"), strict=True)
    taken = {
        name
        for looker, kind in kinds
        for name in getattr(getattr(looker, kind, None), "__annotations__", ())
    }
    # Not to think is what everybody does who cannot.
    idle = {"enable_thinking"} if not options.get("enable_thinking") else set()
    for name in options:
        if name not in taken | names | idle or name in _OURS:
            known = ", ".join(sorted(taken - _OURS)) or "none"
            message = (
                f"expected options that the captioner's chat template or its processor "
                f"takes ({known}), got {name!r}; leave it out"
            )
            raise ConfigurationError(message)


def marks_of(tokenizer: Any) -> re.Pattern[str]:
    """Return what finds the special tokens of a tokenizer in a text.

    Args:
        tokenizer: Of transformers.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    marks = {str(token) for token in added if getattr(token, "special", True)}
    longest_first = sorted(marks, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or NOWHERE)
