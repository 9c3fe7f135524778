"""What is written out when others' words are shown, and what stays as it is."""

import sys
import unicodedata

import pytest

from relay.model.printable import escaped, escaped_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, 日本語\u3000と\xa0é 👍🏽", "plain text, 日本語\u3000と\xa0é 👍🏽"),
        ("\x1b]52;c;x\x07", r"\x1b]52;c;x\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("a\u200bb\u200dc\ufeff", r"a\u200bb\u200dc\ufeff"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("\udc80", r"\udc80"),
        ("\U000e0041", r"\U000e0041"),
        (r"C:\x1b", r"C:\x1b"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_of_all_characters_only_visible_ones_and_blanks_are_left() -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    kinds = {unicodedata.category(each) for each in escaped(everything)}
    assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert "\n" not in escaped(everything)


def test_line_breaks_of_ours_can_stay() -> None:
    assert escaped_lines("a\x1b\nb\r\n") == "a\\x1b\nb\\r\n"
