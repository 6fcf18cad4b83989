"""The same model in BentoML, with its adaptive batching."""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1)
class Wine:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @bentoml.api(batchable=True, max_batch_size=256, max_latency_ms=100)
    def predict(self, features: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(features)
