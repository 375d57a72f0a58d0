# Shared by the scripts in this folder; sourced, never run.
# Progress and errors go to stderr, so that stdout stays free for what a script is asked to print.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$ROOT/.build
mkdir -p "$BUILD/log"

# Colour only for a person who watches.
bold= red= plain=
[ -t 2 ] && bold=$'\033[1m' red=$'\033[1;31m' plain=$'\033[0m'

say() { printf '%s==>%s %s\n' "$bold" "$plain" "$*" >&2; }
die() {
  printf '%serror:%s %s\n' "$red" "$plain" "$*" >&2
  exit 1
}

# quietly <name> <command…>: the command's output goes to .build/log/<name>.log and is shown only if it fails.
quietly() {
  local log=$BUILD/log/$1.log
  shift
  if ! "$@" >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    printf '(all of it: %s)\n' "${log#"$ROOT"/}" >&2
    return 1
  fi
}

# Runs a command as root: directly when we are, through sudo when there is one.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "'$*' needs root and there is no sudo: run it by hand, then try again"
  fi
}
