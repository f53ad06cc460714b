#!/bin/sh
# fence-peer: makes sure that the other server is off, with an agent of Debian's package fence-agents.
#
#   fence-peer = "/usr/local/lib/rblk/fence.sh"          in [handlers], with on-peer-lost = "fence" in [resource]
#   /etc/rblk/fence/NODE                                 on the other node: the agent that switches NODE, on one line:
#       fence_ipmilan --lanplus --ip=192.168.2.2 --username=rblk --password-script=/etc/rblk/fence/password
#
# While the link has time left to come back (ride-through-s) it only looks: a server that is off is told at once, one
# that runs is left alone. After that it is switched off. The node that is second in the configuration waits 5 s before,
# so that two which have lost each other do not switch each other off. Who cannot be reached, agent and all, is not
# known to be off: then nobody goes on until you say so (rblk promote NAME --force).
set -u
read -r agent <"/etc/rblk/fence/$RBLK_PEER" || exit 1

# Agents say: 0 it is on, 2 it is off, else unknown.
is_off() {
    sh -c "$agent --action=status"
    [ $? -eq 2 ]
}

is_off && exit 7
[ "${RBLK_LINK_HAS_S:-0}" -eq 0 ] || exit 1
[ "$DRBD_NODE_ID" = 0 ] || sleep 5
sh -c "$agent --action=off" && is_off && exit 7
exit 1
