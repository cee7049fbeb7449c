"""What a Redis server's scripts touch: the keys it saw, and those that their files list."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

from acked.brokers.redis import scripts
from acked.brokers.redis.address import Node, parse
from acked.brokers.redis.connection import Connection
from acked.brokers.redis.scripts import Script
from tests.servers.redis import RedisServer

COMMANDS = {
    "hash": "HGET HGETALL HMGET HSTRLEN HSET HDEL HINCRBY HKEYS",
    "zset": "ZADD ZREM ZRANGE ZREVRANGE ZRANGEBYSCORE ZPOPMIN ZCARD ZCOUNT ZSCORE",
    "set": "SADD SREM SMEMBERS SCARD SMISMEMBER",
    "list": "RPUSH LTRIM",
    "string": "GET SET INCRBY",
    "": "DEL EXISTS EXPIRE",
}
"""Commands by the type of the key that they are given first; the last take any."""

TYPES = {command: kind for kind, all_of in COMMANDS.items() for command in all_of.split()}
KEYLESS = {"TIME"}
UNLISTED = "nothing"
GROUP = re.compile(r"([^()]+?)\s*\((string|hash|set|zset|list)(?:s|es)?\b[^()]*\)")
INHERITED = re.compile(r"those of (\w+)\.lua(?: and (\w+)\.lua)?(?:, and )?")
LISTED = re.compile(r"^--   (\w+)(?::\S+)? +(string|hash|set|zset|list) ", re.MULTILINE)
SEEN = re.compile(rb"\S+ \[\d+ (\S+)\] (.*)", re.DOTALL)
WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)


class Key(NamedTuple):
    """A kind of key, without what follows its first colon, and its type."""

    name: str
    type: str


def master_list() -> set[Key]:
    """The keys that common.lua says there are."""
    return {Key(name, kind) for name, kind in LISTED.findall(_text("common"))}


def listed(name: str) -> set[Key]:
    """The keys that the file *name* says it reads or writes."""
    found = re.search(r"^-- Keys: (.*?)\n(?!--.)", _text(name), re.MULTILINE | re.DOTALL)
    if found is None:
        return set()
    text = " ".join(found[1].replace("\n--", "").split())
    keys: set[Key] = set()
    for inherited in INHERITED.finditer(text):
        for other in filter(None, inherited.groups()):
            keys |= listed(other)
    for names, kind in GROUP.findall(INHERITED.sub("", text)):
        words = re.split(r",\s*|\s+and\s+", names.strip(" ,"))
        keys |= {Key(word.partition(":")[0], kind) for word in words}
    return keys


def names() -> list[str]:
    """Of all files of scripts."""
    found = [each.name for each in files(scripts.__name__).iterdir()]
    return sorted(each.removesuffix(".lua") for each in found if each.endswith(".lua"))


def _text(name: str) -> str:
    return files(scripts.__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")


class Touched(NamedTuple):
    """A key that a script was seen to touch."""

    script: str
    key: Key


class Monitor:
    """Reads along at a server.

    Args:
        server: Which.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        deadline = time.monotonic() + 10
        self._connection = Connection(Node("127.0.0.1", server.port), parse("redis://x"), deadline)
        assert self._connection.call("MONITOR", deadline=deadline) == b"OK"
        self._marks = 0

    def touched(self) -> set[Touched]:
        """What scripts have touched since this was asked last."""
        known = {each.sha: each for each in vars(scripts).values() if isinstance(each, Script)}
        found: set[Touched] = set()
        running, base = "", ""
        for source, words in self._since():
            command = words[0].upper().decode()
            if command in {"EVALSHA", "EVAL"}:
                text = words[1]
                digest = hashlib.sha1(text, usedforsecurity=False).hexdigest()
                script = known[digest if command == "EVAL" else text.decode()]
                running, base = script.name, words[3].decode()
            elif source == b"lua" and command not in KEYLESS:
                key = words[1].decode()
                assert key.startswith(base), f"{running} touches {key}, outside of {base}"
                name = key.removeprefix(base).partition(":")[0]
                found.add(Touched(running, Key(name, TYPES[command])))
        return found

    def close(self) -> None:
        self._connection.close()

    def _since(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """Who sent it, and its words, of each command until now."""
        self._marks += 1
        mark = f"mark-{self._marks}"
        self._server.ask("ECHO", mark)
        while True:
            line = self._connection.receive(time.monotonic() + 30)
            seen = SEEN.fullmatch(line if isinstance(line, bytes) else str(line).encode())
            assert seen is not None, line
            words = [_plain(word) for word in WORD.findall(seen[2])]
            if words == [b"ECHO", mark.encode()]:
                return
            yield seen[1], words


def unlisted(touched: set[Touched]) -> list[str]:
    """Those of *touched* that the script's file does not list, for people."""
    missing = []
    for script, key in sorted(touched):
        keys = listed(script)
        known = any(key.name == each.name and key.type in {"", each.type} for each in keys)
        if key.name != UNLISTED and not known:
            missing.append(f"{script}.lua: {key.name} ({key.type})")
    return missing


def _plain(word: bytes) -> bytes:
    return word.decode("unicode_escape").encode("latin-1")
