"""A small container image as `docker save` writes it, made of busybox alone: no registry, no internet."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

APPLETS = ['sh', 'sleep', 'echo', 'cat', 'ls', 'ps', 'hostname', 'httpd', 'wget', 'nc', 'ip', 'ping', 'env', 'id']


def docker_archive(reference, busybox, command):
    """Bytes of a docker-archive tar that holds one image named `reference`."""
    layer = layer_tar(Path(busybox).read_bytes())
    layer_digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps({
        'architecture': 'amd64',
        'os': 'linux',
        'config': {'Cmd': command, 'Env': ['PATH=/bin'], 'WorkingDir': '/'},
        'rootfs': {'type': 'layers', 'diff_ids': [f'sha256:{layer_digest}']},
        'history': [{'created_by': 'busybox'}],
    }).encode()
    config_name = f'{hashlib.sha256(config).hexdigest()}.json'
    layer_name = f'{layer_digest}/layer.tar'
    manifest = json.dumps([{'Config': config_name, 'RepoTags': [reference], 'Layers': [layer_name]}]).encode()
    return tar_of([(config_name, config), (layer_name, layer), ('manifest.json', manifest)])


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as archive:
        for name, content in files:
            archive.addfile(entry(name, len(content)), io.BytesIO(content))
    return out.getvalue()


def layer_tar(busybox):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as archive:
        for name in ['bin', 'dev', 'etc', 'proc', 'root', 'sys', 'tmp', 'var']:
            folder = entry(name, 0)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == 'tmp' else 0o755
            archive.addfile(folder)
        archive.addfile(entry('bin/busybox', len(busybox)), io.BytesIO(busybox))
        for applet in APPLETS:
            link = entry(f'bin/{applet}', 0)
            link.type, link.linkname = tarfile.SYMTYPE, 'busybox'
            archive.addfile(link)
        passwd = b'root:x:0:0:root:/root:/bin/sh\n'
        archive.addfile(entry('etc/passwd', len(passwd)), io.BytesIO(passwd))
    return out.getvalue()


def entry(name, size):
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o755, 0
    return info
