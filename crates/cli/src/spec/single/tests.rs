//! Flags in, the body of the request out.

use clap::Parser;
use expect_test::{Expect, expect};

use crate::commands::container::flags::CreateFlags;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    flags: CreateFlags,
}

#[expect(clippy::needless_pass_by_value, reason = "`expect!` at the call, without ampersands")]
fn check(line: &str, is_attached: bool, wanted: Expect) {
    let words = ["run"].into_iter().chain(line.split_whitespace());
    let text = match Line::try_parse_from(words) {
        Ok(line) => match super::body(&line.flags, is_attached) {
            Ok(body) => body.to_string(),
            Err(error) => format!("error: {error:#}"),
        },
        Err(error) => error.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    wanted.assert_eq(&text);
}

#[test]
fn streams_and_commands() {
    check(
        "app",
        false,
        expect![[
            r#"{"Image":"app","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"NetworkMode":"default"},"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,"AttachStdout":false,"AttachStderr":false}"#
        ]],
    );
    check(
        "-it --rm app sh -c ls -l",
        true,
        expect![[
            r#"{"Image":"app","HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"NetworkMode":"default"},"Cmd":["sh","-c","ls","-l"],"Tty":true,"OpenStdin":true,"StdinOnce":true,"AttachStdin":true,"AttachStdout":true,"AttachStderr":true}"#
        ]],
    );
    check(
        "-i -a stdin app",
        true,
        expect![[
            r#"{"Image":"app","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"NetworkMode":"default"},"Tty":false,"OpenStdin":true,"StdinOnce":true,"AttachStdin":true,"AttachStdout":false,"AttachStderr":false}"#
        ]],
    );
    check(
        "--entrypoint= app --version",
        false,
        expect![[
            r#"{"Image":"app","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"NetworkMode":"default"},"Cmd":["--version"],"Entrypoint":[""],"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,"AttachStdout":false,"AttachStderr":false}"#
        ]],
    );
}

#[test]
fn ports() {
    check(
        "-p 80 -p 8080:80/udp -p 127.0.0.1:8000-8001:80-81 -p [::1]:9:9 app",
        false,
        expect![[
            r#"{"Image":"app","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":""},{"HostIp":"127.0.0.1","HostPort":"8000"}],"80/udp":[{"HostIp":"","HostPort":"8080"}],"81/tcp":[{"HostIp":"127.0.0.1","HostPort":"8001"}],"9/tcp":[{"HostIp":"::1","HostPort":"9"}]},"NetworkMode":"default"},"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"ExposedPorts":{"80/tcp":{},"80/udp":{},"81/tcp":{},"9/tcp":{}}}"#
        ]],
    );
    check(
        "-p 8080-8090:80 --expose 7-8/udp app",
        false,
        expect![[
            r#"{"Image":"app","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080-8090"}]},"NetworkMode":"default"},"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"ExposedPorts":{"80/tcp":{},"7/udp":{},"8/udp":{}}}"#
        ]],
    );
    check(
        "-p 1-2:1-3 app",
        false,
        expect![
            "error: invalid publish opts format: 1-2:1-3: invalid ranges specified for container and host Ports: 1-3 and 1-2"
        ],
    );
    check(
        "-p nowhere:1:1 app",
        false,
        expect!["error: invalid publish opts format: nowhere:1:1: invalid IP address: nowhere"],
    );
    check("--expose 1:1 app", false, expect!["error: invalid port format for --expose: 1:1"]);
}

#[test]
fn networks() {
    check(
        "--network own --network-alias a --ip 10.0.0.7 --link db:x app",
        false,
        expect![[
            r#"{"Image":"app","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"NetworkMode":"own"},"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"NetworkingConfig":{"EndpointsConfig":{"own":{"Aliases":["a"],"IPAMConfig":{"IPv4Address":"10.0.0.7"},"Links":["db:x"]}}}}"#
        ]],
    );
    check(
        "--network name=a,alias=x,alias=y,driver-opt=k=v,gw-priority=5 --network b app",
        false,
        expect![[
            r#"{"Image":"app","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"NetworkMode":"a"},"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"NetworkingConfig":{"EndpointsConfig":{"a":{"GwPriority":5,"Aliases":["x","y"],"DriverOpts":{"k":"v"}},"b":{}}}}"#
        ]],
    );
    check(
        "--link db:x --mac-address 02:42:11:22:33:44 app",
        false,
        expect![[
            r#"{"Image":"app","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"NetworkMode":"default","Links":["db:x"]},"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"NetworkingConfig":{"EndpointsConfig":{"default":{"MacAddress":"02:42:11:22:33:44"}}}}"#
        ]],
    );
    check(
        "--network host --network b app",
        false,
        expect!["error: conflicting options: cannot attach both user-defined and non-user-defined network-modes"],
    );
    check(
        "--network name=a,ip=10.0.0.1 --ip 10.0.0.2 app",
        false,
        expect!["error: conflicting options: cannot specify both --ip and per-network settings"],
    );
    check(
        "--network name=a,link-local-ip=169.254.1.1 app",
        false,
        expect![[
            r#"{"Image":"app","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"NetworkMode":"a"},"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"NetworkingConfig":{"EndpointsConfig":{"a":{"IPAMConfig":{"LinkLocalIPs":["169.254.1.1"]}}}}}"#
        ]],
    );
    check(
        "--network name=a,link-local-ip=169.254.1.1 --link-local-ip 169.254.1.2 app",
        false,
        expect!["error: conflicting options: cannot specify both --link-local-ip and per-network settings"],
    );
}

#[test]
fn mounts_and_devices() {
    check(
        "-v data:/d -v /only -v /a:/b:ro --tmpfs /t:size=1m --tmpfs /u app",
        false,
        expect![[
            r#"{"Image":"app","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"Binds":["data:/d","/a:/b:ro"],"Tmpfs":{"/t":"size=1m","/u":""},"NetworkMode":"default"},"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Volumes":{"/only":{}}}"#
        ]],
    );
    check(
        "--device /dev/null --device /dev/zero:/dev/x:r --device /dev/full:rw --gpus all app",
        false,
        expect![[
            r#"{"Image":"app","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"NetworkMode":"default","Devices":[{"PathOnHost":"/dev/null","PathInContainer":"/dev/null","CgroupPermissions":"rwm"},{"PathOnHost":"/dev/zero","PathInContainer":"/dev/x","CgroupPermissions":"r"},{"PathOnHost":"/dev/full","PathInContainer":"/dev/full","CgroupPermissions":"rw"}],"DeviceRequests":[{"Driver":"","Count":-1,"DeviceIDs":null,"Capabilities":[["gpu"]],"Options":{}}]},"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,"AttachStdout":false,"AttachStderr":false}"#
        ]],
    );
    check(
        "--device-read-bps /dev/sda:1m --device-write-iops /dev/sda:100 app",
        false,
        expect![[
            r#"{"Image":"app","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"NetworkMode":"default","BlkioDeviceReadBps":[{"Path":"/dev/sda","Rate":1048576}],"BlkioDeviceWriteIOps":[{"Path":"/dev/sda","Rate":100}]},"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,"AttachStdout":false,"AttachStderr":false}"#
        ]],
    );
}

#[test]
fn ends_and_health() {
    check(
        "--restart on-failure:3 --stop-timeout -1 --init=false app",
        false,
        expect![[
            r#"{"Image":"app","HostConfig":{"Init":false,"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3},"NetworkMode":"default"},"StopTimeout":-1,"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,"AttachStdout":false,"AttachStderr":false}"#
        ]],
    );
    check(
        "--restart on-failure:x app",
        false,
        expect![[r#"error: invalid restart policy format: maximum retry count must be an integer: "x""#]],
    );
    check(
        "--rm --restart always app",
        false,
        expect!["error: conflicting options: cannot specify both --restart and --rm"],
    );
    check(
        "--health-cmd true --health-interval 5s --health-retries 2 app",
        false,
        expect![[
            r#"{"Image":"app","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"NetworkMode":"default"},"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":5000000000,"Retries":2}}"#
        ]],
    );
    check(
        "--no-healthcheck --health-cmd true app",
        false,
        expect!["error: --no-healthcheck conflicts with --health-* options"],
    );
}

#[test]
fn limits() {
    check(
        "-m 64m --memory-swap -1 --cpus 1.5 -c 512 --pids-limit -1 --ulimit nofile=9:unlimited app",
        false,
        expect![[
            r#"{"Image":"app","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"NetworkMode":"default","Memory":67108864,"MemorySwap":-1,"NanoCpus":1500000000,"CpuShares":512,"PidsLimit":-1,"Ulimits":[{"Name":"nofile","Hard":-1,"Soft":9}]},"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,"AttachStdout":false,"AttachStderr":false}"#
        ]],
    );
    check(
        "-m lots app",
        false,
        expect![[
            r#"error: invalid value 'lots' for '--memory <BYTES>': "lots" is not a size; write for example 64m, 512k or 1g"#
        ]],
    );
}

/// E-15: `.data` is a directory here, and no volume's name could begin so.
#[test]
fn e_15_what_begins_with_a_dot_is_a_path_from_here() {
    let line = Line::try_parse_from(["run", "-v", ".data:/srv:ro", "-v", "data:/x", "app"]).expect("known flags");
    let body = super::body(&line.flags, false).expect("a good line");
    let here = std::env::current_dir().expect("a directory");
    let wanted = [format!("{}:/srv:ro", here.join(".data").display()), "data:/x".to_owned()];
    assert_eq!(body["HostConfig"]["Binds"], serde_json::json!(wanted));
}
