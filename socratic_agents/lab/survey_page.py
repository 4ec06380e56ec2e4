"""The page of a survey: one HTML file that works offline and tells no arm's name."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from importlib import resources
from typing import TYPE_CHECKING

from socratic_agents.errors import ConfigurationError
from socratic_agents.lab.survey import QUESTIONS
from socratic_agents.pictures import read_picture
from socratic_agents.report import data_uri, page_template

if TYPE_CHECKING:
    from socratic_agents.lab.survey import Survey

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
    style, script = _piece("survey.css"), _piece("survey.js")
    return page_template("survey.html.j2").render(
        # A script element ends at the first "</script", wherever that stands.
        told=json.dumps(told).replace("<", "\\u003c"),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
    )


def _piece(name: str) -> str:
    return (resources.files("socratic_agents") / "templates" / name).read_text("utf-8")


def _hash(text: str) -> str:
    """Return how a content security policy names the one text that it lets in."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _encoded(data: bytes, path: str) -> str:
    """Return a small image without loss, and a large one as a smaller picture.

    Raises:
        ConfigurationError: If it is no PNG image.
    """
    buffer, shown = io.BytesIO(), read_picture(data)
    if shown is None:
        message = f"expected {path} to be a PNG image, got something else; restore it"
        raise ConfigurationError(message)
    small = max(shown.size) <= LARGEST // 2
    shown.thumbnail((LARGEST, LARGEST))
    shown.save(buffer, *(("PNG",) if small else ("WEBP",)), quality=85)
    return data_uri(buffer.getvalue(), kind="png" if small else "webp")
