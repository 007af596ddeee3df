//! Requests that are wrong, made from ones that would be right.

use serde_json::{Value, json};

/// Random numbers that follow from a seed (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).expect("small");
        usize::try_from(self.roll() % n).expect("small")
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

/// A route, and what it would take.
pub(crate) struct Target {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    pub(crate) has_id: bool,
    pub(crate) keyed: bool,
    pub(crate) paged: bool,
    pub(crate) guarded: bool,
}

/// A request as it is sent, and what is wrong with it.
pub(crate) struct Request {
    pub(crate) how: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Nothing that follows on the connection would be understood.
    pub(crate) last: bool,
}

type Spoil = fn(&Target, &mut Dice, Draft) -> Option<Draft>;

/// What is wrong, and how it is made so; nothing where it does not apply.
const WAYS: &[(&str, Spoil)] = &[
    ("cut off", |_, dice, draft| {
        let length = draft.body.len();
        let cut = (length > 1).then(|| 1 + dice.below(length - 1))?;
        Some(draft.with(|body| body.truncate(cut)))
    }),
    ("an object as a list of its values", |_, dice, draft| {
        let mut value: Value = serde_json::from_slice(&draft.body).ok()?;
        let fields = value.as_object_mut()?.values_mut();
        let mut inner: Vec<&mut Value> = fields
            .flat_map(|field| match field {
                Value::Array(items) => items.iter_mut().collect(),
                field => vec![field],
            })
            .filter(|field| field.is_object())
            .collect();
        let chosen = (!inner.is_empty()).then(|| dice.below(inner.len()))?;
        let mut list: Vec<Value> = inner[chosen].as_object()?.values().cloned().collect();
        // Fields that may be missing have their places too.
        list.resize(list.len() + dice.below(3), Value::Null);
        *inner[chosen] = list.into();
        let body = value.to_string();
        Some(draft.with_body(body.as_bytes()))
    }),
    ("unknown field", |_, dice, draft| {
        let name = dice.of(&["user_id", "status", "total", "__proto__", "", "\u{1F600}"]);
        draft.json(|body| body[name] = json!(1))
    }),
    ("no object", |_, dice, draft| {
        let wrong = dice.of(&[
            "[]", "1", "null", "\"text\"", "true", "[{}]", "-0.0", "1e999",
        ]);
        draft
            .is_json()
            .then(|| draft.with(|body| *body = wrong.into()))
    }),
    ("wrong type", |_, dice, draft| {
        let wrong = [
            json!([]),
            json!({ "a": 1 }),
            json!(1.5),
            json!("\u{0}"),
            json!(true),
        ];
        let wrong = wrong[dice.below(wrong.len())].clone();
        draft.field(dice, |field| *field = wrong)
    }),
    ("beyond a limit", |_, dice, draft| {
        let wrong = dice.of(&[
            "-1",
            "-9223372036854775808",
            "9223372036854775807",
            "18446744073709551615",
            "1000000000000000000000000000000",
            "1e400",
            "-1e9",
            "0.1",
        ]);
        draft.number(dice, wrong)
    }),
    ("a text beyond its limit", |_, dice, draft| {
        let long = "x".repeat(201);
        let wrong = dice.of(&[long.as_str(), "", "a\u{7}b", "\u{0}"]).to_owned();
        let texts = draft.is_json() && draft.text().contains("\"name\"");
        texts.then_some(())?;
        draft.json(|body| body["name"] = wrong.into())
    }),
    ("missing field", |target, dice, draft| {
        let optional = target.method == "PATCH";
        let fields: Vec<String> = target.body.as_ref()?.as_object()?.keys().cloned().collect();
        let field =
            (!fields.is_empty() && !optional).then(|| fields[dice.below(fields.len())].clone())?;
        draft.json(|body| {
            body.as_object_mut().expect("an object").remove(&field);
        })
    }),
    ("more after the end", |_, dice, draft| {
        let more = dice.of(&["x", "{}", "]", "\u{0}", "//"]);
        draft
            .is_json()
            .then(|| draft.with(|body| body.extend(more.bytes())))
    }),
    ("bytes of chance", |_, dice, draft| {
        let bytes: Vec<u8> = (0..1 + dice.below(300))
            .map(|_| dice.roll() as u8)
            .collect();
        draft.is_json().then(|| {
            draft.with(|body| {
                *body = vec![0xFF];
                body.extend(bytes);
            })
        })
    }),
    ("no UTF-8", |_, _, draft| {
        draft
            .is_json()
            .then(|| draft.with(|body| *body = b"{\"\xC3\x28\": \"\xED\xA0\x80\"}".to_vec()))
    }),
    ("too deep", |_, dice, draft| {
        let open = dice
            .of(&["[", "{\"a\":", "{\"items\":["])
            .repeat(1 + dice.below(5000));
        draft
            .is_json()
            .then(|| draft.with(|body| *body = open.into()))
    }),
    ("too large", |_, _, draft| {
        draft
            .is_json()
            .then(|| draft.with(|body| body.extend(vec![b' '; 64 * 1024])))
    }),
    ("no JSON by its type", |_, dice, draft| {
        let wrong = dice.of(&[
            "text/plain",
            "application/xml",
            "a",
            "multipart/form-data; boundary=x",
            ";",
        ]);
        draft.is_json().then(|| draft.header("content-type", wrong))
    }),
    ("a key that is none", |target, dice, draft| {
        let long = "k".repeat(256);
        let wrong = dice.of(&["", "a b", "\u{e9}", &long, "\t"]);
        target.keyed.then(|| draft.header("idempotency-key", wrong))
    }),
    ("two keys", |target, _, draft| {
        target.keyed.then(|| {
            draft
                .header("idempotency-key", "a")
                .header("idempotency-key", "b")
        })
    }),
    ("a token that is none", |target, dice, draft| {
        let wrong = dice.of(&[
            "",
            "Bearer",
            "Bearer ",
            "Bearer a.b.c",
            "Bearer eyJhbGciOiJub25lIn0.e30.",
            "Basic eDp4",
            "\u{ff}",
        ]);
        target.guarded.then(|| {
            draft
                .without("authorization")
                .header("authorization", wrong)
        })
    }),
    ("an answer that nobody has", |target, dice, draft| {
        let wrong = dice.of(&[
            "image/png",
            "text/*;q=0.5",
            "application/json;q=0",
            "nonsense",
            ",",
        ]);
        // This one answers with text.
        let streams = target.path.ends_with("/events");
        (target.guarded && !streams).then(|| draft.header("accept", wrong))
    }),
    ("an id that is none", |target, dice, draft| {
        let wrong = dice.of(&[
            "1",
            "%00",
            "%ff%fe",
            "..%2f..",
            "'%20OR%201=1",
            "%F0%9F%98%80",
            "null",
            "-",
        ]);
        let (before, _) = target.path.rsplit_once("alice").or_else(|| {
            let at = target.path.find("0")?;
            Some(target.path.split_at(at))
        })?;
        let owned = target.path.contains("alice");
        let wrong = if owned { "%00" } else { wrong };
        (target.has_id && before.ends_with('/')).then(|| draft.path(format!("{before}{wrong}")))
    }),
    ("a query that is none", |target, dice, draft| {
        let wrong = dice.of(&[
            "limit=-1",
            "limit=0",
            "limit=101",
            "limit=1.5",
            "limit=",
            "limit=1&limit=2",
            "cursor=1",
            "cursor=",
            "limit=99999999999999999999",
            "unknown=1",
            "limit=%ff",
            "cursor=%00",
        ]);
        target
            .paged
            .then(|| draft.path(format!("{}?{wrong}", target.path)))
    }),
    ("no route", |target, dice, draft| {
        let more = dice.of(&["/nothing/here", "//", "/%2e%2e/", "/a/b/c/d/e"]);
        Some(draft.path(format!("{}{more}", target.path.trim_end_matches('/'))))
    }),
    ("no such method", |_, dice, draft| {
        Some(draft.method(dice.of(&["BREW", "post", "TRACE", "PROPFIND", "A"])))
    }),
    ("no header", |_, dice, draft| {
        let wrong = dice.of(&["no colon", "bad name: 1", "x\u{1}: 1", ": 1", "x: a\u{0}b"]);
        Some(draft.raw(wrong).last())
    }),
    ("a length that is none", |_, dice, draft| {
        let wrong = dice.of(&["abc", "-1", "1, 2", "18446744073709551616"]);
        draft.is_json().then(|| {
            draft
                .without("content-length")
                .header("content-length", wrong)
                .last()
        })
    }),
    ("chunks that are none", |_, dice, draft| {
        let wrong = dice.of(&["zz\r\n{}\r\n0\r\n\r\n", "-1\r\n", "fffffffffffffffff\r\n"]);
        draft.is_json().then(|| {
            let draft = draft
                .without("content-length")
                .header("transfer-encoding", "chunked");
            draft.with_body(wrong.as_bytes()).last()
        })
    }),
];

impl Target {
    /// A request to this route that is wrong in one way.
    pub(crate) fn spoil(&self, dice: &mut Dice, token: &str) -> Request {
        loop {
            let (how, spoil) = WAYS[dice.below(WAYS.len())];
            let draft = Draft::of(self, token);
            if let Some(draft) = spoil(self, dice, draft) {
                return draft.finish(how);
            }
        }
    }
}

/// A request that is being made.
struct Draft {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    raw: Vec<String>,
    body: Vec<u8>,
    has_body: bool,
    framed: bool,
    last: bool,
}

impl Draft {
    fn of(target: &Target, token: &str) -> Self {
        let body = target.body.as_ref().map(Value::to_string);
        let mut draft = Self {
            method: target.method.clone(),
            path: target.path.clone(),
            headers: vec![("authorization".to_owned(), format!("Bearer {token}"))],
            raw: vec![],
            has_body: body.is_some(),
            body: body.unwrap_or_default().into_bytes(),
            framed: true,
            last: false,
        };
        if draft.has_body {
            draft = draft.header("content-type", "application/json");
        }
        draft
    }

    fn is_json(&self) -> bool {
        self.has_body
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn with(mut self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        change(&mut self.body);
        self
    }

    fn with_body(self, bytes: &[u8]) -> Self {
        self.with(|body| *body = bytes.to_vec())
    }

    fn json(self, change: impl FnOnce(&mut Value)) -> Option<Self> {
        let mut value: Value = serde_json::from_slice(&self.body).ok()?;
        change(&mut value);
        Some(self.with_body(value.to_string().as_bytes()))
    }

    /// Changes one of the fields.
    fn field(self, dice: &mut Dice, change: impl FnOnce(&mut Value)) -> Option<Self> {
        let value: Value = serde_json::from_slice(&self.body).ok()?;
        let fields: Vec<&String> = value.as_object()?.keys().collect();
        let field = (!fields.is_empty()).then(|| fields[dice.below(fields.len())].clone())?;
        self.json(|body| change(&mut body[&field]))
    }

    /// Puts something else where a number is.
    fn number(self, dice: &mut Dice, wrong: &str) -> Option<Self> {
        let text = self.text();
        let numbers: Vec<_> = text
            .match_indices(':')
            .filter(|(at, _)| text[at + 1..].starts_with(|c: char| c.is_ascii_digit()))
            .map(|(at, _)| at + 1)
            .collect();
        let at = (!numbers.is_empty()).then(|| numbers[dice.below(numbers.len())])?;
        let rest = text[at..].trim_start_matches(|c: char| c.is_ascii_digit());
        let spoiled = format!("{}{wrong}{rest}", &text[..at]);
        Some(self.with_body(spoiled.as_bytes()))
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.framed &= name != "content-length" && name != "transfer-encoding";
        if name == "content-type" {
            self = self.without(name);
        }
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    fn raw(mut self, line: &str) -> Self {
        self.raw.push(line.to_owned());
        self
    }

    fn path(mut self, path: String) -> Self {
        self.path = path;
        self
    }

    fn method(mut self, method: &str) -> Self {
        self.method = method.to_owned();
        self
    }

    fn last(mut self) -> Self {
        self.last = true;
        self
    }

    fn finish(self, how: &'static str) -> Request {
        let mut bytes =
            format!("{} {} HTTP/1.1\r\nhost: x\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        for line in &self.raw {
            bytes.extend(format!("{line}\r\n").bytes());
        }
        if self.framed {
            bytes.extend(format!("content-length: {}\r\n", self.body.len()).bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(self.body);
        Request {
            how,
            bytes,
            last: self.last,
        }
    }
}
