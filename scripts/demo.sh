#!/usr/bin/env bash
# `npm run demo [-- FLAGS]`: real word vectors through a daemon that is killed on the way. Installs and builds what is
# missing; the data set goes into bench/datasets/, not into the product. `npm run demo -- --help` lists the flags.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/prepare.sh

install_if_needed
build_if_needed

dataset_stamp=bench/datasets/node_modules/.tidelog-install
dataset_key=$(sha256sum <bench/datasets/package-lock.json)
if ! stamp_matches "$dataset_stamp" "$dataset_key"; then
  echo 'tidelog: installing the word vectors (about 300 MB unpacked, once) ...' >&2
  npm ci --prefix bench/datasets --ignore-scripts --no-audit --no-fund >&2
  echo "$dataset_key" >"$dataset_stamp"
fi

exec node bench/demo/demo.mjs "$@"
