"""Virtual machines on one network: start them, run scripts inside, pull cables and plugs.

    with Machines(3, image=work, memory_mib=384) as machines:
        machines[0].run('ip -br address')

The network is qemu's socket network over loopback multicast: no interface, no address and no rule
of this machine is touched. Every qemu is a child of ours and ends with `close`.
"""

import base64
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

# Emulation is 10 to 15 times slower than the machine itself, more when it is busy.
BOOT_DEADLINE_S = 240
RUN_DEADLINE_S = 120


class Failed(Exception):
    """A machine did not do what it was told."""


class Machine:
    """One virtual machine. `run` may be called from several threads."""

    def __init__(self, group, number):
        self.group = group
        self.name = f'n{number}'
        self.number = number
        self.address = f'fd99::{number}' if group.ipv6 else f'10.99.0.{number}'
        self.folder = group.folder / self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = threading.Lock()
        self.process = None

    def start(self):
        disk = self.folder / 'disk.ext4'
        if not disk.exists():
            with open(disk, 'wb') as empty:
                empty.truncate(self.group.disk_mib << 20)
            subprocess.run(['/sbin/mke2fs', '-q', '-t', 'ext4', '-E', 'lazy_itable_init=1', disk], check=True)
        self.port = self.folder / 'agent.sock'
        self.port.unlink(missing_ok=True)
        self.answers, self.last_id = {}, 0
        self.ready, self.gone = threading.Event(), threading.Event()
        log = open(self.folder / 'qemu.log', 'wb')
        self.started = time.monotonic()
        self.process = subprocess.Popen(self.command(disk), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        start_new_session=True)
        log.close()
        threading.Thread(target=self.listen, args=(self.process,), daemon=True).start()

    def command(self, disk):
        group, image = self.group, self.group.image
        drives = []
        for name, path, options in [('root', image / 'root.ext4', 'readonly=on'), ('own', disk, 'cache=unsafe')]:
            drives += ['-drive', f'file={path},format=raw,if=none,id={name},{options}',
                       '-device', f'virtio-blk-pci,drive={name}']
        return ['nice', '-n', '10', 'qemu-system-x86_64', '-name', f'rswarm-{self.name}', '-machine', 'q35',
                '-accel', 'tcg,tb-size=96', '-cpu', 'Nehalem', '-m', str(group.memory_mib), '-smp', '1',
                '-display', 'none', '-nodefaults', '-no-reboot',
                '-kernel', str(image / 'vmlinuz'), '-initrd', str(image / 'initrd.gz'),
                '-append', 'console=ttyS0 panic=-1 loglevel=4 mitigations=off random.trust_cpu=on '
                           f'host={self.name} address={self.address}/{64 if group.ipv6 else 24}',
                '-serial', f'file:{self.folder}/console.log',
                '-monitor', f'unix:{self.folder}/monitor.sock,server=on,wait=off',
                *drives,
                '-netdev', f'socket,id=cable,mcast={group.multicast},localaddr=127.0.0.1',
                '-device', f'virtio-net-pci,netdev=cable,romfile=,mac=52:54:00:99:00:{self.number:02x}',
                *(['-object', f'filter-dump,id=recorder,netdev=cable,file={self.folder}/cable.pcap'] if group.record else []),
                '-device', 'virtio-rng-pci', '-device', 'virtio-serial-pci',
                '-chardev', f'socket,id=agent,path={self.port},server=on,wait=off',
                '-device', 'virtserialport,chardev=agent,name=agent']

    def listen(self, process):
        """Reads the agent's lines until the machine is gone."""
        try:
            self.link = self.connect(process)
            with self.link.makefile('rb') as lines:
                for line in lines:
                    self.take(line.decode(errors='replace').rstrip('\n').split(' '))
        except OSError:
            pass
        self.gone.set()
        with self.lock:
            for waiting in self.answers.values():
                waiting[0].set()

    def connect(self, process):
        while process.poll() is None:
            link = socket.socket(socket.AF_UNIX)
            try:
                link.connect(str(self.port))
                return link
            except OSError:
                link.close()
                time.sleep(0.05)
        raise ConnectionError('the machine ended before its agent could be reached')

    def take(self, words):
        if words[0] == 'ready':
            self.boot_s = time.monotonic() - self.started
            self.ready.set()
        elif len(words) == 3:
            with self.lock:
                waiting = self.answers.get(words[0])
            if waiting:
                waiting[1] = (int(words[1]), base64.b64decode(words[2]).decode(errors='replace'))
                waiting[0].set()

    def wait_ready(self):
        end = self.started + BOOT_DEADLINE_S
        while not self.ready.wait(0.1):
            if self.process.poll() is not None or time.monotonic() > end:
                why = 'qemu ended' if self.process.poll() is not None else f'no sign of life in {BOOT_DEADLINE_S} s'
                raise Failed(f'{self.name} did not boot: {why}\n{self.tail("qemu.log")}\n{self.tail("console.log")}')

    def tail(self, name):
        path = self.folder / name
        return path.read_text(errors='replace')[-2000:] if path.exists() else ''

    def try_run(self, script, deadline_s=RUN_DEADLINE_S):
        """Runs a shell script in the machine: (exit code, output and errors)."""
        waiting = [threading.Event(), None]
        with self.lock:
            self.last_id += 1
            key = str(self.last_id)
            self.answers[key] = waiting
            self.link.sendall(f'{key} {base64.b64encode(script.encode()).decode()}\n'.encode())
        if not waiting[0].wait(deadline_s):
            raise Failed(f'{self.name}: still running after {deadline_s} s: {script}')
        with self.lock:
            del self.answers[key]
        if waiting[1] is None:
            raise Failed(f'{self.name} went away while running: {script}')
        return waiting[1]

    def run(self, script, deadline_s=RUN_DEADLINE_S):
        """Output of a script that must end with exit code 0."""
        code, output = self.try_run(script, deadline_s)
        if code:
            raise Failed(f'{self.name}: exit code {code} from: {script}\n{output}')
        return output.strip()

    def power_off(self):
        """Pulls the plug: nothing is told to anybody, nothing is written any more."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()

    def monitor(self, command):
        """One command of qemu's monitor."""
        prompt = b'(qemu) '
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(20)
            link.connect(str(self.folder / 'monitor.sock'))
            for text in (None, command):
                if text:
                    link.sendall(text.encode() + b'\n')
                seen = b''
                while not seen.endswith(prompt):
                    chunk = link.recv(4096)
                    if not chunk:
                        raise Failed(f'{self.name}: the monitor closed on: {command}')
                    seen += chunk

    def recorded(self):
        """The packets that the cable carried so far, where cables are recorded."""
        # File and packet headers of pcap, in this machine's byte order; the last packet may not be whole yet.
        data, at, packets = (self.folder / 'cable.pcap').read_bytes(), 24, []
        while at + 16 <= len(data):
            length = int.from_bytes(data[at + 8:at + 12], sys.byteorder)
            if at + 16 + length > len(data):
                break
            packets.append(data[at + 16:at + 16 + length])
            at += 16 + length
        return packets

    def cable(self, plugged):
        self.monitor(f'set_link cable {"on" if plugged else "off"}')

    def freeze(self, frozen):
        self.monitor('stop' if frozen else 'cont')


class Machines:
    """Machines n1, n2, … with addresses 10.99.0.1, … or fd99::1, …, all gone when the block is left."""

    def __init__(self, count, image, folder, memory_mib=384, disk_mib=1024, record=False, ipv6=False):
        self.image, self.folder = Path(image), Path(folder)
        self.memory_mib, self.disk_mib, self.record, self.ipv6 = memory_mib, disk_mib, record, ipv6
        group, port = (random.randint(1, 250) for _ in range(2)), random.randint(20000, 50000)
        self.multicast = '239.192.{}.{}:{}'.format(*group, port)
        self.all = [Machine(self, number) for number in range(1, count + 1)]

    def __getitem__(self, index):
        return self.all[index]

    def __iter__(self):
        return iter(self.all)

    def __enter__(self):
        try:
            for machine in self.all:
                machine.start()
            for machine in self.all:
                machine.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for machine in self.all:
            machine.power_off()

    def run_all(self, script, deadline_s=RUN_DEADLINE_S):
        """The same script in all machines at once; outputs in their order."""
        outputs, errors = [None] * len(self.all), []

        def one(index, machine):
            try:
                outputs[index] = machine.run(script, deadline_s)
            except Failed as error:
                errors.append(error)

        threads = [threading.Thread(target=one, args=pair) for pair in enumerate(self.all)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return outputs
