#!/usr/bin/env bash
# `npm start [-- FLAGS]`: installs and builds if needed, then becomes the daemon.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/prepare.sh

install_if_needed
build_if_needed

# exec: the daemon takes this process's place, so a signal to npm reaches the daemon itself.
exec node bin/tidelog.js serve "$@"
