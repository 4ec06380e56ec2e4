"""YAML of people's files: no aliases, no merge keys, no dates, and a most of values.

PyYAML's own safe loader lets a file of a kilobyte fill the memory (a merge key copies
what its aliases name), and raises whatever a wrong date or number raises.
"""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ("parse_yaml",)

MOST_VALUES = 20_000
"""Keys, texts, lists and mappings of a file; the shipped ones have a few hundred."""

LONGEST_NUMBER = 40
"""Characters; reading a longer one takes time with the square of its length."""

_DATE, _MERGE = "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge"
_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})


class _Loader(yaml.SafeLoader):
    """Builds texts, numbers, lists and mappings, each from what is written out."""

    most = MOST_VALUES
    values = 0

    # A date stays the text that it is.
    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
        first: [(tag, pattern) for tag, pattern in found if tag != _DATE]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML has no types
        self.values += 1
        fault = None
        if isinstance(event, yaml.AliasEvent):
            fault = "an alias; write out what it stands for"
        elif self.values > self.most:
            fault = f"more than {self.most:,} values"
        if fault is not None:
            raise yaml.composer.ComposerError(None, None, fault, event.start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - as the base class has it
        fault = None
        if node.tag == _MERGE:
            fault = "a merge key; write out what it stands for"
        elif node.tag in _NUMBERS and len(node.value) > LONGEST_NUMBER:
            fault = f"a number of more than {LONGEST_NUMBER} digits"
        if fault is not None:
            raise yaml.constructor.ConstructorError(None, None, fault, node.start_mark)
        return super().construct_object(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave merge keys where they are; ``construct_object`` refuses them."""


def parse_yaml(data: bytes | str, *, most: int = MOST_VALUES) -> Any:
    """Return what a file says.

    Args:
        data: The file.
        most: Values that it may hold.

    Raises:
        ValueError: If it is no YAML, or none that is read here. The message, on one
            line, says what is wrong where, without the lines themselves: they may be
            secret.
    """
    try:
        loader = _Loader(data)
        loader.most = most
        return loader.get_single_data()
    except RecursionError:
        fault = "lists or mappings that are nested too deeply"
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        fault = f"{problem.problem}{place}"
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        fault = str(problem)
    # What is tagged as a date or a number and is none raises anything.
    except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError):
        fault = "a value that is not what its tag or its form says"
    message = f"expected YAML, got {' '.join(fault.split())[:200]}"
    raise ValueError(message) from None  # the original shows what is in the file
