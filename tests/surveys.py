"""A comparison whose images are plain colours, and people who answer as told."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from PIL import Image

from socratic_agents.lab.survey.design import plan_survey
from socratic_agents.lab.survey.sources import read_arms
from socratic_agents.storage.objects import write_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from socratic_agents.lab.survey.design import Item, Survey, SurveyKey

STEP = 5
"""How much more blue each prompt's images have than those of the one before."""

GREEN = {"ours": 200, "theirs": 60, "third": 120}
"""Arm's name to how green its images are."""


def colour(arm: str, number: int) -> tuple[int, int, int]:
    """Return what an arm draws for a prompt: blue is the prompt, green is the arm."""
    return (90, GREEN[arm], number * STEP)


def compared(folder: Path, *, prompts: int = 8, alike: int = 0) -> Path:
    """Return the folder of a comparison; of the last prompts, all images are alike."""
    lines = []
    for arm, green in GREEN.items():
        for number in range(prompts):
            drawn = "ours" if number >= prompts - alike else arm
            image = Image.new("RGB", (16, 16), colour(drawn, number))
            trial = {
                "arm": arm,
                "index": number,
                "user_prompt": f"prompt {number}",
                "reported": green / 255,
                "selection": {"clip": 1 - green / 255, "checklist": 0.5},
                "image": write_image(folder, image),
            }
            lines.append(json.dumps(trial))
    (folder / "trials.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "comparison.json").write_text('{"metric": "oracle"}', "utf-8")
    return folder


def planned(folder: Path, *, arms: str = "ours,theirs", **options: Any) -> Survey:
    wanted = {"pairs": 8, "seed": 1, "repeats": 0.25, "catch": 0.4, **options}
    return plan_survey(read_arms(folder, arms), **wanted)


def prefer(better: str) -> Callable[[Item, str], int]:
    """Return somebody who always takes this arm's image, and always the right one."""

    def choose(item: Item, _question: str) -> int:
        for wanted in (better, "right"):
            if wanted in item.arms:
                return 1 if item.arms[0] == wanted else -1
        return 0

    return choose


def answered(
    key: SurveyKey,
    choose: Callable[[Item, str], int],
    *,
    rater: int = 1,
    ms: int = 5_000,
    changes: Mapping[str, Any] | None = None,
) -> bytes:
    """Return what the page exports for somebody who chooses so.

    Args:
        key: Of the survey.
        choose: Item and question to 1 for image ``a``, -1 for ``b``, 0 for a tie.
        rater: Number of the person, even ones see ``b`` on the left at first.
        ms: For each pair.
        changes: What the file says instead.
    """
    said = []
    for place, item in enumerate((*key.items, *key.items[: key.repeats])):
        repeat = place >= len(key.items)
        left = "a" if (rater % 2 == 1) != repeat else "b"
        choices = {
            question: {1: "left", -1: "right", 0: "tie"}[
                choose(item, question) * (1 if left == "a" else -1)
            ]
            for question in ("preference", "match", "plausibility")
        }
        said.append(
            {"item": item.id, "left": left, "repeat": repeat, **choices, "ms": ms}
        )
    told = {
        "schema": 1,
        "study": key.study,
        "rater": f"{rater:032x}",
        "total": key.total,
        "answers": said,
        **(changes or {}),
    }
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({**told, "checksum": checksum}).encode()
