"""Results that outlive the program: one JSON object a line, each under a key; a line that was cut short by a crash is dropped."""

from __future__ import annotations

import json
import os
from pathlib import Path

from doh.files import write_atomic


class Records:
    """The records in a file, by key; the last one of a key counts. A new one is on disk when add() returns.

    `dropped`: how many lines could not be read. With `repair` the file is written anew without them, which is for the one who may write it (_runs.alone);
    without it nothing is written, and add() is not for use. Raises OSError.
    """

    def __init__(self, path: Path, repair: bool = True) -> None:
        self.path = path
        self._known: dict[str, dict] = {}
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        good = [line for line in lines if self._read(line)]
        self.dropped = len(lines) - len(good)
        if self.dropped and repair:
            write_atomic(path, b"".join(good))

    def _read(self, line: bytes) -> bool:
        if not line.endswith(b"\n"):  # the next record would go on in this line
            return False
        try:
            record = json.loads(line)
            self._known[record["key"]] = record
        except (ValueError, KeyError, TypeError):
            return False
        return True

    def get(self, key: str) -> dict | None:
        return self._known.get(key)

    def count(self, start: str) -> int:
        """How many keys start so."""
        return sum(key.startswith(start) for key in self._known)

    def add(self, key: str, record: dict) -> dict:
        record = {"key": key, **record}
        line = json.dumps(record).encode() + b"\n"
        with open(self.path, "ab", buffering=0) as stream:
            stream.write(line)
            os.fsync(stream.fileno())
        self._known[key] = record
        return record
