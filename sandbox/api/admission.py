"""Admission: what a cluster's policies add to or refuse of a write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.api.kinds import Kind
    from sandbox.api.machinery import Api, Call

Obj = dict[str, Any]


def mutate(api: Api, kind: Kind, obj: Obj) -> None:
    return


def validate(api: Api, kind: Kind, obj: Obj, old: Obj | None, call: Call) -> None:
    return


def recount(api: Api, namespace: str) -> None:
    return
