#!/bin/sh
# Changes one rule of the verdict at a time and sees whether a test notices: at least 90 % must be noticed.
# usage: tests/mutate.sh [PYTHON]; takes about 20 minutes; the configuration is the table cosmic-ray in pyproject.toml
set -eu
cd "$(dirname "$0")/.."
bin=$(dirname "$(realpath -s "${1:-.venv/bin/python}")")
# The tool edits the file in place, so it gets a copy.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT INT TERM
cp -a --parents pyproject.toml collections plugins/module_utils tests/unit/module_utils tests/unit/data/rollouts "$copy"
cd "$copy"
PATH="$bin:$PATH"
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1  # a thousand starts of pytest: only what they need
cosmic-ray init pyproject.toml session.sqlite
cr-filter-operators session.sqlite pyproject.toml
cosmic-ray baseline pyproject.toml
cosmic-ray exec pyproject.toml session.sqlite
cr-report --surviving-only --show-diff session.sqlite
# cr-rate would count the mutants that were left out as noticed.
python - <<'END'
import sqlite3
import sys

counts = dict(sqlite3.connect("session.sqlite").execute(
    "select test_outcome, count(*) from work_results where test_outcome is not null group by 1"
))
missed = counts.get("SURVIVED", 0)
noticed = sum(counts.values()) - missed
print(f"{noticed} of {noticed + missed} mutants noticed: {noticed / (noticed + missed):.1%}")
sys.exit(noticed < 0.9 * (noticed + missed))
END
