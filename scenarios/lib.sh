# What the scenario scripts share. Source it; do not run it.
#
#   BASE_URL   where the gateway is; default http://127.0.0.1:8000
#   TOKEN_MANUFRACTURE, TOKEN_SMITHEREENS   tokens of the two tenants; when unset, `thingmesh token` makes them with the
#              development key of $DATA_DIR (default ./data)

set -uo pipefail
BASE_URL="${BASE_URL:-http://127.0.0.1:8000}"
DATA_DIR="${DATA_DIR:-data}"
failures=0

thingmesh_token() {
  if command -v thingmesh >/dev/null; then thingmesh token --tenant "$1" --data-dir "$DATA_DIR"
  elif [ -x target/release/thingmesh ]; then target/release/thingmesh token --tenant "$1" --data-dir "$DATA_DIR"
  else echo "no token for $1: set TOKEN_${1^^}" >&2; return 1
  fi
}

need_tokens() {
  TOKEN_MANUFRACTURE="${TOKEN_MANUFRACTURE:-$(thingmesh_token manufracture)}" || exit 1
  TOKEN_SMITHEREENS="${TOKEN_SMITHEREENS:-$(thingmesh_token smithereens)}" || exit 1
}

# request NAME WANTED-STATUSES METHOD PATH [curl arguments …]: shows one line, keeps the body in $body.
request() {
  local name=$1 wanted=$2 method=$3 path=$4; shift 4
  local answer status
  answer=$(curl -sS -m 10 -X "$method" -w '\n%{http_code}' "$@" "$BASE_URL$path") || answer=$'\n000'
  status=${answer##*$'\n'} body=${answer%$'\n'*}
  if [[ " $wanted " == *" $status "* ]]; then
    printf 'ok    %s  %s\n' "$status" "$name"
  else
    printf 'FAIL  %s  %s (wanted %s): %s\n' "$status" "$name" "$wanted" "$body"
    failures=$((failures + 1))
  fi
}

# as TENANT [SERVICE-PATH]: curl arguments in array $who.
as() {
  local token
  case "$1" in
    manufracture) token=$TOKEN_MANUFRACTURE ;;
    smithereens) token=$TOKEN_SMITHEREENS ;;
  esac
  who=(-H "Authorization: Bearer $token" -H "fiware-service: $1")
  if [ -n "${2:-}" ]; then who+=(-H "fiware-servicepath: $2"); fi
}

finish() {
  if [ "$failures" -eq 0 ]; then echo "all as expected"; else echo "$failures not as expected"; fi
  [ "$failures" -eq 0 ]
}
