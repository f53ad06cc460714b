#!/bin/sh
# Posts what happened as JSON: for any event that needs no answer.
#
#   [handlers]
#   split-brain = "/usr/local/lib/rblk/webhook.sh https://hooks.example.org/rblk"
#
# Needs curl. Tries for at most 30 s; the deadline of handlers must be longer.
set -eu

url=$1

# A JSON string: what is special in it is escaped, other control characters are left out.
json() {
    printf '%s' "$1" | tr '\n\t' '  ' | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g; s/^/"/; s/$/"/'
}

body=$(
    printf '{"event":%s,"resource":%s,"node":%s,"peer":%s,"reason":%s}' \
        "$(json "$RBLK_EVENT")" "$(json "$RBLK_RESOURCE")" "$(json "$RBLK_NODE")" \
        "$(json "$RBLK_PEER")" "$(json "$RBLK_REASON")"
)

exec curl --silent --show-error --fail --max-time 10 --retry 2 --retry-max-time 30 \
    --header 'Content-Type: application/json' --data-binary "$body" --output /dev/null "$url"
