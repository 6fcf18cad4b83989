"""Models come whole and checked, or not at all: from paths, https, Cloud Storage and MLflow, over real HTTP."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import importlib.util
import ipaddress
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from inference_app import bundle
from inference_app.errors import ModelError
from inference_app.fetch import fetch
from inference_app.model import load
from inference_app.settings import Settings
from inference_app.sources import source

from .conftest import ROOT, free_port

Handler = Callable[[http.server.BaseHTTPRequestHandler], None]


class Site:
    """A web server on loopback that serves a directory with ranges, and can be told to misbehave."""

    def __init__(self, root: Path, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.instead: list[Handler] = []  # each answers one request in place of the file
        site = self

        class Answers(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                if site.instead:
                    site.instead.pop(0)(self)
                    return
                file = root / self.path.lstrip("/")
                if not file.is_file():
                    self.send_error(404)
                    return
                data = file.read_bytes()
                begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
                self.send_response(206 if begin else 200)
                self.send_header("Content-Length", str(len(data) - begin))
                self.end_headers()
                self.wfile.write(data[begin:])

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def status(code: int, **headers: str) -> Handler:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in {"content-length": "0", **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()

    return answer


def torn(data: bytes, said: int) -> Handler:
    """The beginning of an answer that breaks off."""

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("content-length", str(said))
        request.end_headers()
        request.wfile.write(data)
        request.close_connection = True

    return answer


@pytest.fixture
def site(wine: Path) -> Iterator[Site]:
    with contextlib.closing(Site(wine.parent)) as served:
        yield served


def digest_of(directory: Path) -> str:
    return bundle.sha256((directory / "metadata.json").read_bytes())


def bring(uri: str, directory: Path, env: dict[str, str] | None = None, **options: Any) -> str:
    slept: list[float] = options.pop("slept", [])
    return fetch(uri, directory, source(uri, env or {}, slept.append), sleep=slept.append, **options)


def trusting(wine: Path) -> dict[str, Any]:
    """What makes plain http acceptable."""
    return {"env": {"MODEL_SHA256": digest_of(wine)}, "sha256": digest_of(wine)}


def same(directory: Path, wine: Path) -> None:
    assert {f.name: f.read_bytes() for f in directory.iterdir()} == {f.name: f.read_bytes() for f in wine.iterdir()}
    assert [entry.name for entry in directory.parent.iterdir() if entry.name.startswith(".")] == []


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_path_is_copied_and_then_current(wine: Path, tmp_path: Path, form: str) -> None:
    uri = form.format(wine)
    assert bring(uri, tmp_path / "m").startswith("fetched wine 1.0.0, sha256 " + digest_of(wine))
    same(tmp_path / "m", wine)
    assert "is current" in bring(uri, tmp_path / "m")


def test_another_model_replaces_the_one_there(wine: Path, tmp_path: Path) -> None:
    bring(str(wine), tmp_path / "m")
    other = bundle.read(tmp_path / "m")
    bundle.write(tmp_path / "other", {**other.metadata, "version": "2.0.0"}, other.files, other.pairs)
    assert "wine 2.0.0" in bring(str(tmp_path / "other"), tmp_path / "m")
    same(tmp_path / "m", tmp_path / "other")


def test_a_broken_transfer_is_continued(site: Site, wine: Path, tmp_path: Path) -> None:
    data = (wine / "model.skops").read_bytes()
    order = list(json.loads((wine / "metadata.json").read_text())["files"])
    assert order.index("model.skops") == 2
    bad: Handler = status(500)

    def passed(request: http.server.BaseHTTPRequestHandler) -> None:
        torn((wine / request.path.split("/")[-1]).read_bytes(), (wine / request.path.split("/")[-1]).stat().st_size)(
            request
        )

    site.instead = [passed, passed, passed, torn(data[:5000], len(data)), bad]
    slept: list[float] = []
    bring(f"http://{site.host}/default", tmp_path / "m", slept=slept, **trusting(wine))
    same(tmp_path / "m", wine)
    assert [headers.get("range") for path, headers in site.asked if "skops" in path] == [
        None,
        "bytes=5000-",
        "bytes=5000-",
    ]
    assert slept == [1, 2]


def test_a_killed_fetch_is_continued_and_a_wrong_beginning_begun_anew(site: Site, wine: Path, tmp_path: Path) -> None:
    data = (wine / "model.skops").read_bytes()
    part = tmp_path / ".m.part"
    part.mkdir()
    (part / "model.skops").write_bytes(data[:7000])
    (part / "model.onnx").write_bytes(b"not its beginning")
    (part / "stray").write_bytes(b"")
    bring(f"http://{site.host}/default", tmp_path / "m", **trusting(wine))
    same(tmp_path / "m", wine)
    assert [headers.get("range") for path, headers in site.asked if "skops" in path] == ["bytes=7000-"]
    assert [headers.get("range") for path, headers in site.asked if "onnx" in path] == ["bytes=17-", None]


def test_a_server_that_asks_to_wait_is_waited_for_and_then_given_up(site: Site, wine: Path, tmp_path: Path) -> None:
    slept: list[float] = []
    site.instead = [status(503, retry_after="7"), status(429)]
    bring(f"http://{site.host}/default", tmp_path / "m", slept=slept, **trusting(wine))
    assert slept == [7, 2]
    site.instead = [status(503)] * 5
    with pytest.raises(ModelError, match=r"default/metadata.json: 503 .*, 5 times"):
        bring(f"http://{site.host}/default", tmp_path / "n", **trusting(wine))
    assert not (tmp_path / "n").exists()


def test_what_is_wrong_is_never_published(site: Site, wine: Path, tmp_path: Path) -> None:
    uri = f"http://{site.host}/default"
    good = trusting(wine)
    with pytest.raises(ModelError, match="MODEL_SHA256 expects " + "0" * 64):
        bring(uri, tmp_path / "m", env=good["env"], sha256="0" * 64)
    with pytest.raises(ModelError, match="MODEL_MAX_BYTES"):
        bring(uri, tmp_path / "m", max_bytes=1000, **good)
    with pytest.raises(ModelError, match="plain http needs MODEL_SHA256"):
        bring(uri, tmp_path / "m")
    with pytest.raises(ModelError, match="isn't a model bundle"):
        bring(f"http://{site.host}/elsewhere", tmp_path / "m", **good)
    card = (wine / "README.md").read_bytes()
    for bad, said in ((card[:-1] + b"?", "README.md: sha256 is"), (card + b"?", "README.md: is longer than")):
        wrong = Path(shutil.copytree(wine, tmp_path / said[-8:].replace(" ", "")))
        (wrong / "README.md").write_bytes(bad)
        with pytest.raises(ModelError, match=said):
            bring(str(wrong), tmp_path / "m", sha256=good["sha256"])
    for uri, said in (("ftp://host/m", "a model comes from"), ("models:/wine", "MLFLOW_TRACKING_URI")):
        with pytest.raises(ModelError, match=said):
            bring(uri, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_credentials_do_not_follow_a_redirect_to_another_host(site: Site, wine: Path, tmp_path: Path) -> None:
    with contextlib.closing(Site(wine.parent)) as elsewhere:
        tracking = {"MLFLOW_TRACKING_URI": f"http://{site.host}", "MLFLOW_TRACKING_TOKEN": "secret"}
        there = f"http://{elsewhere.host}/default/metadata.json"
        site.instead = [status(302, location=there), *[status(404)] * 9]
        with pytest.raises(ModelError) as failed:
            bring("mlflow-artifacts:/m", tmp_path / "m", env=tracking)
        assert "secret" not in str(failed.value)
        assert site.asked[0][1]["authorization"] == "Bearer secret"
        assert elsewhere.asked[0][0] == "/default/metadata.json" and "authorization" not in elsewhere.asked[0][1]


def test_google_tokens_come_from_the_metadata_server(site: Site) -> None:
    def token(request: http.server.BaseHTTPRequestHandler) -> None:
        torn(b'{"access_token": "ya29"}', 24)(request)

    def identity(request: http.server.BaseHTTPRequestHandler) -> None:
        torn(b"eyJ", 3)(request)

    env = {"GCE_METADATA_HOST": site.host}
    site.instead = [status(503), token]
    bucket: Any = source("gs://bucket/a b", env, [].append)
    assert bucket._headers() == {"Authorization": "Bearer ya29"}
    assert bucket._url_of("f").endswith("/storage/v1/b/bucket/o/a%20b%2Ff?alt=media")
    path, headers = site.asked[-1]
    assert path.endswith("/service-accounts/default/token") and headers["metadata-flavor"] == "Google"

    site.instead = [identity]
    env |= {"MLFLOW_TRACKING_URI": "https://mlflow.example", "MLFLOW_GOOGLE_IDENTITY": "true"}
    server: Any = source("mlflow-artifacts:/m", env, [].append)
    assert server._headers() == {"Authorization": "Bearer eyJ"}
    assert site.asked[-1][0].endswith("/identity?audience=https%3A%2F%2Fmlflow.example")


def certificate(directory: Path) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    no_password = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (directory / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, no_password))
    return directory / "cert.pem", directory / "key.pem"


def run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_https_is_checked_and_settings_come_from_the_environment(wine: Path, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with contextlib.closing(Site(wine.parent, context)) as site:
        env = {"MODEL_URI": f"https://{site.host}/default", "MODEL_PATH": str(tmp_path / "m")}
        done = run("inference_app.fetch", **env, SSL_CERT_FILE=str(cert))
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("fetched wine 1.0.0")
        same(tmp_path / "m", wine)
        site.instead = [status(302, location=f"http://{site.host}/default/metadata.json")]
        done = run("inference_app.fetch", **env, SSL_CERT_FILE=str(cert))
        assert done.returncode == 1 and "redirects from https to http" in done.stderr
    done = run("inference_app.fetch", MODEL_URI="", MODEL_PATH="")
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["fetch: no URI or no directory: give both, or set MODEL_URI and MODEL_PATH"]


@contextlib.contextmanager
def service(command: list[str], port: int, cwd: Path, path: str) -> Iterator[str]:
    """A real server as a process, until the block ends."""
    with (cwd / "service.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(url + path, timeout=5):
                break
            assert process.poll() is None and time.monotonic() < deadline, (cwd / "service.log").read_text()
            time.sleep(0.1)
        yield url
    finally:
        # it starts workers: all of its session goes
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def test_from_a_bucket(wine: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("gcp_storage_emulator") is None:
        pytest.skip("gcp-storage-emulator is absent")
    port = free_port()
    emulator = [str(Path(sys.executable).with_name("gcp-storage-emulator")), "start", "--in-memory", "--quiet"]
    emulator += ["--host", "127.0.0.1", "--port", str(port), "--default-bucket", "models"]
    with service(emulator, port, tmp_path, "/storage/v1/b/models") as url:
        for file in wine.iterdir():
            target = f"{url}/upload/storage/v1/b/models/o?uploadType=media&name={quote('team a/wine/' + file.name)}"
            headers = {"content-type": "application/octet-stream"}
            asked = urllib.request.Request(target, file.read_bytes(), headers, method="POST")
            urllib.request.urlopen(asked, timeout=10).close()
        env = {"STORAGE_EMULATOR_HOST": url}
        data = (wine / "model.skops").read_bytes()
        (tmp_path / ".m.part").mkdir()
        (tmp_path / ".m.part" / "model.skops").write_bytes(data[:100])
        assert "fetched wine 1.0.0" in bring("gs://models/team a/wine/", tmp_path / "m", env=env)
        same(tmp_path / "m", wine)
        with pytest.raises(ModelError, match="isn't a model bundle"):
            bring("gs://models/team b", tmp_path / "n", env=env)


MLFLOW = next(
    (
        python
        for python in (Path(sys.executable), ROOT / ".venv-heavy/bin/python")
        if python.exists()
        and subprocess.run(
            [python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('mlflow') is None)"], check=False
        ).returncode
        == 0
    ),
    None,
)

PUBLISH = """
import sys, mlflow, mlflow.sklearn
from mlflow import MlflowClient
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

directory = sys.argv[1]
client = MlflowClient()
with mlflow.start_run() as run:
    mlflow.log_artifacts(directory, "bundle")
    x, y = load_wine(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(random_state=0)).fit(x, y)
    logged = mlflow.sklearn.log_model(
        model, name="sk", registered_model_name="pickled", serialization_format="cloudpickle"
    )
client.create_registered_model("wine")
client.create_model_version("wine", f"{run.info.artifact_uri}/bundle", run.info.run_id)
client.set_registered_model_alias("wine", "champion", "1")
print("RUN", run.info.run_id)
"""


def test_from_a_real_mlflow_server_and_its_pickles_by_way_of_export(wine: Path, tmp_path: Path) -> None:
    if MLFLOW is None:
        pytest.skip("mlflow is absent (make setup-heavy)")
    port = free_port()
    command = [str(MLFLOW), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    (tmp_path / "server").mkdir()
    with service(command, port, tmp_path / "server", "/health") as url:
        env = {"MLFLOW_TRACKING_URI": url}
        published = subprocess.run(
            [MLFLOW, "-c", PUBLISH, str(wine)],
            env={**os.environ, **env},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert published.returncode == 0, published.stderr
        run_id = next(line.split()[1] for line in published.stdout.splitlines() if line.startswith("RUN"))
        for number, uri in enumerate(("models:/wine/1", "models:/wine@champion", f"runs:/{run_id}/bundle")):
            assert "fetched wine 1.0.0" in bring(uri, tmp_path / f"m{number}", env=env)
            assert digest_of(tmp_path / f"m{number}") == digest_of(wine)
        for uri, said in (
            ("models:/wine/9", "404"),
            ("models:/wine@nobody", "alias"),
            ("models:/wine", "not models:/name/version"),
            (f"runs:/{run_id}/elsewhere", "isn't a model bundle"),
        ):
            with pytest.raises(ModelError, match=said):
                bring(uri, tmp_path / "n", env=env)

        with pytest.raises(ModelError, match="a pickle is never served") as refused:
            bring("models:/pickled/1", tmp_path / "n", env=env)
        said = str(refused.value)
        words = said[said.index("python -m inference_app.export") :].split()
        assert words[3:5] == ["models:/pickled/1", "--allow-pickle"]
        data = tmp_path / "wine.csv"
        data.write_text(wine_csv())
        fill = {"TRAINING.csv": str(data), "DIR": str(tmp_path / "made"), "NAME": "wine", "VERSION": "7"}
        done = run(*(fill.get(word, word) for word in words[2:]), **env)
        assert done.returncode == 0, done.stderr
        assert "warning: running the code" in done.stderr
    assert load(Settings(model_path=tmp_path / "made")).version == "7"


def wine_csv() -> str:
    from sklearn.datasets import load_wine

    data = load_wine()
    lines = [",".join(data.feature_names), *(",".join(map(repr, row)) for row in data.data.tolist())]
    return "\n".join(lines) + "\n"
