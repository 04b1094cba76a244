"""Large values elsewhere: what is put, named, read, shown, purged and swept."""

from __future__ import annotations

from mutations import DURABLE, Mutant

__all__ = ["OF_BLOBS"]

BLOBS = DURABLE + "blobs"

OF_BLOBS = [
    Mutant(
        "what is elsewhere was never put there",
        "            if not self._dry:\n                self._put(key, data)\n",
        "",
        BLOBS + " -k wherever_a_process_dies",
    ),
    Mutant(
        "a signal that is only looked at is put elsewhere",
        "            if not self._dry:\n                self._put(key, data)\n",
        "            self._put(key, data)\n",
        BLOBS + " -k a_signal_that_starts",
    ),
    Mutant(
        "a text as long as the limit is elsewhere",
        "self.blobs is not None and len(text) > self._larger_than",
        "self.blobs is not None and len(text) >= self._larger_than",
        BLOBS + " -k an_end_of_a_text_decides",
    ),
    Mutant(
        "what is the same is put again and again",
        "known = made.get(digest) or self._known.get(digest) or self.arrived.get(digest)",
        "known = None",
        BLOBS + " -k what_is_large_is_elsewhere",
    ),
    Mutant(
        "a message's bytes are put again by whoever reads it",
        "self._known.get(digest) or self.arrived.get(digest)",
        "self._known.get(digest)",
        BLOBS + " -k what_is_large_is_elsewhere",
    ),
    Mutant(
        "what a refused message named is named again",
        "        self.arrived.clear()\n",
        "",
        BLOBS + " -k a_refused_signal",
    ),
    Mutant(
        "what was not stored is named again",
        "for seq in [seq for seq in self._made if seq <= entries]:",
        "for seq in list(self._made):",
        BLOBS + " -k only_what_is_stored",
    ),
    Mutant(
        "what was rolled back is named again",
        "        self._made.pop(entry.seq, None)\n",
        "",
        BLOBS + " -k only_what_is_stored",
    ),
    Mutant(
        "what is read is not compared with what was put",
        "if not isinstance(data, bytes) or sha256(data).hexdigest() != digest:",
        "if not isinstance(data, bytes):",
        BLOBS + " -k what_is_gone_or_changed",
    ),
    Mutant(
        "another execution's values are read",
        'if key.rpartition("/")[0] != _escaped(self._saga_id):',
        "if False:",
        BLOBS + " -k another_executions",
    ),
    Mutant(
        "what is elsewhere can be read by anybody",
        "                data = encrypted(data, _place(key), self._codec.cipher)\n",
        "                pass\n",
        BLOBS + " -k encrypted_too",
    ),
    Mutant(
        "what was put in the clear is decrypted",
        "        if not sealed:\n            return data.decode()\n",
        "",
        BLOBS + " -k before_there_was_a_key",
    ),
    Mutant(
        "a journal whose blobs do not answer is damaged",
        "            if error is fetching.failed:\n                raise\n            gone",
        "            gone",
        BLOBS + " -k what_cannot_be_asked",
    ),
    Mutant(
        "a signal whose blobs do not answer is refused",
        "        if error is fetching.failed:\n            raise\n        why",
        "        why",
        BLOBS + " -k what_cannot_be_asked",
    ),
    Mutant(
        "an id that is begun again leaves its bytes",
        "    if keys and codec.blobs is not None:\n        with suppress",
        "    if False:\n        with suppress",
        BLOBS + " -k the_same_input",
    ),
    Mutant(
        "what is shown is fetched",
        "standing_of(rebuild(definition, row, journal, fetch=False).machine.state)",
        "standing_of(rebuild(definition, row, journal).machine.state)",
        BLOBS + " -k nothing_is_fetched",
    ),
    Mutant(
        "what is elsewhere counts as what a database takes",
        "            if codec.is_large(value):\n",
        "            if False:\n",
        BLOBS + " -k what_a_database_takes",
    ),
    # -- who waits ----------------------------------------------------------------------------------------------------
    Mutant(
        "the event loop puts what it is to commit",
        "            if journal.has_large(machine):\n                await stored(",
        "            if False:\n                await stored(",
        BLOBS + " -k needs_no_thread",
    ),
    Mutant(
        "the event loop puts what it is to begin with",
        "        if self.has_large(machine):\n            return None\n",
        "",
        BLOBS + " -k needs_no_thread",
    ),
    Mutant(
        "the event loop puts what a transaction is to commit",
        "        if self._journal.has_large(machine):  # while",
        "        if False:  # while",
        DURABLE + "transactional -k elsewhere_before and coroutines and sqlalchemy-sqlite",
    ),
    Mutant(
        "those that take turns wait for what one puts",
        "            return False  # others would wait for it\n",
        "            pass\n",
        DURABLE + "undone_in_turns -k put_by_whoever",
    ),
    # -- deleting -----------------------------------------------------------------------------------------------------
    Mutant(
        "a purge deletes bytes before their rows",
        "    count = 0\n    while deleted := store.purge(",
        "    count = 0\n    for _, keys in named:\n        blobs[0].delete(keys)\n    while deleted := store.purge(",
        BLOBS + " -k of_the_same_id",
    ),
    Mutant(
        "a purge deletes what stays",
        "        if left is None or left.created != row.created:",
        "        if True:",
        BLOBS + " -k a_purge_deletes",
    ),
    Mutant(
        "a purge leaves what was had by one that has begun again",
        "        if left is None or left.created != row.created:",
        "        if left is None:",
        BLOBS + " -k of_the_same_id",
    ),
    Mutant(
        "a purge leaves what messages name",
        "            if row.saga_id in mail:\n",
        "            if False:\n",
        BLOBS + " -k a_stuck_execution_was_sent",
    ),
    Mutant(
        "a sweep takes what leaves the inbox meanwhile",
        "    texts = [message.body for message in store.inbox(saga_id)]\n"
        "    texts += [entry.payload for entry in store.journal(saga_id)]\n",
        "    texts = [entry.payload for entry in store.journal(saga_id)]\n"
        "    texts += [message.body for message in store.inbox(saga_id)]\n",
        BLOBS + " -k leaves_the_inbox",
    ),
    Mutant(
        "a sweep takes what is about to be named",
        "        if seconds < _SAFE:\n",
        "        if seconds < 0:\n",
        BLOBS + " -k a_sweep_asks",
    ),
    # -- a folder -----------------------------------------------------------------------------------------------------
    Mutant(
        "a file is not flushed before it has its name",
        "        os.fsync(file.fileno())\n",
        "        pass\n",
        BLOBS + " -k wholly_or_not",
    ),
    Mutant(
        "a folder is not flushed when it has the name",
        "            _flush(folder)\n        _flush(self._folder)\n",
        "            pass\n",
        BLOBS + " -k wholly_or_not",
    ),
    Mutant(
        "what a process did not end is never found",
        "            if suffix not in (_KEPT, _UNFINISHED):",
        "            if suffix != _KEPT:",
        BLOBS + " -k did_not_end",
    ),
    Mutant(
        "an exploration puts values into the program's blobs",
        "replace(definition, codec=codec.with_blobs(blobs))",
        "definition",
        BLOBS + " -k exploration",
    ),
]
