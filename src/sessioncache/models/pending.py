"""Sessions whose runs are made when they are first asked for: a thousand objects are not made for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_MAKE_RUNS = "_make_runs"

S = TypeVar("S")


class PendingRuns:
    """Be a session that may have its ``runs`` pending: then they are missing from the instance.

    A subclass is a dataclass with a field ``runs``, and is decorated with ``has_no_default_of_runs``.
    """

    @classmethod
    def pending(cls, make_runs: Callable[[], list[Any]], **fields: Any) -> Self:
        """Return a session of its other *fields*; *make_runs* is called when its runs are first asked for."""
        session = cls(**fields, runs=[])  # type: ignore[call-arg]
        del vars(session)["runs"]
        vars(session)[_MAKE_RUNS] = make_runs
        return session

    if not TYPE_CHECKING:  # a visible __getattr__ would let type checkers accept any name

        def __getattr__(self, name: str) -> Any:
            """Return the runs, which are made now."""
            values = self.__dict__
            if name == "runs" and _MAKE_RUNS in values:
                values.setdefault("runs", values[_MAKE_RUNS]())
                values.pop(_MAKE_RUNS, None)
            if name == "runs" and name in values:
                return values[name]
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=self)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copying and pickling carry over: the runs, made."""
        getattr(self, "runs", None)
        return dict(self.__dict__)


def has_no_default_of_runs(cls: type[S]) -> type[S]:
    """Remove what a dataclass leaves for the default of a field: runs that are pending would read as it."""
    del cls.runs  # type: ignore[attr-defined]
    return cls
