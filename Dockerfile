# The inference service. Make the model first: python -m inference_app.train, then build from the checkout's root.
# Override to pin: --build-arg PYTHON_IMAGE=python:3.11-slim@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
COPY requirements-app.txt /build/
# Wheels only, each by its hash, so that nothing is compiled and nothing else gets in.
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes --only-binary :all: \
       -r /build/requirements-app.txt
COPY inference_app /app/inference_app
COPY models/default /app/models/default
# The root file system is read-only at run time: what Python would cache is made here.
RUN python -m compileall -q /app/inference_app

FROM ${PYTHON_IMAGE}
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
USER 1000:1000
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=3s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('PORT', '8080') + '/health', timeout=2)"]
ENTRYPOINT ["python", "-m", "inference_app"]
