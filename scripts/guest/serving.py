"""A server of a ublk device in a guest, for tests: start, stop, kill."""
import re

# A thread that hangs says where: in which call, and what the kernel does for it.
THREADS = ("grep -l -s -e ublk -e rblk /proc/[0-9]*/task/*/comm | while read f; do t=${f%/comm}; "
           "echo \"$t: $(cat $t/comm) in $(cat $t/wchan)\"; grep -e State -e SigPnd -e ShdPnd $t/status; cat $t/stack; "
           "done")
POLL = ('for i in $(seq 600); do {0} && exit 0; sleep 0.1; done; cat /tmp/server.log; '
        + THREADS.replace('{', '{{').replace('}', '}}') + '; exit 1')


class Server:
    """A program that prints "ready /dev/ublkbN" when clients can open its device."""

    def __init__(self, guest, command):
        self.guest, self.command = guest, command

    def start(self, *arguments):
        """Starts it; returns the device."""
        self.guest.sh(f'rm -f /tmp/server.log; setsid {self.command} {" ".join(arguments)} '
                      '> /tmp/server.log 2>&1 < /dev/null & echo $! > /tmp/server.pid')
        ready_or_ended = 'grep -q ready /tmp/server.log || ! kill -0 $(cat /tmp/server.pid)'
        self.guest.sh(POLL.format(ready_or_ended))
        said = self.log()
        ready = re.search(r'ready (/dev/ublkb\d+)', said)
        if not ready:
            raise AssertionError(f'{self.command} is not ready:\n{said}')
        return ready[1]

    def fail(self, *arguments):
        """Runs it to its end, which must be a failure; returns what it said."""
        job = self.guest.bg(f'{self.command} {" ".join(arguments)}', timeout=60)
        answer = self.guest.result(job)
        if answer.status != 1:
            raise AssertionError(f'exit status {answer.status} instead of 1: {answer.output}')
        return answer.output

    def signal(self, name):
        """Sends it a signal and waits for its end; returns what it said."""
        self.guest.sh(f'kill -{name} $(cat /tmp/server.pid); '
                      + POLL.format('! kill -0 $(cat /tmp/server.pid) 2> /dev/null'))
        return self.log()

    def stop(self):
        """Lets it take its device away."""
        return self.signal('TERM')

    def kill(self):
        """Ends it as a crash does."""
        self.signal('KILL')

    def log(self):
        """What it said so far."""
        return self.guest.sh('cat /tmp/server.log')


def wait_until(guest, condition):
    """Waits until a shell condition holds."""
    guest.sh(POLL.format(condition))


def wait_for_write(guest, device):
    """Waits until a device has a write in flight."""
    counts = f'/sys/block/{device.removeprefix("/dev/")}/inflight'
    wait_until(guest, f'read reads writes < {counts}; test $writes != 0')
