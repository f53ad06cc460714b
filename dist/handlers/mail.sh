#!/bin/sh
# Mails what happened: for split-brain, local-io-error and out-of-sync.
#
#   [handlers]
#   split-brain = "/usr/local/lib/rblk/mail.sh admin@example.org"
#   local-io-error = "/usr/local/lib/rblk/mail.sh admin@example.org"
#
# Needs `mail` (Debian: bsd-mailx or mailutils) and a mail server that takes it.
set -eu

to=${1:-root}
subject="rblk on $RBLK_NODE: $RBLK_EVENT of $RBLK_RESOURCE"

{
    echo "$RBLK_REASON"
    echo
    echo "resource $RBLK_RESOURCE, node $RBLK_NODE, peer $RBLK_PEER, disk $DRBD_BACKING_DEV"
    date -R
    echo
    # The daemon answers while a handler runs. Where it does not, the rest is still worth a mail.
    rblk status "$RBLK_RESOURCE" 2>&1 || true
} | mail -s "$subject" "$to"
