"""What the stand-in for Google knows: keys, tokens, one cluster, images, policies, and the faults switched on."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
# google-auth names this audience wherever the key file sends it.
TOKEN_AUDIENCE = "https://oauth2.googleapis.com/token"  # noqa: S105


@dataclass
class Fault:
    """An error that one of the services answers instead of its result.

    :param at: token, sts, oidc, iamcredentials, metadata, container, registry or iam.
    :param kind: unauthenticated, permission, disabled, missing, busy, unavailable, provisioning or expired-key.
    :param times: how many requests it spoils; None for all.
    :param retry_after: seconds that busy and unavailable name.
    """

    at: str
    kind: str
    times: int | None = None
    retry_after: float = 1


@dataclass
class Grant:
    """Whom an access token stands for, and until when (seconds since the epoch)."""

    email: str
    expiry: float


@dataclass
class State:
    """One project with one cluster. Times in seconds; C(url) is where the stand-in itself is reached."""

    url: str = ""
    project: str = "demo-project"
    number: str = "123456789012"
    location: str = "europe-west4"
    cluster: str = "inference"
    endpoint: str = "127.0.0.1:6443"
    internal_endpoint: str = ""
    dns_endpoint: str = ""
    ca: bytes = b""
    version: str = "1.36.2-gke.1000000"
    machine_account: str = ""
    token_life: float = 3600
    clock: Callable[[], float] = time.time
    kubernetes: Any = None
    cluster_fields: dict[str, Any] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    keys: dict[str, tuple[str, rsa.RSAPublicKey]] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    actors: dict[str, set[str]] = field(default_factory=dict)
    cluster_admins: set[str] = field(default_factory=set)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    _oidc: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    request_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def grant(self, email: str, life: float | None = None) -> tuple[str, float]:
        """A new access token for the address, and its expiry."""
        token = f"ya29.{secrets.token_urlsafe(48)}"
        expiry = self.clock() + (self.token_life if life is None else min(life, self.token_life))
        self.grants[token] = Grant(email, expiry)
        return token, expiry

    def user_of(self, token: str) -> str | None:
        """The e-mail address that a live access token stands for."""
        found = self.grants.get(token)
        return found.email if found and self.clock() < found.expiry else None

    def kubernetes_user(self, token: str) -> tuple[str, tuple[str, ...]] | None:
        """Name and groups for the Kubernetes API: an administrator by IAM needs no role binding in the cluster."""
        email = self.user_of(token)
        return (email, ("system:masters",) if email in self.cluster_admins else ()) if email else None

    def add_key(self, email: str) -> dict[str, str]:
        """A service-account key file for the address; the stand-in keeps the public half."""
        private = rsa.generate_private_key(65537, 2048)
        kid = secrets.token_hex(20)
        self.keys[kid] = (email, private.public_key())
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": kid,
            "private_key": pem.decode(),
            "client_email": email,
            "client_id": "100000000000000000001",
            "token_uri": f"{self.url}/token",
        }

    @property
    def audience(self) -> str:
        """The workload identity provider's full name."""
        return f"//iam.googleapis.com/projects/{self.number}/locations/global/workloadIdentityPools/ci/providers/ci"

    def external_account(self, source: Mapping[str, Any], impersonate: str = "") -> dict[str, Any]:
        """A workload identity configuration file; C(source) says where the job's OIDC token is."""
        found: dict[str, Any] = {
            "type": "external_account",
            "audience": self.audience,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{self.url}/sts/v1/token",
            "credential_source": dict(source),
        }
        if impersonate:
            found["service_account_impersonation_url"] = (
                f"{self.url}/iamcredentials/v1/projects/-/serviceAccounts/{impersonate}:generateAccessToken"
            )
        return found

    def github_source(self) -> dict[str, Any]:
        """The credential_source of a GitHub Actions job."""
        return {
            "url": f"{self.url}/oidc?audience={self.audience}",
            "headers": {"Authorization": f"Bearer {self.request_token}"},
            "format": {"type": "json", "subject_token_field_name": "value"},
        }

    def oidc_token(self, subject: str = "repo:deepmlhub/inference:ref:refs/heads/main") -> str:
        """The signed token of a CI job, as GitLab puts it into a file."""
        now = self.clock()
        claims = {"iss": "https://ci.example", "sub": subject, "aud": self.audience, "iat": now, "exp": now + 300}
        head, body = (_b64(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "ci"}, claims))
        signed = f"{head}.{body}".encode()
        return f"{head}.{body}.{_b64(self._oidc.sign(signed, padding.PKCS1v15(), hashes.SHA256()))}"

    def check_jwt(self, token: str) -> tuple[str, str]:
        """The address behind a service account's assertion, or why it is refused (one of the two is empty)."""
        try:
            header, claims = read_jwt(token)
        except ValueError:
            return "", "Invalid JWT: not a JSON web token."
        email, public = self.keys.get(str(header.get("kid")), ("", None))
        if public is None or claims.get("iss") != email or not _signed(token, public):
            return "", "Invalid JWT Signature."
        now = self.clock()
        if not (claims.get("iat", 0) - 300 <= now <= claims.get("exp", 0) <= claims.get("iat", 0) + 3600):
            return "", (
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
                "Check your iat and exp values in the JWT claim."
            )
        if claims.get("aud") not in (TOKEN_AUDIENCE, f"{self.url}/token") or not claims.get("scope"):
            return "", "Invalid JWT: audience or scope."
        return email, ""

    def check_oidc(self, token: str, audience: str) -> tuple[str, str]:
        """The principal behind a CI job's token, or why it is refused."""
        try:
            _, claims = read_jwt(token)
        except ValueError:
            return "", "Error connecting to the given credential's issuer."
        if not _signed(token, self._oidc.public_key()) or self.clock() > claims["exp"]:
            return "", "The given credential is rejected by the attribute condition or has expired."
        if audience != self.audience or claims["aud"] != self.audience:
            return "", "The audience in ID Token does not match the expected audience."
        pool = f"principal://iam.googleapis.com/projects/{self.number}/locations/global/workloadIdentityPools/ci"
        return f"{pool}/subject/{claims['sub']}", ""

    def put_image(self, repository: str, tag: str) -> str:
        """Push a small manifest under C(project/repo/image) and a tag; returns its digest."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": OCI_CONFIG,
                "size": 2,
                "digest": f"sha256:{'0' * 64}",
            },
            "layers": [],
            "annotations": {"made.for": f"{repository}:{tag}"},
        }
        body = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.manifests[repository, tag] = self.manifests[repository, digest] = (OCI_MANIFEST, body)
        return digest

    def strike(self, at: str) -> Fault | None:
        """The fault that the next answer of a service must show, if one is switched on."""
        for fault in self.faults:
            if fault.at == at:
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                return fault
        return None

    def cluster_json(self) -> dict[str, Any]:
        """The cluster as the container API shows it."""
        provisioning = any(fault.kind == "provisioning" for fault in self.faults)
        membership = (
            f"//gkehub.googleapis.com/projects/{self.number}/locations/{self.location}/memberships/{self.cluster}"
        )
        found: dict[str, Any] = {
            "name": self.cluster,
            "location": self.location,
            "status": "PROVISIONING" if provisioning else "RUNNING",
            "currentMasterVersion": self.version,
            "masterAuth": {"clusterCaCertificate": base64.b64encode(self.ca).decode()},
            "controlPlaneEndpointsConfig": {
                "dnsEndpointConfig": {"endpoint": self.dns_endpoint, "allowExternalTraffic": bool(self.dns_endpoint)},
                "ipEndpointsConfig": {"enabled": True, "enablePublicEndpoint": True, "publicEndpoint": self.endpoint},
            },
            "workloadIdentityConfig": {"workloadPool": f"{self.project}.svc.id.goog"},
            "fleet": {"project": self.project, "membership": membership},
        }
        if not provisioning:
            found["endpoint"] = self.endpoint
        if self.internal_endpoint:
            found["privateClusterConfig"] = {"privateEndpoint": self.internal_endpoint}
            found["controlPlaneEndpointsConfig"]["ipEndpointsConfig"]["privateEndpoint"] = self.internal_endpoint
        return {**found, **self.cluster_fields}


def read_jwt(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a JSON web token, unchecked. Raises ValueError for anything else."""
    parts = token.split(".")
    if len(parts) != 3:
        raise ValueError("a JSON web token has three parts")
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2])
    return header, claims


def _signed(token: str, public: rsa.RSAPublicKey) -> bool:
    signed, _, signature = token.rpartition(".")
    try:
        given = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        public.verify(given, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
