"""Filters on metadata, as Python expressions.

    field("lang") == "en"
    (field("year") >= 2020) & ~(field("draft") == True)
    field("tags").is_in(["a", "b"]) | field("author.name").exists()
    field("year").between(gte=2020, lt=2024)

A path is written as in the server's filters: keys joined by dots, a key with dots in quotes. `&`, `|` and `~` bind
closer than comparisons, so each comparison needs parentheses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from cognate_client.metadata import to_value
from cognate_client.v1 import cognate_pb2 as pb


class Filter:
    """A condition on metadata. `message` is its form on the wire."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, message: pb.Filter) -> None:
        self.message = message

    def __and__(self, other: Filter) -> Filter:
        return Filter(pb.Filter(all_of=pb.FilterList(filters=[self.message, other.message])))

    def __or__(self, other: Filter) -> Filter:
        return Filter(pb.Filter(any_of=pb.FilterList(filters=[self.message, other.message])))

    def __invert__(self) -> Filter:
        return Filter(pb.Filter(negated=self.message))

    def __bool__(self) -> NoReturn:
        raise TypeError("a filter has no truth value: use & | ~ instead of and or not, and between() for two bounds")

    def __repr__(self) -> str:
        return f"Filter({self.message})"


class Field:
    """A metadata field in an expression: see `field`."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, path: str) -> None:
        self.path = path

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        return Filter(pb.Filter(equals=pb.EqualsCondition(path=self.path, value=to_value(value))))

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return ~(self == value)

    def __lt__(self, bound: float) -> Filter:
        return self.between(lt=bound)

    def __le__(self, bound: float) -> Filter:
        return self.between(lte=bound)

    def __gt__(self, bound: float) -> Filter:
        return self.between(gt=bound)

    def __ge__(self, bound: float) -> Filter:
        return self.between(gte=bound)

    def between(
        self, *, gt: float | None = None, gte: float | None = None, lt: float | None = None, lte: float | None = None
    ) -> Filter:
        """The field is a number between these bounds. In a list, one element is between both."""
        return Filter(pb.Filter(range=pb.RangeCondition(path=self.path, gt=gt, gte=gte, lt=lt, lte=lte)))

    def is_in(self, values: Iterable[Any]) -> Filter:
        """The field equals one of these values."""
        return Filter(pb.Filter(one_of=pb.InCondition(path=self.path, values=map(to_value, values))))

    def exists(self) -> Filter:
        """The field exists, with any value."""
        return Filter(pb.Filter(exists=pb.ExistsCondition(path=self.path)))


def field(path: str) -> Field:
    """Names a metadata field by its path."""
    return Field(path)


#: A filter as expression, as text (`lang = en and year >= 2020`), or as message.
AnyFilter = Filter | str | pb.Filter


def to_message(filter: AnyFilter | None) -> pb.Filter | None:
    """Makes the message of a filter."""
    if isinstance(filter, str):
        return pb.Filter(text=filter)
    return filter.message if isinstance(filter, Filter) else filter
