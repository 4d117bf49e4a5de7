# Sourced by start.sh, test.sh and .ci/run, from the root of the repository: installs and builds, each only when
# something changed since it last succeeded. All it prints goes to stderr.

install_stamp=node_modules/.tidelog-install
build_stamp=dist/.build-stamp

# What the installed packages depend on. The ABI is in it because an optional native package that was compiled for one
# Node major does not load on another.
install_key() {
  { cat package-lock.json; node -p process.versions.modules; } | sha256sum
}

# What dist/ depends on: every source, the compiler's settings and the compiler itself (through the lock file).
build_key() {
  { find native-free-storage src -name '*.ts' -print0 | sort -z; printf '%s\0' tsconfig.json tsconfig.build.json package-lock.json; } |
    xargs -0 sha256sum | sha256sum
}

stamp_matches() { # file, key
  [[ -f $1 && $(<"$1") == "$2" ]]
}

install_if_needed() {
  local key
  key=$(install_key)
  if stamp_matches "$install_stamp" "$key"; then return; fi
  echo 'tidelog: installing packages (npm ci) ...' >&2
  # With dev: the compiler is one of them. A failed build of an optional native package does not fail the install.
  npm ci --include=dev --include=optional --no-audit --no-fund >&2
  echo "$key" >"$install_stamp"
}

build_if_needed() {
  local key
  key=$(build_key)
  if stamp_matches "$build_stamp" "$key"; then return; fi
  echo 'tidelog: building (npm run build) ...' >&2
  npm run --silent build >&2
}
