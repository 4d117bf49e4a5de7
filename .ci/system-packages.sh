#!/usr/bin/env bash
# Gets the Debian programs that suites use, and only those that are missing: unpacked into the folder that is given, not
# installed, so that no service of theirs starts.
#   .ci/system-packages.sh FOLDER_FOR_PROGRAMS
set -euo pipefail
programs=$1
mkdir -p "$programs"

declare -A package_of=([promtool]=prometheus [strace]=strace)
# Libraries that a minimal system lacks: unpacked beside the program, which is started with them.
declare -A libraries_of=([strace]=libunwind8)

missing=()
for program in "${!package_of[@]}"; do
  command -v "$program" >/dev/null || missing+=("$program")
done
if ((${#missing[@]} == 0)); then exit 0; fi

unpacked=$programs/.packages
mkdir -p "$unpacked"
# As the user that runs this: apt would otherwise change to one that may not write here.
as_self=(-o APT::Sandbox::User="$(id -un)")
apt-get "${as_self[@]}" -qq update
for program in "${missing[@]}"; do
  for package in "${package_of[$program]}" ${libraries_of[$program]:-}; do
    (cd "$unpacked" && apt-get "${as_self[@]}" -qq download "$package")
    for archive in "$unpacked/$package"_*.deb; do dpkg-deb --extract "$archive" "$unpacked"; done
  done
  if [[ -n ${libraries_of[$program]:-} ]]; then
    libraries=$(printf '%s:' "$unpacked"/usr/lib/*-linux-gnu)
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "${libraries%:}" "$unpacked/usr/bin/$program" >"$programs/$program"
    chmod +x "$programs/$program"
  else
    ln -sf "$unpacked/usr/bin/$program" "$programs/$program"
  fi
  "$programs/$program" --version
done
