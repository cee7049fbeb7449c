"""A message and its JSON form, and bytes that are neither."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acked.errors import MessageUnreadable
from acked.message import (
    FURTHEST,
    MAX_ID_LENGTH,
    MAX_NAME_LENGTH,
    MAX_QUEUE_LENGTH,
    PRIORITIES,
    Message,
    decode,
    decode_arguments,
    encode,
    new_id,
)

characters = st.characters(exclude_categories=["Cs"])
text = st.text(characters)
numbers = st.floats(allow_nan=False, allow_infinity=False)
times = st.floats(-FURTHEST, FURTHEST)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | numbers | text
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=5
)
raw = values.map(msgspec.json.encode).map(msgspec.Raw)

messages = st.builds(
    Message,
    id=st.text(characters, min_size=1, max_size=MAX_ID_LENGTH),
    task=text,
    args=st.lists(values).map(msgspec.json.encode).map(msgspec.Raw),
    kwargs=st.dictionaries(text, values).map(msgspec.json.encode).map(msgspec.Raw),
    queue=st.text(characters, min_size=1, max_size=MAX_QUEUE_LENGTH),
    priority=st.sampled_from(PRIORITIES),
    eta=st.none() | times,
    expires=st.none() | times,
    sent=times,
    max_retries=st.none() | st.integers(0, 2**63) | st.just(msgspec.UNSET),
    soft_time_limit=numbers | st.just(msgspec.UNSET),
    time_limit=numbers | st.just(msgspec.UNSET),
    ignore_result=st.booleans() | st.just(msgspec.UNSET),
    headers=st.dictionaries(text, values),
    parent_id=st.none() | text,
    root_id=st.none() | text,
)


def body(args: bytes = b"[]", *, kwargs: bytes = b"{}", more: bytes = b"") -> bytes:
    return b'{"id":"a","task":"t","args":' + args + b',"kwargs":' + kwargs + more + b"}"


def read(data: bytes) -> tuple[Message, list[Any], dict[str, Any]] | None:
    """What a worker makes of *data*; None where it is refused."""
    try:
        message = decode(data)
        return message, *decode_arguments(message)
    except MessageUnreadable as error:
        assert str(error)
        return None


def nested(depth: int, inside: bytes = b"") -> bytes:
    return b"[" * depth + inside + b"]" * depth


@given(messages)
def test_a_message_comes_back_as_it_was_sent(message: Message) -> None:
    assert decode(encode(message)) == message


@given(messages)
def test_its_arguments_come_back_as_they_were_sent(message: Message) -> None:
    args, kwargs = decode_arguments(decode(encode(message)))

    assert args == json.loads(bytes(message.args))
    assert kwargs == json.loads(bytes(message.kwargs))


@given(messages)
def test_its_form_is_one_json_object_any_parser_reads(message: Message) -> None:
    plain = json.loads(encode(message))

    assert (plain["id"], plain["task"]) == (message.id, message.task)


def test_a_field_left_out_and_a_field_set_to_null_differ() -> None:
    for_ever = Message(id="a", task="t", max_retries=None)

    assert decode(encode(for_ever)).max_retries is None
    assert decode(encode(Message(id="a", task="t"))).max_retries is msgspec.UNSET


def test_the_smallest_message_says_id_and_task_alone() -> None:
    assert encode(Message(id="a", task="t")) == b'{"id":"a","task":"t"}'


def test_a_field_this_version_does_not_know_is_passed_over() -> None:
    assert decode(body(more=b',"colour":"red"')) == decode(body())


def test_a_message_written_with_spaces_is_read_as_well() -> None:
    assert read(b' { "id" : "a" , "task" : "t" , "args" : [ 1.50e1 ] } ')


@pytest.mark.parametrize(
    "data",
    {
        "nothing": b"",
        "null": b"null",
        "an array": b"[]",
        "no id": b'{"task":"t"}',
        "no task": b'{"id":"a"}',
        "an id that is a number": b'{"id":1,"task":"t"}',
        "a later version": body(more=b',"v":2'),
        "version 0": body(more=b',"v":0'),
        "a version that is text": body(more=b',"v":"1"'),
        "a huge version": body(more=b',"v":' + b"9" * 40),
        "two objects": body() + body(),
        "a byte order mark": b"\xef\xbb\xbf" + body(),
        "UTF-16": body().decode().encode("utf-16"),
        "zeros": b"\0" * 64,
        "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix",
        "an eta that is text": body(more=b',"eta":"soon"'),
        "an eta of NaN": body(more=b',"eta":NaN'),
        "an eta without end": body(more=b',"eta":1e999'),
        "an eta of 400 digits": body(more=b',"eta":' + b"9" * 400),
        "NaN": body(b"[NaN]"),
        "Infinity": body(b"[-Infinity]"),
        "1e999": body(b"[1e999]"),
        "5000 digits": body(b"[" + b"9" * 5000 + b"]"),
        "a lone surrogate": body(b'["\\ud800"]'),
        "a lone surrogate in the id": b'{"id":"\\udfff","task":"t"}',
        "invalid UTF-8": body(b'["\xff\xfe"]'),
        "invalid UTF-8 in the id": b'{"id":"\xff","task":"t"}',
        "invalid UTF-8 in a header": body(more=b',"headers":{"x":"\xc3\x28"}'),
        "an overlong form of /": body(b'["\xc0\xaf"]'),
        "a control character": body(b'["\n"]'),
        "args that are an object": body(b"{}"),
        "args that are null": body(b"null"),
        "kwargs that are an array": body(kwargs=b"[]"),
        "kwargs that are null": body(kwargs=b"null"),
        "a comma too many": body(b"[1,]"),
        "a comment": body(b"[1/*2*/]"),
        "single quotes": body(b"['x']"),
        "a key twice": body(more=b',"task":"other"'),
        "a key twice, the same value": body(more=b',"task":"t"'),
        "a key twice, once escaped": body(more=b',"t\\u0061sk":"other"'),
        "an unknown key twice": body(more=b',"x":1,"x":1'),
        "a key twice in a header": body(more=b',"headers":{"x":1,"x":2}'),
        "a key twice in an argument": body(b'[{"x":1,"x":2}]'),
        "a key twice deep in an argument": body(b'[[[{"a":{"b":[{"x":1,"y":2,"x":1}]}}]]]'),
        "a keyword twice": body(kwargs=b'{"x":1,"x":2}'),
        "a keyword twice, once escaped": body(kwargs=b'{"x":1,"\\u0078":2}'),
        "arrays 100,000 deep": body(nested(100_000)),
        "arrays 100,000 deep, never closed": body(b"[" * 100_000),
        "objects 100,000 deep": body(b'[' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"]"),
        "a header 100,000 deep": body(more=b',"headers":{"x":' + nested(100_000) + b"}"),
        "an unknown field 100,000 deep": body(more=b',"x":' + nested(100_000)),
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
def test_bytes_that_are_no_message_are_refused(data: tuple[str, bytes]) -> None:
    assert read(data[1]) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": "a" * (MAX_ID_LENGTH + 1)},
        {"task": "t" * (MAX_NAME_LENGTH + 1)},
        {"queue": ""},
        {"queue": "q" * (MAX_QUEUE_LENGTH + 1)},
        {"priority": PRIORITIES.start - 1},
        {"priority": PRIORITIES.stop},
        {"priority": 2**70},
        *({name: time} for name in ("eta", "expires", "sent") for time in (-1e13, 1e13, 1e308)),
    ],
    ids=lambda fields: f"{fields!s:.30}",
)
def test_what_no_engine_need_store_is_refused(fields: dict[str, Any]) -> None:
    assert read(json.dumps({"id": "a", "task": "t"} | fields).encode()) is None


def test_any_moment_that_a_datetime_can_name_is_read() -> None:
    latest = datetime.max.replace(tzinfo=timezone(-timedelta(hours=23)))
    earliest = datetime.min.replace(tzinfo=timezone(timedelta(hours=23)))

    for at in (earliest.timestamp(), latest.timestamp()):
        assert decode(encode(Message(id="a", task="t", eta=at, expires=at, sent=at))).eta == at


@pytest.mark.parametrize("depth", [*range(100, 1100, 50), 2000, 5000, 20_000])
@pytest.mark.parametrize("inside", [b"", b"1e3"], ids=["as we write it", "as others write it"])
def test_nesting_is_read_or_refused_at_every_depth(depth: int, inside: bytes) -> None:
    # Written otherwise than acked writes it, it takes the path that looks for keys said twice.
    read(body(nested(depth, inside)))
    read(body(kwargs=b'{"x":' + nested(depth, inside) + b"}"))
    read(body(more=b',"headers":{"x":' + nested(depth, inside) + b"}"))


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30, 10**300], ids=lambda n: f"{n:.0e}")
def test_a_whole_number_beyond_64_bits_is_exact_or_refused(number: int) -> None:
    for data in (body(f"[{number}]".encode()), body(kwargs=f'{{"x":{number}}}'.encode())):
        answer = read(data)
        assert answer is None or number in (*answer[1], *answer[2].values())

    answer = read(body(more=f',"headers":{{"x":{number}}}'.encode()))
    assert answer is None or answer[0].headers["x"] == number


@given(messages, st.data())
def test_a_message_cut_short_is_refused(message: Message, data: st.DataObject) -> None:
    whole = encode(message)

    assert read(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None


@given(messages, st.data())
def test_a_message_with_flipped_bits_is_read_or_refused(
    message: Message, data: st.DataObject
) -> None:
    whole = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    read(bytes(whole))


@given(messages, st.binary(max_size=20), st.data())
def test_a_message_with_bytes_put_in_is_read_or_refused(
    message: Message, more: bytes, data: st.DataObject
) -> None:
    whole = encode(message)
    place = data.draw(st.integers(0, len(whole)))

    read(whole[:place] + more + whole[place:])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    read(data)


@given(st.binary(max_size=60))
def test_any_bytes_as_arguments_are_read_or_refused(data: bytes) -> None:
    read(body(data))
    read(body(b"[" + data + b"]"))
    read(body(kwargs=b'{"x":' + data + b"}"))


@given(values, text)
def test_a_key_said_twice_is_refused_wherever_it_stands(value: Any, key: str) -> None:
    name, inside = msgspec.json.encode(key), msgspec.json.encode(value)
    twice = b"{" + name + b":" + inside + b"," + name + b":" + inside + b"}"

    assert read(body(b"[" + twice + b"]")) is None
    assert read(body(kwargs=b'{"x":[' + twice + b"]}")) is None
    assert read(body(more=b',"headers":' + twice)) is None


def test_ids_grow_with_time_and_never_repeat() -> None:
    ids = [new_id() for _ in range(1000)]

    assert len(set(ids)) == 1000
    assert [task_id[:12] for task_id in ids] == sorted(task_id[:12] for task_id in ids)
    assert {len(task_id) for task_id in ids} == {44}
