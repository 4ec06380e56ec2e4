"""Templates evolve by the loop's gain, and are accepted on a held-out gain alone."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from socratic_agents.cli.app import main
from socratic_agents.cli.lab import tuning
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError, TemplateError
from socratic_agents.lab.study.load import read_study
from socratic_agents.lab.study.plan import plan_study
from socratic_agents.lab.study.run import StudyContext
from socratic_agents.lab.tuning.evolve import Evolution, evolve, split
from socratic_agents.lab.tuning.gepa_adapter import Rollout
from socratic_agents.lab.tuning.study_evolve import evolve_study
from socratic_agents.llm.template_files import find_template
from socratic_agents.runtime.interrupts import InterruptHandler
from tests.fakes import ScriptedChatModel
from tests.studies import SMALL, Painter, ran, written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PROMPTS = [f"prompt {number}" for number in range(40)]
BLOCKS = {"advice": "Say something.", "tone": "Be calm."}


def world(
    blocks: Mapping[str, str], places: Sequence[int], *, noise: float = 0.0
) -> list[Rollout]:
    """Gain by good words, lose by overfitting: what holds only where one looked."""
    if "{{" in blocks["advice"]:
        message = "expected only declared variables"
        raise TemplateError(message)
    seen = set(split(PROMPTS).choose) | set(split(PROMPTS).learn)
    found = []
    for place in places:
        gain = 0.01 * (place % 5) + 0.3 * ("good" in blocks["advice"])
        gain += 0.3 * ("overfit" in blocks["advice"] and place in seen)
        missing = place % 9 == 0 and noise
        found.append(
            Rollout(
                user_prompt=PROMPTS[place], gain=None if missing else gain, feedback="x"
            )
        )
    return found


def evolved(*answers: str, **given: Any) -> Evolution:
    """Evolve with a model that says these things one after the other."""
    said = itertools.cycle(f"```\n{answer}\n```" for answer in answers)
    options: dict[str, Any] = {"run": world, "rollouts": 60, **given}
    return evolve(BLOCKS, PROMPTS, reflect=lambda _: next(said), **options)


def test_what_gains_on_unseen_prompts_is_accepted() -> None:
    """With its interval, and which blocks it changed."""
    found = evolved("Say good things.")
    assert found.accepted
    assert "advice" in found.changed
    assert "Say good things." == found.blocks["advice"]
    assert pytest.approx(0.3) == found.difference.mean
    assert 20 == found.difference.n
    assert found.reason.startswith(
        "accepted: held-out gain +0.3000, no interval; 20 won"
    )


def test_what_gains_only_where_one_looked_is_rejected() -> None:
    """It was better on the prompts to choose by, and is not on the others."""
    found = evolved("overfit")
    assert not found.accepted
    assert found.changed
    assert 0 == found.difference.mean
    assert found.reason.startswith("rejected, since that can be chance")


def test_gains_that_differ_have_an_interval() -> None:
    """It is told with the mean."""

    def better(blocks: Mapping[str, str], places: Sequence[int]) -> list[Rollout]:
        gains = [0.01 * (p % 7) * (1 + ("good" in blocks["advice"])) for p in places]
        return [
            Rollout(user_prompt=PROMPTS[place], gain=gain, feedback="x")
            for place, gain in zip(places, gains, strict=True)
        ]

    found = evolved("Say good things.", run=better)
    assert found.accepted
    low, high = found.difference.low, found.difference.high
    assert low is not None
    assert high is not None
    assert f"95 % interval {low:+.4f} to {high:+.4f}; " in found.reason


def test_nothing_better_is_said_so() -> None:
    """The template stays as it is; nothing is tested that was not changed."""
    found = evolved("worse", "{{broken}}")
    assert not found.accepted
    assert BLOCKS == found.blocks
    assert found.reason.startswith("rejected: no other template")
    assert 0 == found.difference.n
    assert json.loads(json.dumps(found.to_json()))["held_out"]["mean"] is None


def test_what_failed_is_in_no_figure() -> None:
    """A prompt without a gain is left out of the test, and counted."""
    found = evolved("good", run=partial(world, noise=1.0))
    assert found.accepted
    assert found.excluded
    assert 20 == found.difference.n + found.excluded


def test_who_reflects_is_told_what_happened() -> None:
    """The block, the prompts and their gains are in the question."""
    asked: list[str] = []

    def reflect(text: str) -> str:
        asked.append(text)
        return "```\nSay good things.\n```"

    evolve(BLOCKS, PROMPTS, run=world, reflect=reflect, rollouts=60)
    assert any(block in asked[0] for block in BLOCKS.values())
    assert "gain +0.0" in asked[0]
    assert "prompt " in asked[0]


@given(st.lists(st.text(min_size=1), min_size=6, unique=True))
def test_no_prompt_is_on_two_sides(prompts: list[str]) -> None:
    """Every prompt is somewhere, wherever it stands in the list."""
    parts = split(prompts)
    places = [*parts.learn, *parts.choose, *parts.test]
    assert sorted(places) == list(range(len(prompts)))
    assert min(map(len, vars(parts).values())) >= 2
    turned = split(prompts[::-1])
    assert {prompts[i] for i in parts.test} == {prompts[::-1][i] for i in turned.test}


def test_what_cannot_be_evolved_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few prompts or rollouts, no blocks, no package: each with what to do."""
    with pytest.raises(ConfigurationError, match="at least 6 different prompts"):
        split(["a", "a", "b", "c", "d", "e"])
    with pytest.raises(ConfigurationError, match="at least 12 rollouts"):
        evolved("good", rollouts=11)
    with pytest.raises(ConfigurationError, match="a template with blocks"):
        evolve({}, PROMPTS, run=world, reflect=str, rollouts=60)
    monkeypatch.setitem(sys.modules, "gepa.api", None)
    with pytest.raises(ConfigurationError, match="pip install"):
        evolved("good")


BARE = """\
description: Knows nothing of the attempts.
variables: [user_prompt, number_of_prompts]
blocks:
  attempts: |
    Nothing is known of them.
messages:
  - role: human
    text: |
      <user_prompt>{{{user_prompt}}}</user_prompt>
      {{> attempts}}
      <number_of_prompts>{{{number_of_prompts}}}</number_of_prompts>
"""
ATTEMPTS = """```
{{#history}}
<attempt><prompt>{{{prompt}}}</prompt></attempt>
{{/history}}
```"""


def by(painter: Painter) -> StudyContext:
    return StudyContext(
        open_refiner=painter.open,
        interruption=InterruptHandler(str),
        report=lambda _: None,
    )


def test_a_study_evolves_the_template_of_an_arm(tmp_path: Path) -> None:
    """Each candidate is an arm with a folder; again, nothing is painted anew."""
    bare = written(tmp_path, BARE, "bare.yaml")
    text = SMALL.replace("n: 4", "n: 8").replace(
        "judge: caption", f"judge: caption, optimizer_template: {bare}"
    )
    study, file = read_study(written(tmp_path, text))
    plan = plan_study(study, name="tiny", folder=file.parent)

    def run(painter: Painter) -> Evolution:
        return evolve_study(
            plan,
            tmp_path / "out",
            by=by(painter),
            reflect=lambda _: ATTEMPTS,
            rollouts=8,
        )

    painter = Painter(broken="ring")
    first = run(painter)
    assert not first.accepted
    assert painter.opened
    record = json.loads((tmp_path / "out" / "evolution.json").read_text())
    assert first.to_json() == record
    found = find_template("optimizer", tmp_path / "out" / "evolved.yaml")
    assert (
        first.blocks == {n: t.strip() for n, t in found.blocks.items()} or found.blocks
    )
    again = Painter(broken="ring")
    assert first == run(again)


def test_a_prompt_that_fails_has_no_gain_and_says_why(tmp_path: Path) -> None:
    """Who reflects is told; the others count."""
    bare = written(tmp_path, BARE, "bare.yaml")
    text = SMALL.replace("n: 4", "n: 8").replace(
        "judge: caption", f"judge: caption, optimizer_template: {bare}"
    )
    study, file = read_study(written(tmp_path, text))
    plan = plan_study(study, name="tiny", folder=file.parent)
    words = Counter(w for p in plan.prompts for w in {*p.row.text.split()})
    broken = next(word for word, count in words.items() if count == 4)
    asked: list[str] = []

    def reflect(question: str) -> str:
        asked.append(question)
        return ATTEMPTS

    given = by(Painter(broken=broken))
    found = evolve_study(plan, tmp_path / "out", by=given, reflect=reflect, rollouts=8)
    assert any("it failed: " in question for question in asked)
    assert found.excluded + found.difference.n <= 8


def test_only_a_template_with_blocks_evolves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says which arms have some, and who cannot reflect."""
    study = written(tmp_path)
    given = ["lab", "evolve", study, "--out", str(tmp_path / "out")]
    assert 2 == main([*given, "--reflect", "pocket"])
    assert "which is rule-based" in capsys.readouterr().err
    assert 2 == main([*given, "--reflect", "captioner"])
    assert "with a refiner alone" in capsys.readouterr().err
    assert 2 == main([*given, "--reflect", "openai:x", "--base-url", "x"])
    capsys.readouterr()
    plan = plan_study(read_study(study)[0], name="tiny")
    for arm in (None, "early_stop"):
        with pytest.raises(ConfigurationError, match="whose optimizer's template"):
            evolve_study(
                plan, tmp_path / "o", by=by(Painter()), reflect=str, rollouts=9, arm=arm
            )
    assert not (tmp_path / "out").exists()


def test_the_command_tells_what_came_of_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rejected template is a result, too: exit code 0, and JSON alone on stdout."""
    bare = written(tmp_path, BARE, "bare.yaml")
    text = SMALL.replace("n: 4", "n: 6").replace(
        "{about: All rounds.}", f"{{rounds: 2, optimizer_template: {bare}}}"
    )
    study = written(tmp_path, text)
    script = [AIMessage(ATTEMPTS)] * 9
    monkeypatch.setattr(
        "socratic_agents.runtime.language_model.open_language_model",
        lambda _: ScriptedChatModel(script=script),
    )
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    given = ["evolve", study, "--reflect", "openai:m", "--rollouts", "6"]
    assert 0 == ran(Painter(), *given, "--out", tmp_path / "out", "--json")
    printed, told = capsys.readouterr()
    found = json.loads(printed)
    assert not found["accepted"]
    assert found["reason"] in told
    assert {"learn", "choose", "test"} == set(found["split"])


def test_an_interrupted_evolution_ends(tmp_path: Path) -> None:
    """The candidate that is on its way is not measured."""
    bare = written(tmp_path, BARE, "bare.yaml")
    text = SMALL.replace("n: 4", "n: 6").replace(
        "{about: All rounds.}", f"{{optimizer_template: {bare}}}"
    )
    study, file = read_study(written(tmp_path, text))
    plan = plan_study(study, name="tiny", folder=file.parent)
    surroundings = by(Painter())
    surroundings.interruption.code = 130
    with pytest.raises(KeyboardInterrupt):
        evolve_study(plan, tmp_path / "out", by=surroundings, reflect=str, rollouts=6)
    assert not (tmp_path / "out" / "evolved.yaml").exists()


@pytest.mark.parametrize(
    ("base", "sent"),
    [
        ({"llm": "openai:m"}, True),
        ({"llm": "anthropic:m"}, False),
        ({"llm": "anthropic:m", "base_url": "http://127.0.0.1:1/v1"}, True),
    ],
)
def test_who_reflects_gets_no_key_of_another_provider(
    base: dict[str, Any], sent: bool
) -> None:
    """The key of the settings is for the server that they name."""
    plan: Any = SimpleNamespace(base=Settings(**base, api_key="sk-mine"))
    with nullcontext() if sent else pytest.raises(ConfigurationError, match="a key"):
        tuning._writer(plan, "openai:reflects")
