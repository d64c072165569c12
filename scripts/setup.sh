# Shared by ./run and ./test. Sourced, not run.
# shellcheck shell=bash

# Says what is going on, apart from what the programs print.
say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# The places where packages put Postgres's programs. storefold itself looks further; this only decides whether to install.
has_postgres() {
  local dir
  for dir in "$(pg_config --bindir 2>/dev/null || true)" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
    /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
    /Applications/Postgres.app/Contents/Versions/*/bin /usr/local/pgsql/bin /usr/local/bin /usr/bin; do
    if [[ -n $dir && -x $dir/initdb ]]; then return 0; fi
  done
  return 1
}

# Sees to it that Postgres's programs are there. No server of the distribution is set up or started.
ensure_postgres() {
  if has_postgres; then return; fi
  if ! command -v apt-get >/dev/null; then
    die "Postgres's programs are missing; install PostgreSQL 14 or later with your package manager, or set DATABASE_URL"
  fi
  if ((EUID != 0)); then
    die "Postgres's programs are missing; run: sudo apt-get install postgresql"
  fi
  say "installing Postgres's programs"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # The package of the server makes a cluster and starts it, unless this says otherwise.
  apt-get install -y -qq postgresql-common >/dev/null
  sed -i 's/^#\? *create_main_cluster *=.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
  apt-get install -y -qq postgresql >/dev/null
}

ensure_cargo() {
  command -v cargo >/dev/null || die "cargo is missing; install Rust from https://rustup.rs"
}

# Prints the path of a built binary: target_binary debug|release
target_binary() {
  printf '%s/%s/storefold\n' "${CARGO_TARGET_DIR:-$PWD/target}" "$1"
}
