#!/usr/bin/env bash
# The version endpoints answer without a token; nothing else does.   BASE_URL=… scenarios/versions/run.sh
cd "$(dirname "$0")/../.." && . scenarios/lib.sh

request "orion version" 200 GET /orion/version
request "quantumleap version" 200 GET /quantumleap/version
request "agent about" 200 GET /iota-north/iot/about
request "entities without a token are refused" "401 403" GET /orion/v2/entities
finish
