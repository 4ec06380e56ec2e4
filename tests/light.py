"""The program as a plain installation has it, and servers that it can be run with."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from PIL import Image

from tests.loopback import Reply, chat

if TYPE_CHECKING:
    from pathlib import Path

    from tests.loopback import Request

LEFT_OUT = (
    *("accelerate", "diffusers", "gguf", "gepa", "llguidance", "matplotlib"),
    *("open_clip", "peft"),
    *("pooch", "pyarrow", "ray", "sacrebleu", "safetensors", "scipy", "sentencepiece"),
    *("timm", "tokenizers", "torch", "torchvision", "transformers"),
)
"""What the extras bring and nothing else needs, by the names of modules."""

_BEFORE = f"""
import sys
from importlib.machinery import PathFinder

def without(*given):
    return None if given[0] in {LEFT_OUT!r} else found(*given)

found, PathFinder.find_spec = PathFinder.find_spec, without
"""

_AFTER = f"""
loaded = {{name.partition(".")[0] for name in sys.modules}}
assert not loaded.intersection({LEFT_OUT!r}), loaded.intersection({LEFT_OUT!r})
"""


REFINE = """
import asyncio
from pathlib import Path
from socratic_agents import Refiner
from socratic_agents.runtime.build import open_run_directory

class Eyes:
    identity = "eyes"
    def caption(self, images):
        return ["a shade from black to white"] * len(images)
    def answer(self, questions):
        return ["no"] * len(questions)

async def main():
    refiner = Refiner(
        profile="api", generator="{url}", base_url="{url}", llm="openai:x",
        api_key="k", captioner=Eyes(), scorer=None, rounds=2,
    )
    with open_run_directory(Path("run"), refiner.settings) as run:
        async with refiner.remember(run):
            result = await refiner.refine("a grey shade")
        run.save(result)
    print(result.best.image.size, len(result.rounds))

asyncio.run(main())
"""
"""A refinement with servers at ``url``, in the folder ``run``."""


def run_light(code: str, folder: Path) -> str:
    """Run Python code where no extra is installed, and return what it prints.

    Args:
        code: What to run.
        folder: The working directory.
    """
    run = subprocess.run(
        [sys.executable, "-c", _BEFORE + code + _AFTER],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == run.returncode, run.stderr
    return run.stdout


def answer(request: Request) -> Reply:
    """Answer as a server of both protocols: an image, or JSON of the schema."""
    if "images" in request.path:
        buffer = io.BytesIO()
        Image.linear_gradient("L").resize((64, 64)).save(buffer, "PNG")
        image = {"b64_json": base64.b64encode(buffer.getvalue()).decode()}
        return Reply(json.dumps({"created": 1, "data": [image]}))
    form = request.body.get("response_format", {}).get("json_schema")
    if form is None:
        return chat("a shade from black to white")
    return chat(json.dumps(_example(form["schema"], form["schema"])))


def _example(schema: Any, whole: Any) -> Any:
    """Return the plainest value that a JSON schema allows."""
    if "$ref" in schema:
        return _example(whole["$defs"][schema["$ref"].rsplit("/", 1)[1]], whole)
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], whole)
    if "enum" in schema or "const" in schema:
        return schema.get("enum", [schema.get("const")])[0]
    kind = schema["type"]
    if kind == "object":
        return {
            name: _example(one, whole) for name, one in schema["properties"].items()
        }
    if kind == "array":
        return [_example(schema["items"], whole)] * schema.get("minItems", 1)
    return {"string": "a soft grey shade", "boolean": False}.get(
        kind, schema.get("minimum", 1)
    )
