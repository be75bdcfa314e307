#!/bin/sh
# Install what envs/lock.txt pins into .venv, unless it is there. Needs Python 3.11 to 3.13 alone.
set -eu
cd "$(dirname "$0")/.."
cmp -s envs/lock.txt .venv/lock.txt && exit
python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
    echo "python3 is $(python3 --version); it must be 3.11, 3.12 or 3.13" >&2
    exit 1
}
python3 -m venv --clear .venv
.venv/bin/python -m pip install --require-hashes -r envs/lock.txt
cp envs/lock.txt .venv/lock.txt
