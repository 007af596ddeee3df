//! How users prove who they are at the broker: passwords, nkeys or credentials; and the
//! certificates of a connection that is protected.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jetstream::stream::permissions::Grant;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// What a user shows to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Its name and a password, as in the deployment.
    Password,
    /// The signature of its nkey.
    Nkey,
    /// A JWT, which its account has signed, with the signature of its nkey.
    Credentials,
}

impl Login {
    /// The flag that names the file, and the beginning of its name.
    pub(crate) fn flag(self) -> (&'static str, &'static str) {
        match self {
            Self::Password => ("--nats-password-file", "nats_"),
            Self::Nkey => ("--nats-nkey-file", "nkey_"),
            Self::Credentials => ("--nats-creds-file", "creds_"),
        }
    }

    /// Rewrites the permissions of the deployment for this way, and makes the users' secrets.
    pub(crate) fn rewrite(self, permissions: &str, secrets: &Path) -> String {
        match self {
            Self::Password => permissions.to_owned(),
            Self::Nkey => with_nkeys(permissions, secrets),
            Self::Credentials => with_credentials(secrets),
        }
    }
}

fn seed(key: &KeyPair) -> String {
    key.seed().expect("a new key has a seed")
}

/// An nkey takes the place of the user and the password.
fn with_nkeys(permissions: &str, secrets: &Path) -> String {
    let mut text = permissions.replace("include \"passwords.conf\"", "");
    for grant in ensemble::grants() {
        let user = &grant.user;
        let key = KeyPair::new_user();
        fs::write(secrets.join(format!("nkey_{user}")), seed(&key)).expect("written");
        let named = format!("user: {user}\n      password: $password_{user}\n");
        assert!(text.contains(&named), "{user} has a password");
        text = text.replace(&named, &format!("nkey: {}\n", key.public_key()));
    }
    text
}

/// In operator mode a user's permissions are in its JWT, which its account has signed.
fn with_credentials(secrets: &Path) -> String {
    let operator = KeyPair::new_operator();
    let (account, system) = (KeyPair::new_account(), KeyPair::new_account());
    let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1 });
    let mut shop = limits.clone();
    for (limit, value) in [
        ("mem_storage", 0),
        ("disk_storage", -1),
        ("streams", -1),
        ("consumer", -1),
    ] {
        shop[limit] = value.into();
    }
    let of_account = |limits| json!({ "type": "account", "version": 2, "limits": limits });
    let shop = jwt(&operator, &account.public_key(), "shop", of_account(shop));
    let sys = jwt(
        &operator,
        &system.public_key(),
        "system",
        of_account(limits),
    );
    let this = json!({ "type": "operator", "version": 2 });
    let operator = jwt(&operator, &operator.public_key(), "operator", this);
    for grant in ensemble::grants() {
        let key = KeyPair::new_user();
        let token = jwt(&account, &key.public_key(), &grant.user, of_user(&grant));
        let file = secrets.join(format!("creds_{}", grant.user));
        fs::write(file, credentials(&token, &key)).expect("written");
    }
    format!(
        "operator: \"{operator}\"\nsystem_account: {system}\nresolver: MEMORY\n\
         resolver_preload: {{\n{account}: \"{shop}\"\n{system}: \"{sys}\"\n}}\n",
        system = system.public_key(),
        account = account.public_key(),
    )
}

fn of_user(grant: &Grant) -> Value {
    json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
        "pub": { "allow": grant.publish }, "sub": { "allow": grant.subscribe } })
}

/// A token as NATS has them: signed with an nkey.
fn jwt(signer: &KeyPair, subject: &str, name: &str, nats: Value) -> String {
    let now = jetstream::clock::wall() / 1000;
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let claims = json!({ "jti": jetstream::clock::new_id(), "iat": now, "name": name,
        "iss": signer.public_key(), "sub": subject, "nats": nats });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = signer.sign(signed.as_bytes()).expect("signed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A credentials file.
fn credentials(token: &str, key: &KeyPair) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        seed(key)
    )
}

/// Certificates in a folder: `ca.pem`, and signed by it `server.pem` for 127.0.0.1 and
/// `client.pem`; and `other.pem`, another authority. The keys end with `-key.pem`.
pub struct Certificates(PathBuf);

const EXTENSIONS: &str = "\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
subjectAltName = IP:127.0.0.1
extendedKeyUsage = serverAuth
[client]
basicConstraints = CA:FALSE
subjectAltName = DNS:client
extendedKeyUsage = clientAuth
";

impl Certificates {
    /// Makes them.
    ///
    /// # Panics
    /// When there is no openssl.
    #[must_use]
    pub fn make(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        fs::write(folder.join("extensions"), EXTENSIONS).expect("written");
        let made = Self(folder.to_owned());
        made.certificate("ca", "authority", None);
        made.certificate("other", "authority", None);
        made.certificate("server", "server", Some("ca"));
        made.certificate("client", "client", Some("ca"));
        made
    }

    fn certificate(&self, name: &str, kind: &str, signer: Option<&str>) {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-noenc", "-days", "2", "-newkey", "ec"]);
        openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        openssl.args(["-config", "extensions", "-extensions", kind]);
        openssl.args(["-subj", &format!("/CN={name}")]);
        openssl.args(["-out", &format!("{name}.pem")]);
        openssl.args(["-keyout", &format!("{name}-key.pem")]);
        if let Some(signer) = signer {
            openssl.args(["-CA", &format!("{signer}.pem")]);
            openssl.args(["-CAkey", &format!("{signer}-key.pem")]);
        }
        let made = openssl.current_dir(&self.0).output().expect("openssl");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{name}: {said}");
    }

    /// The path of one of the files.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// The flags of a process that shows its own certificate.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let files = [
            ("--nats-ca", "ca.pem"),
            ("--nats-cert", "client.pem"),
            ("--nats-cert-key", "client-key.pem"),
        ];
        let flags = files.into_iter();
        flags
            .flat_map(|(flag, file)| [flag.to_owned(), self.path(file)])
            .collect()
    }
}
