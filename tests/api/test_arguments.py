"""A value arrives as it was sent, or is refused at the call with the remedy."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NewType, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acked import Acked, NotSendable
from acked.brokers.memory import MemoryBroker
from tests.api.inline import record_of, run_next

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]  # for type checkers alone

NOON = datetime(2026, 5, 1, 12, 30, 15, 999999, tzinfo=UTC)
SOME_ID = uuid.UUID("12345678123456781234567812345678")


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0
    at: datetime | None = None


@dataclasses.dataclass
class Point3(Point):
    z: int = 0


@dataclasses.dataclass(eq=False)
class Identity:
    n: int


class Row(msgspec.Struct):
    key: bytes
    tags: set[str]


class Pair(NamedTuple):
    left: int
    right: date


class Plain(TypedDict):
    a: int


class Dated(TypedDict):
    at: date


UserId = NewType("UserId", uuid.UUID)


@pytest.fixture
def arrives(app: Acked) -> Callable[..., Any]:
    """What a function gets that is called with a value, and how it is annotated."""

    def arrives(value: Any, annotation: Any = None) -> Any:
        got: list[Any] = []

        def take(value):  # type: ignore[no-untyped-def]  # annotated below
            got.append(value)

        if annotation is not None:
            take.__annotations__ = {"value": annotation}
        app.task(name="take")(take).delay(value)
        settlement = run_next(app)
        del app.tasks["take"]
        assert settlement.failure is None, settlement.failure
        return got[0]

    return arrives


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(args=st.lists(JSON_VALUES, max_size=3), kwargs=st.dictionaries(st.text(), JSON_VALUES))
def test_json_values_arrive_as_they_are(args: list[Any], kwargs: dict[str, Any]) -> None:
    app = Acked("shop", broker=MemoryBroker())
    got: list[Any] = []

    @app.task(name="take")
    def take(*args: Any, **kwargs: Any) -> None:
        got.append((list(args), kwargs))

    take.apply_async(args, kwargs)
    run_next(app)
    assert got == [(args, kwargs)]


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (NOON, datetime),
        (NOON.replace(tzinfo=None), datetime),
        (NOON.date(), date),
        (time(1, 2, 3), time),
        (timedelta(days=2, microseconds=1), timedelta),
        (SOME_ID, uuid.UUID),
        (SOME_ID, UserId),
        (Decimal("1.50"), Decimal),
        (Color.RED, Color),
        (Level.LOW, Level),
        (b"\x00\xff", bytes),
        ({1, 2}, set[int]),
        ({"a"}, set),
        (frozenset({SOME_ID}), frozenset[uuid.UUID]),
        ((1, "a"), tuple[int, str]),
        ((1, "a"), tuple),
        (Point(1, 2.5, NOON), Point),
        (Row(b"k", {"t"}), Row),
        (Pair(1, date(2026, 1, 2)), Pair),
        ({"at": date(2026, 1, 2)}, Dated),
        (None, datetime | None),
        (NOON, datetime | None),
        ([NOON], list[datetime]),
        ({"a": [Point(1)]}, dict[str, list[Point]]),
        ({1: "a", 2: "b"}, dict[int, str]),
        ({SOME_ID: 1}, dict[uuid.UUID, int]),
        (NOON, Annotated[datetime, "when"]),
        ("a", Literal["a", "b"]),
    ],
)
def test_a_value_of_an_annotated_type_arrives_as_that_type(
    arrives: Callable[..., Any], value: Any, annotation: Any
) -> None:
    got = arrives(value, annotation)
    assert got == value
    assert type(got) is type(value)


def test_a_dataclass_without_equality_arrives_too(arrives: Callable[..., Any]) -> None:
    got = arrives(Identity(3), Identity)
    assert isinstance(got, Identity)
    assert got.n == 3


def test_a_value_may_be_given_in_its_json_form(arrives: Callable[..., Any]) -> None:
    assert arrives("2026-05-01T12:30:15.999999Z", datetime) == NOON
    assert arrives({"x": 1}, Point) == Point(1)
    assert arrives([1, 2], tuple[int, ...]) == (1, 2)


def test_a_tuple_arrives_as_a_list_where_nothing_says_otherwise(
    arrives: Callable[..., Any],
) -> None:
    assert arrives((1, (2, 3))) == [1, [2, 3]]


def test_a_subclass_of_dict_or_str_enum_arrives_as_what_it_equals(
    arrives: Callable[..., Any],
) -> None:
    class Name(enum.StrEnum):
        A = "a"

    assert arrives(defaultdict(list, a=[1])) == {"a": [1]}
    assert arrives(Name.A) == "a"


class Markup(str):
    """As Django's SafeString, whose `str()` is itself."""

    __slots__ = ()

    def __str__(self) -> str:
        return self


class Count(int):
    pass


class Share(float):
    pass


@pytest.mark.parametrize("value", [Markup("<p>"), Count(3), Share(0.5)])
def test_a_subclass_of_a_plain_type_arrives_as_the_plain_value(
    arrives: Callable[..., Any], value: Any
) -> None:
    (plain,) = (kind for kind in (str, int, float) if isinstance(value, kind))
    for arrived in (arrives(value), arrives({"in": [value]})["in"][0]):
        assert (arrived, type(arrived)) == (value, plain)


def test_a_result_of_such_a_type_is_kept_as_the_plain_value(app: Acked) -> None:
    result = app.task(name="t")(lambda: {"html": Markup("<p>")}).delay()
    run_next(app)
    assert result.get() == {"html": "<p>"}


def test_an_integer_of_any_size_arrives(arrives: Callable[..., Any]) -> None:
    assert arrives(2**200) == 2**200
    assert arrives(-(2**64)) == -(2**64)


@pytest.mark.parametrize("annotation", [int, str, float, list[int], "Unknown", "no such(", Plain])
def test_a_plain_or_unresolvable_annotation_changes_nothing(
    arrives: Callable[..., Any], annotation: Any
) -> None:
    assert arrives({"any": ["thing"]}, annotation) == {"any": ["thing"]}


def test_an_unresolvable_annotation_does_not_spoil_the_others(app: Acked) -> None:
    got: list[Any] = []

    @app.task
    def take(thing: Unknown, when: datetime, *more: date, **rest: Decimal) -> None:
        got.append((thing, when, more, rest))

    take.delay({"a": 1}, NOON, date(2026, 1, 1), price=Decimal("9.99"))
    assert run_next(app).failure is None
    assert got == [({"a": 1}, NOON, (date(2026, 1, 1),), {"price": Decimal("9.99")})]


def test_a_value_whose_annotation_cannot_be_resolved_says_so(app: Acked) -> None:
    @app.task(name="t")
    def task(day: Unknown, **more: Unknown) -> None: ...

    for args, kwargs in [((NOON,), {}), ((1,), {"to": NOON})]:
        with pytest.raises(NotSendable) as refused:
            task.apply_async(args, kwargs)
        assert "the annotation 'Unknown' of " in str(refused.value)
        assert "import it outside `if TYPE_CHECKING`" in str(refused.value)
        assert "annotate the parameter" not in str(refused.value)


def test_annotations_are_read_at_the_first_call_and_not_at_the_definition(app: Acked) -> None:
    @app.task
    def take(value: Later) -> str:
        return type(value).__name__

    result = take.delay(Later(1))
    run_next(app)
    assert result.get() == "Later"


@dataclasses.dataclass
class Later:
    n: int


class Model:
    """Stands for an object of a database."""


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (NOON, "argument value is a datetime, which would arrive as text; "
               "annotate the parameter `value: datetime`"),
        ({"at": [NOON]}, "argument value['at'][0] is a datetime"),
        (SOME_ID, "`value: UUID`"),
        (Decimal(1), "`value: Decimal`"),
        (b"x", "`value: bytes`"),
        ({1}, "would arrive as a list; annotate the parameter `value: set`"),
        (Point(1), "a tests.api.test_arguments.Point, which would arrive as a dict or list"),
        (Color.RED, "would arrive as its value"),
        (float("nan"), "is nan, which JSON does not have; send None or a str"),
        ([float("inf")], "value[0] is inf"),
        ({1: "a"}, "a dict with the int key 1, which would arrive as text"),
        ({(1, 2): "a"}, "a dict with the tuple key (1, 2)"),
        (Model(), "a tests.api.test_arguments.Model, which JSON cannot carry; send what it is "
                  "made from, or its id"),
        ([1, object()], "value[1] is an object"),
        (range(3), "a range"),
        (1 + 2j, "a complex"),
        ("\ud800", "a str with a lone surrogate"),
        ([10**5000], "value[0] is an int"),
    ],
)  # fmt: skip
def test_a_value_that_would_not_arrive_as_it_is_names_argument_type_and_remedy(
    app: Acked, value: Any, said: str
) -> None:
    @app.task(name="take")
    def take(value: Any) -> None: ...

    with pytest.raises(NotSendable, match="^cannot send take: argument value") as refused:
        take.delay(value)
    assert said in str(refused.value)
    assert app.records.counts() == []


def test_values_nested_too_deep_are_refused(app: Acked) -> None:
    @app.task(name="take")
    def take(value: Any) -> None: ...

    def nested(depth: int) -> list[Any]:
        value: list[Any] = []
        for _ in range(depth - 1):
            value = [value]
        return value

    take.delay(nested(100))
    take.delay([[]] * 1000)
    endless: list[Any] = []
    endless.append(endless)
    for value in (nested(101), nested(100_000), endless):
        with pytest.raises(NotSendable, match="nested deeper than 100"):
            take.delay(value)


@pytest.mark.parametrize(
    ("value", "annotation", "said"),
    [
        (5, datetime, "an int and must be datetime"),
        ("tomorrow", datetime, "must be datetime"),
        (NOON, date, "must be"),
        ({"x": "one"}, Point, "Expected `int`, got `str`"),
        (Point3(1), Point, "would arrive as Point(x=1, y=0.0, at=None)"),
        ("abcd", bytes, "a str and would arrive as b"),
        ({1.5}, set[int], "Expected `int`"),
        (Point(1, float("nan")), Point, "must be"),
        ((1, float("nan")), tuple[int, float | None], "is nan"),
        (NOON, datetime | str, "its annotation cannot be read back from JSON"),
        (object(), datetime, "an object and must be datetime"),
    ],
)
def test_a_value_that_does_not_fit_its_annotation_is_refused_before_it_is_stored(
    app: Acked, value: Any, annotation: Any, said: str
) -> None:
    def take(value):  # type: ignore[no-untyped-def]  # annotated below
        ...

    take.__annotations__ = {"value": annotation}
    task: Any = app.task(name="take")(take)
    with pytest.raises(NotSendable, match="argument value") as refused:
        task.delay(value)
    assert said in str(refused.value)


def test_arguments_over_the_size_limit_name_size_and_remedy() -> None:
    app = Acked("shop", broker=MemoryBroker(), max_message_size=100)

    @app.task
    def take(text: str) -> None: ...

    take.delay("x" * 90)
    with pytest.raises(NotSendable, match=r"205 bytes.*max_message_size=100.*Store the data"):
        take.delay("x" * 199)


def test_what_a_worker_cannot_convert_fails_with_the_argument_named(app: Acked) -> None:
    @app.task(name="take")
    def take(when: datetime) -> None: ...

    message = take.message((NOON,), {}, {})
    wrong = msgspec.structs.replace(message, args=msgspec.Raw(b'["soon"]'))
    app.publish([wrong])
    failure = run_next(app).failure
    assert failure is not None
    assert "argument 'when'" in failure.message


def test_arguments_of_an_older_caller_that_no_longer_fit_fail_with_the_signature(
    app: Acked,
) -> None:
    @app.task(name="take")
    def take(when: int) -> None: ...

    message = take.message((1,), {}, {})
    app.publish([msgspec.structs.replace(message, args=msgspec.Raw(b"[1, 2]"))])
    failure = run_next(app).failure
    assert failure is not None
    assert (failure.type, failure.message) == (
        "TypeError", "take(when: int): too many positional arguments",
    )  # fmt: skip


def test_a_call_that_does_not_fit_is_told_so_whatever_the_defaults_compare_to(app: Acked) -> None:
    class Column:  # noqa: PLW1641 - nor has an array one
        def __eq__(self, other: object) -> Any:
            return self

        def __bool__(self) -> bool:
            raise ValueError("the truth value of a column is ambiguous")

        def __repr__(self) -> str:
            return "Column()"

    @app.task(name="take")
    def take(when: int, order: Any = Column()) -> None: ...  # noqa: B008 - it is never called

    with pytest.raises(NotSendable, match=r"It takes take\(when: int, order: Any = Column\(\)\)"):
        take.delay()


def test_arguments_are_stored_as_plain_json(app: Acked) -> None:
    @app.task
    def take(when: datetime, *, point: Point) -> None: ...

    record = record_of(app, take.delay(NOON, point=Point(1)).id)
    stored = msgspec.json.decode(record.body)
    assert stored["args"] == ["2026-05-01T12:30:15.999999Z"]
    assert stored["kwargs"] == {"point": {"x": 1, "y": 0.0, "at": None}}
