//! Whole files: what comes of them, and what is refused with which words at which place.

mod keys;

use std::{collections::BTreeMap, io, path::Path};

use expect_test::{Expect, expect};
use serde_json::Value;

use super::*;

/// Files by name, the first is deployed; lines of the environment `NAME=value`.
pub(super) fn read(files: &[(&str, &str)], environment: &str, profiles: &[&str]) -> Result<Loaded, Refusal> {
    let known: BTreeMap<String, Vec<u8>> =
        files.iter().map(|(name, text)| (format!("/srv/{name}"), text.as_bytes().to_vec())).collect();
    let read =
        |path: &Path| known.get(&path.display().to_string()).cloned().ok_or(io::Error::from(io::ErrorKind::NotFound));
    let pairs = environment.lines().filter_map(|line| line.split_once('='));
    let paths: Vec<PathBuf> =
        files.iter().filter(|(name, _)| name.starts_with("stack")).map(|(name, _)| PathBuf::from(name)).collect();
    let request = Request {
        files: &paths,
        profiles: &profiles.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(),
        env_files: &[],
        environment: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        directory: Path::new("/srv"),
        interpolates: true,
        read: &read,
    };
    load(&request, "shop")
}

pub(super) fn one(text: &str) -> Result<Loaded, Refusal> {
    read(&[("stack.yml", text)], "", &[])
}

#[expect(clippy::needless_pass_by_value, reason = "`expect!` at the call, without ampersands")]
fn refuses(text: &str, expected: Expect) {
    let refusal = one(text).expect_err("refused");
    expected.assert_eq(&format!("{refusal}\n"));
}

/// K-08: all that is wrong with a file is told at once, with line and column.
#[test]
fn k_08_all_problems_with_their_places() {
    refuses(
        r#"services:
  web:
    imgae: nginx
    image: nginx
    ports:
      - "80:http"
      - target: 81
        protocl: udp
    deploy:
      replicas: many
      resources:
        limits: {memory: lots}
    networks: [fornt]
    secrets: [pw]
    depends_on: [bd]
    volumes: ["data:/data"]
  db:
    build: .
    stop_grace_period: 5 minutes
networks:
  front:
volumes: [data]
"#,
        expect![[r#"
            stack.yml:3:5: service web: imgae: unknown key; do you mean "image"?
            stack.yml:6:9: service web: ports[0]: invalid publish option "80:http": "http" is no port (1 to 65535)
            stack.yml:8:9: service web: ports[1].protocl: unknown key; do you mean "protocol"?
            stack.yml:10:17: service web: deploy.replicas: "many" is no whole number from 0
            stack.yml:12:26: service web: deploy.resources.limits.memory: "lots" is not a size; write for example 64m, 512k or 1g
            stack.yml:13:16: service web: networks[0]: undefined network "fornt"; do you mean "front"?
            stack.yml:14:15: service web: secrets[0]: undefined secret "pw"; define it under the top-level `secrets:`
            stack.yml:15:18: service web: depends_on: there is no service "bd"; do you mean "db"?
            stack.yml:16:15: service web: volumes[0]: undefined volume "data"; define it under the top-level `volumes:`
            stack.yml:18:12: service db: build: images are not built here: build it, push it to a registry or load it on the nodes, and name it in `image`
            stack.yml:19:24: service db: stop_grace_period: "5 minutes" is not a duration; write for example 300ms, 10s or 1h30m
            stack.yml:22:10: volumes: a map is needed here, not a list
        "#]],
    );
}

#[test]
fn k_08_what_is_no_compose_file() {
    for (text, part) in [
        ("", "stack.yml:1:1: the file is empty"),
        ("services: [", "this is not YAML"),
        ("a\n", "stack.yml:1:1: a Compose file is a map"),
        ("services: {}\n", "no service is active"),
        (
            "services:\n  a: {image: x}\n  a: {image: y}\n",
            "stack.yml:3:3: the key \"a\" stands here twice, first in line 2",
        ),
        ("services:\n  a: {image: x}\n---\nservices: {}\n", "a second YAML document"),
        ("services:\n  a: {image: 'A B'}\n", "stack.yml:2:14: service a: image: "),
        ("services:\n  a:\n", "service a: it is empty"),
        (
            "services:\n  a: {image: 'x:${T:?give the tag}'}\n",
            "stack.yml:2:14: required variable T is missing a value: give the tag",
        ),
        ("service:\n  a: {image: x}\n", "stack.yml:1:1: service: unknown key; do you mean \"services\"?"),
    ] {
        let refusal = one(text).expect_err(text).to_string();
        assert!(refusal.contains(part), "{text:?}: {refusal}");
    }
}

/// What a file may cost is bounded.
#[test]
fn k_08_bombs_are_refused() {
    let mut laughs = "x-0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
    for depth in 1..12 {
        let inner = vec![format!("*a{}", depth - 1); 10].join(",");
        laughs += &format!("x-{depth}: &a{depth} [{inner}]\n");
    }
    assert!(one(&laughs).expect_err("too much").to_string().contains("aliases resolved"));
    let deep = format!("services: {}{}", "[".repeat(500), "]".repeat(500));
    assert!(one(&deep).is_err());
    assert!(one(&format!("services: {}", "[".repeat(50_000))).is_err());
    assert!(one("services: {a: {image: x, extends: {file: other.yml, service: a}}}").is_err());
    let selfish = "services: {a: {image: x}}\ninclude: [stack.yml]\n";
    assert!(one(selfish).expect_err("a circle").to_string().contains("includes itself"));
}

/// K-08: `depends_on` in order; circles and what never completes are refused.
#[test]
fn k_08_order_of_depends_on() {
    let text = "services:\n  a: {image: x, depends_on: {b: {condition: service_healthy}, c: {condition: service_completed_successfully}}}\n  \
                b: {image: x, depends_on: [c]}\n  c: {image: x, deploy: {mode: replicated-job}}\n  \
                d: {image: x, depends_on: {e: {condition: service_started, required: false}}}\n  e: {image: x, profiles: [debug]}\n";
    let order = |profiles: &[&str]| {
        let loaded = read(&[("stack.yml", text)], "", profiles).expect("good");
        loaded.project.services.iter().map(|service| service.key.as_str()).collect::<String>()
    };
    assert_eq!(order(&[]), "cbad");
    assert_eq!(order(&["debug"]), "cbaed");
    refuses(
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [c]}\n  c:\n    image: x\n    depends_on: [a]\n",
        expect![[r#"
            stack.yml:2:30: depends_on runs in a circle: a -> b -> c -> a
        "#]],
    );
    refuses(
        "services:\n  a: {image: x, depends_on: {b: {condition: service_completed_successfully}}}\n  b: {image: x}\n",
        expect![[r#"
            stack.yml:2:33: service a: depends_on: service "b" never completes: give it deploy.mode replicated-job, or restart_policy.condition none or on-failure
        "#]],
    );
    refuses(
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, profiles: [p]}\n",
        expect![[r#"
            stack.yml:2:30: service a: depends_on: service "b" is not active: name one of its profiles with --profile, or say required: false
        "#]],
    );
}

/// K-01: `.env` beside the file, the caller's environment before it.
#[test]
fn k_01_dot_env() {
    let files = [
        ("stack.yml", "services: {a: {image: 'x:${TAG}', environment: {A: '${A}', B, C}}}"),
        (".env", "TAG=1\nA=file\n"),
    ];
    let loaded = read(&files, "A=own\nB=out", &[]).expect("good");
    let container = &loaded.project.services[0].spec["TaskTemplate"]["ContainerSpec"];
    assert_eq!(
        (container["Image"].as_str(), container["Env"].to_string()),
        (Some("x:1"), r#"["A=own","B=out"]"#.to_owned())
    );
}

/// K-08: `include`, `extends`, anchors, merge keys and `x-` are Compose's.
#[test]
fn k_08_include_and_extends() {
    let main = "include: [sub/db.yml]\nx-common: &common\n  restart: always\n  labels: {team: a}\nservices:\n  base:\n    image: x:1\n    \
                environment: {A: 1, B: 2}\n    profiles: [never]\n  web:\n    <<: *common\n    extends: base\n    profiles: !reset null\n    \
                environment: [B=3]\n    depends_on: [db]\n  far:\n    extends: {file: sub/far.yml, service: far}\n";
    let files = [
        ("stack.yml", main),
        ("sub/db.yml", "services:\n  db: {image: db:1, volumes: ['./data:/data'], env_file: db.env}\n"),
        ("sub/db.env", "FROM=file\n"),
        (
            "sub/far.yml",
            "services:\n  far: {image: far:1, volumes: ['./far:/far'], extends: low}\n  low: {image: low, command: run it}\n",
        ),
    ];
    let loaded = read(&files, "", &[]).expect("good");
    let service = |key: &str| {
        let found = loaded.project.services.iter().find(|service| service.key == key).expect(key);
        found.spec["TaskTemplate"]["ContainerSpec"].clone()
    };
    assert_eq!(loaded.project.services.len(), 3);
    assert_eq!(service("web")["Env"].to_string(), r#"["A=1","B=3"]"#);
    assert_eq!((service("web")["Image"].as_str(), service("web")["Labels"]["team"].as_str()), (Some("x:1"), Some("a")));
    assert_eq!(
        (service("db")["Mounts"][0]["Source"].as_str(), service("db")["Env"][0].as_str()),
        (Some("/srv/sub/data"), Some("FROM=file"))
    );
    assert_eq!(
        (service("far")["Mounts"][0]["Source"].as_str(), service("far")["Args"].to_string()),
        (Some("/srv/sub/far"), r#"["run","it"]"#.to_owned())
    );
    let missing = [("stack.yml", "include: [no.yml]\nservices: {a: {image: x}}")];
    assert!(
        read(&missing, "", &[])
            .expect_err("missing")
            .to_string()
            .starts_with("stack.yml:1:11: cannot read /srv/no.yml")
    );
    let circle = [("stack.yml", "services:\n  a: {extends: b}\n  b: {extends: a}\n")];
    assert!(read(&circle, "", &[]).expect_err("a circle").to_string().contains("extends itself"));
}

/// K-02: names, labels and networks are those of `docker stack deploy`.
#[test]
fn k_02_objects_are_named_as_docker_does() {
    let text = "services:\n  web: {image: nginx, networks: [front, out], secrets: [pw, {source: ext, target: k, mode: 0440}], configs: [c]}\n  \
                db: {image: db, volumes: ['data:/d', 'ext:/e:ro', '/x:/y']}\n\
                networks: {front: {attachable: true, driver_opts: {encrypted: ''}}, out: {external: true, name: shared}, unused: {}}\n\
                volumes: {data: {labels: [a=b]}, ext: {external: true}}\nsecrets: {pw: {file: ./pw}, ext: {external: true}}\n\
                configs: {c: {content: hello, name: own-name}}\n";
    let loaded = read(&[("stack.yml", text), ("pw", "hunter2")], "", &[]).expect("good");
    let project = &loaded.project;
    let bodies: Vec<String> = project
        .networks
        .iter()
        .map(|one| format!("{} {} {}", one.name, one.external, one.body))
        .chain(
            project
                .secrets
                .iter()
                .chain(&project.configs)
                .map(|one| format!("{} {} {}", one.name, one.external, one.body)),
        )
        .chain(project.services.iter().map(|one| format!("{} {}", one.name, one.spec)))
        .collect();
    expect![[r#"
        shop_front false {"Name":"shop_front","Driver":"overlay","Attachable":true,"Options":{"encrypted":""},"Labels":{"com.docker.stack.namespace":"shop"}}
        shared true null
        shop_default false {"Name":"shop_default","Driver":"overlay","Labels":{"com.docker.stack.namespace":"shop"}}
        shop_pw false {"Name":"shop_pw","Labels":{"com.docker.stack.namespace":"shop"},"Data":"aHVudGVyMg=="}
        ext true null
        own-name false {"Name":"own-name","Labels":{"com.docker.stack.namespace":"shop"},"Data":"aGVsbG8="}
        shop_db {"Name":"shop_db","Mode":{"Replicated":{"Replicas":1}},"Labels":{"com.docker.stack.namespace":"shop","com.docker.stack.image":"db"},"TaskTemplate":{"ContainerSpec":{"Image":"db","Labels":{"com.docker.stack.namespace":"shop"},"Mounts":[{"Type":"volume","Target":"/d","Source":"shop_data","VolumeOptions":{"Labels":{"a":"b","com.docker.stack.namespace":"shop"}}},{"Type":"volume","Target":"/e","Source":"ext","ReadOnly":true},{"Type":"bind","Target":"/y","Source":"/x","BindOptions":{"CreateMountpoint":true}}]},"Networks":[{"Target":"shop_default","Aliases":["db"]}]}}
        shop_web {"Name":"shop_web","Mode":{"Replicated":{"Replicas":1}},"Labels":{"com.docker.stack.namespace":"shop","com.docker.stack.image":"nginx"},"TaskTemplate":{"ContainerSpec":{"Image":"nginx","Labels":{"com.docker.stack.namespace":"shop"},"Secrets":[{"File":{"Name":"k","UID":"0","GID":"0","Mode":288},"SecretName":"ext"},{"File":{"Name":"pw","UID":"0","GID":"0","Mode":292},"SecretName":"shop_pw"}],"Configs":[{"File":{"Name":"c","UID":"0","GID":"0","Mode":292},"ConfigName":"own-name"}]},"Networks":[{"Target":"shared","Aliases":["web"]},{"Target":"shop_front","Aliases":["web"]}]}}"#]]
    .assert_eq(&bodies.join("\n"));
}

/// K-02: secrets and configs that cannot be given are refused before anything is sent.
#[test]
fn k_02_data_that_is_not_there() {
    refuses(
        "services: {a: {image: x}}\nsecrets:\n  a: {file: ./no}\n  b: {environment: NO}\n  c: {}\n  d: {content: x}\n  e: {file: x, environment: y}\n  f: {external: true, file: x}\n",
        expect![[r#"
            stack.yml:3:13: secret a: file: cannot read /srv/no: entity not found
            stack.yml:4:20: secret b: environment: the variable NO is not set
            stack.yml:5:6: secret c: it has no data: give file, environment or, for a config, content; or external: true
            stack.yml:6:16: secret d: content: a secret has no place in a Compose file; use `file:` or `environment:`
            stack.yml:7:6: secret e: the data is given twice: file and environment exclude each other
            stack.yml:8:6: secret f: it is external, somebody else's: "file" cannot be said of it here
        "#]],
    );
}

/// K-09: what CSI needs is refused with a sentence.
#[test]
fn k_09_cluster_volumes() {
    refuses(
        "services: {a: {image: x}}\nvolumes:\n  v:\n    x-cluster-spec: {group: a}\n",
        expect![[r#"
            stack.yml:4:21: volume v: x-cluster-spec: there are no cluster volumes (CSI); use a driver such as local with nfs options
        "#]],
    );
}

/// The merged text says the same again.
/// K-03: `stack config` writes out what was written shortly, and it means the same.
#[test]
fn k_03_config_is_in_the_long_form() {
    let text = "services:
  a:
    image: x
    command: sh -c 'a b'
    environment: [A=1, B, A=2]
    labels: [x, y=z]
    ports: ['8080:80', '127.0.0.1:53:53/udp', '90']
    volumes: ['data:/data:ro,nocopy', '/srv:/srv:rshared', /anonymous]
    networks: [front]
    secrets: [pw]
    healthcheck: {test: wget localhost}
    deploy: {labels: [tier=db]}
networks: {front: {}}
volumes: {data: {}}
secrets: {pw: {external: true}}
";
    let loaded = one(text).expect("good");
    expect![[r#"
        services:
          a:
            image: x
            command:
              - sh
              - "-c"
              - "a b"
            environment:
              B: null
              A: "2"
            labels:
              x: ""
              y: z
            ports:
              - mode: ingress
                target: 80
                published: 8080
                protocol: tcp
              - mode: ingress
                target: 53
                published: 53
                protocol: udp
                host_ip: "127.0.0.1"
              - mode: ingress
                target: 90
                protocol: tcp
            volumes:
              - type: volume
                source: data
                target: /data
                read_only: true
                volume:
                  nocopy: true
              - type: bind
                source: /srv
                target: /srv
                bind:
                  create_host_path: true
                  propagation: rshared
              - type: volume
                target: /anonymous
            networks:
              front: null
            secrets:
              - source: pw
            healthcheck:
              test:
                - CMD-SHELL
                - "wget localhost"
            deploy:
              labels:
                tier: db
        networks:
          front: {}
        volumes:
          data: {}
        secrets:
          pw:
            external: true
    "#]]
    .assert_eq(&loaded.text);
    let again = one(&loaded.text).expect("good again");
    assert_eq!(loaded.project.services[0].spec, again.project.services[0].spec);
}

#[test]
fn k_03_config_is_read_again() {
    let text = "services:\n  a:\n    image: x\n    command: [sh, -c, 'echo \"$$A: #\"']\n    environment: {N: '1', T: 'true', E: ''}\n    ports: ['80:80']\n    \
                deploy: {placement: {preferences: [{spread: node.labels.zone}]}}\n";
    let first = one(text).expect("good");
    let again = one(&first.text.replace("$A", "$$A")).expect("good again");
    let specs =
        |loaded: &Loaded| loaded.project.services.iter().map(|service| service.spec.clone()).collect::<Vec<Value>>();
    assert_eq!(specs(&first), specs(&again), "{}", first.text);
}
