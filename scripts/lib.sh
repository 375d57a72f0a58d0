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

# python_package <name> <version> <size> <sha256 of the wheel>: prints the folder to put on PYTHONPATH, downloading it from
# PyPI if it is not there. For packages of pure Python that need no other one.
python_package() {
  local name=$1 version=$2 size=$3 sha256=$4
  local dir=$BUILD/$name-$version
  if [ ! -d "$dir" ]; then
    "$ROOT/scripts/deps" python
    say "downloading $name $version ($size) from PyPI"
    local tmp
    tmp=$(mktemp -d "$BUILD/$name.XXXXXX")
    # shellcheck disable=SC2064  # the folder of now
    trap "rm -rf '$tmp'" EXIT
    # The wheel's own hash: another file of the same name is refused.
    echo "$name==$version --hash=sha256:$sha256" >"$tmp/requirements.txt"
    quietly "$name-download" timeout 300 python3 -m pip download --no-deps --only-binary=:all: \
      --disable-pip-version-check --require-hashes -r "$tmp/requirements.txt" -d "$tmp" ||
      die "could not download $name $version"
    # A wheel is a zip archive: nothing is installed into any Python.
    python3 -m zipfile -e "$tmp"/*.whl "$tmp/wheel"
    # The rename is what makes it visible: an interrupted run leaves nothing half done. Two at once are as good as one.
    mv -T "$tmp/wheel" "$dir" 2>/dev/null || [ -d "$dir" ] || die "cannot create $dir"
  fi
  echo "$dir"
}
