# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the default model from scikit-learn's wine data: C(python -m inference_app.train [--output DIR])."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import bundle
from .errors import ModelError

NAME, VERSION = "wine", "1.0.0"
MISSION = [0.1, -0.2, 0.3, 0.4, -0.5, 0.6, -0.7, 0.8, -0.9, 1.0, 0.1, -0.1, 0.2]
GOLDEN_ROWS = 10


def current(directory: Path) -> str | None:
    """The bundle's sha256 when it is whole and this code with these libraries would make the same; else None."""
    try:
        found = bundle.read(directory)
    except ModelError:
        return None
    same = (found.metadata["name"], found.metadata["version"], found.metadata.get("versions")) == (
        NAME,
        VERSION,
        bundle.versions(),
    )
    return found.sha256 if same else None


def train(directory: Path) -> str:
    """Fit, export, and return the bundle's sha256."""
    from sklearn.datasets import load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from .export import export

    wine = load_wine()
    estimator = make_pipeline(StandardScaler(), LogisticRegression(random_state=0)).fit(wine.data, wine.target)
    step = len(wine.data) // GOLDEN_ROWS
    singles = [[row] for row in wine.data[::step][:GOLDEN_ROWS].tolist()]
    golden = [[MISSION], *singles, wine.data[[0, 70, 140]].tolist()]
    return export(
        estimator,
        directory,
        name=NAME,
        version=VERSION,
        rows=wine.data,
        golden=golden,
        feature_names=list(wine.feature_names),
        class_names=[str(name) for name in wine.target_names],
    )


def main() -> int:
    """Say what was made, or that nothing had to be."""
    parser = argparse.ArgumentParser(prog="python -m inference_app.train", description="make the default model")
    parser.add_argument("--output", type=Path, default=Path("models/default"), help="default: %(default)s")
    directory: Path = parser.parse_args().output
    if digest := current(directory):
        print(f"{directory} is current: {NAME} {VERSION}, sha256 {digest}")  # noqa: T201
        return 0
    print(f"{directory}: made {NAME} {VERSION}, sha256 {train(directory)}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
