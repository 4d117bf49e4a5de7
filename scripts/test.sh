#!/usr/bin/env bash
# `npm test [-- VITEST ARGUMENTS]`: installs and builds if needed, then runs every suite with small budgets, in less
# than three minutes. What that leaves out is said at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/prepare.sh

install_if_needed
build_if_needed

export TIDELOG_BUDGET=${TIDELOG_BUDGET:-small}
status=0
node_modules/.bin/vitest run "$@" || status=$?

if [[ $TIDELOG_BUDGET == small ]]; then
  cat <<'NOTE'

Left out here, to stay under three minutes; `.ci/run` runs all of it:
  - full budgets: the simulated crashes, the random cases and the rounds of SIGKILL ran in small numbers
    (the full ones: TIDELOG_BUDGET=ci npm test; longer still: TIDELOG_BUDGET=soak npm test)
  - most cases of the command line's tables (wrong usage, kinds of damage), each of which starts a process, and its
    largest inputs
  - the other ways to write (fdatasync, one write in flight, no flock): the integration suites again in each
  - suites against real servers and tools where they are not installed (promtool, strace, systemd-analyze) or need root
    (a full disk, on an image that is mounted); the skipped tests say what they lack
  - 60 rounds of SIGKILL on a disk that loses what was not synced (npm run kill-loop -- --lossy --rounds 60)
  - the packed tarball, installed into an empty folder and used on Node 20, 22 and 24
  - format, lint, types, house rules, unused code and package checks
NOTE
fi
exit "$status"
