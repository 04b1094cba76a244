"""What encrypts in tests."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class AesGcm:
    """AES-GCM by the first of some keys; what another of them has encrypted is read."""

    def __init__(self, *keys: bytes) -> None:
        self.keys = [AESGCM(key) for key in keys]

    def encrypt(self, data: bytes, context: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self.keys[0].encrypt(nonce, data, context)

    def decrypt(self, data: bytes, context: bytes) -> bytes:
        for key in self.keys:
            try:
                return key.decrypt(data[:12], data[12:], context)
            except InvalidTag:
                continue
        raise ValueError("none of the keys fits")
