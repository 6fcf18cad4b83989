#!/usr/bin/env bash
# Runs molecule scenarios, all that a sandbox serves or those named: tests/molecule.sh [SCENARIO...]
set -euo pipefail
cd "$(dirname "$0")/.."
# Molecule keeps its state under ANSIBLE_HOME by the name of the folder alone: two clones must not share it.
export PATH=$PWD/.venv/bin:$PATH ANSIBLE_HOME=$PWD/.ansible
[[ $# -gt 0 ]] || set -- default upgrade failure check_mode rollback teardown dev prod
for scenario in "$@"; do
    molecule test --scenario-name "$scenario"
done
