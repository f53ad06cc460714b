"""`rblk status --watch` in a real terminal: what is seen at 80 columns, through a daemon's death, and what is left."""

import os
import subprocess
import tempfile

from lab import MIB, Lab, until

ROWS, COLUMNS = 24, 80


def test_the_view_follows_what_happens():
    with Lab(resource='peer-timeout-ms = 1000\n') as lab, Terminal(lab.a, 't') as terminal:
        terminal.shows('t  does not run on this node')
        client = lab.start()
        terminal.shows('t  Primary  disk UpToDate', 'beta  Secondary  Connected  disk UpToDate  Established')
        client.write(0, bytes([1]) * 8 * MIB)
        terminal.shows('written', 'MiB/s')
        lab.b.kill()
        terminal.shows('beta  Connecting', 'not connected:')
        client.write(0, bytes([2]) * MIB)
        terminal.shows('out of sync 1.0 MiB')
        lab.b.attach()
        lab.synced()
        terminal.shows('beta  Secondary  Connected  disk UpToDate  Established', 'beta disk UpToDate, Established')
        # The daemon goes and comes back: the view stays.
        client.close()
        lab.a.kill()
        terminal.shows('t  does not run on this node')
        lab.a.attach('--primary')
        terminal.shows('t  Primary  disk UpToDate')
        # The window gets smaller, and larger again.
        terminal.tmux('resize-window', '-x', '60', '-y', '8')
        terminal.shows('arrows move')
        terminal.tmux('send-keys', 'PageDown')
        terminal.shows('lines above')
        terminal.tmux('resize-window', '-x', str(COLUMNS), '-y', str(ROWS))
        terminal.shows('t  Primary  disk UpToDate', 'q quits')
        terminal.tmux('send-keys', 'q')
        terminal.shows('it ended with 0')
        assert 'Primary' not in terminal.seen(), 'the screen is as it was before'
        lab.finish()


def test_without_colours_there_are_none():
    with Lab() as lab:
        lab.start().close()
        for setting in ({'NO_COLOR': '1'}, {}):
            with Terminal(lab.a, 't', **setting) as terminal:
                terminal.shows('t  Primary  disk UpToDate')
                colours = '\x1b[3' in terminal.tmux('capture-pane', '-p', '-e')
                assert colours == (not setting), terminal.tmux('capture-pane', '-p', '-e')
        with Terminal(lab.a, 't', TERM='dumb') as terminal:
            terminal.shows('t  Primary  disk UpToDate')
            terminal.tmux('send-keys', 'C-c')
            terminal.shows('it ended with 0')
        # And where there is no terminal at all.
        process = subprocess.Popen(lab.a.command('status', 't', '--watch'), stdout=subprocess.PIPE, text=True)
        said = [process.stdout.readline() for _ in range(4)]
        process.terminate()
        assert process.wait(10) == 0
        process.stdout.close()
        assert any('t  Primary  disk UpToDate' in line for line in said) and '\x1b' not in ''.join(said), said
        lab.finish()


def test_a_killed_view_leaves_a_usable_terminal():
    with Lab() as lab:
        lab.start().close()
        with Terminal(lab.a, 't') as terminal:
            terminal.shows('t  Primary')
            pid = terminal.tmux('display-message', '-p', '#{pane_pid}').strip()
            with open(f'/proc/{pid}/task/{pid}/children') as children:
                for child in children.read().split():
                    os.kill(int(child), 15)
            terminal.shows('it ended with 0')
            terminal.tmux('send-keys', 'echo typed-$((40 + 2))', 'Enter')
            terminal.shows('typed-42')
        lab.finish()


class Terminal:
    """A terminal on a node in which `rblk status --watch` runs, then a shell."""

    def __init__(self, node, name, **environment):
        self._folder = tempfile.TemporaryDirectory()
        self._socket = os.path.join(self._folder.name, 'tmux')
        command = ' '.join(node.command('status', name, '--watch'))
        settings = ' '.join(f'{key}={value}' for key, value in environment.items())
        script = f'env {settings} {command}; echo "it ended with $?"; exec sh'
        clean = {key: value for key, value in os.environ.items() if key not in ('TMUX', 'NO_COLOR')}
        clean.update(TERM='xterm-256color', LC_ALL='C.UTF-8')
        subprocess.run(['tmux', '-f', '/dev/null', '-S', self._socket, 'new-session', '-d', '-x', str(COLUMNS), '-y',
                        str(ROWS), script], env=clean, check=True, timeout=20)

    def tmux(self, *arguments):
        """What a command of tmux prints."""
        answer = subprocess.run(['tmux', '-S', self._socket, *arguments], text=True, capture_output=True, timeout=20)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def seen(self):
        """The screen."""
        return self.tmux('capture-pane', '-p')

    def shows(self, *texts):
        """Waits until all of it is on the screen."""
        try:
            until(f'{texts} on the screen', lambda: all(text in self.seen() for text in texts), 30)
        except AssertionError as error:
            raise AssertionError(f'{error}:\n{self.seen()}') from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(['tmux', '-S', self._socket, 'kill-server'], capture_output=True, timeout=20)
        self._folder.cleanup()
