//! What a request is about: which container or command, and what is done with it. Pure.

use axum::http::{Method, StatusCode, Uri};

use crate::{
    error::{ApiError, ApiResult},
    query::unescape,
    router::ApiVersion,
};

/// The last part of the path of `port-forward`.
const FORWARD: &str = "forward";

/// The noun that an id belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noun {
    Container,
    /// A further command in one.
    Exec,
}

/// How a request goes to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// As a request and its answer.
    Answer,
    /// Both sides send bytes after the answer's head, until the node has sent all.
    Output,
    /// The same until both have.
    Both,
    WebSocket,
    /// Not at all: what is done with a task's container its service decides. The verb, for people.
    OfService(&'static str),
}

/// A request about one container or command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) noun: Noun,
    /// As the client wrote it, without the slash that it may put before a name.
    pub(crate) name: String,
    /// Of the path, what follows the name.
    pub(crate) rest: String,
    pub(crate) work: Work,
}

impl Target {
    /// `None`: it is about none, or nothing that another node could be asked.
    pub(crate) fn parse(method: &Method, path: &str) -> Option<Self> {
        let (noun, rest) = match path.strip_prefix("/containers/") {
            Some(rest) => (Noun::Container, rest),
            None => (Noun::Exec, path.strip_prefix("/exec/")?),
        };
        let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let work = match noun {
            Noun::Container => of_container(method, rest)?,
            Noun::Exec => of_exec(method, rest)?,
        };
        // unlike in a query, `+` is no space
        let name = unescape(&name.replace('+', "%2B"));
        let name = name.strip_prefix('/').unwrap_or(&name).to_owned();
        Some(Self { noun, name, rest: rest.to_owned(), work })
    }

    /// Whether the container has to run for it.
    pub(crate) fn needs_running(&self) -> bool {
        let runs = matches!(self.rest.as_str(), "exec" | "attach" | "attach/ws" | "resize" | "top");
        self.noun == Noun::Container && (runs || (self.rest == FORWARD && self.work == Work::Both))
    }

    /// Whether it shows the container, as `docker inspect` does for whatever bears a name.
    pub(crate) fn is_inspect(&self) -> bool {
        self.noun == Noun::Container && self.rest == "json"
    }

    /// The same request about another id.
    pub(crate) fn uri(&self, id: &str, query: Option<&str>, version: Option<ApiVersion>) -> ApiResult<Uri> {
        let noun = match self.noun {
            Noun::Container => "containers",
            Noun::Exec => "exec",
        };
        let version = version.map(|ApiVersion(major, minor)| format!("/v{major}.{minor}")).unwrap_or_default();
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let text = format!("{version}/{noun}/{id}/{}{query}", self.rest);
        text.parse().map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "invalid path"))
    }
}

fn of_container(method: &Method, rest: &str) -> Option<Work> {
    Some(match (method.as_str(), rest) {
        ("GET", "json" | "logs" | "top" | "stats" | "changes" | "export" | FORWARD) => Work::Answer,
        ("HEAD" | "GET" | "PUT", "archive") => Work::Answer,
        ("POST", "exec" | "resize" | "wait") => Work::Answer,
        ("POST", "attach") => Work::Output,
        ("POST", FORWARD) => Work::Both,
        ("GET", "attach/ws") => Work::WebSocket,
        ("POST", "start") => Work::OfService("start"),
        ("POST", "stop") => Work::OfService("stop"),
        ("POST", "restart") => Work::OfService("restart"),
        ("POST", "kill") => Work::OfService("kill"),
        ("POST", "pause") => Work::OfService("pause"),
        ("POST", "unpause") => Work::OfService("unpause"),
        ("POST", "rename") => Work::OfService("rename"),
        ("POST", "update") => Work::OfService("update"),
        ("DELETE", "") => Work::OfService("remove"),
        _ => return None,
    })
}

fn of_exec(method: &Method, rest: &str) -> Option<Work> {
    Some(match (method.as_str(), rest) {
        ("POST", "start") => Work::Output,
        ("POST", "resize") | ("GET", "json") => Work::Answer,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(request: &str) -> Option<Target> {
        let (method, path) = request.split_once(' ').expect("METHOD PATH");
        Target::parse(&method.parse().expect("a method"), path)
    }

    #[test]
    fn p_21_requests_say_what_they_are_about_and_how_they_travel() {
        for (request, name, work) in [
            ("POST /containers/web.1/exec", "web.1", Work::Answer),
            ("POST /exec/ab12.cd/start", "ab12.cd", Work::Output),
            ("POST /containers/%2Fweb.1/attach", "web.1", Work::Output),
            ("GET /containers/web.1/attach/ws", "web.1", Work::WebSocket),
            ("PUT /containers/a+b/archive", "a+b", Work::Answer),
            ("POST /containers/web.1/forward", "web.1", Work::Both),
            ("GET /containers/web.1/forward", "web.1", Work::Answer),
            ("DELETE /containers/web.1", "web.1", Work::OfService("remove")),
            ("POST /containers/web.1/kill", "web.1", Work::OfService("kill")),
        ] {
            let target = parse(request).expect(request);
            assert_eq!((target.name.as_str(), target.work), (name, work), "{request}");
        }
        for other in
            ["GET /containers/json", "POST /containers/create", "GET /info", "GET /exec/a/start", "POST /exec/a"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn p_21_the_same_request_about_another_id() {
        let target = parse("GET /containers/web.1/archive").expect("a target");
        let uri = target.uri("aa", Some("path=/etc"), Some(ApiVersion(1, 44))).expect("a path");
        assert_eq!(uri, "/v1.44/containers/aa/archive?path=/etc");
        assert_eq!(target.uri("aa", None, None).expect("a path"), "/containers/aa/archive");
        assert!(target.uri("a a", None, None).is_err());
        assert!(!target.needs_running() && !target.is_inspect());
        assert!(parse("POST /containers/a/forward").is_some_and(|target| target.needs_running()));
        assert!(!parse("GET /containers/a/forward").is_some_and(|target| target.needs_running()));
        assert!(parse("GET /containers/a/json").is_some_and(|target| target.is_inspect()));
    }
}
