"""YAML and JSON files read together with the line on which each value stands, so that errors can name it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cairn_client.errors import InputError

Path_ = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of truth: `yes`, `no`, `on` and `off` are words, as people mean them in lists of
    classes."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: its value, and for each path into it the line and the text as written."""

    source: str
    value: Any
    lines: dict[Path_, int]
    texts: dict[Path_, str]

    def error(self, path: Path_, message: str) -> InputError:
        """An error that names the file and the line of the value at `path`, or of what holds it."""
        while path and path not in self.lines:
            path = path[:-1]
        return InputError(f"{self.source}, line {self.lines.get(path, 1)}: {message}")

    def text(self, path: Path_, value: object) -> str:
        """A scalar as it was written: `01` stays `01`, and `no` is not false."""
        return self.texts.get(path, str(value))


def read_document(file: Path | str) -> Document:
    """Read a YAML or JSON file. Raises InputError naming the line when it is neither."""
    path = Path(file)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}).") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    return parse_document(text, str(path))


def parse_document(text: str, source: str) -> Document:
    """Parse YAML or JSON text; `source` is what errors call it."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[Path_, int] = {}
        texts: dict[Path_, str] = {}
        value = None if node is None else _build(loader, node, (), lines, texts)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"{source}{where}: {getattr(error, 'problem', None) or error}.") from None
    finally:
        loader.dispose()
    return Document(source, value, lines, texts)


def _build(
    loader: _Loader, node: yaml.Node, path: Path_, lines: dict[Path_, int], texts: dict[Path_, str]
) -> Any:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in built:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} is given twice", key_node.start_mark
                )
            built[key] = _build(loader, value_node, (*path, key), lines, texts)
            lines[(*path, key)] = key_node.start_mark.line + 1
        return built
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, child, (*path, place), lines, texts) for place, child in enumerate(node.value)]
    texts[path] = str(node.value)
    return loader.construct_object(node)
