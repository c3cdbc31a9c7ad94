"""Values sealed with a key: AES-256-GCM, bound to the place they are stored at.

A sealed value is

    0x10 | length of the key's name | name | salt, 16 bytes | nonce, 12 bytes | ciphertext and tag

Its key is derived from the named one, the id of the session, and the salt, by HMAC-SHA256: each process draws
a salt of its own for each session, so that no key ever seals so many values that random nonces could meet.
What is authenticated beside it is the format, the session, and the place: a field by its name, or the head or
the body of a run, which hold the id of the run themselves.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from sessioncache.errors import ConfigurationError, EncryptionError, InvalidArgumentError

SEALED: Final = b"\x10"
"""First byte of a sealed value."""

KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
SHORTEST_HEADER: Final = 2 + SALT_BYTES

DERIVED_KEYS: Final = 4096
"""Derived keys that are kept: one for each session, process and key that is read or written."""

BROKEN: Final = b"\xff"
"""What stands in place of a value that does not open: no format, and no text."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")

GetKey = Callable[[str], bytes]


class Keyring:
    """Keys by their names: the first one seals, and all open.

    Args:
        keys: The keys, each of 32 random bytes, by names of up to 32 letters, digits, dots, hyphens and
            underscores; or a function that returns the key of a name, such as one that asks a KMS.
        current: The name of the key that seals; the first one by default, needed if `keys` is a function.
        accept_plain: Whether values that are not sealed are read: only while a store is moved in, for whoever
            can write to Redis can forge them.

    Raises:
        InvalidArgumentError: A name or a key is wrong.
        ConfigurationError: The extra `encryption` is not installed.
    """

    def __init__(
        self, keys: Mapping[str, bytes] | GetKey, current: str | None = None, *, accept_plain: bool = False
    ) -> None:
        if callable(keys):
            get_key, names = keys, [current]
        else:
            names = [current, *keys] if current is not None else list(keys)
            get_key = dict(keys).__getitem__
        if not names or names[0] is None:
            raise InvalidArgumentError("encryption: a Keyring needs a key that seals; name it by current=")
        for name in names:
            _check_name(name)
        self.current: str = names[0]
        self.accept_plain = accept_plain
        self._get_key = lru_cache(maxsize=64)(lambda name: _checked(name, get_key(name)))
        self._salt_of = lru_cache(maxsize=DERIVED_KEYS)(lambda *_: os.urandom(SALT_BYTES))
        self._cipher_of = lru_cache(maxsize=DERIVED_KEYS)(self._make_cipher)
        _cipher_class()
        for name in names:
            self._key(str(name), None)

    def __repr__(self) -> str:
        return f"<Keyring, sealing with {self.current!r}>"

    def __getstate__(self) -> Any:
        """Refuse to be pickled: keys would lie open."""
        raise TypeError("a Keyring is not pickled: its keys would lie open")

    def accepting_plain(self) -> Keyring:
        """Return a keyring of the same keys that reads what is not sealed."""
        other = object.__new__(Keyring)
        vars(other).update(vars(self) | {"accept_plain": True})
        return other

    def seal(self, value: bytes, session_id: str, place: bytes) -> bytes:
        """Return a value sealed for its place."""
        name = self.current
        salt = self._salt_of(os.getpid(), name, session_id)
        header = SEALED + bytes([len(name)]) + name.encode() + salt
        cipher, beside = self._cipher_of(header, session_id)
        nonce = os.urandom(NONCE_BYTES)
        sealed: bytes = cipher.encrypt(nonce, value, beside + place)
        return header + nonce + sealed

    def open(self, stored: bytes, session_id: str, place: bytes) -> bytes:
        """Return the value of a place; BROKEN if it does not open, or is plain where that is not accepted.

        Raises EncryptionError, which names the key, if the keyring lacks it.
        """
        if stored[:1] != SEALED:
            return stored if self.accept_plain else BROKEN
        begin = SHORTEST_HEADER + (stored[1] if len(stored) > 1 else 0)
        end = begin + NONCE_BYTES
        if len(stored) < end + TAG_BYTES:
            return BROKEN
        try:
            cipher, beside = self._cipher_of(stored[:begin], session_id)
            value: bytes = cipher.decrypt(stored[begin:end], stored[end:], beside + place)
        except (_invalid_tag(), UnicodeDecodeError, InvalidArgumentError):
            return BROKEN
        return value

    def is_current(self, stored: bytes) -> bool:
        """Return whether a value is sealed with the key that seals."""
        name = self.current.encode()
        return stored.startswith(SEALED + bytes([len(name)]) + name)

    def _key(self, name: str, session_id: str | None) -> bytes:
        _check_name(name)
        try:
            key: bytes = self._get_key(name)
        except LookupError:
            raise EncryptionError(name, session_id) from None
        return key

    def _make_cipher(self, header: bytes, session_id: str) -> tuple[Any, bytes]:
        """Return the cipher of a header, and what every value is bound to before its place."""
        name, salt = header[2:-SALT_BYTES].decode("ascii"), header[-SALT_BYTES:]
        words = (b"sessioncache", name.encode(), session_id.encode(), salt)
        message = b"".join(b"%d:%b" % (len(word), word) for word in words)
        derived = hmac.digest(self._key(name, session_id), message, hashlib.sha256)
        return _cipher_class()(derived), b"%b\0%b\0" % (header, session_id.encode())


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            "encryption: the name of a key must be 1 to 32 letters, digits, dots, hyphens and underscores"
        )


def _checked(name: str, key: Any) -> bytes:
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise InvalidArgumentError(f"encryption: key {name!r} must be {KEY_BYTES} bytes")
    return key


@lru_cache(maxsize=1)
def _cipher_class() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise ConfigurationError("cryptography is needed: pip install 'sessioncache[encryption]'") from exc
    return AESGCM


@lru_cache(maxsize=1)
def _invalid_tag() -> Any:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

    return InvalidTag
