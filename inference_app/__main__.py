# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""C(python -m inference_app): serve until SIGTERM."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace

from . import settings as settings_module


def main() -> int:
    """Exit status 2 for bad settings, 1 when the address can't be had, 0 after a drained stop."""
    parser = argparse.ArgumentParser(prog="python -m inference_app", description="serve a model over HTTP")
    parser.add_argument("--host", help="address to listen on (default: HOST, else 0.0.0.0)")
    parser.add_argument("--port", type=int, help="port to listen on (default: PORT, else 8080)")
    arguments = parser.parse_args()
    try:
        settings = settings_module.from_env(os.environ)
    except settings_module.SettingsError as error:
        print(f"inference_app: {error}", file=sys.stderr)  # noqa: T201
        return 2
    if arguments.host:
        settings = replace(settings, host=arguments.host)
    if arguments.port is not None:
        settings = replace(settings, port=arguments.port)
    # before numpy is imported: the pod's CPU limit knows nothing of the node's cores
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(settings.workers))
    from .server import serve

    return serve(settings)


if __name__ == "__main__":
    sys.exit(main())
