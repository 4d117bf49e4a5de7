#!/usr/bin/env bash
# bench.sh ENTRY [ARGUMENTS]: installs and builds if needed, then becomes bench/ENTRY. bench/README.md says what each
# benchmark prints.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/prepare.sh

install_if_needed
build_if_needed

exec node "bench/$1" "${@:2}"
