"""What uvicorn costs with nothing behind it: JSON in, the same JSON out every time."""

from __future__ import annotations

from typing import Any

import orjson

ANSWER = {
    "predictions": [1],
    "class_names": ["class_1"],
    "probabilities": [[9.588274887911117e-20, 0.9999999997220479, 2.779521919210364e-10]],
    "model_version": "1.0.0",
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    body = b""
    more = scope["type"] == "http"
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    if body:
        rows = len(orjson.loads(body)["features"])
        answer = {k: v if isinstance(v, str) else v * rows for k, v in ANSWER.items()}
        body = orjson.dumps(answer)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
