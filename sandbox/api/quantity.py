"""Quantities: "250m", "1Gi", "1.5"."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

_UNITS = {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1)}
_UNITS |= {unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), start=1)}
_UNITS |= {unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)}


def parse(text: str | int | float) -> Decimal:
    """The number that a quantity stands for; ValueError where it is none."""
    match = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([a-zA-Z]{0,2})|[eE]([+-]?\d+))", str(text))
    if not match or (match[2] or "") not in _UNITS:
        raise ValueError(f"{text!r} is not a quantity")
    return Decimal(match[1]) * (Decimal(10) ** int(match[3]) if match[3] else _UNITS[match[2] or ""])


def canonical(text: str | int | float) -> str:
    """The quantity as the server writes it: 0.5 → 500m, 1000m → 1, 1024Mi → 1Gi, 2000 → 2k."""
    form = next((u for u in ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei") if str(text).endswith(u)), "")
    return spell(parse(text), binary=bool(form))


def spell(value: Decimal, *, binary: bool = False) -> str:
    if value == 0:
        return "0"
    if binary and value == value.to_integral_value() and abs(value) >= 1024:
        for unit in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
            if value % _UNITS[unit] == 0:
                return f"{int(value / _UNITS[unit])}{unit}"
        return str(int(value))
    for unit in ("E", "P", "T", "G", "M", "k", "", "m", "u"):
        if value % _UNITS[unit] == 0:
            return f"{int(value / _UNITS[unit])}{unit}"
    return f"{int((value / _UNITS['n']).to_integral_value(ROUND_CEILING))}n"
