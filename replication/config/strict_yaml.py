"""YAML without its traps: a key given twice, and numbers that are not what they look like."""

from __future__ import annotations

import re
from typing import Any

import yaml

from replication.errors import ConfigError

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def load_strictly(text: str) -> Any:
    """The plain objects of a document.

    Raises:
        ConfigError: a key is there twice in one section, where YAML silently takes the last; or a number is written
            in base 60 (1:30) or 8 (010), which versions of YAML, and so this program and DVC, read differently.
        yaml.YAMLError: see PyYAML.
    """
    loader = _StrictLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _StrictLoader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # reported by whoever reads the section
            if key.value in seen:
                raise ConfigError(f"line {key.start_mark.line + 1}: {key.value[:60]!r} is there twice; leave one")
            seen.add(key.value)
            for item in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                _check_number(key.value, item)
        return node


def _check_number(key: str, node: yaml.Node) -> None:
    if node.tag in _NUMBERS and re.fullmatch(r"[-+]?0[0-9_]+|.*:.*", node.value):
        raise ConfigError(
            f"line {node.start_mark.line + 1}: {key[:60]!r}: {node.value[:60]!r} is no decimal number to YAML; write "
            "it without leading zeros and colons"
        )
