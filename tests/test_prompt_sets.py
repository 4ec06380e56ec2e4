"""Prompt sets: each format is read whole or refused, and downloads are verified."""

from __future__ import annotations

import csv
import gc
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.datasets import archives as pieces
from socratic_agents.lab.datasets import tabular as records
from socratic_agents.lab.datasets.archives import SetFile
from socratic_agents.lab.datasets.catalog import PROMPT_SETS
from socratic_agents.lab.datasets.download import Source, cache_folder, fetch
from socratic_agents.lab.datasets.loader import load_set
from socratic_agents.lab.datasets.question_formats import question_rows
from tests.prompt_files import (
    COCO,
    COCO_JSON,
    COMPBENCH,
    DIFFUSIONDB,
    DSG,
    GENEVAL,
    PARTI,
    SCENES_HEAD,
    packed,
    parquet,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from socratic_agents.lab.datasets.types import PromptRow


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what tests fetch out of the person's own cache."""
    monkeypatch.setenv("SOCRATIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def texts(rows: tuple[PromptRow, ...]) -> list[str]:
    return [row.text for row in rows]


def test_parti_is_not_quoted(tmp_path: Path) -> None:
    """Quotation marks belong to the prompt; the rest are columns."""
    file = write(tmp_path / "p.tsv", PARTI)

    loaded = load_set("parti", file=file)

    assert [
        "a blue teapot",
        '"OPEN" on a door',
        "a fox",
        "two foxes",
        "a fox in a café",
    ] == texts(loaded.rows)
    assert "parti_2" == loaded.rows[1].id
    assert {
        "Category": "Artifacts",
        "Challenge": "Writing & Symbols",
        "Note": "signs",
    } == loaded.rows[1].columns
    assert hashlib.sha256(file.read_bytes()).hexdigest() == loaded.file_sha256
    assert "p.tsv" == loaded.source
    assert loaded.published is False
    assert 0 == loaded.questions


def test_coco_tables_say_where_the_photograph_is(tmp_path: Path) -> None:
    """A caption's image follows from its number; what is no number has none."""
    rows = load_set("coco", file=write(tmp_path / "c.csv", COCO)).rows

    assert ["A dog, asleep.", "A kite over a beach."] == texts(rows[:2])
    assert "000000000007" == rows[0].id == rows[0].columns["image_id"]
    assert rows[0].reference == (
        "http://images.cocodataset.org/val2014/COCO_val2014_000000000007.jpg"
    )
    assert rows[2].reference is None


@pytest.mark.parametrize("form", ["json", "zip"])
def test_official_coco_annotations(tmp_path: Path, form: str) -> None:
    """The official captions are read from the file, or from their archive."""
    name, text = "annotations/captions_val2017.json", json.dumps(COCO_JSON)
    if form == "zip":
        others = {"annotations/instances_val2017.json": "{}", "captions/": ""}
        file = write(tmp_path / "a.zip", packed({name: text, **others}))
    else:
        file = write(tmp_path / name, text)

    rows = load_set("coco", file=file).rows

    assert ["50", "51", "60"] == [row.id for row in rows]
    assert "A red bus." == rows[0].text
    assert {"image_id": "5", "file_name": "005.jpg"} == rows[1].columns
    assert "http://example.test/005.jpg" == rows[1].reference
    assert rows[2].reference is None


def test_dsg_questions_stand_after_their_parents(tmp_path: Path) -> None:
    """No question is lost; what depends on nothing that there is, depends on nothing."""
    loaded = load_set("dsg", file=write(tmp_path / "d.csv", DSG))

    boxes, fog, goat = loaded.rows
    assert 8 == loaded.questions
    assert "toys" == boxes.columns["source"]
    assert "farm" == goat.columns["source"]
    assert ["2", "1", "3", "4"] == [question.id for question in boxes.questions]
    assert [(), (0,), (), (0, 2)] == [q.parents for q in boxes.questions]
    # In a circle, the first one counts as the parent.
    assert [("1", ()), ("2", (0,))] == [(q.id, q.parents) for q in fog.questions]
    # Two questions with one number are two questions.
    assert ["1", "1'"] == [question.id for question in goat.questions]
    assert {
        "id": "1",
        "text": "Is the box red?",
        "parents": [0],
        "requirement": "red box",
        "category": "attribute",
        "detail": "color",
        "tuple": "attribute - color (box, red)",
    } == boxes.questions[1].to_json()


@given(st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=1, max_size=6))
def test_parents_always_stand_before_their_children(parents: list[list[int]]) -> None:
    """Whatever questions are said to depend on, none is lost and none is its ancestor."""
    lines = [
        f'it,a text,k,{number},"{",".join(map(str, own))}",e,w,t,q{number}'
        for number, own in enumerate(parents, start=1)
    ]
    (row,) = question_rows(
        SetFile(name="d.csv", data=(SCENES_HEAD + "\n".join(lines)).encode())
    )

    assert sorted(q.text for q in row.questions) == sorted(
        f"q{number}" for number in range(1, len(parents) + 1)
    )
    for place, question in enumerate(row.questions):
        assert all(0 <= parent < place for parent in question.parents)
        said = {str(number) for number in parents[int(question.id) - 1]}
        assert {row.questions[p].id for p in question.parents} <= said


def test_geneval_keeps_what_must_be_seen(tmp_path: Path) -> None:
    """The task is a column, and so is what must be seen, as JSON."""
    rows = load_set("geneval", file=write(tmp_path / "g.jsonl", GENEVAL)).rows

    assert ["two cups", "a red cup"] == texts(rows)
    assert "counting" == rows[0].columns["tag"]
    assert [{"class": "cup", "count": 2}] == json.loads(rows[0].columns["include"])


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_compbench_is_named_by_its_files(tmp_path: Path, form: str) -> None:
    """Category and split are those of the files' names, of a folder or an archive."""
    path = tmp_path / "prompts"
    others = {"README.txt": "no prompt", ".color_val.txt": "no prompt"}
    for name, text in {**COMPBENCH, **others}.items():
        write(path / name, text)
    if form == "zip":
        path = write(tmp_path / "p.ZIP", packed({**COMPBENCH, **others}))

    rows = load_set("t2i_compbench", file=path).rows

    assert [
        ("3d_spatial_val_1", "3d_spatial", "val"),
        ("color_val_1", "color", "val"),
        ("color_val_2", "color", "val"),
        ("non_spatial_train_1", "non_spatial", "train"),
    ] == [(row.id, row.columns["category"], row.columns["split"]) for row in rows]


def test_compbench_takes_other_names_as_categories(tmp_path: Path) -> None:
    """A single file may have any name."""
    (row,) = load_set("t2i_compbench", file=write(tmp_path / "new.txt", "a cup")).rows

    assert {"category": "new", "split": "all"} == row.columns


def test_dpg_is_a_table_or_a_text_for_each_prompt(tmp_path: Path) -> None:
    """The table has questions; the texts have none."""
    write(tmp_path / "prompts/b7.txt", "A long\nprompt.\n")
    write(tmp_path / "prompts/a3.txt", "Another one.")

    rows = load_set("dpg", file=tmp_path / "prompts").rows
    table = load_set("dpg", file=write(tmp_path / "dpg_bench.csv", DSG))

    assert [("a3", "Another one."), ("b7", "A long prompt.")] == [
        (row.id, row.text) for row in rows
    ]
    assert 8 == table.questions


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_diffusiondb_says_nothing_of_its_users(tmp_path: Path, form: str) -> None:
    """The names of users are not kept, whatever the file has."""
    if form == "parquet":
        file = write(tmp_path / "metadata.parquet", parquet(DIFFUSIONDB))
    else:
        file = write(tmp_path / "m.csv", "prompt,image_name,user_name\na castle,aa,x\n")

    rows = load_set("diffusiondb", file=file).rows

    assert "aa" == rows[0].id
    assert rows[0].text.startswith("a castle")
    assert all("user_name" not in row.columns for row in rows)
    if form == "parquet":
        assert {"part_id": "1", "prompt_nsfw": "0.75"} == rows[1].columns
        assert "" == rows[2].text


FILES: dict[str, str | bytes] = {
    "a.txt": "\ufeffa cup\r\n\r\na fox\n",
    "b.csv": 'id,Text,n\nx,a cup,1\n\ny,"a fox",2\n',
    "c.tsv": 'caption\tprompt\nno\t"a cup"\nno\ta fox\n',
    "d.jsonl": '"a cup"\n\n{"text": "a fox"}\n',
    "e.csv": ",a cup?\n0,a cup\n1,a fox\n",
    "f.TSV": "Caption\tx\na cup\t1\na fox\t\n",
    "g.csv": '\ufeffprompt;category;n\r\na cup;things;1,5\r\n"a fox";"a;b";2\r\n',
    "h.csv": "n\tPrompt\n1,2\ta cup\n3,4\ta fox\n",
    "i.csv": "sep=;\nprompt;n\na cup;1\na fox;2\n",
    "j.csv": "prompt,n\ra cup,1\r\ra fox,2\r",
    "k.csv": "prompt;note, if any\na cup;x, y\na fox;z, z\n",
    "l.csv": "words; in English\na cup\na fox\n",
    "m.json": '[{"prompt": "a cup", "n": 1},\n {"prompt": "a fox", "n": 2}]',
    "n.jsonl": '\ufeff ["a cup", "a fox"]\n',
    "o.jsonl": '{"prompt": "a cup"}\r{"prompt": "a fox"}\r',
    "p.json": '{"text": "a cup"}\n"a fox"\n',
}


@pytest.mark.parametrize("name", FILES)
def test_any_file_of_prompts(tmp_path: Path, name: str) -> None:
    """Text, tables and JSON are read as others write them; the column is found."""
    rows = load_set("file", file=write(tmp_path / name, FILES[name])).rows

    assert ["a cup", "a fox"] == texts(rows)
    assert (["x", "y"] if name == "b.csv" else ["1", "2"]) == [r.id for r in rows]


def test_separators_stay_in_their_columns(tmp_path: Path) -> None:
    """What stands beside a prompt never gets into it, nor the other way round."""
    text = "prompt;category;id\na red fox, at night;animals;17\na cup;things;18\n"
    first, second = load_set("file", file=write(tmp_path / "p.csv", text)).rows

    assert ("17", "a red fox, at night") == (first.id, first.text)
    assert ("18", "a cup", {"category": "things"}) == (
        second.id,
        second.text,
        second.columns,
    )


@given(
    rows=st.lists(
        st.tuples(*[st.text(alphabet="ab ,;\t\"'\n", min_size=1, max_size=12)] * 2),
        min_size=1,
        max_size=30,
    ),
    separator=st.sampled_from(",;\t"),
)
def test_any_table_comes_back(rows: list[tuple[str, str]], separator: str) -> None:
    """A table is read as it was written, whatever stands between its fields."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows([("prompt", "kind"), *rows])
    piece = SetFile(name="a.csv", data=buffer.getvalue().encode())

    assert [(a.strip(), b.strip()) for a, b in rows] == [
        (record["prompt"], record["kind"]) for record in records.read_records(piece)
    ]


def test_fields_have_no_longest(tmp_path: Path) -> None:
    """A field of more than 128 KiB, the csv module's limit, is read whole."""
    long = "x" * 200_000
    file = write(tmp_path / "p.csv", f"prompt,note\na cup,{long}\n")

    (row,) = load_set("file", file=file).rows

    assert ("a cup", long) == (row.text, row.columns["note"])


def test_a_file_in_parquet(tmp_path: Path) -> None:
    """Values that are no text are written as JSON does."""
    columns: dict[str, list[Any]] = {
        "prompt": [" a cup", "a fox"],
        "n": [1, None],
        "ok": [True, False],
    }
    rows = load_set("file", file=write(tmp_path / "p.parquet", parquet(columns))).rows

    assert ["a cup", "a fox"] == texts(rows)
    assert [{"n": "1", "ok": "true"}, {"n": "", "ok": "false"}] == [
        row.columns for row in rows
    ]


def test_the_column_can_be_named(tmp_path: Path) -> None:
    """A named column is the prompt, and the others stay columns."""
    file = write(tmp_path / "x.csv", "prompt,id\nno,a cup\n")

    (row,) = load_set("file", file=file, column="id").rows

    assert ("1", "a cup", {"prompt": "no"}) == (row.id, row.text, row.columns)


def test_no_id_is_there_twice(tmp_path: Path) -> None:
    """A row whose id is blank or was there already gets a number of its own."""
    lines = "image_id,prompt\n1,a\n1#2,b\n1,c\n1,d\n,e\n"

    rows = load_set("coco", file=write(tmp_path / "c.csv", lines)).rows

    assert ["1", "1#2", "1#3", "1#4", "#2"] == [row.id for row in rows]


@given(
    st.lists(st.sampled_from(["", "#2", "1", "1#2", "1#3"]), min_size=1, max_size=12)
)
def test_ids_are_always_distinct(ids: list[str]) -> None:
    """Whatever the ids of a file are, those of its rows are distinct."""
    from socratic_agents.lab.datasets.loader import _distinct
    from socratic_agents.lab.datasets.types import PromptRow

    rows = list(_distinct([PromptRow(id=name, text="x") for name in ids]))

    assert len(ids) == len({row.id for row in rows} - {""})


TABLE = "prompt,kind\na cup,thing\na fox,animal\n"
BAD: dict[str, tuple[str, str, str | bytes, str]] = {
    "empty": ("file", "x.csv", "", "empty file"),
    "blank": ("parti", "x.tsv", " \n\n", "empty file"),
    "header only": ("file", "x.csv", "prompt,kind\n", "at least one row"),
    "binary": ("file", "x.txt", b"GIF89a\0\0", "binary data"),
    "utf-16": ("file", "x.txt", "a cup".encode("utf-16"), "got UTF-16"),
    "latin-1": ("file", "x.csv", "prompt\ncafé\n".encode("latin-1"), "at byte 11"),
    "cut field": ("file", "x.csv", 'prompt,kind\n"a cup', "cut off"),
    "cut line": ("file", "x.csv", TABLE + "a mug", "line 4"),
    "long line": ("file", "x.csv", TABLE + "a,b,c\n", "got 3"),
    "cut parti": ("parti", "x.tsv", PARTI[:-20], "cut off"),
    "two names": ("file", "x.csv", "prompt,prompt\na,b\n", "twice"),
    "not json": ("file", "x.jsonl", '"a cup"\n{"prompt": "a', "line 2"),
    "deep json": ("file", "x.jsonl", "[" * 100_000, "line 1"),
    "other json": ("file", "x.jsonl", "[1]\n", "value 1 of 'x.jsonl', got int"),
    "lists of json": ("file", "x.jsonl", "[1]\n[2]\n", "line 1 of 'x.jsonl', got list"),
    "cut semicolons": ("file", "x.csv", "prompt;kind\na cup", "expected 2 fields in l"),
    "cut after sep": ("file", "x.csv", "sep=,\na,b\n1,2\n3\n", "line 4"),
    "not parquet": ("file", "x.parquet", b"PAR1 no", "whole parquet"),
    "cut parquet": ("file", "x.parquet", parquet({"prompt": ["a"]})[:-9], "cut off"),
    "not zip": ("dpg", "x.zip", b"PK no", "whole zip"),
    "cut zip": ("dpg", "x.zip", packed({"a.txt": "a cup" * 99})[:-9], "whole zip"),
    "empty zip": ("dpg", "x.zip", packed({"a.gif": "GIF"}), "got none"),
    "ending": ("file", "x.docx", "a cup", "ends in"),
    "no column": ("file", "x.csv", "a,b\n1,2\n", "--column"),
    "not parti": ("parti", "x.tsv", "Prompt\na cup\n", "'Category'"),
    "not coco": ("coco", "x.csv", TABLE, "'image_id'"),
    "not coco json": ("coco", "x.json", '{"images": []}', "annotations"),
    "odd coco json": ("coco", "x.json", "[]", "COCO's captions"),
    "no captions": (
        "coco",
        "x.json",
        '{"images": [], "annotations": []}',
        "one prompt",
    ),
    "bad coco json": ("coco", "x.json", '{"images": [', "cut off"),
    "not dsg": ("dsg", "x.csv", TABLE, "'item_id'"),
    "two texts": ("dsg", "x.csv", DSG.replace("fog,fog", "mist,fog"), "one text"),
    "not geneval": ("geneval", "x.jsonl", '{"prompt": "a"}', "'tag'"),
    "not diffusiondb": ("diffusiondb", "x.csv", TABLE, "'image_name'"),
}
BAD["two texts"] = ("dsg", "x.csv", DSG + "toys_2,mist,m,3,0,e,w,t,q\n", "one text")


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_told_in_one_line(tmp_path: Path, case: str) -> None:
    """What cannot be read whole is refused, and the message says why."""
    name, file, content, expected = BAD[case]

    with pytest.raises(ConfigurationError) as caught:
        load_set(name, file=write(tmp_path / file, content))

    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert message.startswith("expected ")


def test_missing_files_are_told(tmp_path: Path) -> None:
    """What is not there, or cannot be a name, is an error that says so."""
    with pytest.raises(ConfigurationError, match="No such file"):
        load_set("parti", file=tmp_path / "none.tsv")
    with pytest.raises(ConfigurationError, match="null byte"):
        load_set("parti", file=tmp_path / "a\0b.tsv")
    with pytest.raises(ConfigurationError, match=r"such as \*.tsv"):
        load_set("parti", file=tmp_path)


def test_archives_that_would_fill_the_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive says how large it is before it is unpacked."""
    monkeypatch.setattr(pieces, "LARGEST", 1000)
    file = write(tmp_path / "x.zip", packed({"a.txt": "a" * 1001}))

    with pytest.raises(ConfigurationError, match="at most 1,000 bytes"):
        load_set("dpg", file=file)


def test_unknown_columns_list_those_that_there_are(tmp_path: Path) -> None:
    """A wrong column is answered with the right one."""
    file = write(tmp_path / "x.csv", TABLE)

    with pytest.raises(ConfigurationError, match=r"'prompt', 'kind'; did you mean 'ki"):
        load_set("file", file=file, column="kinds")
    with pytest.raises(ConfigurationError, match="leave it out"):
        load_set("parti", file=file, column="kind")


def test_unknown_sets_are_answered_with_a_name() -> None:
    """A name that is nearly right is told what it may have meant."""
    with pytest.raises(ConfigurationError, match="did you mean 'parti'"):
        PROMPT_SETS.find("PartiPrompts")
    with pytest.raises(ConfigurationError, match="name one of these"):
        PROMPT_SETS.find("zzz")
    with pytest.raises(ConfigurationError, match="expected --file"):
        load_set("file")


def test_without_pyarrow_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parquet needs an extra."""
    file = write(tmp_path / "p.parquet", parquet({"prompt": ["a"]}))
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ConfigurationError, match=r"socratic-agents\[lab\]"):
        load_set("file", file=file)


def test_every_set_says_whose_it_is() -> None:
    """Sets have a licence and a citation, and full hashes where they have any."""
    for name, one in PROMPT_SETS.items():
        assert name == one.name
        assert one.licence
        assert bool(one.sources) == bool(one.citation) == bool(one.revision)
        figures = one.to_json()
        assert figures["revision"] == one.revision
        for source in one.sources:
            assert source.url.startswith("https://")
            assert source.sha256 is None or 64 == len(source.sha256)


def test_downloaded_sets_are_read_from_the_cache(tmp_path: Path) -> None:
    """All files of a set are fetched into its folder, and hashed as one."""
    asked: list[str] = []

    def get(source: Source, folder: Path) -> Path:
        assert tmp_path / "cache/prompt_sets/t2i_compbench" == folder
        asked.append(source.name)
        return write(folder / source.name, f"a prompt of {source.name}\n")

    loaded = load_set("t2i_compbench", fetch=get)

    assert 8 == len(set(asked)) == len(loaded.rows)
    assert "color" == loaded.rows[1].columns["category"]
    assert loaded.published is None
    folder = tmp_path / "cache/prompt_sets/t2i_compbench"
    assert loaded.file_sha256 == load_set("t2i_compbench", file=folder).file_sha256


def test_a_file_must_have_the_hash_that_is_asked_for(tmp_path: Path) -> None:
    """Another hash is refused; the right one passes in either case."""
    file = write(tmp_path / "p.tsv", PARTI)
    right = hashlib.sha256(PARTI.encode()).hexdigest()

    assert load_set("parti", file=file, sha256=right.upper()).rows
    with pytest.raises(ConfigurationError, match="expected prompts with the sha256 00"):
        load_set("parti", file=file, sha256="0" * 64)


def test_the_published_file_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with the hash of the published one is told apart from others."""
    sha256 = hashlib.sha256(PARTI.encode()).hexdigest()
    one = PROMPT_SETS["parti"]
    same = replace(one, sources=(replace(one.sources[0], sha256=sha256),))
    monkeypatch.setitem(PROMPT_SETS._own, "parti", same)

    assert load_set("parti", file=write(tmp_path / "p.tsv", PARTI)).published is True
    assert load_set("parti", file=tmp_path).published is True


@dataclass
class Shelf:
    """A web server on the loopback that gives out files, or fails."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cut: bool = False
    """Promise more bytes than come."""

    @contextmanager
    def open(self) -> Iterator[str]:
        """Serve until the end; the address is given."""
        shelf = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, *, body: bool) -> None:
                shelf.asked.append(f"{self.command} {self.path}")
                data = shelf.files.get(self.path)
                self.send_response(404 if data is None else 200)
                size = len(data or b"") + (100 if shelf.cut else 0)
                self.send_header("Content-Length", str(size))
                self.send_header("ETag", '"tag"')
                self.send_header("X-Repo-Commit", "c" * 40)
                self.end_headers()
                if body:
                    self.wfile.write(data or b"")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _source(url: str, **more: Any) -> Source:
    return Source(name="p.tsv", url=f"{url}/p.tsv", revision="abc", **more)


def test_files_are_downloaded_once_and_verified(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second time the file is there; a damaged one is fetched again."""
    sha256 = hashlib.sha256(PARTI.encode()).hexdigest()
    shelf = Shelf(files={"/p.tsv": PARTI.encode()})
    with shelf.open() as url:
        source = _source(url, sha256=sha256)
        kept = fetch(source, cache_folder())
        assert cache_folder() / "abc/p.tsv" == kept
        assert PARTI.encode() == kept.read_bytes()
        assert f"downloading {url}/p.tsv\n" == capsys.readouterr().err

        assert kept == fetch(source, cache_folder())
        assert ["GET /p.tsv"] == shelf.asked
        assert "" == capsys.readouterr().err

        kept.write_bytes(b"damaged")
        assert PARTI.encode() == fetch(source, cache_folder()).read_bytes()


# pooch leaves the socket of a broken answer to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", ["other", "missing", "cut"])
def test_what_is_not_the_published_file_is_not_kept(fault: str) -> None:
    """Another hash, no file or half a file is one line, and nothing stays behind."""
    sha256 = hashlib.sha256(PARTI.encode()).hexdigest()
    data = {"missing": {}, "cut": {"/p.tsv": PARTI.encode()}}
    shelf = Shelf(files=data.get(fault, {"/p.tsv": b"x"}), cut=fault == "cut")
    with (
        shelf.open() as url,
        pytest.raises(ConfigurationError, match="give it with --file") as caught,
    ):
        fetch(_source(url, sha256=sha256), cache_folder())

    gc.collect()
    assert "\n" not in str(caught.value)
    assert [] == [path for path in cache_folder().rglob("*") if path.is_file()]


def test_without_pooch_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Downloading needs an extra."""
    monkeypatch.setitem(sys.modules, "pooch", None)

    with pytest.raises(ConfigurationError, match=r"socratic-agents\[lab\]"):
        fetch(_source("http://127.0.0.1:1"), cache_folder())


def test_the_hub_is_asked_only_where_it_may_be(tmp_path: Path) -> None:
    """Without a network the message says what to do; a kept file is verified."""
    pytest.importorskip("huggingface_hub")
    data = parquet(DIFFUSIONDB)
    source = replace(PROMPT_SETS["diffusiondb"].sources[0], sha256=None)
    with pytest.raises(ConfigurationError, match="give it with --file"):
        fetch(source, tmp_path)

    kept = write(tmp_path / "main/metadata.parquet", data)
    assert kept == fetch(source, tmp_path)
    with pytest.raises(ConfigurationError, match="its sha256 is"):
        fetch(replace(source, sha256="0" * 64), tmp_path)
    assert not kept.exists()


FROM_HUB = """
import json, sys
from socratic_agents.lab.datasets.loader import load_set
print(json.dumps([row.text for row in load_set("diffusiondb").rows]))
"""


def test_the_hub_gives_the_file_of_the_dataset() -> None:
    """The client of the hub fetches the file into our cache, from its endpoint."""
    path = "/datasets/poloclub/diffusiondb/resolve/main/metadata.parquet"
    shelf = Shelf(files={path: parquet(DIFFUSIONDB)})
    # What the client knows of its endpoint it reads when it is imported.
    with shelf.open() as url:
        run = subprocess.run(
            [sys.executable, "-c", FROM_HUB],
            env={**os.environ, "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0"},
            capture_output=True,
            text=True,
            check=False,
        )

    assert 0 == run.returncode, run.stderr
    assert ["a castle, oil painting", "a naked tree", ""] == json.loads(run.stdout)
    assert f"GET {path}" in shelf.asked
    kept = cache_folder() / "diffusiondb/main/metadata.parquet"
    assert parquet(DIFFUSIONDB) == kept.read_bytes()


@given(st.binary(max_size=60), st.sampled_from([*records.ENDINGS, ".json", ".zip"]))
def test_no_bytes_raise_anything_else(data: bytes, ending: str) -> None:
    """Whatever is in a file, it is read or refused with our own error."""
    piece = SetFile(name=f"x{ending}", data=data)
    for one in PROMPT_SETS.values():
        with suppress(ConfigurationError):
            rows = one.parse([piece])
            assert all(text == text.strip() for text in texts(tuple(rows)))
