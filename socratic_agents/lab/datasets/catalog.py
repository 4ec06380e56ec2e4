"""The prompt sets of the laboratory: what there is, where it is from, how it is read.

None of them is part of this package: each is downloaded on first use, or read from a
file that is there already.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from socratic_agents.config.registry import Registry
from socratic_agents.lab.datasets.download import Source
from socratic_agents.lab.datasets.parsers import (
    COMPBENCH,
    parse_coco,
    parse_compbench,
    parse_diffusiondb,
    parse_dpg,
    parse_dsg,
    parse_file,
    parse_geneval,
    parse_parti,
)

if TYPE_CHECKING:
    from socratic_agents.lab.datasets.parsers import Parse

__all__ = ("FILE", "PROMPT_SETS", "PromptSet")

FILE = "file"
"""The set that is anybody's own file."""


@dataclass(frozen=True)
class PromptSet:
    """One set of prompts, as it was published."""

    name: str
    """What it is called on the command line."""
    _: KW_ONLY
    title: str
    parse: Parse
    """Turns its files into rows."""
    sources: tuple[Source, ...] = ()
    """The files that are downloaded; none where people bring their own."""
    members: tuple[str, ...] = ()
    """Patterns of the files that are read of a folder or an archive."""
    licence: str = "that of its owner"
    citation: str = ""

    @property
    def revision(self) -> str | None:
        """The commit of its files, or the branch where no commit could be learned."""
        return self.sources[0].revision if self.sources else None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "set": self.name,
            "title": self.title,
            "sources": [
                {"url": source.url, "sha256": source.sha256} for source in self.sources
            ],
            "revision": self.revision,
            "licence": self.licence,
            "citation": self.citation,
        }


def _github(
    repository: str, path: str, revision: str, sha256: str | None = None
) -> Source:
    """Return a file of a public repository at one commit."""
    return Source(
        name=path.rpartition("/")[2],
        url=f"https://github.com/{repository}/raw/{revision}/{path}",
        revision=revision,
        sha256=sha256,
    )


PROMPT_SETS = Registry(
    "a prompt set",
    (
        PromptSet(
            "parti",
            title="PartiPrompts: 1,632 prompts in 12 categories and 11 challenges",
            parse=parse_parti,
            sources=(
                _github(
                    "google-research/parti",
                    "PartiPrompts.tsv",
                    "2c99f6652cbc7f0d0441aa91f4c7e7055bcb0071",
                    "fab29e41bb512a169b56acab4cf2a41dcb675e285df2efcde6640c7dd3c440eb",
                ),
            ),
            members=("*.tsv",),
            licence="Apache-2.0",
            citation='J. Yu et al., "Scaling Autoregressive Models for Content-Rich Text-to-Image Generation", TMLR 2022',
        ),
        PromptSet(
            "coco",
            title="COCO Captions: 30,000 captions of photographs, each of another one",
            parse=parse_coco,
            sources=(
                _github(
                    "rohitgandikota/erasing",
                    "data/coco_30k.csv",
                    "3d10dd1b2df4ec4e74edcadac4200c7401585138",
                    "42c57b188c8f1f8a77cddfa11cde89e83fcbdd4dcd4fc6c840fb4e046d395383",
                ),
            ),
            members=("captions_val*.json", "coco*.csv"),
            licence="CC BY 4.0 (captions); each photograph has its own",
            citation='X. Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server", arXiv:1504.00325, 2015; the 30,000 were chosen by R. Gandikota et al., "Erasing Concepts from Diffusion Models", ICCV 2023',
        ),
        PromptSet(
            "diffusiondb",
            title="DiffusionDB: 2 million prompts that people gave to Stable Diffusion",
            parse=parse_diffusiondb,
            sources=(
                Source(
                    name="metadata.parquet",
                    url="https://huggingface.co/datasets/poloclub/diffusiondb/resolve/main/metadata.parquet",
                    revision="main",
                    hub="poloclub/diffusiondb",
                ),
            ),
            members=("metadata*.parquet", "*.csv"),
            licence="CC0-1.0",
            citation='Z. J. Wang et al., "DiffusionDB: A Large-scale Prompt Gallery Dataset for Text-to-Image Generative Models", ACL 2023',
        ),
        PromptSet(
            "dsg",
            title="DSG-1k: 1,060 prompts of ten sets, with 8,182 questions",
            parse=parse_dsg,
            sources=(
                _github(
                    "j-min/DSG",
                    "dsg-1k-anns.csv",
                    "3f844c1dadd141e5c7b3e9d68f3889208c9b6248",
                    "b7ce06ea8a0478ccfd8fba105ecd26d7d301eb99d5c412987546c4cc8e08917a",
                ),
            ),
            members=("dsg-1k*.csv",),
            licence="Apache-2.0",
            citation='J. Cho et al., "Davidsonian Scene Graph: Improving Reliability in Fine-grained Evaluation for Text-to-Image Generation", ICLR 2024',
        ),
        PromptSet(
            "geneval",
            title="GenEval: 553 prompts on objects, counts, colours and positions",
            parse=parse_geneval,
            sources=(
                _github(
                    "djghosh13/geneval", "prompts/evaluation_metadata.jsonl", "af4902f"
                ),
            ),
            members=("*.jsonl",),
            licence="MIT",
            citation='D. Ghosh et al., "GenEval: An Object-Focused Framework for Evaluating Text-to-Image Alignment", NeurIPS 2023',
        ),
        PromptSet(
            "t2i_compbench",
            title="T2I-CompBench: prompts of 8 categories of composition, 300 in each",
            parse=parse_compbench,
            sources=tuple(
                _github(
                    "Karine-Huang/T2I-CompBench",
                    f"examples/dataset/{category}_val.txt",
                    "1b70949",
                )
                for category in COMPBENCH
            ),
            members=tuple(f"{category}*.txt" for category in COMPBENCH),
            licence="MIT",
            citation='K. Huang et al., "T2I-CompBench: A Comprehensive Benchmark for Open-world Compositional Text-to-image Generation", NeurIPS 2023',
        ),
        PromptSet(
            "dpg",
            title="DPG-Bench: 1,065 long prompts, with questions",
            parse=parse_dpg,
            sources=(
                _github("TencentQQGYLab/ELLA", "dpg_bench/dpg_bench.csv", "3c228f1"),
            ),
            members=("dpg*.csv", "*.txt"),
            licence="Apache-2.0",
            citation='X. Hu et al., "ELLA: Equip Diffusion Models with LLM for Enhanced Semantic Alignment", arXiv:2403.05135, 2024',
        ),
        PromptSet(
            FILE,
            title="Your own file: .txt, .csv, .tsv, .json, .jsonl or .parquet",
            parse=parse_file,
            members=("*.txt", "*.csv", "*.tsv", "*.jsonl", "*.parquet"),
        ),
    ),
    spec=PromptSet,
    group="socratic_agents.prompt_sets",
)
"""Every prompt set, by its name."""
