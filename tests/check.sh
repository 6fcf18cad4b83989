#!/usr/bin/env bash
# Every gate beyond `make test`, one line each; a gate whose tool is not there is named and not counted as passed.
# usage: tests/check.sh [GATE...]   (all gates without arguments; the names are those of the lines at the end)
set -uo pipefail
cd "$(dirname "$0")/.." || exit
root=$PWD
bin=$root/.venv/bin check=$root/.venv-check/bin
export PATH=$bin:$PATH ANSIBLE_NOCOLOR=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
only=("$@") passed=0 failed=0 absent=0

gate() { # gate NAME DESCRIPTION COMMAND...: runs it, keeps its output, shows it when it fails
    local name=$1 what=$2 start=$SECONDS status=0
    shift 2
    [[ ${#only[@]} -eq 0 || " ${only[*]} " == *" $name "* ]] || return 0
    "$@" >"$work/log" 2>&1 </dev/null || status=$?
    case $status in
        0) passed=$((passed + 1)) && printf 'pass     %-14s %s (%s s)%s\n' "$name" "$what" $((SECONDS - start)) "$(sed -n 's/^note: / - /p' "$work/log" | tr -d '\n')" ;;
        77) absent=$((absent + 1)) && printf 'NOT RUN  %-14s %s: %s\n' "$name" "$what" "$(tail -1 "$work/log")" ;;
        *) failed=$((failed + 1)) && printf 'FAIL     %-14s %s (%s s)\n' "$name" "$what" $((SECONDS - start)) && tail -60 "$work/log" ;;
    esac
}

needs() { # needs COMMAND HOW: ends the gate as "not run" when the command is not there
    command -v "$1" >/dev/null || { echo "$1 is not installed; $2" && exit 77; }
}

artifact() ( # the collection as users get it, unpacked where ansible-test accepts it
    rm -rf "$work/artifact"
    ansible-galaxy collection build --output-path "$work/artifact" . \
        && ansible-galaxy collection install --force --no-deps -p "$work/artifact/collections" "$work"/artifact/*.tar.gz
)

sanity() (
    artifact && cd "$work/artifact/collections/ansible_collections/deepmlhub/inference" || exit 1
    git init -q . && git add -A || exit 1
    # What it would install from the network by itself is installed already; a file of exceptions there is none.
    ansible-test sanity --color no --python "$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" --exclude docs/ \
        --skip-test import --skip-test pylint
)

docs_lint() (
    artifact && cd "$work/artifact/collections/ansible_collections/deepmlhub/inference" || exit 1
    ANSIBLE_COLLECTIONS_PATH=$work/artifact/collections "$check/antsibull-docs" lint-collection-docs --plugin-docs --validate-collection-refs self .
)

shell() (
    needs shellcheck 'apt-get install shellcheck'
    mapfile -t scripts < <(git ls-files -- '*.sh' .ci/run)
    shellcheck "${scripts[@]}"
)

manifests() ( # every inventory, rendered by the playbook a user would call
    for inventory in local dev prod; do
        extra=()
        [[ $inventory == local ]] || extra=(-e @inventories/on-sandbox.yml)
        ansible-playbook playbooks/render.yml -i "inventories/$inventory" "${extra[@]}" -e "render_output=$work/rendered/$inventory" || exit 1
    done
    "$check/checkov" --quiet --compact --framework kubernetes --directory "$work/rendered" --config-file .checkov.yaml
)

workflows() ("$check/zizmor" --offline --no-progress --min-severity low .github/workflows)

coverage() (
    export COVERAGE_FILE=$work/coverage
    pytest -p no:cacheprovider --cov=plugins --cov=inference_app --cov-branch --cov-report=json:"$work/coverage.json" tests/unit tests/app || exit 1
    python - "$work/coverage.json" <<'PYTHON'
import json, sys
total = json.load(open(sys.argv[1]))["totals"]
covered = 100 * total["covered_branches"] / total["num_branches"]
print(f"note: {total['percent_covered']:.1f} % of lines and branches, {covered:.1f} % of branches")
sys.exit(total["percent_covered"] < 90 and "below 90 %")
PYTHON
)

newest() (
    python=${PYTHON313:-$(command -v python3.13 || true)}
    "${python:-false}" -c '' 2>/dev/null || { echo 'python3.13 is not installed, or set PYTHON313 to it' && exit 77; }
    [[ -x .venv-newest/bin/python ]] || uv venv --quiet --python "$python" .venv-newest || exit 1
    uv pip install --quiet --python .venv-newest/bin/python --require-hashes -r requirements-newest.txt || exit 1
    PATH=$root/.venv-newest/bin:$PATH
    echo "note: $(ansible --version | sed -n '1s/.*\[\(.*\)\]/\1/p') on Python 3.13"
    .venv-newest/bin/python -m pytest -p no:cacheprovider tests/unit/module_utils
)

mutants() (tests/mutate.sh && echo 'note: at least 90 % noticed')

gate artifact 'ansible-galaxy builds and installs the collection' artifact
gate sanity 'ansible-test sanity on the artifact, without exceptions (import, pylint: left to a networked CI)' sanity
gate docs 'antsibull-docs: the documentation of modules and roles' docs_lint
gate changelog 'antsibull-changelog: the fragments' "$check/antsibull-changelog" lint
gate shellcheck 'shell scripts' shell
gate hadolint 'the Dockerfile' hadolint Dockerfile
gate manifests 'checkov on the manifests of every inventory' manifests
gate bandit 'security of the Python code' "$check/bandit" --quiet --recursive --severity-level medium plugins inference_app sandbox examples
gate zizmor 'security of the workflows' workflows
gate codespell 'spelling' "$check/codespell" README.md CONTRIBUTING.md SECURITY.md docs roles plugins playbooks inventories molecule changelogs
gate coverage 'unit tests with branches counted' coverage
gate newest 'unit tests with the newest ansible-core' newest
gate molecule 'every scenario that needs no Docker' tests/molecule.sh
gate mutants 'mutation testing of the verdict' mutants

echo "$passed passed, $failed failed, $absent not run"
[[ $failed -eq 0 ]]
