#!/usr/bin/env bash
# Checks the types of the page's JavaScript (JSDoc, tabs/page/jsconfig.json) with TypeScript from the npm registry.
# Nothing of it is kept or served. Without npm or the registry it says so and passes: the suite must run offline.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

typescript=typescript@5.9.3
limit_s=60

skip() {
    echo "Types of the page are not checked: $1"
    exit 0
}

command -v node >/dev/null && command -v npm >/dev/null || skip "node and npm are not installed."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
timeout "$limit_s" npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error "$typescript" \
    || skip "$typescript could not be installed from the npm registry within $limit_s s."

node "$folder/node_modules/typescript/bin/tsc" -p tabs/page/jsconfig.json
echo "Types of the page are clean ($typescript)."
