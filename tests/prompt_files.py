"""Small made-up files in the formats of the prompt sets, for the tests that read them."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PARTI = """\
Prompt\tCategory\tChallenge\tNote
a blue teapot\tArtifacts\tBasic\t
"OPEN" on a door\tArtifacts\tWriting & Symbols\tsigns
a fox\tAnimals\tBasic\t
two foxes\tAnimals\tQuantity\tpairs
a fox in a café\tAnimals\tImagination\t
"""

COCO = (
    "image_id,source,prompt,evaluation_seed\r\n"
    '000000000007,made-up,"A dog, asleep.\n",11\r\n'
    "000000000019,made-up,A kite over a beach.,12\r\n"
    "photo,made-up,A kite over a  Beach.,13\r\n"
)

COCO_JSON: dict[str, Any] = {
    "images": [
        {"id": 5, "file_name": "005.jpg", "coco_url": "http://example.test/005.jpg"},
        {"id": 6, "file_name": "006.jpg"},
    ],
    "annotations": [
        {"id": 50, "image_id": 5, "caption": "A red bus. "},
        {"id": 51, "image_id": 5, "caption": "A bus that is red."},
        {"id": 60, "image_id": 6, "caption": "A bench."},
    ],
}

SCENES_HEAD = (
    "item_id,text,keywords,proposition_id,dependency,"
    "category_broad,category_detailed,tuple,question_natural_language\n"
)

DSG = (
    SCENES_HEAD
    + """\
toys_1,a red box on a mat,red box,1,2,attribute,color,"attribute - color (box, red)",Is the box red?
toys_1,a red box on a mat,box,2,0,entity,whole,entity - whole (box),Is there a box?
toys_1,a red box on a mat,mat,3,"3, mat,0",entity,whole,entity - whole (mat),Is there a mat?
toys_1,a red box on a mat,on,4,"2,3,2,9",relation,spatial,"relation - spatial (box, mat, on)",Is the box on the mat?
toys_2,fog,fog,1,2,entity,whole,entity - whole (fog),Is there fog?
toys_2,fog,thick,2,1,attribute,state,attribute - state (fog),Is it thick?
farm_10,a goat,goat,1,,entity,whole,entity - whole (goat),Is there a goat?
farm_10,a goat,goat,1,0,entity,whole,entity - whole (goat),Is it a goat?
"""
)

GENEVAL = "".join(
    f"{json.dumps(record)}\n"
    for record in (
        {
            "tag": "counting",
            "include": [{"class": "cup", "count": 2}],
            "prompt": "two cups",
        },
        {
            "tag": "colors",
            "include": [{"class": "cup", "color": "red"}],
            "prompt": "a red cup",
        },
    )
)

COMPBENCH = {
    "color_val.txt": "a red cup and a blue plate\na green cup and a red plate",
    "3d_spatial_val.txt": "a cup behind a plate\n\n",
    "non_spatial_train.txt": "a cook pours tea\n",
}

DIFFUSIONDB: dict[str, list[Any]] = {
    "prompt": ["a castle, oil painting", "a naked tree", None],
    "image_name": ["aa.png", "bb.png", "cc.png"],
    "part_id": [1, 1, 2],
    "user_name": ["x", "y", "z"],
    "prompt_nsfw": [0.01, 0.75, 0.0],
}


def write(path: Path, content: str | bytes) -> Path:
    """Write a file as it stands, line ends included; return it."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def packed(files: Mapping[str, str]) -> bytes:
    """Return a zip archive of files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def parquet(columns: Mapping[str, list[Any]]) -> bytes:
    """Return a table as parquet."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    stream = io.BytesIO()
    write_table(pa.table(dict(columns)), stream)
    return stream.getvalue()
