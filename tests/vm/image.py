"""Builds what a test machine boots from: kernel, initramfs and a read-only root disk.

Called by `run`. Everything comes from Debian packages of this machine; the kernel package is
unpacked, never installed. Nothing outside the work folder is changed, except that missing
packages are installed when we are root.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Program -> Debian package, needed on this machine to build and run the machines.
TOOLS = {
    'qemu-system-x86_64': 'qemu-system-x86',
    'busybox': 'busybox-static',
    'cpio': 'cpio',
    'depmod': 'kmod',
    'modprobe': 'kmod',
    'mke2fs': 'e2fsprogs',
    'nft': 'nftables',
    'ip': 'iproute2',
    'strip': 'binutils',
    'socat': 'socat',
}
KERNEL_PACKAGE = 'linux-image-cloud-amd64'

# Needed before the root disk is mounted. Everything else is loaded by the kernel on demand.
EARLY_MODULES = ['virtio_pci', 'virtio_blk', 'virtio_net', 'virtio_console', 'virtio_rng', 'ext4', 'overlay']

# Real programs in the machines; all else is busybox. Missing optional ones are left out.
PROGRAMS = ['dash', 'ip', 'tc', 'bridge', 'nft', 'kmod', 'nsenter', 'unshare', 'setsid', 'flock', 'socat']
OPTIONAL_PROGRAMS = ['conntrack', 'runc', 'strace', 'curl']

# busybox's shell prefers its own applets over the programs in PATH, so the machines use dash.
NOT_FROM_BUSYBOX = {'sh', 'ash', 'busybox'}


class Missing(Exception):
    """Something the build needs is not there; the text says what to do."""


def find(program):
    return shutil.which(program, path=os.environ.get('PATH', '') + ':/usr/local/sbin:/usr/sbin:/sbin')


def ensure_tools():
    lacking = sorted({package for tool, package in TOOLS.items() if not find(tool)})
    if not lacking:
        return
    if os.geteuid() != 0 or not find('apt-get'):
        raise Missing(f'these packages are missing: {" ".join(lacking)}; install them as root: '
                      f'apt-get install --no-install-recommends {" ".join(lacking)}')
    print(f'installing {" ".join(lacking)}', flush=True)
    quiet(['apt-get', 'update'])
    quiet(['apt-get', 'install', '-y', '--no-install-recommends', *lacking],
          env={**os.environ, 'DEBIAN_FRONTEND': 'noninteractive'})


def quiet(command, **options):
    """Runs a command; its output is shown only if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if done.returncode:
        sys.stderr.buffer.write(done.stdout)
        raise Missing(f'{" ".join(map(str, command))} failed with exit code {done.returncode}')
    return done.stdout.decode(errors='replace')


def ensure_kernel(work):
    """The folder with an unpacked kernel package (boot/, lib/modules/). RSWARM_VM_KERNEL names another."""
    given = os.environ.get('RSWARM_VM_KERNEL')
    if given:
        return Path(given)
    root = work / 'kernel'
    if not list(root.glob('boot/vmlinuz-*')):
        if not find('apt-get'):
            raise Missing('no kernel for the machines: unpack a Debian cloud kernel and set RSWARM_VM_KERNEL to the folder')
        depends = quiet(['apt-cache', 'depends', KERNEL_PACKAGE])
        found = re.search(r'Depends: (linux-image-\S+)', depends)
        if not found:
            raise Missing(f'apt knows no package {KERNEL_PACKAGE}; run apt-get update, or set RSWARM_VM_KERNEL '
                          'to a folder with boot/vmlinuz-* and lib/modules/')
        print(f'fetching {found[1]}', flush=True)
        quiet(['apt-get', 'download', found[1]], cwd=work)
        package = next(work.glob(f'{found[1]}_*.deb'))
        root.mkdir(exist_ok=True)
        quiet(['dpkg', '-x', package, root])
        package.unlink()
    return root


def build(work, extra_programs, extra_files):
    """Makes vmlinuz, initrd.gz and root.ext4 in `work`.

    extra_programs: programs put into /usr/local/bin with the shared libraries they need.
    extra_files: {path in the machine: bytes}.
    """
    work.mkdir(parents=True, exist_ok=True)
    ensure_tools()
    with open(work / 'lock', 'w') as lock:
        # Two runs share the folder; machines that run keep the disk file they opened.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build_locked(work, extra_programs, extra_files)


def build_locked(work, extra_programs, extra_files):
    kernel_root = ensure_kernel(work)
    kernel = sorted(kernel_root.glob('boot/vmlinuz-*'))[-1]
    version = kernel.name.removeprefix('vmlinuz-')
    if not (kernel_root / 'lib/modules' / version / 'modules.dep').exists():
        quiet([find('depmod'), '-b', kernel_root, version])
    (work / 'vmlinuz').unlink(missing_ok=True)
    shutil.copy(kernel, work / 'vmlinuz')
    build_initramfs(work, kernel_root, version)
    build_root(work, kernel_root, version, extra_programs, extra_files)
    return version


def build_initramfs(work, kernel_root, version):
    tree = fresh(work / 'initramfs')
    for name in ['bin', 'dev', 'proc', 'sys', 'lower', 'upper', 'root', 'modules']:
        (tree / name).mkdir()
    shutil.copy(find('busybox'), tree / 'bin/busybox')
    shutil.copy(HERE / 'guest/init', tree / 'init')
    order = []
    for module in EARLY_MODULES:
        # Modules that are built into the kernel print nothing.
        shown = subprocess.run([find('modprobe'), '-d', kernel_root, '-S', version, '--show-depends', module],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        order += [line.split()[1] for line in shown.splitlines() if line.startswith('insmod')]
    order = list(dict.fromkeys(order))
    for path in order:
        shutil.copy(path, tree / 'modules')
    (tree / 'modules.order').write_text(''.join(f'/modules/{Path(path).name}\n' for path in order))
    names = '\n'.join(str(path.relative_to(tree)) for path in sorted(tree.rglob('*')))
    (work / 'initrd.gz').unlink(missing_ok=True)
    with open(work / 'initrd.gz', 'wb') as out:
        archive = subprocess.run(['cpio', '-o', '-H', 'newc', '--owner', '0:0', '--quiet'], cwd=tree,
                                 input=names.encode(), stdout=subprocess.PIPE, check=True).stdout
        out.write(subprocess.run(['gzip', '-1'], input=archive, stdout=subprocess.PIPE, check=True).stdout)
    shutil.rmtree(tree)


def build_root(work, kernel_root, version, extra_programs, extra_files):
    tree = fresh(work / 'root')
    for name in ['usr/bin', 'usr/sbin', 'usr/lib', 'usr/lib64', 'usr/local/bin', 'etc', 'dev', 'proc', 'sys',
                 'run', 'tmp', 'root', 'var/log', 'var/lib', 'mnt']:
        (tree / name).mkdir(parents=True)
    for name in ['bin', 'sbin', 'lib', 'lib64']:
        (tree / name).symlink_to(f'usr/{name}')
    install_busybox(tree)
    for name in PROGRAMS + OPTIONAL_PROGRAMS:
        path = find(name)
        if path is None and name in PROGRAMS:
            raise Missing(f'the program {name} is missing; install it on this machine first')
        if path:
            install(tree, Path(path), f'usr/sbin/{name}' if '/sbin/' in path else f'usr/bin/{name}')
    for path in extra_programs:
        install(tree, path, f'usr/local/bin/{path.name}', stripped=True)
    (tree / 'usr/bin/sh').symlink_to('dash')
    for name in ['modprobe', 'insmod', 'lsmod', 'rmmod', 'depmod']:
        (tree / 'usr/bin' / name).unlink(missing_ok=True)
        (tree / 'usr/sbin' / name).unlink(missing_ok=True)
        (tree / 'usr/sbin' / name).symlink_to(os.path.relpath(next(tree.glob('usr/*bin/kmod')), tree / 'usr/sbin'))
    shutil.copytree(kernel_root / 'lib/modules' / version, tree / 'usr/lib/modules' / version,
                    ignore=shutil.ignore_patterns('build', 'source'))
    for name in ['boot', 'agent']:
        shutil.copy(HERE / 'guest' / name, tree / 'usr/sbin' / name)
    write_etc(tree)
    for path, content in extra_files.items():
        target = tree / path.lstrip('/')
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    make_disk(tree, work / 'root.ext4')
    shutil.rmtree(tree)


def write_etc(tree):
    files = {
        'inittab': '::sysinit:/usr/sbin/boot\n::respawn:/usr/sbin/agent\n',
        'passwd': 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
        'group': 'root:x:0:\nnogroup:x:65534:\n',
        'nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
        'hosts': '127.0.0.1 localhost\n',
        'resolv.conf': '# the machines have no name server\n',
    }
    for name, text in files.items():
        (tree / 'etc' / name).write_text(text)


def install_busybox(tree):
    busybox = find('busybox')
    shutil.copy(busybox, tree / 'usr/bin/busybox')
    for applet in quiet([busybox, '--list']).split():
        if applet not in NOT_FROM_BUSYBOX:
            (tree / 'usr/bin' / applet).symlink_to('busybox')
    # /sbin/init must be in sbin for switch_root.
    (tree / 'usr/sbin/init').symlink_to('../bin/busybox')


def install(tree, source, target, stripped=False):
    """Copies a program, and the shared libraries it names to the places where they are here."""
    (tree / 'usr/bin' / Path(target).name).unlink(missing_ok=True)
    destination = tree / target
    if not (stripped and subprocess.run(['strip', '-o', destination, source], stderr=subprocess.DEVNULL).returncode == 0):
        shutil.copy(os.path.realpath(source), destination)
    destination.chmod(0o755)
    listed = subprocess.run(['ldd', source], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    if 'not found' in listed:
        raise Missing(f'{source} needs a library that is not here:\n{listed}')
    for library in re.findall(r'(/\S+) \(0x', listed):
        place = tree / library.lstrip('/')
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.realpath(library), place)


def make_disk(tree, path):
    size = sum(entry.lstat().st_size for entry in tree.rglob('*') if not entry.is_dir())
    files = sum(1 for _ in tree.rglob('*'))
    path.unlink(missing_ok=True)
    # Blocks are rounded up per file; a fifth more and some room holds the rest.
    mib = (size + files * 4096) * 6 // 5 // (1 << 20) + 16
    quiet([find('mke2fs'), '-q', '-t', 'ext4', '-O', '^has_journal', '-E', 'root_owner=0:0', '-d', tree, path, f'{mib}M'])


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
