"""Fit the bench's models with this interpreter's scikit-learn: python models.py DIR."""

import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def fitted() -> dict[str, object]:
    x, y = load_wine(return_X_y=True)
    return {
        "linear": make_pipeline(StandardScaler(), LogisticRegression(random_state=0)).fit(x, y),
        "forest": RandomForestClassifier(100, random_state=0).fit(x, y),
    }


if __name__ == "__main__":
    for name, model in fitted().items():
        joblib.dump(model, Path(sys.argv[1]) / f"{name}.joblib")
