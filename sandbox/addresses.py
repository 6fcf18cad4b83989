"""Loopback addresses: each sandbox takes a /16 of 127/8 for itself, and hands its addresses out in turn."""

from __future__ import annotations

import socket

LOCK_PORT = 61616  # bound, never listened on: whoever holds it on 127.x.255.254 owns 127.x.0.0/16


class Block:
    """Pods get 127.x.0-127.*, cluster addresses 127.x.128-191.*, load balancers 127.x.192-250.*."""

    def __init__(self, start: int) -> None:
        """`start` is where to begin to look, so that one sandbox tends to get the same block again."""
        for offset in range(200):
            self.number = 32 + (start + offset) % 200
            self._lock = socket.socket()
            try:
                self._lock.bind((f"127.{self.number}.255.254", LOCK_PORT))
            except OSError:
                self._lock.close()
                continue
            self.node = f"127.{self.number}.255.1"
            self._next = {"pod": 0, "cluster": 0, "balancer": 0}
            self._used: set[str] = set()
            return
        raise OSError("no block of loopback addresses is free: 200 sandboxes run on this machine")

    def take(self, purpose: str) -> str:
        """A free address for a `pod`, a `cluster` address or a `balancer`."""
        low, size = {"pod": (0, 128), "cluster": (128, 64), "balancer": (192, 58)}[purpose]
        while True:
            turn = self._next[purpose] = self._next[purpose] + 1
            address = f"127.{self.number}.{low + turn // 250 % size}.{turn % 250 + 1}"
            if address not in self._used:
                self._used.add(address)
                return address

    def free(self, address: str) -> None:
        self._used.discard(address)

    def close(self) -> None:
        self._lock.close()
