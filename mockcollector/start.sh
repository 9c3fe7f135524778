#!/usr/bin/env bash
# What action.yml runs: install the mock collector, start it in the background, and tell the job's
# later steps where it is. Its lines go to mockcollector.log in the job's temporary folder.
set -euo pipefail
home=${RUNNER_TEMP:?}/mockcollector
log=$RUNNER_TEMP/mockcollector.log

python3 -m venv "$home"
"$home/bin/python" -m pip install --quiet --disable-pip-version-check "$MOCK_SOURCE"

options=(--listen "127.0.0.1:$MOCK_PORT" --control "127.0.0.1:$MOCK_CONTROL_PORT" --json)
if [ -n "$MOCK_SCRIPT" ]; then options+=(--script "$MOCK_SCRIPT"); fi
if [ -n "$MOCK_PROFILE" ]; then options+=(--profile "$MOCK_PROFILE"); fi
nohup "$home/bin/mockcollector" serve "${options[@]}" >"$log" 2>&1 &
process=$!

until grep -q '"listening"' "$log"; do
  if ! kill -0 "$process" 2>/dev/null; then
    cat "$log" >&2
    exit 1
  fi
  sleep 0.1
done
endpoint=$(sed -n '1s/.*"endpoint": "\(http:\/\/[^/"]*\).*/\1/p' "$log")
control=$(sed -n '1s/.*"control": "\([^"]*\)".*/\1/p' "$log")
{
  echo "endpoint=$endpoint"
  echo "control=$control"
} >>"$GITHUB_OUTPUT"
{
  echo "OTEL_EXPORTER_OTLP_ENDPOINT=$endpoint"
  echo "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
  echo "MOCKCOLLECTOR_PID=$process"
} >>"$GITHUB_ENV"
