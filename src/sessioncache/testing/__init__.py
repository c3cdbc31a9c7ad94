"""What tests of applications need: caches of their own, realistic sessions, and faults on demand.

The pytest plugin (extra `testing`) gives these as fixtures: `session_cache`, `async_session_cache`,
`make_session`, `session_cache_faults`.
"""

from .faults import Faults
from .samples import make_session

__all__ = ["Faults", "make_session"]
