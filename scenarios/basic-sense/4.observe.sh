#!/usr/bin/env bash
# What the two tenants see: one id, two entities; their own history; and 403 for the other's header.
cd "$(dirname "$0")/../.." && . scenarios/lib.sh && need_tokens

for tenant in manufracture smithereens; do
  as "$tenant"
  request "$tenant: urn:ngsi:bot:2" 200 GET /orion/v2/entities/urn:ngsi:bot:2?options=keyValues "${who[@]}"
  echo "      $body"
  request "$tenant: history of bar" 200 GET "/quantumleap/v2/entities/urn:ngsi:bot:2/attrs/bar?lastN=5" "${who[@]}"
  echo "      $body"
done
who=(-H "Authorization: Bearer $TOKEN_MANUFRACTURE" -H "fiware-service: smithereens")
request "manufracture's token with header smithereens" 403 GET /orion/v2/entities "${who[@]}"
finish
