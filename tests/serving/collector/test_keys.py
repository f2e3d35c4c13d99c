"""Write keys: the file, and who may send."""

from pathlib import Path

import pytest

from streamgauge.serving.collector.errors import KeyFileError, Refusal
from streamgauge.serving.collector.keys import KeyRing, digest, load

FILE = f"""
[[keys]]
name = "shop"
key = "wk_shop"
scopes = ["browser"]
origins = ["https://shop.example", "https://*.shop.example"]
client_rate = 50

[[keys]]
name = "backend"
sha256 = "{digest("wk_backend")}"
event_types = ["search"]
rate = 1000
"""


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    path = tmp_path / "keys.toml"
    path.write_text(FILE)
    return KeyRing(load(path))


def test_a_key_is_found_by_itself_or_its_digest(ring: KeyRing) -> None:
    assert ring.permit("wk_backend", None).name == "backend"
    shop = ring.permit("wk_shop", "https://shop.example")
    assert (shop.name, shop.client_rate, shop.rate) == ("shop", 50, None)


@pytest.mark.parametrize(
    ("key", "origin", "status", "code"),
    [
        (None, None, 401, "no_key"),
        ("", "https://shop.example", 401, "no_key"),
        ("wk_wrong", None, 401, "unknown_key"),
        ("\udcff", None, 401, "unknown_key"),
        ("wk_shop", None, 403, "scope"),
        ("wk_shop", "https://evil.example", 403, "origin"),
        ("wk_shop", "https://shop.example.evil.example", 403, "origin"),
        ("wk_backend", "https://shop.example", 403, "origin"),
    ],
)
def test_who_may_not_send_is_told_why(
    ring: KeyRing, key: str | None, origin: str | None, status: int, code: str
) -> None:
    with pytest.raises(Refusal) as refused:
        ring.permit(key, origin)
    assert (refused.value.status, refused.value.code) == (status, code)


def test_a_preflight_asks_for_the_origin_alone(ring: KeyRing) -> None:
    assert ring.from_origin("https://www.shop.example")
    assert not ring.from_origin("https://evil.example")


def test_without_keys_everybody_may_send_from_the_origins_given() -> None:
    assert KeyRing(None).permit(None, "https://any.example").name == "open"
    assert KeyRing(None, ["https://shop.example"]).permit(None, None).name == "open"
    with pytest.raises(Refusal):
        KeyRing(None, ["https://shop.example"]).permit(None, "https://any.example")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys = 3", "holds"),
        ("[[keys]]\nkey = 'a'", "needs a name"),
        ("[[keys]]\nname = 'a'", "key or sha256"),
        ("[[keys]]\nname = 'a'\nkey = 'k'\nsha256 = 'd'", "one of them"),
        ("[[keys]]\nname = 'a'\nkey = 'k'\nscope = []", "unknown scope"),
        ("[[keys]]\nname = 'a'\nkey = 'k'\nscopes = ['admin']", "no scope admin"),
        ("[[keys]]\nname = 'a'\nkey = 'k'\nscopes = ['browser']", "needs origins"),
        ("[[keys]]\nname = 'a'\nkey = 'k'\nrate = -1", "rate is a number"),
        ("[[keys]]\nname = 'a'\nkey = 'k'\norigins = 'x'", "list of strings"),
        ("[[keys]]\nname = 'a'\nkey = 'k'\n[[keys]]\nname = 'b'\nkey = 'k'", "already"),
        ("not toml", "cannot read"),
    ],
)
def test_a_wrong_file_is_an_error_that_says_where(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(KeyFileError, match=said):
        load(path)
