"""Fields: every setting once, with its help, its default, and what it decides.

Options, keys of cached calls, provenance, resuming, cost models and the page of all
settings are derived from here. Nothing heavy is imported, so that help is quick.
"""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from socratic_agents.config.call_fields import CALL_FIELDS
from socratic_agents.config.catalog import LANGUAGE_MODEL
from socratic_agents.config.field import Decides, Field, Group, Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ("CHOICE", "FIELDS", "deciding", "defaults_of")

IMAGE, _, CAPTION, SCORE, ANSWER, COST, PLACE, SEARCH, PRIVACY = Decides
GENERATOR, CAPTIONER, SCORER, LLM = Part

_search = partial(Field, group=Group.SEARCH, decides=SEARCH)
_budget = partial(Field, group=Group.BUDGET, decides=SEARCH, metavar="LIMITS")
_model = partial(Field, group=Group.MODELS, default="pocket")
_template = partial(Field, group=Group.TEMPLATES, decides=SEARCH, default="default")

_ALL: tuple[Field, ...] = (
    _model(
        "profile",
        "Where other settings start from: pocket (embedded models, offline), local "
        "(models of today on the card that is here: local-8gb, local-16gb, local-24gb "
        "or local-80gb), api (models over the network), predecessor (its models and "
        "its loop), or classic (its loop with the embedded models).",
        decides=SEARCH,
    ),
    _model(
        "generator",
        "Text to image: pocket, a hub id, a folder, a file of weights (safetensors or "
        "GGUF), openai:MODEL, or http(s)://…/v1 of an images server; in Python also an "
        "object.",
        decides=IMAGE | COST | PRIVACY,
        of=GENERATOR,
    ),
    _model(
        "captioner",
        "Image to text: pocket, a hub id, a folder, or llm (the language model, which "
        "must take images); in Python also an object.",
        decides=CAPTION | COST,
        of=CAPTIONER,
    ),
    _model(
        "scorer",
        "Image and text to score: pocket, an open_clip model/tag, hf-hub:ORG/REPO, "
        "a folder, captioner (how surely it says yes to the whole prompt), or none "
        "(only the checklist scores); in Python also an object.",
        decides=SCORE | COST,
        of=SCORER,
    ),
    _model(
        "llm",
        f"Language model: pocket, provider:model such as {LANGUAGE_MODEL}, or captioner "
        "(the one that is within the captioner); in Python also a LangChain chat model.",
        decides=ANSWER | COST | PRIVACY,
        of=LLM,
    ),
    Field(
        "allow_pocket",
        "Let pocket models judge what another generator draws, which they cannot: for "
        "tests and experiments.",
        group=Group.MODELS,
        decides=PLACE,
        default=False,
    ),
    Field(
        "final_generator",
        "Draws the best prompt again at the end, such as a large model after a search "
        "with a quick one: named like the generator. Its image is returned only if it "
        "passes all that the draft passes.",
        group=Group.MODELS,
        decides=SEARCH | PRIVACY,
        unset="nobody; the best draft is returned",
    ),
    _search(
        "preset",
        "The policy: quick (6 images at most), default (12), thorough (24), or "
        "classic (the predecessor's loop, one image a round).",
        default="default",
    ),
    _search(
        "judge",
        "When to stop, and what is missing: confirmed (all questions pass, and the "
        "caption agrees), checklist (all questions pass), caption, vision, score:0.8 (satisfied from that score on), or never; in "
        "Python also an async callable.",
        default="confirmed",
    ),
    _search(
        "selector",
        "What to return: checklist (most questions passed), clip, caption, vision, "
        "first, or last; in Python also an async callable.",
        default="checklist",
    ),
    _search(
        "optimizer",
        "Who writes new prompts: llm; in Python also an async callable.",
        default="llm",
    ),
    _search(
        "guard",
        "Who checks new prompts against the checklist before they are drawn: llm, "
        "or none (all are drawn); in Python also an async callable.",
        default="llm",
    ),
    _search(
        "answerer",
        "Who looks at the image to answer the checklist: captioner, or llm (a "
        "language model that sees).",
        default="captioner",
    ),
    _search(
        "rounds",
        "Rounds at most; the first draws the user prompt. Said alone, it takes the "
        "place of the preset's number of images.",
        metavar="N",
        unset="as many as the images allow",
    ),
    _search(
        "prompts_per_round",
        "Prompts in each round after the first: rewrites, and the best wording again "
        "where fewer come.",
        default=4,
        metavar="N",
    ),
    _search(
        "guidance_grid",
        "Strengths of the prompt of which the optimizer chooses one for each prompt that "
        "it writes, such as 3,5,7.5; for diffusers pipelines.",
        metavar="X,X",
        unset="it chooses none",
        of=GENERATOR,
    ),
    _search(
        "seeds_per_prompt",
        "Images of each prompt, each from noise of its own.",
        default=1,
        metavar="N",
    ),
    _search(
        "final_images",
        "Images that the final generator draws of the best prompt, within max_images "
        "and the budget.",
        default=1,
        metavar="N",
    ),
    _search(
        "search",
        "What is tried next: default (each rewrite on fresh noise, until the images "
        "are spent), paired (rewrites under the best image's noise) or classic (under "
        "fresh noise); in Python also an object.",
        unset="the preset's",
    ),
    _search("fresh_noise", "Search as classic does.", default=False),
    _search(
        "speculate",
        "Write the next prompts while a judge that is a language model still "
        "thinks: sooner, but without its verdict on the last round.",
        default=False,
    ),
    _budget(
        "max_images",
        "Images of one refinement at most.",
        metavar="N",
        unset="rounds or a budget decide",
    ),
    _budget(
        "budget",
        "What one refinement may spend before it ends with the best so far, such as "
        "images=12,llm-calls=20; also tokens, money, and seconds.",
        unset="no limit",
    ),
    _budget(
        "run_budget",
        "The same, of everything that one command or refiner does.",
        unset="no limit",
    ),
    _budget(
        "prices",
        "What things cost, in a currency of your own: image=0.04 for one, "
        "input-tokens=2,output-tokens=8 for a million.",
        metavar="PRICES",
        unset="money is not counted",
    ),
    _budget(
        "receipt",
        "Draw as many images of the user prompt alone (best-of-N), and report "
        "whether the rewrites were worth it.",
        default=False,
    ),
    *CALL_FIELDS,
    *(
        _template(f"{role}_template", f"Of the {role}: a name, or a YAML file.")
        for role in ("optimizer", "checklist", "answerer", "guard")
    ),
    *(
        _template(
            f"{role}_template",
            f"Of the {role}: a name, or a YAML file.",
            default=None,
            unset=f"the {role}'s own",
        )
        for role in ("judge", "selector")
    ),
    Field(
        "metadata",
        "Write into each image what it was made from.",
        group=Group.OUTPUT,
        decides=PRIVACY,
        default=True,
    ),
)

FIELDS: Mapping[str, Field] = MappingProxyType({field.name: field for field in _ALL})
"""Every setting by its name, in the order of help and docs."""


CHOICE = (
    *("profile", "preset", "generator", "final_generator", "captioner", "scorer"),
    *("llm", "judge", "selector"),
)
"""Settings that say what runs, to be shown."""


def deciding(what: Decides, of: Part | None = None) -> tuple[str, ...]:
    """Return the names of settings that decide something, beside the model itself.

    Args:
        what: Any of it.
        of: Whose calls they must be about.
    """
    return tuple(
        name
        for name, field in FIELDS.items()
        if field.decides & what
        and field.group is not Group.MODELS
        and (of is None or field.of & of)
    )


def defaults_of(names: Iterable[str]) -> dict[str, Any]:
    """Return the defaults of some settings, by name."""
    return {name: FIELDS[name].default for name in names}
