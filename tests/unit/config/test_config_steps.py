"""The tables of steps: what they are read as, and what is wrong with them."""

from pathlib import Path

import pytest

from relay.config import DestinationConfig
from relay.config.load import load
from relay.config.steps import AttributesConfig, RedactConfig
from relay.model.errors import ConfigError

HEAD = '[destinations.d]\nendpoint = "https://c.example/v1/traces"\nsignals = ["traces", "logs"]\n'


def read(folder: Path, text: str) -> DestinationConfig:
    (folder / "relay.toml").write_text(f'state_dir = "state"\n{HEAD}{text}')
    return load(folder / "relay.toml", {}).destinations[0]


def test_tables_are_read_for_each_signal(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """match = 'name != "$x"'
        [destinations.d.redact]
        keys = ["*password*"]
        patterns = ["email", '/^sk-[a-z]+$/']
        with = "hash"
        [destinations.d.attributes]
        set = { team = "shop", n = 1 }
        rename = { "old.name" = "new" }
        delete = ["debug.*"]
        """,
    )

    key_file = tmp_path / "state" / "redaction-key"
    assert [view.redact for view in found.views] == 2 * [
        RedactConfig(
            keys=("*password*",),
            patterns=("email", "/^sk-[a-z]+$/"),
            replace_with="hash",
            key_file=key_file,
        )
    ]
    assert found.views[1].attributes == AttributesConfig(
        set={"team": "shop", "n": 1}, rename={"old.name": "new"}, delete=("debug.*",)
    )
    assert found.match == 'name != "$x"'
    assert found.has_steps


def test_empty_tables_are_no_steps(tmp_path: Path) -> None:
    assert not read(tmp_path, 'match = ""\nredact = {}\nattributes = { set = {} }\n').has_steps


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("redact = 1", "destinations.d.redact: must be a table of keys, patterns, with"),
        ("redact = { key = [] }", "destinations.d.redact.key: there is no such key (did you mean"),
        ('redact = { keys = "x" }', "destinations.d.redact.keys: must be a list in brackets"),
        ("redact = { keys = [1] }", "destinations.d.redact.keys[0]: must be a key"),
        ('redact = { patterns = ["emial"] }', "there is no pattern 'emial' (did you mean email?"),
        ('redact = { patterns = ["email", "/(/"] }', "redact.patterns[1]: is no pattern of RE2"),
        ('redact = { patterns = ["/x*/"] }', "matches an empty text"),
        ('redact = { patterns = ["/red/"] }', "matches [redacted]"),
        ('redact = { with = "x" }', 'must be one of "mask", "hash", "drop"'),
        ("attributes = { set = { a = [1] } }", "must be a string, a number, true or false"),
        ("attributes = { set = { a.b = 1 } }", "put a name with dots in quotes"),
        ('attributes = { rename = { a = "" } }', "must be a name for 'a'"),
        ("match = 1", "destinations.d.match: must be a string"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)

    assert told in str(caught.value)
