"""The page of a survey: one HTML file that works offline and names no arm."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.survey.design import QUESTIONS
from socratic_agents.report.html import (
    data_uri,
    embedded_json,
    page_asset,
    page_template,
    policy_hash,
)
from socratic_agents.storage.safe_png import decode_png

if TYPE_CHECKING:
    from socratic_agents.lab.survey.design import Survey

__all__ = ("survey_html",)

LARGEST = 512
"""Pixels of a side; a larger image is shown smaller, so that 100 pairs stay handy."""


def survey_html(survey: Survey) -> str:
    """Return the whole page, its images inside.

    Nothing in it says which arm an image is of: the images are encoded anew, without
    what their files tell, and stand in the order of their content's hash.

    Raises:
        ConfigurationError: If an image is not there as it was written.
    """
    paths = sorted(survey.images)
    places = {path: place for place, path in enumerate(paths)}
    told = {
        "study": survey.key.study,
        "repeats": survey.key.repeats,
        "questions": QUESTIONS,
        "items": [
            [item.id, item.prompt, *(places[path] for path in item.images)]
            for item in survey.key.items
        ],
        "images": [_encoded(survey.images[path].read(), path) for path in paths],
    }
    style, script = page_asset("survey.css"), page_asset("survey.js")
    return page_template("survey.html.j2").render(
        told=embedded_json(told),
        style=style,
        style_hash=policy_hash(style),
        script=script,
        script_hash=policy_hash(script),
    )


def _encoded(data: bytes, path: str) -> str:
    """Return a small image without loss, and a large one as a smaller picture.

    Raises:
        ConfigurationError: If it is no PNG image.
    """
    buffer, shown = io.BytesIO(), decode_png(data)
    if shown is None:
        message = f"expected {path} to be a PNG image, got something else; restore it"
        raise ConfigurationError(message)
    small = max(shown.size) <= LARGEST // 2
    shown.thumbnail((LARGEST, LARGEST))
    shown.save(buffer, *(("PNG",) if small else ("WEBP",)), quality=85)
    return data_uri(buffer.getvalue(), kind="png" if small else "webp")
