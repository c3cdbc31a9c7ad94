"""Runs that are decoded when somebody looks at them: first the head, and the body only if it is used.

run = WorkflowRunOutput.pending(source)
run.status          # source.read() gives the head, and load_body, which has not been called
run.step_results    # calls load_body(); from now on the run is like one that was built whole
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, cast

from sessioncache.errors import DamagedRunError

from .record import EXTRA_FIELDS, Layout, Record, layout_of
from .status import BY_VALUE

LoadBody = Callable[[], Mapping[str, Any]]


class Source(Protocol):
    """Where a record comes from."""

    def read(self) -> tuple[Mapping[str, Any], LoadBody]:
        """Return the head and a function that decodes the rest; raise DamagedRunError if there is no head."""


_SOURCE = "_source"
_LOAD_BODY = "_load_body"
_STRAY = "_stray_head"
"""Entries of the head that are no head fields of this version: they are written to the head again."""

L = TypeVar("L", bound="LazyRecord")


@dataclass
class LazyRecord(Record):
    """Be a record in two parts, a head and a body, each of which loads on first use.

    While a part is pending its fields are missing from the instance, so that reading one ends up in
    ``__getattr__``. A subclass names its ``HEAD_FIELDS``, ``status`` among them, and is decorated with
    ``defers_body``.
    """

    HEAD_FIELDS: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def pending(cls, source: Source) -> Self:
        """Return a record that reads its *source* when it is first looked at.

        If reading either part raises, the reader gets the exception and the next reader tries again. Of a
        head that is damaged there is still the run_id that the error names.
        """
        return cls.pending_all([source])[0]

    @classmethod
    def pending_all(cls, sources: Sequence[Source]) -> list[Self]:
        """Return a record of each source, as `pending` does: the quickest way to make a thousand of them."""
        records = list(map(object.__new__, repeat(cls, len(sources))))
        for record, source in zip(records, sources, strict=True):
            record._source = source  # type: ignore[attr-defined]  # noqa: SLF001 - no field, so nothing to users
        return records

    @property
    def untouched_source(self) -> Source | None:
        """Return where the record comes from if nobody has read or assigned anything of it."""
        return self.__dict__.get(_SOURCE) if len(self.__dict__) == 1 else None

    def _ensure_head(self) -> None:
        """Read the head if it is pending; what was assigned to its fields meanwhile stays."""
        source: Source | None = self.__dict__.get(_SOURCE)
        if source is None:
            return
        try:
            values = self._values_of(*source.read())
        except DamagedRunError as exc:
            values = {"run_id": exc.run_id, _LOAD_BODY: source.read}
        mine = self.__dict__
        mine.update(values | mine)  # no other thread comes between: both are one step to the interpreter
        mine.pop(_SOURCE, None)

    @classmethod
    def _values_of(cls, head: Mapping[str, Any], load_body: LoadBody) -> dict[str, Any]:
        blank = _head_layout(cls).blank
        values: dict[str, Any] = {**blank, **head}
        if len(values) > len(blank):
            stray = {name: values.pop(name) for name in head if name not in blank}
            load_body = partial(_joined, stray, load_body)
            values[_STRAY] = stray
        status = values["status"]
        if type(status) is str:
            values["status"] = BY_VALUE.get(status, status)
        values[_LOAD_BODY] = load_body
        return values

    @classmethod
    def from_head_only(cls, head: Mapping[str, Any]) -> Self:
        """Return a record of its head alone and as it is stored: a status is a text. It has no body."""
        record = cls.__new__(cls)
        record.__dict__ = {**_head_layout(cls).blank, **head}
        return record

    @property
    def has_pending_body(self) -> bool:
        """Return whether the body is still to be loaded, and nothing was assigned to it."""
        self._ensure_head()
        n_values = len(self.__dict__) - (_STRAY in self.__dict__)
        return _LOAD_BODY in self.__dict__ and n_values == len(_head_layout(type(self)).blank) + 1

    @property
    def is_unreadable(self) -> bool:
        """Return whether the head is missing too, because it does not decode, and nothing was assigned."""
        self._ensure_head()
        return self.__dict__.keys() == {"run_id", _LOAD_BODY}

    def head_dict(self) -> dict[str, Any]:
        """Return the head fields as ``to_dict`` does, without loading the body."""
        self._ensure_head()
        stray = self.__dict__.get(_STRAY)
        if stray is not None and not self.has_pending_body:
            stray = self._split_rest()[0]
        try:
            return _head_layout(type(self)).write(self.__dict__) | (stray or {})
        except KeyError:
            self._ensure_body()
            raise

    def body_dict(self) -> dict[str, Any]:
        """Return all that ``to_dict`` does and ``head_dict`` does not."""
        return self._split_rest()[1]

    def _split_rest(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what is no head field, after loading the body: what came with the head, and all else."""
        self._ensure_body()
        rest = self._with_extra_fields(_body_layout(type(self)).write(self.__dict__))
        return {name: rest.pop(name) for name in self.__dict__.get(_STRAY, ()) if name in rest}, rest

    def to_dict(self) -> dict[str, Any]:
        """Return what ``Record.to_dict`` does, after loading the body."""
        self._ensure_body()
        return super().to_dict()

    def _ensure_body(self) -> None:
        """Load head and body if they are pending; what was assigned to its fields meanwhile stays."""
        self._ensure_head()
        values = self.__dict__
        load_body = values.get(_LOAD_BODY)
        if load_body is None:
            return
        body, unknown = layout_of(type(self)).read(load_body(), 0)
        body[EXTRA_FIELDS] = unknown
        for name, value in body.items():
            values.setdefault(name, value)
        values.pop(_LOAD_BODY, None)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copying and pickling carry over: the whole record, loaded."""
        self._ensure_body()
        return dict(self.__dict__)

    if not TYPE_CHECKING:  # a visible __getattr__ would let type checkers accept any name

        def __getattr__(self, name: str) -> Any:
            """Return a field after reading the part that it is in."""
            if name == EXTRA_FIELDS or name in layout_of(type(self)).blank:
                for ensure in (self._ensure_head, self._ensure_body):
                    ensure()
                    if name in self.__dict__:
                        return self.__dict__[name]
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=self)


def defers_body(cls: type[L]) -> type[L]:
    """Remove the class attributes that a dataclass leaves for the defaults of its fields.

    With them, a pending field would read as its default instead of loading the body.
    """
    for name in layout_of(cls).blank:
        if name in vars(cls):
            delattr(cls, name)
    return cls


def _head_layout_of(cls: type[Any]) -> Layout:
    return layout_of(cls).restricted_to(cls.HEAD_FIELDS)


def _body_layout_of(cls: type[Any]) -> Layout:
    return layout_of(cls).restricted_to(layout_of(cls).blank.keys() - cls.HEAD_FIELDS)


_head_layout = cast("Callable[[type[Any]], Layout]", cache(_head_layout_of))
_body_layout = cast("Callable[[type[Any]], Layout]", cache(_body_layout_of))


def _joined(stray: Mapping[str, Any], load_body: LoadBody) -> dict[str, Any]:
    """Add to the body what a newer writer put into the head and this version keeps elsewhere."""
    return {**load_body(), **stray}
