"""Google's side of a GKE cluster: tokens, container API, metadata server, registry and IAM, on one ASGI application."""

from __future__ import annotations

from sandbox.google.app import make_asgi
from sandbox.google.service import Google
from sandbox.google.state import Fault, State

__all__ = ["Fault", "Google", "State", "make_asgi"]
