"""Values to JSON text and back, exactly: what comes back has the same type and equals. Nothing is run that a text names.

Plain JSON values stay plain, so that a person can read a journal. Everything else is an object with one key, its tag:
``{"$decimal": "1.10"}``; a dict that could be taken for one is written as ``{"$dict": [[key, value], ...]}``. A type is
dispatched on exactly: a subclass of a built-in type would come back as its base, so it is refused.

Dataclasses, enums and named tuples are found again as "module:qualname", and only such classes are used: a text can name no
other callable, and has no module imported that the user has not named. No storage, engine or pickle is known here.
"""

from saga.durable.codec.cipher import Cipher
from saga.durable.codec.codec import Codec
from saga.durable.codec.errors import decode_error, encode_error
from saga.durable.codec.refusals import MAX_DEPTH, MAX_SIZE, MAX_SIZE_WITH_BLOBS

__all__ = ["MAX_DEPTH", "MAX_SIZE", "MAX_SIZE_WITH_BLOBS", "Cipher", "Codec", "decode_error", "encode_error"]
