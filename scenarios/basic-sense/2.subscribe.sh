#!/usr/bin/env bash
# Everything that changes goes into the time series. Makes the subscription only where there is none yet.
cd "$(dirname "$0")/../.." && . scenarios/lib.sh && need_tokens
url=http://quantumleap:8668/v2/notify

for tenant in manufracture smithereens; do
  as "$tenant"
  request "$tenant: subscriptions" 200 GET "/orion/v2/subscriptions?limit=1000" "${who[@]}"
  if [[ "$body" == *"$url"* ]]; then
    echo "      $tenant is subscribed already"
  else
    request "$tenant: subscribe" 201 POST /orion/v2/subscriptions "${who[@]}" -H 'Content-Type: application/json' \
      -d "{\"subject\":{\"entities\":[{\"idPattern\":\".*\"}]},\"notification\":{\"http\":{\"url\":\"$url\"}}}"
  fi
done
finish
