#!/usr/bin/env bash
# Prepares the environment once, then starts Thunder Train. Works from any folder.
#
#   ./launch.sh [flags]           the same as `thunder launch [flags]`
#   ./launch.sh COMMAND [...]     the same as `thunder COMMAND [...]`, for instance `./launch.sh doctor`
#   ./launch.sh test [...]        the tests, on all cores; the rest goes to pytest (`-n0`: in one process)
#   ./launch.sh test --quick      a choice of the tests from every room, in under a minute
#   ./launch.sh docs [--serve]    the documents, built into site/ without network; --serve shows them on loopback
#   ./launch.sh setup             the environment alone
#
# THUNDER_PYTHON=PATH     the Python that the environment is made with (remove .venv to change it later)
# THUNDER_NO_APT=1        never install OpenBLAS
# THUNDER_OPENBLAS=PATH   the libopenblas.so.0 to use, where it is not in the system's folders
#
# Written for bash 3.2, which is the one that macOS has.
set -euo pipefail
unset CDPATH

say() { printf 'launch.sh: %s\n' "$*" >&2; }

repo_folder() { # the folder this file really lies in, symbolic links followed
  local file=${BASH_SOURCE[0]} folder
  while :; do
    case $file in */*) folder=${file%/*} ;; *) folder=. ;; esac
    folder=$(cd -P -- "${folder:-/}" && pwd)
    [ -L "$file" ] || break
    file=$(readlink "$file")
    case $file in /*) ;; *) file=$folder/$file ;; esac
  done
  printf '%s\n' "$folder"
}

repo=$(repo_folder)
venv=$repo/.venv
python=$venv/bin/python
stamp=$venv/.thunder-ready      # written last: its absence means "not installed", its text says what is
begun=$venv/.thunder-installing # there while an installation runs; left behind by one that was killed
lock=$repo/.venv.lock           # a folder, because making one is atomic everywhere
log=""
ticker="" installer=""          # processes of ours that must not outlive us

# ------------------------------------------------------------------------------------------------ is it ready?

wanted_stamp() { # digest of what is to be installed, and where (a moved environment has wrong paths inside)
  local digest
  if command -v sha256sum >/dev/null 2>&1; then
    digest=$(cat "$repo/requirements.lock" "$repo/pyproject.toml" | sha256sum)
  else
    digest=$(cat "$repo/requirements.lock" "$repo/pyproject.toml" | shasum -a 256)
  fi
  printf '%s %s\n' "${digest%% *}" "$repo"
}

is_ready() {
  local found=""
  [ -x "$python" ] && [ -f "$stamp" ] || return 1
  IFS= read -r found <"$stamp" || true
  [ "$found" = "$wanted" ]
}

# ------------------------------------------------------------------------------------------------ which Python?

about_python='
import platform, sys
try:
    import ensurepip, venv
    venv = "venv"
except ImportError:
    venv = "bare"
print("%d %d %d %s %s" % (tuple(sys.version_info[:3]) + (platform.machine(), venv)))
'

# Can this interpreter carry the environment? Says why not in `reason`, its version in `version`.
# need: "venv" when the environment has to be made by its own venv module, else "any".
fits() {
  local interpreter=$1 need=$2 answer major minor patch machine has
  version="" reason="does not run"
  answer=$("$interpreter" -c "$about_python" 2>/dev/null </dev/null) || return 1
  read -r major minor patch machine has <<<"$answer"
  version=$major.$minor.$patch
  reason="$version, too old"
  [ "$major" -eq 3 ] 2>/dev/null && [ "$minor" -ge 11 ] || return 1
  reason="$version, newer than the locked packages know"
  [ "$minor" -le 14 ] || return 1
  case ${OSTYPE:-} in darwin*)
    reason="$version for $machine; MLX needs one for arm64"
    [ "$machine" = arm64 ] || return 1
    ;;
  esac
  reason="$version, without venv and ensurepip"
  [ "$need" = any ] || [ "$has" = venv ] || return 1
}

# Sets `base` to the first interpreter that fits; `seen` lists the others.
find_python() {
  local need=$1 path version reason
  shift
  base="" seen="" bare=""
  while [ $# -gt 0 ]; do
    # an activated .venv is on PATH too, and is about to be replaced
    if path=$(command -v -- "$1" 2>/dev/null) && [ "${path#"$venv"/}" = "$path" ]; then
      if fits "$path" "$need"; then
        base=$path
        return 0
      fi
      seen="$seen${seen:+; }$1 ($reason)"
      case $reason in *ensurepip) bare=${bare:-${version%.*}} ;; esac
    fi
    shift
  done
  return 1
}

no_python() {
  if [ -n "$bare" ]; then
    say "Python $bare is here, but without the parts that make an environment. Found: $seen."
    say "to fix, on Debian or Ubuntu: apt-get install python$bare-venv"
  elif [ -n "${THUNDER_PYTHON:-}" ]; then
    say "THUNDER_PYTHON=$THUNDER_PYTHON cannot be used: ${seen:-no such program}. Python 3.11 to 3.14 is needed."
    say "to fix: name another, or unset THUNDER_PYTHON"
  else
    say "no Python that fits: 3.11 to 3.14 is needed. Found: ${seen:-none at all}."
    case ${OSTYPE:-} in
      darwin*) say "to fix: brew install python@3.12 (or install uv, which brings its own Python)" ;;
      *) say "to fix, on Debian or Ubuntu: apt-get install python3.11 python3.11-venv (or install uv, which brings its own Python)" ;;
    esac
  fi
  exit 2
}

# ------------------------------------------------------------------------------------------------ one at a time

alive() { kill -0 "$1" 2>/dev/null || [ -d "/proc/$1" ] || ps -p "$1" >/dev/null 2>&1; }

older_than() { [ -n "$(find "$1" -maxdepth 0 -mmin "+$2" 2>/dev/null)" ]; } # path, minutes

abandoned() { # is the owner of the lock gone? `owner` is its process, if it wrote that down
  local host="" worker=""
  owner=""
  { read -r owner host <"$lock/pid"; } 2>/dev/null || true
  { read -r worker <"$lock/installer"; } 2>/dev/null || true
  if [ -z "$owner" ]; then
    older_than "$lock" 1
  elif [ "$host" != "${HOSTNAME:-}" ]; then # a shared disk: nothing can be asked about a process elsewhere
    older_than "$lock" 60
  else
    ! alive "$owner" && { [ -z "$worker" ] || ! alive "$worker"; }
  fi
}

take_lock() {
  local owner waited=0
  until mkdir "$lock" 2>/dev/null; do
    if [ ! -d "$lock" ] && [ ! -w "$repo" ]; then
      say "cannot write to $repo, so the environment cannot be made there"
      exit 1
    fi
    if abandoned; then # only who holds the second lock may break the first: two may not break it in turn
      if mkdir "$lock.break" 2>/dev/null; then
        if abandoned; then
          say "taking over from process ${owner:-unknown}, which ended before it was done"
          rm -rf "$lock"
        fi
        rmdir "$lock.break"
        continue
      elif older_than "$lock.break" 1; then
        rmdir "$lock.break" 2>/dev/null || true
      fi
    fi
    if [ $((waited % 30)) -eq 0 ] && [ -n "$owner" ]; then
      say "another launch.sh (process $owner) is preparing the environment; waiting for it"
    fi
    sleep 1
    waited=$((waited + 1))
  done
  printf '%s %s\n' "$$" "${HOSTNAME:-}" >"$lock/pid"
}

# ------------------------------------------------------------------------------------------------ installation

# Runs an installer in the repository with its output in the log, and says now and then that it is still at work.
# In the background, so that a signal to us is not kept waiting until it ends.
logged() {
  local status=0
  (
    elapsed=0
    while sleep 5 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
      elapsed=$((elapsed + 5))
      [ $((elapsed % 20)) -ne 0 ] || say "still at work after $elapsed s"
    done
  ) &
  ticker=$!
  (
    cd "$repo"
    unset PYTHONHOME PYTHONPATH PIP_PREFIX PIP_TARGET PIP_USER
    exec "$@"
  ) >>"$log" 2>&1 </dev/null &
  installer=$!
  printf '%s\n' "$installer" >"$lock/installer"
  wait "$installer" || status=$?
  installer=""
  rm -f "$lock/installer"
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  ticker=""
  return "$status"
}

leave() { # on any way out of the preparation
  local process
  for process in $installer $ticker; do
    kill "$process" 2>/dev/null || true
    wait "$process" 2>/dev/null || true
  done
  [ -z "$log" ] || rm -f "$log"
  rm -rf "$lock"
}

install_failed() {
  say "$1 failed. Its last lines:"
  tail -n 12 "$log" | sed 's/^/    /' >&2
  say "to fix: look at the network (or the package index that pip or uv is set to) and the free disk space,"
  say "        then run ./launch.sh setup again. MLX needs macOS 14 on Apple silicon, or Linux with glibc 2.35."
  say "the whole log: $log"
  log="" # stays
  exit 1
}

make_venv() { # with uv: from the Python that was found, or from one that uv knows or fetches
  local version reason need=venv
  [ -z "$uv" ] || need=any
  if [ -e "$begun" ]; then
    say "an earlier installation did not come to its end; starting afresh"
    rm -rf "$venv"
  elif [ -d "$venv" ]; then
    if fits "$python" any && { [ -n "$uv" ] || "$python" -m pip --version >/dev/null 2>&1; }; then
      return 0
    fi
  fi
  if [ -n "${THUNDER_PYTHON:-}" ]; then
    find_python "$need" "$THUNDER_PYTHON" || no_python
  else
    find_python "$need" python3.13 python3.12 python3.11 python3.14 python3 python || [ -n "$uv" ] || no_python
  fi
  rm -rf "$venv"
  if [ -n "$uv" ]; then
    logged "$uv" venv --no-project --python "${base:->=3.11,<3.15}" "$venv" || install_failed "uv venv"
  else
    logged "$base" -m venv "$venv" || install_failed "$base -m venv"
  fi
}

install_packages() {
  : >"$begun"
  rm -f "$stamp"
  if [ -n "$uv" ]; then
    set -- "$uv" pip install --python "$python"
  else
    set -- "$python" -m pip install --no-input --disable-pip-version-check
  fi
  logged "$@" --require-hashes --only-binary :all: -r requirements.lock || install_failed "the installation of requirements.lock"
  logged "$@" --no-deps --no-build-isolation -e . || install_failed "the installation of the package itself"
  logged "$python" -c 'import mlx.core, thunder' || install_failed "the first import of mlx and thunder"
}

prepare() {
  local uv="" started path_before=$PATH
  take_lock
  started=$SECONDS
  trap leave EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  if ! is_ready; then # else another launch.sh did it meanwhile
    log=$(mktemp "${TMPDIR:-/tmp}/thunder-setup.XXXXXX")
    case ${OSTYPE:-} in darwin*) PATH=$PATH:/opt/homebrew/bin ;; esac # a shell over ssh has neither of these
    PATH=$PATH:${HOME:-}/.local/bin
    uv=$(command -v uv 2>/dev/null) || uv=""
    say "preparing $venv: the first time a minute or two, and about 200 MB to fetch"
    make_venv
    install_packages
    PATH=$path_before
    printf '%s\n' "$wanted" >"$stamp.$$"
    rm -f "$begun"
    mv -f "$stamp.$$" "$stamp"
    say "ready after $((SECONDS - started)) s"
  fi
  leave
  trap - EXIT HUP INT TERM
}

# ------------------------------------------------------------------------------------------------ OpenBLAS, Linux

find_openblas() { # MLX on Linux brings a reference BLAS, 10 to 50 times slower than this one
  local candidate system=/usr/lib/${HOSTTYPE:-x86_64}-linux-gnu
  openblas=${THUNDER_OPENBLAS:-}
  if [ -n "$openblas" ]; then
    [ -e "$openblas" ]
    return
  fi
  for candidate in "$system"/openblas-*/libopenblas.so.0 "$system/libopenblas.so.0" \
    /usr/lib64/libopenblasp.so.0 /usr/lib64/libopenblas.so.0 /usr/lib/libopenblas.so.0; do
    if [ -e "$candidate" ]; then
      openblas=$candidate
      return 0
    fi
  done
  return 1
}

apt_openblas() { # installs it where that needs no password; tried once for each start of the machine
  local as_root="" patience=""
  [ "${THUNDER_NO_APT:-}" != 1 ] && command -v apt-get >/dev/null 2>&1 || return 1
  if [ "${EUID:-1}" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null </dev/null || return 1
    as_root="sudo -n"
  fi
  mkdir "${TMPDIR:-/tmp}/thunder-openblas-tried-${EUID:-0}" 2>/dev/null || return 1
  command -v timeout >/dev/null 2>&1 && patience="timeout 180"
  say "installing OpenBLAS (libopenblas0-pthread) with apt-get; THUNDER_NO_APT=1 turns this off"
  set -- $patience $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=60
  "$@" install -y --no-install-recommends libopenblas0-pthread >/dev/null 2>&1 </dev/null && return 0
  "$@" update >/dev/null 2>&1 </dev/null || true
  "$@" install -y --no-install-recommends libopenblas0-pthread >/dev/null 2>&1 </dev/null
}

ensure_openblas() {
  case ${OSTYPE:-} in linux*) ;; *) return 0 ;; esac
  if find_openblas || { apt_openblas && find_openblas; }; then
    return 0
  fi
  openblas=""
  say "OpenBLAS is missing, so MLX computes 10 to 50 times slower: install libopenblas0-pthread (Debian, Ubuntu) or openblas"
}

# ------------------------------------------------------------------------------------------------ the work

if [ ! -f "$repo/requirements.lock" ] || [ ! -f "$repo/pyproject.toml" ]; then
  say "requirements.lock or pyproject.toml is missing in $repo: launch.sh has to stay in the repository (a link to it is fine)"
  exit 2
fi
if [ "${1-}" = setup ] && [ $# -gt 1 ]; then
  say "setup takes no arguments, got: ${*:2}"
  exit 2
fi
openblas=""
wanted=$(wanted_stamp)
if ! is_ready; then
  prepare
fi
ensure_openblas

case ${1-} in
  setup) say "ready. ./launch.sh COMMAND works from anywhere; for thunder and thunder_status: export PATH=\"$venv/bin:\$PATH\"" ;;
  test)
    shift
    cd "$repo"
    if [ -n "$openblas" ]; then
      export LD_PRELOAD="$openblas${LD_PRELOAD:+:$LD_PRELOAD}" OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}"
    fi
    exec "$python" -m pytest -n auto --dist worksteal "$@"
    ;;
  docs)
    shift
    cd "$repo"
    export NO_MKDOCS_2_WARNING=1
    case "$*" in
      "") "$python" scripts/build_reference_docs.py && exec "$python" -m mkdocs build --strict ;;
      --serve) "$python" scripts/build_reference_docs.py && exec "$python" -m mkdocs serve --strict --dev-addr 127.0.0.1:8000 ;;
      *)
        say "docs takes --serve or nothing, got: $*"
        exit 2
        ;;
    esac
    ;;
  --version) exec "$python" -P -m thunder --version ;;
  # -P: a file named like a module of ours in the folder this was called from must not be imported instead of it
  "" | -*) exec "$python" -P -m thunder launch "$@" ;;
  *) exec "$python" -P -m thunder "$@" ;;
esac
