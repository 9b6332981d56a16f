#!/usr/bin/env bash
# One measure of each device a second, until interrupted, or SECONDS_TO_SENSE times.
cd "$(dirname "$0")/../.." && . scenarios/lib.sh && need_tokens
rounds="${SECONDS_TO_SENSE:-0}"
trap 'echo; finish; exit' INT
text=(-H 'Content-Type: text/plain')

round=0
while [ "$rounds" -eq 0 ] || [ "$round" -lt "$rounds" ]; do
  n=$((RANDOM % 10 + 1)) m=$((RANDOM % 10 + 1))
  as manufracture
  request "bardev b|$n" 200 POST "/iota-south/iot/d?k=3z4w&i=bardev" "${who[@]}" "${text[@]}" -d "b|$n"
  request "foodev f|$n" 200 POST "/iota-south/iot/d?k=3z4w&i=foodev" "${who[@]}" "${text[@]}" -d "f|$n"
  as smithereens
  request "foobie b1|$n|f1|$m" 200 POST "/iota-south/iot/d?k=5d4z&i=foobie" "${who[@]}" "${text[@]}" -d "b1|$n|f1|$m"
  round=$((round + 1))
  sleep 1
done
finish
