"""ipvlan on kernels that have it: for tasks on two machines and for single containers (N-10, E-33).

Called by `run --ipvlan`. Two machines' cables are one wire; a VLAN on it is one more.
"""

import os
from pathlib import Path

from encryption import await_endpoint

DEADLINE_S = 240
# Of the cluster: neighbours on a VLAN of the wire.
WIRE = '10.98.0'
# Of one host: routed by it.
ROUTED = '10.97.0'


def kernel_test():
    """The kernel tests of the host's own networks, as they were built last; none is no error of this test."""
    built = Path(os.environ['RSWARM_BIN_DIR']) / 'deps'
    found = [path for path in built.glob('drivers-*') if not path.suffix and os.access(path, os.X_OK)]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def check(machines, report, test):
    first, second = machines[0], machines[1]
    if test:
        said = first.run(f'/usr/local/bin/{test.name} --nocapture --test-threads=1 e_33 vlan 2>&1', DEADLINE_S)
        report.line('test result: ok' in said and 'SKIPPED' not in said, 'the kernel\'s tests of ipvlan, macvlan and VLANs',
                    said.splitlines()[-1])
    else:
        report.line(False, 'the kernel\'s tests', 'no drivers-* in RSWARM_BIN_DIR/deps: build with --all-targets')
    neighbours(machines, report)
    routed(first, second, report)


def neighbours(machines, report):
    """Tasks on two machines, on a VLAN that nobody has made."""
    first, second = machines[0], machines[1]
    first.run(f'rswarm network create -d ipvlan --scope swarm --subnet {WIRE}.0/24 -o parent=eth0.50 wire')
    first.run('rswarm service create --detach --name near --mode global --network wire demo:1', DEADLINE_S)
    ends = [await_endpoint(machine, WIRE, 'near') for machine in (first, second)]
    report.line(ends[0].address != ends[1].address, 'a task on each machine', ' '.join(end.address for end in ends))
    for end in ends:
        own = end.machine.run('cat /sys/class/net/eth0/address').strip()
        kind = end.run('ip -d link show eth0')
        report.line(end.mac == own and 'ipvlan  mode l2' in kind, f'{end.machine.name}: ipvlan, under the link\'s own address',
                    f'{end.mac} {own}')
    vlans = first.run('ip -d -o link show type vlan')
    report.line('id 50' in vlans, 'a VLAN that was made for it', vlans)
    for here, there in (ends, ends[::-1]):
        code, output = here.try_run(f'ping -c 3 -W 5 {there.address}')
        report.line(code == 0, f'{here.machine.name} reaches {there.machine.name} on the VLAN', output.splitlines()[-2:])
    names = ends[0].machine.try_run('rswarm network doctor wire')
    report.line(names[0] == 0, 'the doctor finds nothing', names[1])


def routed(first, second, report):
    """A single container that its host routes for, and what cannot be beside it."""
    create = f'rswarm network create -d ipvlan -o parent=eth0 -o ipvlan_mode=l3 --subnet {ROUTED}.0/24'
    first.run(f'{create} routed')
    code, said = first.try_run('rswarm network create -d macvlan -o parent=eth0 --subnet 192.0.2.0/24 mac')
    report.line(code != 0 and 'network routed has ipvlan interfaces of mode l3' in said, 'one parent, one kind', said)
    first.run('rswarm run -d --name far --network routed demo:1', DEADLINE_S)
    end = await_endpoint(first, ROUTED, 'far')
    second.run(f'ip route add {ROUTED}.0/24 via {first.address}')
    code, output = second.try_run(f'ping -c 3 -W 5 {end.address}')
    report.line(code == 0, 'another machine reaches it by a route', output.splitlines()[-2:])
    route = end.run('ip route show default')
    report.line('via' not in route and 'eth0' in route, 'its way out needs no gateway', route)
    with_mac = 'rswarm run --rm --network routed --mac-address 02:42:0a:61:00:63 demo:1 true'
    code, said = first.try_run(with_mac)
    report.line(code != 0 and 'have that of eth0; leave it out' in said, 'a MAC address of its own is refused', said)
    first.run('rswarm rm -f far && rswarm network rm routed')
    left = first.run('nsenter -t 1 -n ip -o link show type ipvlan | wc -l').strip()
    report.line(left == '0', 'nothing is left of it', left)
