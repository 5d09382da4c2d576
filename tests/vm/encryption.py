"""An encrypted network over machines whose kernels have WireGuard, and one that seals in user space (N-04, P15).

Called by `run --encryption`. The cables are recorded outside of the machines: what they carried is read from there,
and no machine is asked whether it encrypted.
"""

import base64
import hashlib
import ipaddress
import struct
import time

from machines import Failed

NETWORK = 'secret'
# The first three numbers of its addresses.
SUBNET = '10.77.0'
SERVICE = 'peers'
WIREGUARD_PORT, VXLAN_PORT = 51820, 4789
MARKER = b'plaintext-marker-of-the-encrypted-network'
FORGED_PORT = 9999
# One each 0.2 s, on a port for each way, while a key is replaced.
NUMBERS, NUMBERS_PORT = 200, 7000
# What is on its way between two hosts of which one has the new key already. User space goes on with the old key until it has
# shaken hands with the new one: for what these slow machines need to do that, after the peer has heard.
MOST_LOST, MOST_LOST_IN_USER_SPACE = 2, 5
# Emulated machines on a busy one: everything takes its time.
DEADLINE_S = 240
# What an endpoint sends at once on an underlay of 1500 bytes over IPv4 and IPv6, less the headers of IPv4 and ICMP.
FULL_PING, FULL_PING_OVER_IPV6 = 1390 - 28, 1370 - 28


class Endpoint:
    """The container of the service on one machine."""

    def __init__(self, machine, namespace, address, mac):
        self.machine, self.namespace, self.address, self.mac = machine, namespace, address, mac

    def run(self, script, deadline_s=120):
        return self.machine.run(self.inside(script), deadline_s)

    def try_run(self, script, deadline_s=120):
        return self.machine.try_run(self.inside(script), deadline_s)

    def inside(self, script):
        return f"nsenter --net={self.namespace} sh -c '{script}'"


def environment(machine, count):
    """Of the daemon of each machine: the last one seals in user space."""
    return 'RSWARM_ENCRYPTION=userspace' if machine.number == count else ''


def check(machines, report):
    first = machines[0]
    # Nobody loads it for the one that seals in user space: the machines have no udev.
    machines.all[-1].run('modprobe tun')
    said = machines.run_all("rswarm info --format '{{.OverlayEncryption}}'")
    wanted = ['kernel'] * (len(said) - 1) + ['userspace']
    report.line(said == wanted, 'who seals is said by info', ' '.join(said))
    first.run(f'rswarm network create -d overlay --opt encrypted --subnet 10.77.0.0/24 {NETWORK}')
    first.run(f'rswarm service create --detach --name {SERVICE} --mode global --network {NETWORK} demo:1', DEADLINE_S)
    endpoints = [await_endpoint(machine) for machine in machines]
    report.line(True, 'a container on each machine', ' '.join(e.address for e in endpoints))
    everybody_reaches_everybody(endpoints, report)
    devices_are_where_they_should_be(machines, report)
    doctors(machines, report, 'all stands as planned')
    markers(machines, endpoints, report)
    forged(machines, endpoints, report)
    killed(endpoints, report)
    keys(machines, endpoints, report)
    gone(machines, report)


def await_endpoint(machine, subnet=SUBNET, service=SERVICE):
    """The endpoint in this subnet, given by its first three numbers."""
    script = '''for f in /run/rswarm/netns/*; do case $f in */probes-*) continue;; esac
        a=$(nsenter --net=$f ip -o -4 address 2>/dev/null | grep " SUBNET\\.") || continue
        set -- $a; m=$(nsenter --net=$f ip -o link show $2 | grep -o "link/ether [0-9a-f:]*"); echo $f $2 $4 ${m#link/ether }; done'''.replace('SUBNET', subnet.replace('.', '\\.'))
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        words = machine.try_run(script)[1].split()
        if len(words) == 4:
            return Endpoint(machine, words[0], words[2].split('/')[0], words[3])
        time.sleep(1)
    raise Failed(f'{machine.name}: no container of {service} in {subnet}.0\n{machine.try_run("rswarm service ps --no-trunc " + service)[1]}')


def pairs(endpoints):
    return [(a, b) for a in endpoints for b in endpoints if a is not b]


def everybody_reaches_everybody(endpoints, report):
    for a, b in pairs(endpoints):
        size = FULL_PING_OVER_IPV6 if a.machine.group.ipv6 else FULL_PING
        end, code = time.monotonic() + DEADLINE_S, 1
        while code and time.monotonic() < end:
            code, output = a.try_run(f'ping -c 1 -W 5 -s {size} {b.address}')
        report.line(code == 0, f'{a.machine.name} reaches {b.machine.name} with full packets',
                    output.splitlines()[-1] if output else '')


def devices_are_where_they_should_be(machines, report):
    for machine in machines:
        by_kernel = machine.number < len(machines.all)
        in_host = machine.run('ip -o link show type wireguard | wc -l')
        in_tunnel = machine.try_run('nsenter --net=/run/rswarm/tunnel ip -o link show type wireguard 2>/dev/null | wc -l')
        found = (in_host, in_tunnel[1].strip())
        report.line(found == ('0', '1' if by_kernel else '0'), f'{machine.name}: no WireGuard device among the host\'s own',
                    f'host {found[0]}, tunnel {found[1]}')


def doctors(machines, report, what):
    """After a change the probes and the plan need their time."""
    for machine in machines:
        end, code, output = time.monotonic() + DEADLINE_S, 1, ''
        while code and time.monotonic() < end:
            code, output = machine.try_run('rswarm network doctor', DEADLINE_S)
        report.line(code == 0, f'{machine.name}: {what}', output.splitlines()[-1] if code == 0 and output else output)


def markers(machines, endpoints, report):
    """The witness must see a marker that is sent in clear, and none of those that are sent through the network."""
    a, b = machines[0], machines[1]
    carry(a.run, b.run, b.address, repeat=1)
    seen = [machine.recorded() for machine in machines]
    clear = sum(packets_with(record, MARKER) for record in seen)
    before = [len(record) for record in seen]
    report.line(clear > 0, 'the recorder sees what is not encrypted', f'{clear} packets')
    for a, b in pairs(endpoints):
        carry(a.run, b.run, b.address, repeat=2000)
    news = [machine.recorded()[count:] for machine, count in zip(machines, before)]
    found = sum(packets_with(record, MARKER) for record in news)
    sealed = sum(is_udp_to(packet, WIREGUARD_PORT) for record in news for packet in record)
    report.line(found == 0 and sealed > 200, 'the cables carry only WireGuard',
                f'{sealed} sealed packets, {found} with the marker')


def carry(sender, receiver, address, repeat):
    """Sends the marker many times over TCP and counts what arrived."""
    family, to = ('TCP6', f'[{address}]') if ':' in address else ('TCP4', address)
    receiver(f'rm -f /tmp/got; socat -u {family}-LISTEN:5001,reuseaddr CREATE:/tmp/got > /dev/null 2>&1 & sleep 1')
    text = MARKER.decode()
    sender(f'i=0; while [ $i -lt {repeat} ]; do echo {text}; i=$((i+1)); done | socat -u - {family}:{to}:5001', 240)
    got = receiver('n=0; while [ $n -lt 20 ]; do c=$(grep -c marker /tmp/got); [ "$c" = %d ] && break; n=$((n+1)); sleep 1; done; echo $c' % repeat)
    if got != str(repeat):
        raise Failed(f'{got} of {repeat} lines arrived at {address}')


def forged(machines, endpoints, report):
    """P15 c: nobody on a host puts a frame into the network, whatever he may do there."""
    # The probes' own overlays have 4094 and 4095.
    vni = int(machines[0].run('for f in /run/rswarm/overlay/*; do nsenter --net=$f ip -d -o link show type vxlan; done '
                              '| grep -o "vxlan id [0-9]*" | grep -v " 409[45]$" | head -n1 | grep -o "[0-9]*$"'))
    for endpoint in endpoints:
        endpoint.run(f'nft add table inet forged; nft add chain inet forged in "{{ type filter hook input priority -300; }}"; '
                     f'nft add rule inet forged in udp dport {FORGED_PORT} counter')
    tries = 0
    for target in endpoints:
        for source in (e for e in endpoints if e is not target):
            datagram = base64.b64encode(forged_vxlan(vni, source, target)).decode()
            for address in [target.machine.address, tunnel_address(target.machine.address), '127.0.0.1', '::1']:
                to = f'UDP6-SENDTO:[{address}]' if ':' in address else f'UDP4-SENDTO:{address}'
                send = f'echo {datagram} | base64 -d | socat -u - {to}:{VXLAN_PORT}'
                source.machine.try_run(f"su -s /bin/sh nobody -c '{send}'")
                source.machine.try_run(send)
                # Root may enter the tunnel's namespace; its rules let no process speak.
                source.machine.try_run(f"nsenter --net=/run/rswarm/tunnel sh -c '{send}'")
                tries += 3
    counts = [forged_count(endpoint) for endpoint in endpoints]
    report.line(not any(counts), 'forged VXLAN arrives nowhere', f'{tries} tries, arrived {counts}')
    for a, b in pairs(endpoints):
        a.run(f'echo x | socat -u - UDP4-SENDTO:{b.address}:{FORGED_PORT}')
    counts = [forged_count(endpoint) for endpoint in endpoints]
    report.line(all(count > 0 for count in counts), 'the same datagram of a container arrives', f'{counts}')


def forged_count(endpoint):
    text = endpoint.run('nft list chain inet forged in | grep -o "packets [0-9]*"')
    return int(text.split()[1])


def forged_vxlan(vni, source, target):
    """VXLAN with a UDP datagram from one container to another, as a peer would send it."""
    mac = lambda text: bytes(int(part, 16) for part in text.split(':'))
    octets = lambda text: bytes(int(part) for part in text.split('.'))
    payload = b'forged'
    udp = struct.pack('!HHHH', 4000, FORGED_PORT, 8 + len(payload), 0) + payload
    header = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + octets(source.address) + octets(target.address)
    total = sum(struct.unpack('!10H', header))
    total = (total & 0xffff) + (total >> 16)
    header = header[:10] + struct.pack('!H', ~(total + (total >> 16)) & 0xffff) + header[12:]
    return struct.pack('!II', 0x08000000, vni << 8) + mac(target.mac) + mac(source.mac) + b'\x08\x00' + header + udp


def tunnel_address(underlay):
    """In 240.0.0.0/4: the last 28 bits of the host's address, of IPv6 of its SHA-256."""
    address = ipaddress.ip_address(underlay)
    octets = address.packed if address.version == 4 else hashlib.sha256(address.packed).digest()[:4]
    return '.'.join(map(str, [0xf0 | octets[0] & 0x0f, *octets[1:]]))


def killed(endpoints, report):
    """Where the kernel seals, the data plane process is not needed for what is established."""
    a, b = endpoints[0], endpoints[-1]
    output = a.run(f'(sleep 2; kill -9 $(cat /run/rswarm/netd.pid)) & ping -c 40 -i 0.2 -W 10 {b.address} | tail -n 3')
    report.line(' 0% packet loss' in output, 'netd killed: nothing lost where the kernel seals', output)


def keys(machines, endpoints, report):
    """A host's key is replaced: packets of open connections wait for the peers to hear of it, and are not lost. Numbers are
    counted where they arrive: of answers that come at once, as after such a wait, `ping` here has room for ten."""
    for changed in (endpoints[0], endpoints[-1]):
        others = [e for e in endpoints if e is not changed]
        ways = [(changed, other) for other in others] + [(other, changed) for other in others]
        for number, (_, receiver) in enumerate(ways):
            receiver.run(f'rm -f /tmp/got{number}; socat -u UDP4-RECV:{NUMBERS_PORT + number} CREATE:/tmp/got{number} > /dev/null 2>&1 < /dev/null &')
        for number, (sender, receiver) in enumerate(ways):
            count = 'i=0; while [ $i -lt %d ]; do echo $i; sleep 0.2; i=$((i+1)); done' % NUMBERS
            sender.run(f'({count} | socat -u - UDP4-SENDTO:{receiver.address}:{NUMBERS_PORT + number}; touch /tmp/told{number}) > /dev/null 2>&1 < /dev/null &')
        restart = environment(changed.machine, len(machines.all))
        changed.machine.run('kill $(pidof rswarm | tr " " "\\n" | while read p; do tr "\\0" " " < /proc/$p/cmdline | '
                            'grep -q "rswarm daemon" && echo $p; done); sleep 1; rm /var/lib/rswarm/cluster/agent/wireguard.key')
        changed.machine.run(daemon(restart))
        lost = []
        for number, (sender, receiver) in enumerate(ways):
            sender.machine.run('for i in $(seq 200); do [ -e /tmp/told%d ] && break; sleep 1; done; sleep 2; rm /tmp/told%d' % (number, number), DEADLINE_S)
            lost.append(NUMBERS - int(receiver.machine.run(f'sort -un /tmp/got{number} | wc -l')))
            receiver.machine.try_run(f'pkill -f "UDP4-REC[V]:{NUMBERS_PORT + number} "')
        most = MOST_LOST_IN_USER_SPACE if environment(changed.machine, len(machines.all)) else MOST_LOST
        report.line(max(lost) <= most, f'{changed.machine.name}: a replaced key loses nothing',
                    f'lost {lost} of {NUMBERS} from it and to it')
    everybody_reaches_everybody(endpoints, report)
    doctors(machines, report, 'all stands as planned with the new keys')


def daemon(environment_of_it):
    return (f'mkdir -p /run/rswarm /var/lib/rswarm; {environment_of_it} '
            'rswarm daemon --state-dir /var/lib/rswarm --run-dir /run/rswarm >> /var/log/rswarm.log 2>&1 < /dev/null &')


def gone(machines, report):
    machines[0].run(f'rswarm service rm {SERVICE}')
    machines[0].run(f'for i in $(seq 60); do rswarm network rm {NETWORK} > /dev/null 2>&1 && exit 0; sleep 1; done; '
                    f'rswarm network rm {NETWORK}', DEADLINE_S)
    script = 'for i in $(seq 60); do [ ! -e /run/rswarm/tunnel ] && break; sleep 1; done; ls /run/rswarm | grep -c "^tunnel$"'
    left = [machine.try_run(script)[1].strip() for machine in machines]
    report.line(left == ['0'] * len(left), 'without encrypted networks there is no tunnel', ' '.join(left))


def packets_with(record, marker):
    return sum(marker in packet for packet in record)


def is_udp_to(packet, port):
    over_ipv4 = packet[12:14] == b'\x08\x00' and packet[23] == 17 and int.from_bytes(packet[36:38], 'big') == port
    return over_ipv4 or packet[12:14] == b'\x86\xdd' and packet[20] == 17 and int.from_bytes(packet[56:58], 'big') == port
