"""Runs in a guest: carries out the commands that arrive as JSON lines on a virtio-serial port.

    in:   {"id": 7, "command": "uname -r", "timeout": 60}
    out:  {"id": 7, "status": 0, "output": "7.2.13+deb13-amd64\n"}

Id 0 is sent once, unasked: the guest is up. Commands run side by side, each in a session of its
own, which a timeout ends as a whole (status 124).
"""
import glob
import json
import os
import signal
import subprocess
import threading
import time


def open_port():
    """The descriptor of the port named "agent"."""
    for path in glob.glob('/sys/class/virtio-ports/*/name'):
        with open(path) as file:
            if file.read().strip() == 'agent':
                return os.open('/dev/' + path.split('/')[-2], os.O_RDWR)
    raise SystemExit('This guest has no virtio-serial port named "agent".')


PORT = open_port()
SENDING = threading.Lock()


def send(**answer):
    """Sends one line whole, whichever thread calls."""
    data = (json.dumps(answer) + '\n').encode()
    with SENDING:
        while data:
            data = data[os.write(PORT, data):]


def run(request):
    """Runs one command and sends its answer."""
    process = subprocess.Popen(
        ['sh', '-c', request['command']], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=request['timeout'])
        status = process.returncode
    except subprocess.TimeoutExpired as expired:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        output, status = expired.stdout or b'', 124
    send(id=request['id'], status=status, output=output.decode('utf8', 'replace'))


def main():
    """Serves until the machine ends."""
    send(id=0, status=0, output='')
    pending = b''
    while True:
        chunk = os.read(PORT, 65536)
        if not chunk:  # nobody has opened the other side yet
            time.sleep(0.05)
        *lines, pending = (pending + chunk).split(b'\n')
        for line in filter(None, lines):
            threading.Thread(target=run, args=(json.loads(line),), daemon=True).start()


main()
