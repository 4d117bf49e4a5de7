#!/usr/bin/env bash
# `npm run build`: compiles into a fresh folder and puts it in the place of dist/ only when the compiler found no
# error. So nothing stale is ever packed, and a failed build leaves the last good one where it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/prepare.sh

key=$(build_key)
mkdir -p node_modules/.cache
next=$(mktemp -d node_modules/.cache/tidelog-build.XXXXXX)
trap 'rm -rf "$next"' EXIT

node_modules/.bin/tsc -p tsconfig.build.json --outDir "$next/dist"
# The key was taken before the compiler read the sources: an edit in between makes the next start build again.
echo "$key" >"$next/dist/.build-stamp"

if [[ -e dist ]]; then mv dist "$next/previous"; fi
mv "$next/dist" dist
