# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Kubernetes quantities, such as 250m or 512Mi, as numbers. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?\d+)?")
_SUFFIXES = {
    **{name: Decimal(1024) ** power for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
    **{
        name: Decimal(1000) ** power for power, name in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
    },
}


def number(quantity: Any) -> Decimal:
    """The value of a quantity in its base unit (cores, bytes). Raises ValueError for what is none."""
    found = _FORM.fullmatch(str(quantity).strip())
    if found is None:
        raise ValueError(f"{quantity!r} is not a Kubernetes quantity")
    digits, suffix = found.group(1), found.group(2) or ""
    if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix != "Ei":
        return Decimal(digits) * Decimal(10) ** int(suffix[1:])
    return Decimal(digits) * _SUFFIXES[suffix]


def resource_problems(resources: Mapping[str, Any], variable: str) -> list[str]:
    """What is wrong with a container's resources, each in a line that names the variable and the remedy."""
    found: list[str] = []
    amounts: dict[tuple[str, str], Decimal] = {}
    for bound in ("requests", "limits"):
        for name, quantity in (resources.get(bound) or {}).items():
            try:
                amount = number(quantity)
            except ValueError as error:
                found.append(f"{variable}.{bound}.{name}: {error}; write it like 500m or 512Mi")
                continue
            if amount <= 0:
                found.append(f"{variable}.{bound}.{name} is {quantity}; set it above 0")
            amounts[bound, name] = amount
    for name, quantity in (resources.get("limits") or {}).items():
        asked, most = amounts.get(("requests", name)), amounts.get(("limits", name))
        if asked is not None and most is not None and asked > most:
            request = f"{variable}.requests.{name} {resources['requests'][name]}"
            found.append(f"{variable}.limits.{name} is {quantity}, below {request}; raise it or lower the request")
    return found
