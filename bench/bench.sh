#!/usr/bin/env bash
# bench.sh ENTRY [ARGUMENTS]: installs and builds if needed, then becomes bench/ENTRY. bench/README.md says what each
# benchmark prints.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/prepare.sh

# As bin/tidelog.js does for the daemon: four writes in flight leave threads for everything else.
export UV_THREADPOOL_SIZE=${UV_THREADPOOL_SIZE:-8}

install_if_needed
build_if_needed

exec node "bench/$1" "${@:2}"
