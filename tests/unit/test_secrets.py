"""Options that carry a secret are masked wherever Ansible prints arguments."""

from __future__ import annotations

from ansible_collections.deepmlhub.inference.plugins.module_utils import cluster, google


def test_options_that_carry_a_secret_are_masked() -> None:
    options = {**google.LOGIN_ARG_SPEC, **cluster.AUTH_ARG_SPEC}
    secret = {name for name in options if name in ("access_token", "api_key", "password", "client_key_data")}
    assert {"access_token", "api_key", "password"} <= secret
    assert {name for name in secret if not options[name].get("no_log")} == set()
