"""testcontainers-python drives one host: a web application, its database-like neighbour and a task, as tests use them.

Usage: testcontainers_py.py SOCKET IMAGE. Prints one line for each step; any difference from what Docker does ends it with an exit code.
"""

import os
import pathlib
import sys
import tempfile
import time
import urllib.request

socket, image = sys.argv[1:3]
os.environ["DOCKER_HOST"] = f"unix://{socket}"
# the sidecar that cleans up after killed tests has an image of its own, and there is no registry here
os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"

from testcontainers.core.container import DockerContainer  # noqa: E402
from testcontainers.core.network import Network  # noqa: E402
from testcontainers.core.wait_strategies import (  # noqa: E402
    ExecWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
)


def step(name):
    print(f"ok: {name}", flush=True)


started = time.monotonic()
with Network() as network:
    assert network.id
    database = (
        DockerContainer(image)
        .with_command(["sh", "-c", "echo ready > /data/state; echo $DB_NAME is up; while true; do echo row | nc -l -p 5432; done"])
        .with_env("DB_NAME", "shop")
        .with_network(network)
        .with_network_aliases("db")
        .with_volume_mapping("shop-data", "/data", "rw")
        .with_tmpfs_mount("/fast", "size=1m")
        .with_kwargs(
            healthcheck={"test": ["CMD-SHELL", "test -s /data/state"], "interval": 200_000_000, "retries": 3},
            mem_limit="64m",
        )
        .waiting_for(HealthcheckWaitStrategy().with_startup_timeout(30))
    )
    with database:
        out, err = database.get_logs()
        assert (out, err) == (b"shop is up\n", b""), (out, err)
        assert database.get_wrapped_container().attrs["HostConfig"]["Memory"] == 64 << 20
        code, mounted = database.exec(["sh", "-c", "df -k /fast | tail -n 1"])
        assert code == 0 and b"1024" in mounted, mounted
        step("a database with volume, tmpfs, limit and health check")

        web = (
            DockerContainer(image)
            .with_command(["sh", "-c", "mkdir -p /www; cp /tmp/page /www/index.html; echo serving; httpd -f -p 80 -h /www"])
            .with_copy_into_container(b"hello from testcontainers\n", "/tmp/page")
            .with_network(network)
            .with_exposed_ports(80)
            .waiting_for(LogMessageWaitStrategy("serving").with_startup_timeout(30))
        )
        with web:
            host, port = web.get_container_host_ip(), web.get_exposed_port(80)
            address = f"http://{host}:{port}/"
            with urllib.request.urlopen(address, timeout=10) as answer:
                assert answer.read() == b"hello from testcontainers\n"
            HttpWaitStrategy(80).for_status_code(200).with_startup_timeout(30).wait_until_ready(web)
            ExecWaitStrategy(["test", "-e", "/www/index.html"]).with_startup_timeout(30).wait_until_ready(web)
            step("a web application at a published port")

            code, rows = web.exec(["nc", "db", "5432"])
            assert (code, rows) == (0, b"row\n"), (code, rows)
            code, said = web.exec(["sh", "-c", "echo broken >&2; exit 7"])
            assert (code, said) == (7, b"broken\n"), (code, said)
            step("the neighbour by its alias, exit codes")

            with tempfile.TemporaryDirectory() as directory:
                local = pathlib.Path(directory) / "page"
                web.copy_from_container("/www/index.html", local)
                assert local.read_bytes() == b"hello from testcontainers\n"
                web.copy_into_container(local, "/tmp/again")
            assert web.exec(["cat", "/tmp/again"]).output == b"hello from testcontainers\n"
            step("files in and out")

            task = DockerContainer(image).with_command(["sh", "-c", "echo done; exit 4"])
            task.start()
            assert task.wait() == 4
            assert task.get_logs()[0] == b"done\n"
            task.stop()
            step("a task and its exit code")
        client = database.get_docker_client().client
        assert [c.id for c in client.containers.list(all=True)] == [database.get_container_id()]
client.volumes.get("shop-data").remove()
assert client.containers.list(all=True) == []
assert not [n for n in client.networks.list() if n.id == network.id]
step("all gone again")
