"""What is known of a resource, and that remembering it stays within bounds."""

import pytest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from relay.model.records import BodyFlag
from relay.otlp.json_values import Findings
from relay.otlp.resources import KnownResource, ResourceCache, know_json, know_protobuf
from tests.support import builders


def known(text: bytes = b"{}") -> KnownResource:
    return KnownResource(text, {}, Findings())


def test_keys_hold_those_with_empty_values_too() -> None:
    attributes = [
        {"key": "a", "value": {}},
        {"key": "b"},
        builders.text_attribute("c", ""),
        builders.text_attribute("service.name", "shop"),
    ]
    found = know_json(builders.to_body({"attributes": attributes}))

    assert found.keys == {"a", "b", "c", "service.name"}
    assert found.service == "shop"
    assert found.warnings == {}
    assert found.enriched == [None, None]


def test_last_of_duplicate_service_names_counts() -> None:
    pairs = [builders.text_attribute("service.name", name) for name in ("first", "last")]
    found = know_json(builders.to_body({"attributes": pairs}))

    assert found.service == "last"
    assert found.warnings == {"attribute_key_duplicate": 1}


@pytest.mark.parametrize("value", [{"intValue": "5"}, {}, {"arrayValue": {}}])
def test_service_name_that_is_no_text_is_none(value: builders.Json) -> None:
    text = builders.to_body({"attributes": [{"key": "service.name", "value": value}]})

    assert know_json(text).service == ""


def test_text_becomes_normal_whichever_way_it_needs() -> None:
    normal = b'{"attributes":[{"key":"i","value":{"intValue":"5"}}]}'

    for text in (
        b' {"attributes" : [{"key":"i","value":{"intValue":5}}]}',
        b'{"attributes":[{"key":"i","value":{"stringValue":"x","intValue":"5"}}]}',
        b'{"new":1,"attributes":[{"key":"i","value":{"intValue":"5.0"}}],"droppedAttributesCount":null}',
    ):
        assert know_json(text).normal == normal


def test_leniencies_are_told() -> None:
    found = know_json(b'{"dropped_attributes_count":1,"attributes":[{"key":""}]}')

    assert found.warnings == {"attribute_key_empty": 1, "snake_case": 1}


def test_flags_are_known() -> None:
    text = builders.to_body({"attributes": [{"key": "d", "value": {"doubleValue": "NaN"}}]})

    assert know_json(text).flags == BodyFlag.SPECIAL_DOUBLES


def test_what_is_no_resource_is_an_empty_one_and_told() -> None:
    found = know_json(b"[]")

    assert found.normal == b"{}"
    assert found.warnings == {"envelope_unreadable": 1}
    assert found.places == {"envelope_unreadable": ["resource"]}


def test_protobuf_resource_is_known_by_the_same_rules() -> None:
    resource = Resource()
    for key, text in (("service.name", "a"), ("service.name", "b"), ("", "x")):
        resource.attributes.add(key=key).value.string_value = text
    found = know_protobuf(resource, resource.SerializeToString())

    assert found.keys == {"service.name", ""}
    assert found.service == "b"
    assert found.warnings == {"attribute_key_duplicate": 1, "attribute_key_empty": 1}
    assert found.normal == resource.SerializeToString()


def test_cache_gives_back_what_was_put() -> None:
    cache = ResourceCache()
    found = known()
    cache.put(b"a", found)

    assert cache.get(b"a") is found
    assert cache.get(b"b") is None


def test_cache_forgets_the_oldest_beyond_its_entries() -> None:
    cache = ResourceCache(max_entries=2)
    for text in (b"a", b"b", b"c"):
        cache.put(text, known())

    assert cache.get(b"a") is None
    assert cache.get(b"c") is not None
    assert len(cache) == 2


def test_cache_stays_within_its_bytes() -> None:
    cache = ResourceCache(max_bytes=10_000)
    for number in range(100):
        cache.put(b"%d" % number, known(b"x" * 500))

    assert 0 < cache.size_bytes <= 10_000
    assert len(cache) == 4
    assert cache.get(b"99") is not None


def test_cache_remembers_up_to_the_last_byte_and_forgets_with_one_more() -> None:
    cost = 1 + 4 * 500
    for lack in (0, 1):
        cache = ResourceCache(max_bytes=2 * cost - lack)
        for text in (b"a", b"b"):
            cache.put(text, known(b"x" * 500))
        assert (len(cache), cache.size_bytes) == (2 - lack, (2 - lack) * cost)


def test_cache_counts_a_text_once() -> None:
    cache = ResourceCache()
    cache.put(b"a", known())
    size = cache.size_bytes
    cache.put(b"a", known())

    assert cache.size_bytes == size


def test_cache_does_not_take_large_texts() -> None:
    cache = ResourceCache()
    cache.put(b"x" * (64 * 1024 + 1), known())
    assert len(cache) == 0
    cache.put(b"x" * (64 * 1024), known())
    assert len(cache) == 1
