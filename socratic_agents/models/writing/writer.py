"""The writer: goes on with conversations, a batch at a time, by a captioner's weights."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch

from socratic_agents.config.catalog import QWEN3_VL_4B
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.models.eyes.placement import Placement
from socratic_agents.models.loading import quiet
from socratic_agents.models.writing.conversation import Conversations
from socratic_agents.models.writing.grammar import Grammars
from socratic_agents.models.writing.requests import Written
from socratic_agents.models.writing.sampling import Row, RowSampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.models.writing.requests import WriteRequest

__all__ = ("Writer",)

LEAST_ROOM = 16
"""Tokens of the context that must be left for an answer."""


class Writer:
    """Writes with the language model that is within an image-text-to-text model.

    Models with a chat template are asked through it, with and without images. BLIP-2
    and InstructBLIP, which have none, go on with a transcript.

    Args:
        model: A transformers image-text-to-text model, on its device.
        processor: Its processor; its tokenizer pads on the left.
        placement: Where it computes and rests; ``None``: where it is.

    Raises:
        ConfigurationError: If it cannot be held to a JSON schema, or is no language
            model beside what it was trained for.
    """

    def __init__(
        self, model: Any, processor: Any, *, placement: Placement | None = None
    ) -> None:
        self._placement = placement or Placement(model)
        self._model, self._tokenizer = model, processor.tokenizer
        chats = getattr(processor, "chat_template", None) is not None
        # Where there is no image it is asked by itself, since the whole wants one.
        self._alone = None if chats else getattr(model, "language_model", None)
        kind = type(model).__name__
        if not chats and self._alone is None:
            message = (
                f"expected a captioner that can write for llm 'captioner', got {kind}, "
                "which has no chat template and no language model of its own; choose "
                f"another captioner, such as {QWEN3_VL_4B}, or another llm"
            )
            raise ConfigurationError(message)
        self._conversations = Conversations(processor, chats=chats)
        self._ends = _ends(model, self._tokenizer)
        self._grammars = Grammars(self._tokenizer, ends=sorted(self._ends), who=kind)
        self.context = _context(model.config)
        """Tokens that a request and its answer may have together, where it is known."""

    def write(self, requests: Sequence[WriteRequest]) -> list[Written]:
        """Go on with conversations, in order.

        Args:
            requests: What is asked; each shows as many images as the others.

        Raises:
            ValueError: If one cannot be answered: its schema is none, an image of it
                cannot be read, or it is longer than the context.
        """
        if not requests:
            return []
        with quiet(self._placement.notices), self._placement.at_work():
            inputs = self._conversations.inputs([one.turns for one in requests])
            lengths = inputs["attention_mask"].sum(-1).tolist()
            pairs = zip(requests, lengths, strict=True)
            rows = [self._row(request, length) for request, length in pairs]
            self._generate(inputs, rows, seen=requests[0].images > 0)
        return [
            Written(
                text=_until(self._read(row.tokens), row.stop),
                finish=row.finish or "length",
                input_tokens=length,
                output_tokens=len(row.tokens),
            )
            for row, length in zip(rows, lengths, strict=True)
        ]

    def _row(self, request: WriteRequest, length: int) -> Row:
        """Return the empty answer to a request.

        Args:
            request: What is asked.
            length: Tokens of what is asked.
        """
        limit, own = request.max_tokens, self._model.generation_config
        if self.context is not None:
            room = self.context - length
            if room < LEAST_ROOM:
                message = (
                    f"the captioner's context length is {self.context} tokens, and the "
                    f"request has {length}"
                )
                raise ValueError(message)
            limit = min(limit, room)
        temperature = request.temperature
        if temperature is None:
            temperature = (own.temperature or 1.0) if own.do_sample else 0.0
        schema = request.schema
        return Row(
            limit=limit,
            temperature=temperature,
            # Of models whose authors advise against chance they say nothing.
            top_k=(own.top_k or None) if own.do_sample else None,
            top_p=own.top_p if own.do_sample else None,
            seed=_seed(request),
            grammar=None if schema is None else self._grammars.begin(schema),
            stop=request.stop,
        )

    def _generate(self, inputs: Any, rows: list[Row], *, seen: bool) -> None:
        """Write the answers of one batch."""
        model = self._model if seen or self._alone is None else self._alone
        inputs = inputs.to(self._placement.device)
        for name, value in inputs.items():
            if value.is_floating_point():
                inputs[name] = value.to(self._model.dtype)
        sampler = RowSampler(rows, ends=self._ends, read=self._read)
        output = model.generate(
            **inputs,
            do_sample=False,
            num_beams=1,
            max_new_tokens=max(row.limit for row in rows),
            logits_processor=[sampler.choose],
            stopping_criteria=[sampler.done],
            pad_token_id=self._tokenizer.pad_token_id,
        )
        prompts, width = inputs["input_ids"], inputs["input_ids"].shape[1]
        # Decoders repeat the prompt before their answer; encoder-decoders do not.
        start = width if torch.equal(output[:, :width], prompts) else 0
        for row, tokens in zip(rows, output[:, start:].tolist(), strict=True):
            if row.finish is None:  # a model of one's own, which asks no sampler
                row.take(tokens, self._ends)

    def _read(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end an answer."""
    own = model.generation_config.eos_token_id
    found = own if isinstance(own, list) else [own]
    return frozenset(one for one in (*found, tokenizer.eos_token_id) if one is not None)


def _context(config: Any) -> int | None:
    language = config.get_text_config(decoder=True)
    context = getattr(language, "max_position_embeddings", None)
    return context if isinstance(context, int) else None


def _seed(request: WriteRequest) -> int:
    """Return a seed of what is asked: two questions have nothing in common by chance."""
    digest = hashlib.sha256(repr((request.seed, request.turns)).encode())
    return int.from_bytes(digest.digest()[:7])


def _until(text: str, stop: Sequence[str]) -> str:
    """Return a text up to what ends it."""
    return text[: min((text.find(one) for one in stop if one in text), default=None)]
