//! What may go of which images, as text.

use super::{
    super::limits::{Disk, ImageGc},
    *,
};
use crate::agent::testing::assignment;

fn id(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// `web:1 web=10 db=20`: an image that was brought here and who used it when; `users` and `needed` are what they say.
fn image(line: &str) -> TaskImage {
    let mut words = line.split(' ');
    let name = words.next().expect("a name").to_owned();
    let mut image = TaskImage { id: id(&name), name, is_brought: true, is_needed: false, used: BTreeMap::new() };
    for word in words {
        match word.split_once('=') {
            Some((user, at)) => {
                image.used.insert(user.to_owned(), at.parse().expect("a time"));
            }
            None if word == "users" => image.is_brought = false,
            None if word == "needed" => image.is_needed = true,
            None => panic!("{word} means nothing"),
        }
    }
    image
}

/// A task of a service, with its image; `ended` if it is.
fn task(n: u128, line: &str) -> Assignment {
    let words: Vec<&str> = line.split(' ').collect();
    let mut task = Assignment { service_name: words[0].parse().expect("a name"), ..assignment(n) };
    std::sync::Arc::make_mut(&mut task.spec).container.image = words[1].parse().expect("a reference");
    if words.contains(&"ended") {
        task.state = TaskState::Shutdown;
    }
    task
}

fn assigned(tasks: &[&str]) -> AssignedImages {
    let tasks = (1..).zip(tasks).map(|(n, line)| task(n, line)).map(|task| (task.id, task)).collect();
    AssignedImages::of(&AssignmentSet { tasks, ..AssignmentSet::default() })
}

/// What goes, in this order.
fn check(images: &[&str], tasks: &[&str], wanted: &str) {
    let images: Vec<TaskImage> = images.iter().map(|line| image(line)).collect();
    let of_name = |name: &str| {
        let known = images.iter().find(|image| format!("docker.io/library/{}", image.name) == name);
        known.map(|image| image.id.clone())
    };
    let needs = assigned(tasks).resolve(of_name);
    let gone: Vec<String> = removable(&images, &needs).into_iter().map(|image| image.name).collect();
    assert_eq!(gone.join(" "), wanted, "{images:?} {tasks:?}");
}

/// P27: the present and the previous image of a service stay, those before go, the oldest first.
#[test]
fn p27_of_a_service_the_present_and_the_previous_image_stay() {
    let images = ["web:1 web=10", "web:2 web=20", "web:3 web=40", "web:4 web=30"];
    check(&images, &["web web:3"], "web:1 web:2");
    // it has no task here that shall run, but there are ended ones: it is not gone, and may come back
    check(&images, &["web web:3 ended"], "web:1 web:2");
    // removed with all its tasks
    check(&images, &[], "web:1 web:2 web:4 web:3");
}

/// P27: images of users and containers, and what is about to run, stay whatever is noted of them.
#[test]
fn p27_what_is_needed_or_a_users_own_stays() {
    let images = ["own:1 users web=1", "held:1 needed", "web:1 web=10", "new:1 x=2", "old:1 x=1", "odd:1"];
    check(&images, &["web web:1", "next new:1"], "odd:1 old:1");
    check(&images, &[], "odd:1 old:1 new:1 web:1");
}

/// P27: of two services with one image the one that still needs it counts, and when the other had it last.
#[test]
fn p27_an_image_goes_by_its_last_user() {
    let images = ["base:1 a=10 b=50", "a:2 a=20", "a:3 a=30", "c:1 c=40", "c:2 c=45", "c:3 c=60"];
    check(&images, &["a a:3", "c c:3"], "c:1 base:1");
    check(&images, &["a a:3", "b base:1", "c c:3"], "c:1");
}

/// P27: a task that ended does not need its image, but it goes last.
#[test]
fn p27_images_of_ended_tasks_are_spared_to_the_end() {
    let images = ["web:1 web=10", "web:2 web=20", "web:3 web=30", "web:4 web=40", "gone:1 gone=35"];
    check(&images, &["web web:4", "web web:3 ended", "web web:2 ended", "web web:1 ended"], "gone:1 web:1 web:2");
}

/// P27: what a mount was before is not what the service itself was before.
#[test]
fn p27_an_image_as_a_mount_is_a_user_of_its_own() {
    let mut web = task(1, "web web:2");
    let kind = types::MountKind::Image { source: "files:2".into(), subpath: String::new() };
    let mount = types::Mount { target: "/files".into(), read_only: true, kind };
    std::sync::Arc::make_mut(&mut web.spec).container.mounts = vec![mount];
    let assigned = AssignedImages::of(&AssignmentSet { tasks: [(web.id, web)].into(), ..AssignmentSet::default() });
    let images = ["web:1 web=10", "web:2 web=20", "files:1", "files:2"].map(image);
    let mut images: Vec<TaskImage> = images.into();
    for (image, at) in images[2..].iter_mut().zip([12, 22]) {
        image.used.insert("web mount 0".to_owned(), at);
    }
    let needs = assigned.resolve(|name| Some(id(name.strip_prefix("docker.io/library/")?)));
    let running: Vec<(&Digest, &str)> = needs.running.iter().map(|(id, user)| (id, user.as_str())).collect();
    assert_eq!(running, [(&id("web:2"), "web"), (&id("files:2"), "web mount 0")]);
    let gone = removable(&images, &needs);
    assert!(gone.is_empty(), "{gone:?}");
}

/// P27: thirty images of 200 MB, one after the other, on a disk of 2 GB.
#[test]
fn p27_thirty_large_images_never_fill_the_disk() {
    const MB: u64 = 1 << 20;
    let (gc, mut disk) = (ImageGc::default(), Disk { used: 300 * MB, free: 1700 * MB });
    let mut images: Vec<TaskImage> = Vec::new();
    for n in 1..=30_u64 {
        disk = Disk { used: disk.used + 200 * MB, free: disk.free.checked_sub(200 * MB).expect("room for it") };
        images.push(image(&format!("web:{n} web={n}")));
        let needs =
            assigned(&[format!("web web:{n}").as_str()]).resolve(|name| Some(id(&name["docker.io/library/".len()..])));
        if gc.is_too_full(disk) {
            for gone in removable(&images, &needs) {
                if gc.is_enough(disk) {
                    break;
                }
                images.retain(|image| image.id != gone.id);
                disk = disk.without(200 * MB);
            }
        }
        assert!(!gc.is_too_full(disk), "{} % after {n}", disk.percent());
        let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
        for wanted in [n, n.saturating_sub(1).max(1)] {
            assert!(names.contains(&format!("web:{wanted}").as_str()), "{wanted} is not among {names:?}");
        }
    }
}
