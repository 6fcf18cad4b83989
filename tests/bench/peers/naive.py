"""The service that most people would write."""

from __future__ import annotations

import os
from typing import Any

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load(os.environ["BENCH_MODEL"])


class Request(BaseModel):
    features: list[list[float]]


@app.post("/predict")
def predict(request: Request) -> dict[str, Any]:
    probabilities = model.predict_proba(np.array(request.features))
    classes = probabilities.argmax(axis=1).tolist()
    return {
        "predictions": classes,
        "class_names": [f"class_{i}" for i in classes],
        "probabilities": probabilities.tolist(),
        "model_version": "1",
    }


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}
