//! From files to one tree: interpolation, `include`, `extends`, and the merging of several files. It reads files through a
//! function that it is given, and asks nobody else.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    check::{Check, Field, Problem, nearest},
    env_file,
    interpolate::interpolate,
    merge::merge,
    node::{Key, Node, Place, Sources, Tag},
    paths, yaml,
};

/// Files that include or extend files; more is a cycle that changes its names.
const MAX_DEPTH: usize = 16;
/// No stack is larger; who gives the wrong file learns it before all of it was read.
const MAX_FILE_BYTES: usize = 4 << 20;

/// Gives the bytes of a file; `-` is standard input.
pub(crate) type ReadFile<'a> = &'a dyn Fn(&Path) -> std::io::Result<Vec<u8>>;
pub(crate) type Environment = BTreeMap<String, String>;

/// Reads files and keeps what was found on the way.
pub(crate) struct Loader<'a> {
    pub(crate) read: ReadFile<'a>,
    pub(crate) sources: Sources,
    pub(crate) check: Check,
    pub(crate) interpolates: bool,
    /// Where the caller is: names of files are shown as seen from there.
    pub(crate) directory: &'a Path,
    /// The files being read, each because of the one before.
    pub(crate) open: Vec<PathBuf>,
}

/// Where a set of files stands.
#[derive(Clone)]
pub(crate) struct Base {
    pub(crate) directory: PathBuf,
    pub(crate) environment: Environment,
}

impl Base {
    fn home(&self) -> Option<&str> {
        self.environment.get("HOME").map(String::as_str)
    }
}

/// The text of a file, or why there is none.
pub(crate) fn read_text(read: ReadFile<'_>, path: &Path) -> Result<String, String> {
    let bytes = read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(format!("{} is larger than {} MiB", path.display(), MAX_FILE_BYTES >> 20));
    }
    String::from_utf8(bytes).map_err(|_| format!("{} is not text (UTF-8)", path.display()))
}

impl Loader<'_> {
    fn problem(&mut self, at: Option<Place>, why: impl Into<String>) {
        self.check.problems.push(Problem { at, why: why.into() });
    }

    /// Several files, each laid over those before it.
    pub(crate) fn files(&mut self, files: &[PathBuf], base: &Base, because: Option<Place>) -> Option<Node> {
        let mut whole: Option<Node> = None;
        for file in files {
            if self.open.len() >= MAX_DEPTH || self.open.contains(file) {
                let chain: Vec<String> = self.open.iter().map(|path| path.display().to_string()).collect();
                self.problem(because, format!("{} includes itself: {}", file.display(), chain.join(" -> ")));
                return None;
            }
            let Some(mut tree) = self.one(file, base, because) else { continue };
            self.open.push(file.clone());
            if let Some(included) = tree.take("include")
                && let Some(inner) = self.includes(&included, base)
            {
                self.refuse_conflicts(&inner, &tree);
                tree = merge(inner, tree, "");
            }
            self.extend_all(&mut tree, whole.as_ref(), base);
            self.open.pop();
            whole = Some(match whole {
                Some(before) => merge(before, tree, ""),
                None => tree,
            });
        }
        whole
    }

    /// One file, interpolated, with absolute paths.
    fn one(&mut self, file: &Path, base: &Base, because: Option<Place>) -> Option<Node> {
        let text = match read_text(self.read, file) {
            Ok(text) => text,
            Err(why) => {
                self.problem(because, why);
                return None;
            }
        };
        let shown = file.strip_prefix(self.directory).unwrap_or(file);
        let name = if file == Path::new("-") { "stdin".to_owned() } else { shown.display().to_string() };
        let index = self.sources.add(&name);
        let mut tree = match yaml::parse(index, &text) {
            Ok(tree) => tree,
            Err(problems) => {
                self.check.problems.extend(problems);
                return None;
            }
        };
        if tree.entries_mut().is_none() {
            self.problem(Some(tree.at), format!("a Compose file is a map with `services:`, not {}", tree.kind()));
            return None;
        }
        if self.interpolates {
            self.interpolate(&mut tree, &base.environment);
        }
        paths::absolutize(&mut tree, &base.directory, base.home());
        Some(tree)
    }

    fn interpolate(&mut self, tree: &mut Node, environment: &Environment) {
        let lookup = |name: &str| environment.get(name).cloned();
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        tree.each_text(&mut |text, at| {
            if !text.contains('$') {
                return;
            }
            let mut unset = Vec::new();
            match interpolate(text, &lookup, &mut unset) {
                Ok(new) => *text = new,
                Err(why) => problems.push(Problem::new(at, why)),
            }
            for name in unset {
                let why =
                    format!("the variable {name} is not set: taken as nothing; write ${{{name}:-}} if that is meant");
                warnings.push(Problem::new(at, why));
            }
        });
        self.check.problems.extend(problems);
        self.check.warnings.extend(warnings);
    }

    /// All that `include` names, each with its own directory and variables.
    fn includes(&mut self, included: &Node, base: &Base) -> Option<Node> {
        let mut whole: Option<Node> = None;
        let root = Field::new(included, "include");
        for item in root.items(&mut self.check) {
            let mut inner = base.clone();
            let files = match item.is_map() {
                false => item.text(&mut self.check).into_iter().collect(),
                true => {
                    let fields = item.fields(&mut self.check, &["path", "project_directory", "env_file"]);
                    if let Some(files) = fields.get("env_file") {
                        for file in files.one_or_more(&mut self.check) {
                            self.dot_env(&base.directory.join(file), &mut inner.environment, Some(files.at()));
                        }
                    }
                    if let Some(directory) =
                        fields.get("project_directory").and_then(|field| field.text(&mut self.check))
                    {
                        inner.directory = base.directory.join(directory);
                    }
                    match fields.get("path") {
                        Some(path) => path.one_or_more(&mut self.check),
                        None => {
                            item.wrong(&mut self.check, "path is missing: name the file");
                            Vec::new()
                        }
                    }
                }
            };
            let paths: Vec<PathBuf> =
                files.iter().map(|file| PathBuf::from(paths::absolute(file, &base.directory, base.home()))).collect();
            if inner.directory == base.directory
                && let Some(parent) = paths.first().and_then(|path| path.parent())
            {
                inner.directory = parent.to_owned();
            }
            let Some(tree) = self.files(&paths, &inner, Some(item.at())) else { continue };
            whole = Some(match whole {
                Some(before) => {
                    self.refuse_conflicts(&before, &tree);
                    merge(before, tree, "")
                }
                None => tree,
            });
        }
        whole
    }

    /// What an included file defines is not defined once more.
    fn refuse_conflicts(&mut self, one: &Node, other: &Node) {
        for kind in ["services", "networks", "volumes", "secrets", "configs"] {
            for (key, node) in other.get(kind).map(Node::entries).unwrap_or_default() {
                let Some(known) = one.get(kind).and_then(|all| all.get(&key.name)) else { continue };
                if known.content != node.content {
                    let place = self.sources.show(known.at);
                    let word = kind.trim_end_matches('s');
                    let why = format!("{word} {}: an included file defines it too, at {place}", key.name);
                    self.problem(Some(key.at), why);
                }
            }
        }
    }

    /// `NAME=VALUE` lines; what the environment has already stays.
    pub(crate) fn dot_env(&mut self, path: &Path, environment: &mut Environment, because: Option<Place>) {
        let text = match read_text(self.read, path) {
            Ok(text) => text,
            Err(why) => return self.problem(because, why),
        };
        let own = environment.clone();
        match env_file::parse(&text, &|name| own.get(name).cloned()) {
            Ok(pairs) => {
                for (name, value) in pairs {
                    if !own.contains_key(&name) {
                        environment.extend(value.map(|value| (name, value)));
                    }
                }
            }
            Err((line, why)) => self.problem(because, format!("{}:{line}: {why}", path.display())),
        }
    }

    fn extend_all(&mut self, tree: &mut Node, before: Option<&Node>, base: &Base) {
        let names: Vec<Key> = match tree.get("services") {
            Some(services) => services.entries().iter().map(|(key, _)| key.clone()).collect(),
            None => return,
        };
        for key in names {
            let found = self.extended(tree, before, &key.name, base, &mut Vec::new());
            if let (Some(service), Some(services)) = (found, tree.get_mut("services")) {
                services.put(&key.name, service);
            }
        }
    }

    /// The service with all that it extends beneath it.
    fn extended(
        &mut self,
        tree: &Node,
        before: Option<&Node>,
        name: &str,
        base: &Base,
        chain: &mut Vec<(PathBuf, String)>,
    ) -> Option<Node> {
        let of = |tree: &Node| tree.get("services").and_then(|services| services.get(name)).cloned();
        let mut service = of(tree).or_else(|| before.and_then(of))?;
        let Some(extends) = service.take("extends") else { return Some(service) };
        let owner = format!("service {name}: extends");
        let field = Field::new(&extends, &owner);
        let (target, file) = match extends.as_text() {
            Some(target) => (Some(target.to_owned()), None),
            None => {
                let fields = field.fields(&mut self.check, &["service", "file"]);
                let text = |loader: &mut Self, key| loader.check.text(fields.get(key));
                (text(self, "service"), text(self, "file"))
            }
        };
        let Some(target) = target else {
            field.wrong(&mut self.check, "service is missing: name the service that is extended");
            return Some(service);
        };
        let path = file.map(|file| PathBuf::from(paths::absolute(&file, &base.directory, base.home())));
        let place = (path.clone().unwrap_or_else(|| base.directory.clone()), target.clone());
        if chain.contains(&place) || chain.len() >= MAX_DEPTH || (path.is_none() && target == name) {
            let steps: Vec<&str> = chain.iter().map(|(_, name)| name.as_str()).chain([target.as_str()]).collect();
            field.wrong(&mut self.check, format!("extends itself: {name} -> {}", steps.join(" -> ")));
            return Some(service);
        }
        chain.push(place);
        let below = match &path {
            None => self.beneath(tree, before, &target, base, chain, &field),
            Some(path) => {
                let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
                let inner = Base { directory, environment: base.environment.clone() };
                let other = self.one(path, &inner, Some(extends.at))?;
                self.beneath(&other, None, &target, &inner, chain, &field)
            }
        };
        chain.pop();
        match below {
            Some(below) => {
                service.tag = Tag::None;
                Some(merge(below, service, ""))
            }
            None => Some(service),
        }
    }

    fn beneath(
        &mut self,
        tree: &Node,
        before: Option<&Node>,
        target: &str,
        base: &Base,
        chain: &mut Vec<(PathBuf, String)>,
        field: &Field<'_>,
    ) -> Option<Node> {
        let found = self.extended(tree, before, target, base, chain);
        if found.is_none() {
            let services = tree.get("services").map(Node::entries).unwrap_or_default();
            let names: Vec<&str> = services.iter().map(|(key, _)| key.name.as_str()).collect();
            let hint = nearest(target, &names).map_or(String::new(), |near| format!("; do you mean {near:?}?"));
            field.wrong(&mut self.check, format!("there is no service {target:?}{hint}"));
        }
        found
    }
}
