"""docker-py drives one host: a web application and its database-like neighbour, from nothing to nothing.

Usage: docker_py.py SOCKET IMAGE. Prints one line for each step; any difference from what Docker does ends it with an exit code.
"""

import io
import sys
import tarfile
import threading
import time

import docker

socket, image = sys.argv[1:3]
client = docker.DockerClient(base_url=f"unix://{socket}", timeout=60)


def step(name):
    print(f"ok: {name}", flush=True)


def until(what, state, seconds=30):
    end = time.monotonic() + seconds
    while True:
        value = state()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def tar_of(**files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    return buffer.getvalue()


assert client.ping() is True
version = client.version()
assert version["ApiVersion"] and version["Os"] == "linux", version
assert client.info()["OSType"] == "linux"
assert image in client.images.get(image).tags
step("ping, version, info, image")

seen = []
stream = client.events(decode=True, filters={"type": "container"})
listener = threading.Thread(target=lambda: seen.extend(event for event in stream), daemon=True)
listener.start()

network = client.networks.create("shop", driver="bridge", labels={"app": "shop"})
volume = client.volumes.create("shop-data", labels={"app": "shop"})
assert [n.name for n in client.networks.list(filters={"label": "app=shop"})] == ["shop"]
assert [v.name for v in client.volumes.list(filters={"label": "app=shop"})] == ["shop-data"]
step("a network and a volume")

database = client.containers.run(
    image,
    ["sh", "-c", "echo ready > /data/state; echo database is up; while true; do echo row | nc -l -p 5432; done"],
    name="db",
    detach=True,
    network="shop",
    volumes={"shop-data": {"bind": "/data", "mode": "rw"}},
    environment={"DB_NAME": "shop"},
    labels={"app": "shop", "tier": "db"},
    healthcheck={
        "test": ["CMD-SHELL", "test -s /data/state"],
        "interval": 200_000_000,
        "timeout": 5_000_000_000,
        "retries": 3,
    },
    restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
    mem_limit="64m",
    nano_cpus=500_000_000,
)
until("the database is healthy", lambda: (database.reload(), database.attrs["State"]["Health"]["Status"])[1] == "healthy")
assert database.status == "running"
host_config = database.attrs["HostConfig"]
assert host_config["Memory"] == 64 << 20 and host_config["NanoCpus"] == 500_000_000, host_config
assert host_config["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
assert "DB_NAME=shop" in database.attrs["Config"]["Env"]
assert any(m["Name"] == "shop-data" and m["Destination"] == "/data" for m in database.attrs["Mounts"])
assert b"database is up" in database.logs()
step("a container with volume, limits, restart policy and health check")

web = client.containers.create(
    image,
    ["sh", "-c", "mkdir -p /www; httpd -f -p 80 -h /www"],
    name="web",
    network="shop",
    ports={"80/tcp": None},
    labels={"app": "shop", "tier": "web"},
)
assert web.put_archive("/", tar_of(**{"index.html": b"from outside\n"})) is True
web.start()
until("the web server is there", lambda: web.exec_run(["wget", "-q", "-O", "-", "http://127.0.0.1/"]).exit_code in (0, 1))
code, _ = web.exec_run(["sh", "-c", "cp /index.html /www/index.html"])
assert code == 0
web.reload()
published = web.attrs["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]
assert int(published) > 0 and web.ports["80/tcp"][0]["HostPort"] == published
code, output = web.exec_run(["wget", "-q", "-O", "-", "http://127.0.0.1/"])
assert (code, output) == (0, b"from outside\n"), (code, output)
code, output = web.exec_run(["nc", "db", "5432"])
assert (code, output) == (0, b"row\n"), (code, output)
step("a second one, a file put into it, its port, the neighbour by name")

code, (out, err) = web.exec_run(["sh", "-c", "echo out; echo err >&2; exit 7"], demux=True)
assert (code, out, err) == (7, b"out\n", b"err\n"), (code, out, err)
code, output = web.exec_run("sh -c 'echo $WHO $PWD; id -u'", environment={"WHO": "me"}, workdir="/www", user="65534")
assert (code, output) == (0, b"me /www\n65534\n"), (code, output)
chunks = web.exec_run(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"], stream=True).output
assert b"".join(chunks) == b"1\n2\n3\n"
talk = web.exec_run(["cat"], stdin=True, socket=True).output
raw = getattr(talk, "_sock", talk)
raw.sendall(b"echoed\n")
frame = b""
while len(frame) < 8 + 7:
    piece = raw.recv(64)
    assert piece, f"the stream ended after {frame!r}"
    frame += piece
assert frame == b"\x01\x00\x00\x00\x00\x00\x00\x07echoed\n", frame
raw.close()
step("exec: streams apart, environment, user, directory, stream, standard input")

bits, stat = web.get_archive("/www/index.html")
assert stat["name"] == "index.html" and stat["size"] == 13, stat
with tarfile.open(fileobj=io.BytesIO(b"".join(bits))) as archive:
    assert archive.extractfile("index.html").read() == b"from outside\n"
assert any(change["Path"] == "/www/index.html" and change["Kind"] == 1 for change in web.diff())
with tarfile.open(fileobj=io.BytesIO(b"".join(web.export()))) as archive:
    assert "www/index.html" in [name.lstrip("./") for name in archive.getnames()]
step("copies out, changes, export")

used = web.stats(stream=False)
assert used["memory_stats"]["usage"] > 0 and used["cpu_stats"]["cpu_usage"]["total_usage"] > 0, used
assert any("httpd" in " ".join(process) for process in web.top()["Processes"])
web.rename("front")
assert client.containers.get("front").id == web.id
web.pause()
web.reload()
assert web.status == "paused"
web.unpause()
web.update(mem_limit="96m", memswap_limit="192m")
web.reload()
assert web.attrs["HostConfig"]["Memory"] == 96 << 20
web.restart(timeout=1)
web.reload()
assert web.status == "running"
step("stats, top, rename, pause, update, restart")

lines = client.containers.run(image, ["sh", "-c", "echo to out; echo to err >&2"], remove=True, stdout=True, stderr=True)
assert sorted(lines.splitlines()) == [b"to err", b"to out"], lines
try:
    client.containers.run(image, ["sh", "-c", "echo broken >&2; exit 3"], remove=True)
    raise AssertionError("an exit code of 3 is an error")
except docker.errors.ContainerError as error:
    assert error.exit_status == 3 and b"broken" in error.stderr, error
try:
    client.containers.get("nobody")
    raise AssertionError("there is no such container")
except docker.errors.NotFound as error:
    assert "No such container: nobody" in str(error), error
try:
    client.containers.create(image, name="front")
    raise AssertionError("the name is in use")
except docker.errors.APIError as error:
    assert error.status_code == 409, error
task = client.containers.run(image, ["sh", "-c", "sleep 0.3; exit 4"], detach=True)
assert task.wait(timeout=30)["StatusCode"] == 4
task.remove()
step("run in the foreground, exit codes, errors")

made = web.commit(repository="shop", tag="committed")
assert client.containers.run("shop:committed", ["cat", "/www/index.html"], remove=True) == b"from outside\n"
client.images.remove("shop:committed")
assert [c.name for c in client.containers.list(filters={"label": "tier=web"})] == ["front"]
assert client.df()["Volumes"]
step("commit, list, df")

web.stop(timeout=1)
web.reload()
assert web.status == "exited"
web.remove()
database.remove(force=True, v=True)
network.remove()
volume.remove()
assert client.containers.list(all=True, filters={"label": "app=shop"}) == []
assert not client.volumes.list(filters={"label": "app=shop"})
actions = until("events", lambda: {e["Action"] for e in seen} >= {"create", "start", "die", "destroy", "rename", "pause"} and seen)
assert all(event["Type"] == "container" for event in actions)
step("all gone again")
