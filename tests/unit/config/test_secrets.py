import contextlib
import gc
import json
import os
import string
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.secrets import (
    MAX_FILE_BYTES,
    Resolver,
    Secret,
    escape,
    has_reference,
    mask_url,
    parse,
    read_text,
)
from relay.model.errors import ConfigError, SecretUnset


def resolver(folder: Path = Path("/"), **environ: str) -> Resolver:
    return Resolver(environ, folder)


def test_secret_shows_no_value_however_it_is_printed() -> None:
    secret = Secret("s3cr3t")

    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>12}", f"{secret!r}", repr([secret])]
    assert not any("s3cr3t" in text for text in shown)
    assert secret.reveal() == "s3cr3t"


def test_secret_is_no_json() -> None:
    with pytest.raises(TypeError):
        json.dumps({"token": Secret("s3cr3t")})
    with pytest.raises(TypeError):
        msgspec.json.encode({"token": Secret("s3cr3t")})


def test_secrets_are_equal_when_their_texts_are() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a")}) == 1
    assert Secret("a") != "a"


def test_expand_fills_in_all_kinds(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    (tmp_path / "cred").mkdir()
    (tmp_path / "cred" / "name").write_text("from-credential")
    environ = {"T": "from-env", "CREDENTIALS_DIRECTORY": str(tmp_path / "cred")}

    text = Resolver(environ, tmp_path).expand(
        "a ${env:T} b ${file:token} c ${credential:name} d $$"
    )

    assert text == "a from-env b from-file c from-credential d $"


@pytest.mark.parametrize(
    ("content", "value"),
    [("x\n", "x"), ("x\r\n", "x"), ("x\n\n", "x\n"), ("x", "x"), ("x\r", "x\r")],
)
def test_file_loses_one_newline_at_its_end(tmp_path: Path, content: str, value: str) -> None:
    (tmp_path / "f").write_bytes(content.encode())

    assert resolver(tmp_path).expand("${file:f}") == value


def test_file_is_read_anew_each_time(tmp_path: Path) -> None:
    source = resolver(tmp_path)
    (tmp_path / "f").write_text("old")
    assert source.expand("${file:f}") == "old"

    (tmp_path / "f").write_text("new")

    assert source.expand("${file:f}") == "new"


@pytest.mark.parametrize("template", ["$", "a$b", "$HOME", "${", "${env}", "${env:A", "${FOO}"])
def test_lone_dollar_is_an_error_without_the_text(template: str) -> None:
    with pytest.raises(ConfigError, match="dollar at character") as caught:
        parse("s3cr3t" + template)

    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        *["${vault:s3cr3t}", "${env:s3cr3t x}", "${env:}", "${file:}"],
        *["${credential:../s3cr3t}", "${credential:..}", "${credential:}"],
    ],
)
def test_malformed_reference_is_an_error_not_unset(template: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolver().expand(template)

    assert not isinstance(caught.value, SecretUnset)
    assert "s3cr3t" not in str(caught.value)


def test_unset_and_empty_variables_are_unset_by_name() -> None:
    with pytest.raises(SecretUnset, match=r"secret \$\{env:NOPE\} is not set"):
        resolver().expand("${env:NOPE}")
    with pytest.raises(SecretUnset, match=r"secret \$\{env:EMPTY\} is not set"):
        resolver(EMPTY="").expand("${env:EMPTY}")


def test_unreadable_files_are_unset_with_the_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    (tmp_path / "binary").write_bytes(b"s3cr3t\xff")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "loop").symlink_to("loop")
    reasons = {
        "absent": "No such file",
        "pipe": "no regular file",
        ".": "no regular file",
        "large": "larger than 1 MB",
        "binary": "not UTF-8",
        "empty": "not set",
        "loop": "symbolic links",
        "x" * 300: "too long",
    }
    for name, reason in reasons.items():
        with pytest.raises(SecretUnset, match=reason) as caught:
            resolver(tmp_path).expand(f"${{file:{name}}}")
        assert "s3cr3t" not in str(caught.value)


def test_read_text_leaks_no_descriptor_when_it_refuses(tmp_path: Path) -> None:
    gc.collect()  # what other tests left open is no longer closed meanwhile
    before = len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(5):
        with pytest.raises(ConfigError):
            read_text(tmp_path)

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_credential_says_when_there_is_no_folder_of_them() -> None:
    with pytest.raises(SecretUnset, match="CREDENTIALS_DIRECTORY"):
        resolver().expand("${credential:token}")


def test_value_is_not_searched_for_references() -> None:
    assert resolver(A="${env:B} $$ $", B="x").expand("${env:A}") == "${env:B} $$ $"


def test_resolver_shows_no_environment() -> None:
    assert "s3cr3t" not in repr(resolver(A="s3cr3t"))


@given(st.text())
def test_escaped_text_expands_to_itself(text: str) -> None:
    assert resolver().expand(escape(text)) == text
    assert not has_reference(escape(text))


@given(st.lists(st.tuples(st.text(), st.text(min_size=1)), max_size=5))
def test_references_between_any_texts_expand(pairs: list[tuple[str, str]]) -> None:
    environ = {f"V{number}": value for number, (_, value) in enumerate(pairs)}
    template = "".join(f"{escape(text)}${{env:V{n}}}" for n, (text, _) in enumerate(pairs))

    expanded = Resolver(environ, Path("/")).expand(template)

    assert expanded == "".join(text + value for text, value in pairs)


@given(st.text(alphabet="${}:/.\0abenvfilcrdt", max_size=30) | st.text())
def test_any_template_expands_or_is_a_config_error(template: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(resolver(Path("/nonexistent")).expand(template), str)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://api.axiom.co/v1/traces", "https://api.axiom.co/v1/traces"),
        ("https://u:p@host:1/x?k=v#f", "https://***@host:1/x?***"),
        ("https://host/x?k=a@b", "https://host/x?***"),
        ("https://u:p/q@host/x", "https://***@host/x"),
        ("https://u:p?q@host/x", "https://***"),
        ("http://u:a//b@host/x", "http://***@host/x"),
        ("u:p@host", "***@host"),
        ("", ""),
    ],
)
def test_mask_url_hides_userinfo_and_query(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@given(st.text(alphabet=string.ascii_letters + "/#?@:%", max_size=12))
def test_mask_url_never_shows_a_password(noise: str) -> None:
    assert "s3cr3t" not in mask_url(f"https://user:x{noise}s3cr3t@host/path")
