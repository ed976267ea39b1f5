"""A process that writes blocks into a session until it is killed, and says after each what it may rely on."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.contracts.session_store.conftest import STORES
from tests.contracts.session_store.recordings import GATEWAY, make_block

if __name__ == "__main__":
    kind, folder, session_id, first_index = sys.argv[1:]
    store = STORES[kind](Path(folder))
    index = int(first_index)
    while True:
        store.write({session_id: [(GATEWAY, make_block(index + i * 50, 50)) for i in range(4)]})
        index += 200
        print(index, flush=True)
