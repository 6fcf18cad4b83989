# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options of everything that logs in to Google."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of C(google.LOGIN_ARG_SPEC)."""

    DOCUMENTATION = r"""
options:
  credentials_file:
    description:
      - The JSON file of a service-account key, or of a workload identity configuration (GitHub Actions, GitLab CI).
      - Without it, O(access_token) and O(use_metadata_server), Application Default Credentials are used - the file that
        the environment variable E(GOOGLE_APPLICATION_CREDENTIALS) names, then the file of
        C(gcloud auth application-default login), then the metadata server.
    type: path
  access_token:
    description:
      - An OAuth access token. It cannot be renewed, so what needs it must end before the token does.
    type: str
  impersonate_service_account:
    description:
      - E-mail address of a service account to act as. The login needs C(roles/iam.serviceAccountTokenCreator) on it.
    type: str
  use_metadata_server:
    description:
      - Instead of Application Default Credentials, use the service account of the machine or pod that this runs on.
    type: bool
    default: false
  iamcredentials_api_url:
    description:
      - Base address of the API that gives tokens for O(impersonate_service_account).
    type: str
    default: https://iamcredentials.googleapis.com
  wait_timeout:
    description:
      - Seconds within which Google must have answered. What is busy is asked again while they last.
    type: float
    default: 8.0
requirements:
  - google-auth
  - requests
"""
