"""Whether this host's worker lives, for Kubernetes: ``python probe.py live`` and ``python probe.py ready``, by exit code.

A worker says in the store, every five seconds, that it lives. Where the store cannot be asked it is not ready; it is not to be
killed for that.
"""

from __future__ import annotations

import socket
import sys

from orders import STORE

from saga.errors import StorageError
from saga.operations import Operations

try:
    workers = Operations(STORE, "the probe").workers()
except StorageError as error:
    sys.exit(0 if sys.argv[1:] == ["live"] else str(error))
if not any(worker.host == socket.gethostname() for worker in workers):
    sys.exit("no worker of this host says that it lives")
