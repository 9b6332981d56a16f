#!/usr/bin/env bash
# Groups and devices of two factories. May be run again: what exists already answers 409.
cd "$(dirname "$0")/../.." && . scenarios/lib.sh && need_tokens
json=(-H 'Content-Type: application/json')

group() {
  printf '{"services":[{"apikey":"%s","cbroker":"http://orion:1026","entity_type":"Bot","resource":"/iot/d"}]}' "$1"
}

# device ID ENTITY FOO-NAME BAR-NAME
device() {
  printf '{"device_id":"%s","entity_name":"%s","entity_type":"Bot","timezone":"Europe/Zurich","attributes":[' "$1" "$2"
  printf '{"object_id":"%s","name":"foo","type":"Integer"},{"object_id":"%s","name":"bar","type":"Integer"}],' "$3" "$4"
  printf '"static_attributes":[{"name":"category","type":"Text","value":"sensor"}]}'
}

as manufracture /floor1
request "manufracture: group" "201 409" POST /iota-north/iot/services "${who[@]}" "${json[@]}" -d "$(group 3z4w)"
request "manufracture: groups" 200 GET /iota-north/iot/services "${who[@]}"
request "manufracture: devices" "201 409" POST /iota-north/iot/devices "${who[@]}" "${json[@]}" \
  -d "{\"devices\":[$(device foodev urn:ngsi:bot:1 f b),$(device bardev urn:ngsi:bot:2 f b)]}"
request "manufracture: list of devices" 200 GET /iota-north/iot/devices "${who[@]}"
as manufracture
request "manufracture: entities of all paths" 200 GET /orion/v2/entities "${who[@]}"

as smithereens /
request "smithereens: group" "201 409" POST /iota-north/iot/services "${who[@]}" "${json[@]}" -d "$(group 5d4z)"
request "smithereens: devices" "201 409" POST /iota-north/iot/devices "${who[@]}" "${json[@]}" \
  -d "{\"devices\":[$(device foobie urn:ngsi:bot:2 f1 b1)]}"
request "smithereens: list of devices" 200 GET /iota-north/iot/devices "${who[@]}"
as smithereens
request "smithereens: entities" 200 GET /orion/v2/entities "${who[@]}"
finish
