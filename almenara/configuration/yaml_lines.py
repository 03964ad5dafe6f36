"""YAML that remembers its lines, so that an error can point at one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from almenara.errors import InputError

Location = tuple[str | int, ...]
"""Keys and indices from the root to a value."""

MOST_VALUES = 50_000
MOST_DEPTH = 30

_WORDS = {
    r"'\t' that cannot start": "a tab is no indentation: indent with spaces",
    "expected <block end>": "this line is indented unlike its neighbours",
    "mapping values are not allowed": "this line is indented unlike its neighbours, or holds a text with ': ' in it "
    "that lacks its quotes",
    "could not find expected ':'": "a name lacks its ':'",
    "found unexpected end of stream": "a quote is opened and never closed",
}
"""What to say for a fragment of the parser's own words."""

_NAME = re.compile(r"""\b(alias|anchor|tag|handle) (['"]).*\2""")


@dataclass(frozen=True)
class Document:
    """A parsed document.

    Attributes:
        data: plain values.
        lines: location -> line, from 1, of the key (or list item) at it.
    """

    data: Any
    lines: Mapping[Location, int]

    def line(self, location: Location) -> int:
        """The line of a location, or of the nearest thing around it that the document has."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


def parse_yaml(text: str, name: str) -> Document:
    """Parses one document; a key given twice is refused.

    Raises InputError `config-syntax`, with `name` and the line, when it is no YAML, holds more than 50,000 values with
    its aliases written out, or is nested more than 30 deep.
    """
    lines: dict[Location, int] = {(): 1}
    try:
        loader = _Loader(text)
    except yaml.YAMLError:
        raise InputError("config-syntax", f"{name} holds characters that no text has.", "Name a YAML file.") from None
    try:
        node = loader.get_single_node()
        if node is None:
            return Document({}, lines)
        _note_lines(node, (), lines)
        return Document(loader.construct_document(node), lines)
    except yaml.MarkedYAMLError as error:
        begun = error.context_mark if str(error.context).startswith("while scanning") else None
        mark = begun or error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise InputError("config-syntax", f"{name}, line {line}: {_problem(error)}.", "Mend the YAML there.") from None
    except (ValueError, OverflowError):
        fact = f"{name} holds a number that cannot be, such as that of a character."
        raise InputError("config-syntax", fact, "Put text in single quotes.") from None
    except RecursionError:
        raise InputError("config-syntax", f"{name} is nested too deeply.", "Mend the YAML.") from None
    except yaml.YAMLError as error:
        raise InputError("config-syntax", f"{name} is no YAML: {error}.", "Save it as UTF-8 text.") from None
    finally:
        loader.dispose()


def _problem(error: yaml.MarkedYAMLError) -> str:
    """What is wrong, without the name of an alias or a tag: it may be a password that nobody put in quotes."""
    problem = str(error.problem)
    plain = next((words for fragment, words in _WORDS.items() if fragment in problem), None)
    return plain or _NAME.sub(r"\1", problem)


class _Loader(yaml.SafeLoader):
    """Knows the line of a value that looks like another kind than it is."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError):
            problem = "this looks like a date or a number and is none: put text in quotes"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


def _note_lines(node: yaml.Node, at: Location, lines: dict[Location, int]) -> None:
    if len(lines) > MOST_VALUES or len(at) > MOST_DEPTH:
        raise yaml.MarkedYAMLError(problem="too much in one file", problem_mark=node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[*at, index] = item.start_mark.line + 1
            _note_lines(item, (*at, index), lines)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            location = (*at, str(key.value))
            if location in lines:
                raise yaml.MarkedYAMLError(problem=f"'{key.value}' is given twice", problem_mark=key.start_mark)
            lines[location] = key.start_mark.line + 1
            _note_lines(value, location, lines)
