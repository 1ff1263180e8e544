#!/bin/sh
# Makes the secrets of one installation beside this file: .env (passwords) and keys/. Existing ones are kept.
# Needs Cairn's virtual environment (`make setup`); PYTHON names another interpreter that has Cairn installed.
set -eu
umask 077
cd "$(dirname "$0")"
PYTHON=${PYTHON:-../../.venv/bin/python}
if [ ! -e .env ]; then
  # Each begins with a letter: nats-server would take a string of digits for a number.
  "$PYTHON" -c 'import secrets, sys; [print(f"{name}=s{secrets.token_hex(24)}") for name in sys.argv[1:]]' \
    POSTGRES_PASSWORD TASK_DISPATCH_PASSWORD ANNOTATION_STORE_PASSWORD CONSENSUS_PASSWORD \
    INFERENCE_PASSWORD AUDIT_PASSWORD NATS_TOKEN > .env
fi
"$PYTHON" -m cairn_stack.keys make keys
# An .env that was made before there was one gets it, too.
grep -q '^SAMPLING_KEY=' .env || echo "SAMPLING_KEY=$(cat keys/sampling.key)" >> .env
