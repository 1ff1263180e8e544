#!/bin/sh
# Writes the Python code of every .proto file to the folder given (libs/contracts/src by default).
# google/rpc comes generated in googleapis-common-protos; everything else is made here.
set -eu
cd "$(dirname "$0")"
out="${1:-../libs/contracts/src}"
python="${PYTHON:-../.venv/bin/python}"
mkdir -p "$out"
own=$(find cairn -name '*.proto' | LC_ALL=C sort)
services=$(grep -l '^service ' $own)
"$python" -m grpc_tools.protoc -I third_party -I . \
  --python_out="$out" --mypy_out=quiet:"$out" $own buf/validate/validate.proto
"$python" -m grpc_tools.protoc -I third_party -I . \
  --grpc_python_out="$out" --mypy_grpc_out=quiet:"$out" $services
