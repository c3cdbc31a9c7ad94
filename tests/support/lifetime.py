"""What is started at the beginning of a block, and closed at its end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Startable(ABC):
    """A context manager over `start` and `close`; what fails to start is closed, too."""

    @abstractmethod
    def start(self) -> None:
        """Begin, and wait until all is ready."""

    @abstractmethod
    def close(self) -> None:
        """End, whatever the state."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
