//! `GET /plugins`: there are none. All else that is asked of plugins is refused by [`super::unsupported`].

use axum::{Json, Router, extract::RawQuery, routing::get};
use serde_json::Value;

use super::{label_filter, query};
use crate::{error::ApiResult, router::Shared};

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/plugins", get(list))
}

/// Clients ask for it beside networks and volumes, and take a refusal for a broken host.
async fn list(raw: RawQuery) -> ApiResult<Json<Vec<Value>>> {
    let filters = query(raw).filters()?;
    label_filter::check_keys(&filters, "plugins", &["capability", "enabled"])?;
    label_filter::boolean(&filters, "enabled")?;
    Ok(Json(Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(text: &str, wanted: Result<(), &str>) {
        let answer = list(RawQuery(Some(format!("filters={text}")))).await;
        match (answer.map(|Json(all)| all), wanted) {
            (Ok(all), Ok(())) => assert!(all.is_empty(), "{text}"),
            (Err(error), Err(part)) => assert!(error.message.contains(part), "{text}: {}", error.message),
            (answer, _) => panic!("{text}: {answer:?}"),
        }
    }

    /// E-44: there is nothing to list, whatever of it is asked for; what is no question is refused.
    #[tokio::test]
    async fn e_44_there_are_no_plugins() {
        check("", Ok(())).await;
        check(r#"{"capability":["volumedriver"],"enabled":["true"]}"#, Ok(())).await;
        check(r#"{"enabled":["perhaps"]}"#, Err("invalid filter 'enabled=perhaps'")).await;
        check(r#"{"colour":["red"]}"#, Err("invalid filter 'colour' for plugins")).await;
        check("[]", Err("JSON object")).await;
    }
}
