//! A client that rides out what breaks: a request whose answer is lost is sent again with
//! its key, until it is answered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use events::UserId;
use jetstream::http::auth::DevelopmentKey;
use reqwest::Method;
use serde_json::Value;

// Longer than any fault of a scenario.
const PATIENCE: Duration = Duration::from_secs(150);
const RETRY: Duration = Duration::from_millis(50);

/// Who asks.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    urls: BTreeMap<&'static str, String>,
    token: String,
    retry_most: Duration,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn text(&self, name: &str) -> String {
        self.body[name].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub(crate) fn new(
        http: &reqwest::Client,
        urls: &BTreeMap<&'static str, String>,
        key: &DevelopmentKey,
        name: &str,
        operator: bool,
    ) -> Result<Self, String> {
        let user = UserId::new(name).map_err(|e| e.to_string())?;
        Ok(Self {
            http: http.clone(),
            urls: urls.clone(),
            token: key.token(&user, operator, Duration::from_secs(24 * 60 * 60))?,
            retry_most: RETRY,
        })
    }

    /// It waits longer each time, up to this, before it asks again.
    pub(crate) fn asking_again_after(self, retry_most: Duration) -> Self {
        Self { retry_most, ..self }
    }

    /// Asks once.
    pub(crate) async fn ask(
        &self,
        service: &str,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Answer, String> {
        let url = self.urls.get(service).cloned().unwrap_or_default();
        let mut request = self
            .http
            .request(method, format!("{url}{path}"))
            .bearer_auth(&self.token);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if !body.is_null() {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let answer = request.send().await.map_err(|e| e.to_string())?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|e| e.to_string())?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, body })
    }

    /// Asks until there is an answer that more asking would not change.
    pub(crate) async fn insist(
        &self,
        service: &str,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Answer, String> {
        let (begun, mut pause) = (Instant::now(), RETRY);
        loop {
            let answer = self.ask(service, method.clone(), path, key, body).await;
            let code = |answer: &Answer| answer.text("code");
            let again = match &answer {
                Err(_) => true,
                Ok(answer) if answer.status >= 500 => true,
                Ok(answer) => matches!(
                    code(answer).as_str(),
                    "UNKNOWN_PRODUCT" | "UNKNOWN_COUPON" | "IDEMPOTENCY_IN_PROGRESS"
                ),
            };
            match answer {
                Ok(answer) if !again => return Ok(answer),
                _ if begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(self.retry_most);
                }
                Ok(answer) => {
                    return Err(format!("{path} of {service} goes on answering {answer:?}"));
                }
                Err(error) => return Err(format!("{path} of {service}: {error}")),
            }
        }
    }

    pub(crate) async fn get(&self, service: &str, path: &str) -> Result<Answer, String> {
        self.insist(service, Method::GET, path, None, &Value::Null)
            .await
    }

    pub(crate) async fn post(
        &self,
        service: &str,
        path: &str,
        key: Option<&str>,
        body: Value,
    ) -> Result<Answer, String> {
        self.insist(service, Method::POST, path, key, &body).await
    }
}
