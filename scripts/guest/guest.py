"""One virtual machine: a QEMU process, its disks, its network cable, and commands run inside.

    guest.sh('modprobe ublk_drv')               output of a command; raises on failure or timeout
    job = guest.bg('fio ...'); guest.join(job)  the same, in two steps
    guest.put('target/debug/rblk')              copies a file to /host in the guest; returns its path there
    guest.link(False)                           pulls the network cable; True plugs it in
    guest.pause(), guest.cont()                 stops and resumes all of its processors
    guest.kill()                                cuts the power: only what the disks were told to keep, stays
    guest.end()                                 shuts it down in good order: systemctl poweroff
    guest.start()                               boots it again on the same disks
    guest.console()                             what the kernel has said

The disks are /dev/vdb, /dev/vdc, ... (cache=none: a write is on stable media once flushed, as on
real ones). KVM is not used: the machine that this runs on may be a virtual one without it.
"""
import collections
import json
import os
import shutil
import signal
import socket
import subprocess
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
BOOT_SECONDS = 400
END_SECONDS = 300
# What costs a slow machine time with systemd as process 1, and is none of ours.
MASKED = ('e2scrub_reap.service', 'getty@tty1.service', 'serial-getty@ttyS0.service', 'systemd-logind.service',
          'systemd-networkd-persistent-storage.service', 'systemd-journal-flush.service', 'apt-daily.timer',
          'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'e2scrub_all.timer', 'fstrim.timer',
          'modprobe@efi_pstore.service', 'modprobe@fuse.service', 'modprobe@drm.service', 'systemd-binfmt.service',
          'systemd-network-generator.service', 'systemd-pstore.service', 'systemd-random-seed.service')
UNUSED_MODULES = 'cfg80211,rfkill,kvm,kvm_amd,kvm_intel,ccp,psmouse,i2c_piix4,pcspkr'
# With systemd as process 1, systemd-networkd sets up the network.
NETWORK = '''[Match]
Name=eth0
[Network]
Address=10.77.0.{number}/24
LinkLocalAddressing=no
IPv6AcceptRA=no
'''
# Beyond the command's own timeout, which the agent keeps, before the guest counts as hung.
GRACE_SECONDS = 30

Answer = collections.namedtuple('Answer', 'status output')


class GuestError(Exception):
    """A command in a guest failed, or the guest does not answer."""


class Guest:
    """See the module's text. `lab` starts processes in its network namespace and owns the directory."""

    def __init__(self, lab, number, options):
        self.lab, self.number, self.options = lab, number, options
        self.name = f'n{number}'
        self.address = f'10.77.0.{number}'
        self.directory = os.path.join(lab.directory, self.name)
        self.share = os.path.join(self.directory, 'host')
        # Laid over the guest's root at each boot: what is installed.
        self.root = os.path.join(self.share, '.lab', 'root')
        self.qemu = None
        self.agent = None
        self.answers = {}
        self.jobs = 0
        self.changed = threading.Condition()
        self._lay_out()

    def _lay_out(self):
        """Writes what the guest finds in /host/.lab, and its empty disks."""
        lab_files = os.path.join(self.share, '.lab')
        os.makedirs(lab_files)
        for name in ('agent.py', 'boot.sh'):
            shutil.copy(os.path.join(HERE, name), lab_files)
        init = '/sbin/init' if self.options.systemd else '/bin/sh /host/.lab/boot.sh'
        for name, text in (('name', self.name), ('number', str(self.number)), ('init', init)):
            with open(os.path.join(lab_files, name), 'w') as file:
                file.write(text)
        hosts = ''.join(f'10.77.0.{number} n{number}\n' for number in range(1, 10))
        self.install('etc/hosts', '127.0.0.1 localhost\n' + hosts)
        if self.options.systemd:
            # Nothing was changed since the image was built that indexes would have to be made for.
            for updated in ('etc/.updated', 'var/.updated'):
                self.install(updated, '')
            self.install('etc/hostname', self.name + '\n')
            self.install('etc/systemd/network/lab.network', NETWORK.format(number=self.number))
        for index, megabytes in enumerate(self.options.disks_mb):
            with open(self.disk(index), 'wb') as file:
                file.truncate(megabytes << 20)

    def install(self, path, text):
        """Writes a file of the root that is there from the next boot on."""
        path = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as file:
            file.write(text)

    def disk(self, index):
        """A disk of the guest, as a file of this machine."""
        return os.path.join(self.directory, f'disk{index}.img')

    def _path(self, name):
        return os.path.join(self.directory, name)

    # Power

    def start(self, wait=True):
        """Boots; with `wait`, returns when commands can be run."""
        for name in ('agent.sock', 'qmp.sock'):
            if os.path.exists(self._path(name)):
                os.unlink(self._path(name))
        with self.changed:
            self.answers.clear()
        self.qemu = self.lab.spawn(self._qemu_command(), self._path('qemu.log'))
        # QEMU waits for this connection before it boots, so that the agent's greeting is not lost.
        self.agent = connect(self._path('agent.sock'), self.qemu)
        threading.Thread(target=self._receive, args=(self.agent,), daemon=True).start()
        if wait:
            self.wait()

    def _qemu_command(self):
        image, options = self.lab.image, self.options
        append = ['console=ttyS0', 'loglevel=5', 'panic=-1', 'mitigations=off', 'net.ifnames=0', options.append]
        if options.systemd:
            append += ['systemd.show_status=0', f'module_blacklist={UNUSED_MODULES}',
                       *(f'systemd.mask={unit}' for unit in MASKED)]
        command = [
            'qemu-system-x86_64', '-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'max',
            '-m', str(options.memory_mb), '-smp', str(options.cpus),
            '-kernel', f'{image}/vmlinuz', '-initrd', f'{image}/initramfs.gz',
            '-append', ' '.join(append),
            '-no-reboot', '-display', 'none', '-serial', f'file:{self._path("console.log")}',
            '-qmp', f'unix:{self._path("qmp.sock")},server=on,wait=off',
            '-virtfs', f'local,path={self.share},mount_tag=host,security_model=none',
            '-netdev', f'tap,id=cable,ifname=tap{self.number},script=no,downscript=no',
            '-device', f'virtio-net-pci,id=nic,netdev=cable,mac=52:54:00:77:00:{self.number:02x}',
            '-device', 'virtio-rng-pci', '-device', 'virtio-serial-pci',
            '-chardev', f'socket,path={self._path("agent.sock")},server=on,wait=on,id=agent',
            '-device', 'virtserialport,chardev=agent,name=agent',
            '-drive', f'file={image}/root.img,if=none,id=root,readonly=on,format=raw',
            '-device', 'virtio-blk-pci,drive=root',
        ]
        for index in range(len(options.disks_mb)):
            command += [
                '-drive', f'file={self.disk(index)},if=none,id=disk{index},format=raw,cache=none,'
                          'aio=io_uring,discard=unmap',
                '-device', f'virtio-blk-pci,drive=disk{index},serial=disk{index}',
            ]
        return command

    def wait(self):
        """Waits until the guest runs commands."""
        with self.changed:
            if not self.changed.wait_for(lambda: 0 in self.answers, BOOT_SECONDS):
                raise GuestError(f'{self.name} did not boot:\n{self.console()[-3000:]}')

    def kill(self):
        """Cuts the power."""
        if self.qemu and self.qemu.poll() is None:
            self.qemu.send_signal(signal.SIGKILL)
            self.qemu.wait()
        if self.agent:
            self.agent.close()

    def end(self):
        """Shuts the machine down; fails if it does not end by itself."""
        self.bg('systemctl poweroff')
        try:
            self.qemu.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise GuestError(f'{self.name} does not end:\n{self.console()[-3000:]}') from None
        self.agent.close()

    def pause(self):
        """Stops the processors: to others, the machine hangs."""
        self._qmp('stop')

    def cont(self):
        """Ends a pause."""
        self._qmp('cont')

    def link(self, up):
        """Plugs the network cable in or pulls it."""
        self._qmp('set_link', name='nic', up=up)

    def _qmp(self, command, **arguments):
        """Carries out one command of QEMU's monitor protocol."""
        path = self._path('qmp.sock')
        with connect(path, self.qemu) as monitor, monitor.makefile('rw') as stream:
            for request in ({'execute': 'qmp_capabilities'},
                            {'execute': command, 'arguments': arguments}):
                stream.write(json.dumps(request) + '\n')
                stream.flush()
                answer = {}
                # A greeting and events come before the answer.
                while 'return' not in answer and 'error' not in answer:
                    answer = json.loads(stream.readline())
                if 'error' in answer:
                    raise GuestError(f'{self.name}: QEMU refuses {command}: {answer["error"]}')

    # Commands

    def sh(self, command, timeout=300, check=True):
        """Runs a shell command; returns what it printed (stdout and stderr)."""
        return self.join(self.bg(command, timeout), check)

    def bg(self, command, timeout=300):
        """Starts a shell command, ended after `timeout` seconds; returns a job for join."""
        with self.changed:
            self.jobs += 1
            job = (self.jobs, command, timeout)
        self.agent.sendall((json.dumps(
            {'id': job[0], 'command': command, 'timeout': timeout}) + '\n').encode())
        return job

    def join(self, job, check=True):
        """Waits for a job; returns what it printed."""
        return self.result(job, check).output

    def result(self, job, check=False):
        """Waits for a job; returns its exit status and what it printed."""
        number, command, timeout = job
        with self.changed:
            if not self.changed.wait_for(lambda: number in self.answers, timeout + GRACE_SECONDS):
                raise GuestError(f'{self.name} does not answer: {command}\n'
                                 f'{self.console()[-3000:]}')
            answer = self.answers.pop(number)
        if check and answer.status:
            raise GuestError(f'{self.name}: exit status {answer.status} of: {command}\n'
                             f'{answer.output[-4000:]}')
        return answer

    def done(self, job):
        """True if a job has ended: join will not wait."""
        with self.changed:
            return job[0] in self.answers

    def _receive(self, agent):
        """Collects answers until the connection ends."""
        try:
            for line in agent.makefile('rb'):
                answer = json.loads(line)
                with self.changed:
                    self.answers[answer['id']] = Answer(answer['status'], answer['output'])
                    self.changed.notify_all()
        except (OSError, ValueError):
            pass  # the power was cut in the middle of a line

    # Files

    def shared(self, name):
        """A file in the guest's /host, as a file of this machine."""
        return os.path.join(self.share, name)

    def put(self, path, name=None):
        """Copies a file or directory into the guest's /host; returns its path there."""
        name = name or os.path.basename(path)
        target = os.path.join(self.share, name)
        if os.path.isdir(path):
            shutil.copytree(path, target, dirs_exist_ok=True)
        else:
            # A new file beside it and a rename: the guest may be running the old one.
            shutil.copy(path, target + '.new')
            os.rename(target + '.new', target)
        return f'/host/{name}'

    def console(self):
        """What the guest's kernel has written to its console since the last boot."""
        try:
            with open(self._path('console.log'), errors='replace') as file:
                return file.read()
        except FileNotFoundError:
            return ''


def connect(path, process):
    """A connection to a socket that `process` makes when it is ready."""
    while process.poll() is None:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(path)
            return client
        except (FileNotFoundError, ConnectionRefusedError):
            client.close()
            threading.Event().wait(0.05)
    raise GuestError(f'QEMU ended with status {process.returncode}; see qemu.log beside {path}')
