"""Which agno is needed; the extra takes any, so that it never upgrades agno 2 to 3 without a word."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def check_agno() -> None:
    """Raise ImportError if there is no agno, or one before 3: it kept runs within their session."""
    try:
        found = version("agno")
    except PackageNotFoundError as exc:
        raise ImportError("sessioncache.integrations.agno needs agno: pip install 'agno>=3,<4'") from exc
    if int(found.partition(".")[0]) < 3:  # noqa: PLR2004
        raise ImportError(
            f"sessioncache.integrations.agno needs agno 3, and agno {found} is installed: upgrade with "
            "pip install 'agno>=3,<4'; what RedisDb of agno 2 stored is read from where it is"
        )
