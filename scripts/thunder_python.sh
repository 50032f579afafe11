#!/usr/bin/env bash
# Prints the project's Python, or runs it: scripts/thunder_python.sh [arguments for Python].
set -euo pipefail
unset CDPATH

file=${BASH_SOURCE[0]}
while [ -L "$file" ]; do
  folder=$(cd -P -- "$(dirname -- "$file")" && pwd)
  file=$(readlink "$file")
  case $file in /*) ;; *) file=$folder/$file ;; esac
done
repo=$(cd -P -- "$(dirname -- "$file")/.." && pwd)

for environment in .venv .venv-agp; do
  python=$repo/$environment/bin/python
  if [ -x "$python" ]; then
    if [ $# -eq 0 ]; then
      printf '%s\n' "$python"
      exit 0
    fi
    exec "$python" "$@"
  fi
done
printf 'thunder_python.sh: no environment in %s\n  to fix: ./launch.sh setup\n' "$repo" >&2
exit 2
