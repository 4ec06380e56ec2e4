"""Guidance as part of a proposal: chosen from a grid, drawn, kept, and told."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from socratic_agents.agents.answer_checks import held_to_its_role
from socratic_agents.agents.attempts import attempt
from socratic_agents.agents.guided_rewrites import guided_rewrites
from socratic_agents.agents.optimizer import optimizer
from socratic_agents.agents.search.default import DefaultSearch, best_wording
from socratic_agents.agents.search.rounds import best_prompt
from socratic_agents.config.backends import Backend
from socratic_agents.config.final import final_settings
from socratic_agents.config.guidance import parse_grid
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import (
    CandidateError,
    ConfigurationError,
    TemplateError,
)
from socratic_agents.core.history import Candidate, History
from socratic_agents.core.search import Draw, Proposal, proposed, seed_bank
from socratic_agents.lab.compare.arms import ARMS
from socratic_agents.lab.compare.run import compare
from socratic_agents.llm.schemas import largest_answer, schema_of
from socratic_agents.llm.template_files import find_template
from socratic_agents.models.pipelines import guided_call
from socratic_agents.runtime.batching import chosen_guidance, guided
from socratic_agents.runtime.generators import GENERATORS, OpenedGenerator
from socratic_agents.runtime.open_models import open_image_models
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.scheduler.worker import Worker
from socratic_agents.storage.provenance import read_provenance
from socratic_agents.storage.run_directory import RunDirectory
from tests.fakes import ScriptedChatModel, drawn, history

if TYPE_CHECKING:
    from pathlib import Path

    from socratic_agents.core.loop import Agents

GRID = (3.0, 5.0, 7.5)
DEFAULT = find_template("optimizer", "default")
TURBO = "Tongyi-MAI/Z-Image-Turbo"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("3,5,7.5", "3,5,7.5"),
        (5, "5"),
        ("7.1234567", "7.1234567"),
        ([7.5, 3, 3], "3,7.5"),
        ("none", None),
    ],
)
def test_a_grid_is_read(given: object, read: str | None) -> None:
    """As text, a number or a list; each strength once, in ascending order."""
    assert read == Settings(guidance_grid=given).guidance_grid


@pytest.mark.parametrize(
    "given", ["3;5", "-1", "inf", "nan", ",", [], [None], "3,,5", range(17)]
)
def test_no_grid_is_refused(given: object) -> None:
    """With an example of one."""
    with pytest.raises(ConfigurationError, match=r"such as 3,5,7\.5"):
        Settings(guidance_grid=given)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"generator": TURBO, "allow_pocket": True}, "Z-Image-Turbo, which is distill"),
        ({"batching": "step"}, "batching 'step'"),
        ({"workers": "process"}, "workers 'process'"),
    ],
)
def test_who_cannot_choose_guidance_refuses_a_grid(
    settings: dict[str, Any], what: str
) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigurationError, match=f"no guidance_grid for {what}"):
        Settings(guidance_grid="3,5", **settings)


@pytest.mark.parametrize(
    "generator", ["http://127.0.0.1:1/v1", lambda _prompt, _seed: None, "plain:x"]
)
async def test_generators_without_guidance_refuse_a_grid(
    generator: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers, callables and other back ends, when they are opened."""

    async def draw(prompt: str, seed: int) -> Image.Image:
        raise NotImplementedError(prompt, seed)

    plain = Backend(
        name="plain", title="Plain.", open=lambda *_: OpenedGenerator(generate=draw)
    )
    monkeypatch.setitem(GENERATORS._own, "plain", plain)
    settings = Settings(generator=generator, allow_pocket=True, guidance_grid="3,5")
    async with Worker() as worker:
        with pytest.raises(ConfigurationError, match="guidance_grid"):
            await worker.call(lambda: open_image_models(settings, worker))


def test_the_final_generator_keeps_its_own() -> None:
    """The grid is for drafts."""
    final = final_settings(Settings(guidance_grid="3,5", final_generator="pocket"))
    assert final is not None
    assert final.guidance_grid is None


async def test_the_optimizer_names_a_guidance_for_each_prompt() -> None:
    """One of the grid; what is outside of it, or left out, is none."""
    said: list[Any] = [
        {"prompt": "a red ball", "guidance": 5},
        {"prompt": "a round red thing", "guidance": "7.5"},
        {"prompt": "a ball in red", "guidance": 6},
        {"prompt": "one red ball", "guidance": None},
        {"prompt": "a reddish ball"},
        "a crimson sphere",
    ]
    llm = ScriptedChatModel(script=[{"prompts": said}])
    past = history("a crimson ball", drawn("a crimson ball", guidance=7.5, score=0.5))
    write = optimizer(llm, DEFAULT, prompts=6, guidance_grid=GRID)
    prompts = await held_to_its_role("optimizer", write)(past)

    assert prompts == tuple(
        one if isinstance(one, str) else one["prompt"] for one in said
    )
    chosen = [Draw(prompt, 0).guidance for prompt in prompts]
    assert [5.0, 7.5, None, None, None, None] == chosen
    assert "one of 3, 5, 7.5:" in llm._asked[-1][0].text
    assert llm.last_question.count("<guidance>7.5</guidance>") == 2


async def test_nothing_is_said_of_guidance_without_a_grid() -> None:
    """Neither in the words nor in the answer's schema."""
    llm = ScriptedChatModel(script=[{"prompts": ["a red ball"]}])
    (prompt,) = await optimizer(llm, DEFAULT)(history("a ball", drawn("a ball")))
    assert type(prompt) is str
    assert not any("guidance" in one.text for one in llm._asked[-1])
    assert "" == attempt(drawn("a ball"))["guidance"]


async def test_a_wrong_answer_is_none() -> None:
    """Prompts that are no list are shown to the model as its mistake."""
    good = {"prompts": [{"prompt": "a red ball", "guidance": 3}]}
    llm = ScriptedChatModel(script=[{"prompts": "a red ball"}, good])
    write = optimizer(llm, DEFAULT, guidance_grid=GRID)
    assert ("a red ball",) == await write(history("a ball", drawn("a ball")))


def test_the_schema_lists_the_grid() -> None:
    """So servers that hold answers to it allow nothing else, and its size has an end."""
    schema = schema_of(guided_rewrites(GRID), {"prompts": 4})
    (rewrite,) = schema["$defs"].values()
    assert {"type": "number", "enum": [3, 5, 7.5]}.items() <= (
        rewrite["properties"]["guidance"].items()
    )
    assert ["prompt", "guidance"] == rewrite["required"]
    assert 2000 < largest_answer(schema) < 3000
    assert 3.0 == guided_rewrites(GRID).EXAMPLE["prompts"][0]["guidance"]


def test_a_template_must_show_the_grid() -> None:
    """Else the model would never know of it."""
    template = find_template("optimizer", "classic")
    with pytest.raises(TemplateError, match=r"shows guidance_grid .*'classic'"):
        optimizer(ScriptedChatModel(script=[]), template, guidance_grid=GRID)


def test_a_proposal_is_a_text() -> None:
    """For everybody who does not ask, also in another process."""
    proposal = pickle.loads(pickle.dumps(Proposal("a ball", 3.0)))  # noqa: S301 - our own bytes
    assert proposal == "a ball"
    assert 3.0 == proposal.guidance
    assert (5.0, "a ball") == (
        Draw(proposal, 1, 5.0).guidance,
        Draw(proposal, 1).prompt,
    )
    assert type(Draw(proposal, 1).prompt) is str
    assert type(Proposal.like("a ball", "a cube")) is str
    assert type(proposed(drawn("a ball"))) is str


def test_a_candidate_says_its_guidance_only_where_it_was_chosen() -> None:
    """So records without it are read and written as ever."""
    plain, strong = drawn("a ball"), drawn("a ball", guidance=7.5)
    assert "guidance" not in plain.to_json()
    for one in (plain, strong):
        assert one == Candidate.from_json(one.to_json())


def test_a_wording_is_drawn_again_with_its_guidance() -> None:
    """On other noise, and where it is framed in other words."""
    past = history(
        "a ball",
        [drawn("a ball", score=0.1), drawn("a red ball", guidance=5.0, score=0.9)],
    )
    for found in (best_prompt(past), best_wording(past)):
        assert ("a red ball", 5.0) == (found, Draw(found, 0).guidance)
    bank = seed_bank(0)
    for distilled in (False, True):
        search = DefaultSearch(
            seeds=lambda: bank, distilled=distilled, prompts_per_round=2
        )
        draws = search.draws(past, (), bank)
        assert [5.0, 5.0] == [draw.guidance for draw in draws]
        assert distilled is (draws[0].prompt != "a red ball")


async def test_guidance_needs_somebody_who_draws_with_it() -> None:
    """An image without the guidance that was chosen would be called what it is not."""
    async with Refiner() as refiner:
        agents: Agents = await refiner.agents()
        assert agents.generate_guided is None
        with pytest.raises(CandidateError, match="expected a generator that takes gui"):
            await Draw("a ball", 0, 3.0).make(agents, History(user_prompt="a ball"))


async def test_a_refinement_chooses_draws_keeps_and_tells(tmp_path: Path) -> None:
    """All strengths are drawn with, said in files, and found in the journal."""
    told = []
    for _ in range(2):
        with RunDirectory(tmp_path, settings={}) as run:
            async with Refiner(seed=3, guidance_grid=GRID).remember(run) as refiner:
                found = await refiner.refine("a crimson ball above an azure box")
            told.append([c.to_json() for c in found.history.candidates])
            added = run.journal.added.total()
    assert 0 == added
    assert told[0] == told[1]
    first, *others = told[0]
    assert "guidance" not in first
    assert set(GRID) == {one["guidance"] for one in others}


async def test_guidance_changes_the_image() -> None:
    """As the setting does; the same prompt and seed are another image."""
    settings = Settings(guidance_grid="1,7.5")
    async with Refiner(settings) as refiner:
        agents = await refiner.agents()
        assert agents.generate_guided is not None
        usual = await agents.generate("a red circle", 7)
        weak = await agents.generate_guided("a red circle", 7, 1.0)
        again = await agents.generate_guided("a red circle", 7, 1.0)
        other = await agents.generate_guided("a red circle", 7, 4.0)
    own = await _drawn_with(Settings(guidance_scale=1.0))
    assert weak.tobytes() == again.tobytes() == own.tobytes()
    pixels = {one.tobytes() for one in (usual, weak, other)}
    assert 3 == len(pixels)


async def _drawn_with(settings: Settings) -> Image.Image:
    async with Refiner(settings) as refiner:
        return await (await refiner.agents()).generate("a red circle", 7)


async def test_provenance_names_the_guidance(tmp_path: Path) -> None:
    """Under the name by which the pipeline guides."""
    from socratic_agents.runtime.build import open_run_directory

    settings = Settings(seed=3, guidance_grid="5")
    with open_run_directory(tmp_path, settings) as run:
        async with Refiner(settings).remember(run) as refiner:
            found = await refiner.refine("a crimson ball above an azure box")
    said = {
        read_provenance(path).guidance_scale
        for path in (tmp_path / "objects").glob("*.png")
    }
    assert len(found.history.candidates) > 1
    assert {None, 5.0} == said


class _Model:
    """Notes with what it was called; one of its images fails."""

    def __init__(self, calls: list[Any], scale: float | None = None) -> None:
        self.calls, self.scale = calls, scale

    def with_guidance(self, scale: float) -> tuple[str, _Model]:
        return "true_cfg_scale", _Model(self.calls, scale)

    def __call__(self, requests: list[tuple[str, int]]) -> list[Any]:
        self.calls.append((self.scale, requests))
        image = Image.new("RGB", (8, 8))
        return [image, *[ValueError("no") for _ in requests[1:]]]


def test_a_batch_has_one_guidance() -> None:
    """And its images say which, under the pipeline's name."""
    calls: list[Any] = []
    draw = guided(_Model(calls), GRID)  # type: ignore[arg-type]
    image, error = draw([("a", 1, 3.0), ("b", 2, 3.0)])
    assert {"true_cfg_scale": 3.0} == image.info["guidance"]
    assert isinstance(error, ValueError)
    assert "guidance" not in draw([("a", 1)])[0].info
    assert [(3.0, [("a", 1), ("b", 2)]), (None, [("a", 1)])] == calls
    assert chosen_guidance("a", 1) is None
    assert chosen_guidance("a", 1, 3.0) != chosen_guidance("a", 1, 5.0)


TAKES = dict.fromkeys(("true_cfg_scale", "guidance_scale", "negative_prompt"))


@pytest.mark.parametrize(
    ("call", "takes", "name", "full"),
    [
        ({}, TAKES, "true_cfg_scale", {"true_cfg_scale": 3.0, "negative_prompt": " "}),
        (
            {"guidance_scale": 3.5},
            TAKES,
            "guidance_scale",
            {"guidance_scale": 3.0},
        ),
        ({}, {"guidance_scale": 5}, "guidance_scale", {"guidance_scale": 3.0}),
    ],
)
def test_guidance_goes_by_the_name_of_the_pipeline(
    call: dict[str, Any], takes: dict[str, Any], name: str, full: dict[str, Any]
) -> None:
    """What guides already; else the true one, where there is one."""
    assert (name, full) == guided_call(3.0, call, takes, "P")


def test_a_blank_against_which_nobody_guides_is_left_out() -> None:
    """It was set for the guidance that was there before."""
    call = {"true_cfg_scale": 4.0, "negative_prompt": " "}
    assert {"true_cfg_scale": 1.0} == guided_call(1.0, call, TAKES, "P")[1]


def test_a_pipeline_without_guidance_is_refused() -> None:
    """There is nothing to choose."""
    with pytest.raises(ConfigurationError, match=r"takes guidance .* got P;"):
        guided_call(3.0, {}, {"negative_prompt": None}, "P")


def test_one_arm_alone_chooses() -> None:
    """From the person's grid, or else from a usual one."""
    for given, grid in (({}, "3,5,7.5"), ({"guidance_grid": "2,4"}, "2,4")):
        base = Settings(**given)
        chosen = {
            name: arm.settings(base, 6, given).guidance_grid
            for name, arm in ARMS.items()
        }
        assert grid == chosen.pop("tuned_guidance")
        assert {None} == set(chosen.values())


async def test_arms_are_compared_over_the_same_models() -> None:
    """One opening serves those who choose and those who do not."""
    arms = ["default", "tuned_guidance"]
    prompts = ["a salmon loop above an azure box"]
    found = await compare(prompts, Settings(seed=3), arms=arms, images=3)
    assert [None, None] == [arm.trials[0].excluded for arm in found.arms]


def test_strengths_survive_their_text() -> None:
    """A grid is read as it was written."""
    assert GRID == parse_grid("7.5, 3,5")
    assert replace(drawn("a"), guidance=3.0) != drawn("a")
