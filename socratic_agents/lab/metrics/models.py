"""The models of the metrics: each is opened once, however many metrics use it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socratic_agents.config.catalog import REVISIONS
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.runtime.batching import QUESTIONS, batched_call, stage_options
from socratic_agents.runtime.captioners import open_captioner
from socratic_agents.runtime.generators import POCKET, model_source
from socratic_agents.runtime.image_models import ANSWER_YES_NO, as_candidate_errors
from socratic_agents.scheduler.worker import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from PIL.Image import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.core.checklist import Answer
    from socratic_agents.lab.metrics.clip_encoder import BatchedClip, ClipEncoder
    from socratic_agents.scheduler.worker import Worker

__all__ = ("MetricModels", "VqaModel")


@dataclass(frozen=True, kw_only=True)
class VqaModel:
    """Who answers questions about images by yes or no."""

    decide: Callable[[Image, str], Awaitable[Answer]]
    record: Mapping[str, Any]
    """Which model it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MetricModels:
    """Opens the models that metrics ask for; blocks, in the worker's thread."""

    settings: Settings
    """Say where models run, and who is the captioner."""
    worker: Worker
    decide: Callable[[Image, str], Awaitable[Answer]] | None = None
    """The captioner's answers, where it is open already; ``None`` opens it anew."""
    references: Path | None = None
    """Folder of the reference images, by the last part of their address; ``None``:
    they are where the row says."""
    load_clip: Callable[..., ClipEncoder] | None = None
    """``None``: ``ClipEncoder.load``."""
    _clips: dict[str, BatchedClip] = field(default_factory=dict, init=False)
    _lookers: list[VqaModel] = field(default_factory=list, init=False)

    def clip(self, name: str) -> BatchedClip:
        """Return the CLIP model of this name.

        Args:
            name: As for ``Clip.load``, or ``pocket``.

        Raises:
            ConfigurationError: If it cannot be opened.
        """
        from socratic_agents.lab.metrics.clip_encoder import BatchedClip, ClipEncoder

        if name not in self._clips:
            load = self.load_clip or ClipEncoder.load
            settings = self.settings.but(scorer=name)
            # Metrics differ in their prefix, so each sets its own before the text.
            encoder = load(
                model_source(name, "scorer"),
                device=settings.device,
                dtype=settings.dtype,
                prefix="",
            )
            # The folder of our own weights has a name that says nothing.
            known = {} if name != POCKET else {"model": POCKET}
            own = {n: encoder.record[n] for n in ("model", "pretrained")} | known
            stages: list[Stage[Any, Any]] = [
                Stage(
                    run=run,
                    **stage_options("scorer", settings, self.worker, stage=stage),
                    priority=1,
                )
                for stage, run in (
                    (f"{name} images", encoder.embed_images),
                    (f"{name} texts", encoder.embed_texts),
                )
            ]
            self._clips[name] = BatchedClip(
                worker=self.worker, images=stages[0], texts=stages[1], record=own
            )
        return self._clips[name]

    def vqa_model(self) -> VqaModel:
        """Return the settings' captioner, as far as it answers by yes or no.

        Raises:
            ConfigurationError: If it cannot be opened, or only captions.
        """
        if not self._lookers:
            given = self.settings.captioner
            called = str(self.settings.public()["captioner"])
            decide = self.decide or self._decide(called)
            record = {"captioner": called, **_weights(given)}
            self._lookers.append(VqaModel(decide=decide, record=record))
        return self._lookers[0]

    def _decide(self, called: str) -> Any:
        captioner = open_captioner(self.settings)
        run = getattr(captioner, "decide", None)
        if run is None:
            message = (
                "expected a captioner that answers by yes or no, with 'decide', got "
                f"{called!r}; give one, or leave out p_yes, dsg and checklist"
            )
            raise ConfigurationError(message)
        decide = batched_call(
            ANSWER_YES_NO,
            run,
            self.settings,
            self.worker,
            name="metric looks",
            max_batch=QUESTIONS,
        )
        return as_candidate_errors(ANSWER_YES_NO, decide)


def _weights(given: Any) -> dict[str, Any]:
    """Return what distinguishes a captioner's weights from others, as far as one can know."""
    if not isinstance(given, str):
        return {}
    folder = Path(model_source(given, "captioner")).expanduser()
    if not folder.is_dir():
        return {"revision": REVISIONS.get(given, "main")}
    digest = hashlib.sha256()
    for file in (folder / "config.json", *sorted(folder.glob("*.safetensors"))):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return {"revision": f"sha256:{digest.hexdigest()}"}
