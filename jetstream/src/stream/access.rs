//! How a process reaches the broker: who it is there, and whom it trusts.

use std::path::{Path, PathBuf};

/// Flags that say who a process is at the broker; each has an environment variable.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AccessArgs {
    /// User at the broker
    #[arg(long, env = "ENSEMBLE_NATS_USER", value_name = "NAME", value_parser = user)]
    pub nats_user: Option<String>,
    /// File with the password of --nats-user
    #[arg(
        long,
        env = "ENSEMBLE_NATS_PASSWORD_FILE",
        value_name = "PATH",
        value_parser = Secret::read,
        hide_env_values = true
    )]
    pub nats_password_file: Option<Secret>,
    /// File with the seed of an nkey, instead of a password
    #[arg(
        long,
        env = "ENSEMBLE_NATS_NKEY_FILE",
        value_name = "PATH",
        value_parser = Secret::read,
        hide_env_values = true,
        conflicts_with = "nats_password_file"
    )]
    pub nats_nkey_file: Option<Secret>,
    /// Credentials file of a user (JWT and seed), instead of a password
    #[arg(
        long,
        env = "ENSEMBLE_NATS_CREDS_FILE",
        value_name = "PATH",
        value_parser = Secret::read,
        hide_env_values = true,
        conflicts_with_all = ["nats_password_file", "nats_nkey_file"]
    )]
    pub nats_creds_file: Option<Secret>,
    /// File with the certificates of the authorities that the broker's TLS certificate may be
    /// from; TLS is then required
    #[arg(long, env = "ENSEMBLE_NATS_CA", value_name = "PATH", value_parser = readable)]
    pub nats_ca: Option<PathBuf>,
    /// File with this process's own TLS certificate, for a broker that asks for one
    #[arg(long, env = "ENSEMBLE_NATS_CERT", value_name = "PATH", value_parser = readable, requires = "nats_cert_key")]
    pub nats_cert: Option<PathBuf>,
    /// File with the key of --nats-cert
    #[arg(long, env = "ENSEMBLE_NATS_CERT_KEY", value_name = "PATH", value_parser = readable, requires = "nats_cert")]
    pub nats_cert_key: Option<PathBuf>,
}

impl AccessArgs {
    /// The flags that say the same again, for commands to copy; each has a space before it.
    #[must_use]
    pub fn flags(&self) -> String {
        let file = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.path.clone());
        let flags = [
            ("nats-user", self.nats_user.as_ref().map(PathBuf::from)),
            ("nats-password-file", file(&self.nats_password_file)),
            ("nats-nkey-file", file(&self.nats_nkey_file)),
            ("nats-creds-file", file(&self.nats_creds_file)),
            ("nats-ca", self.nats_ca.clone()),
            ("nats-cert", self.nats_cert.clone()),
            ("nats-cert-key", self.nats_cert_key.clone()),
        ];
        let given = flags.into_iter().filter_map(|(name, value)| {
            let value = value?;
            Some(format!(" --{name} {}", value.display()))
        });
        given.collect()
    }

    /// How the broker at this address is reached.
    ///
    /// # Errors
    /// A sentence, when a password has no user or a user no password.
    pub fn access(&self, url: &str) -> Result<Access, String> {
        let proof = match (
            &self.nats_password_file,
            &self.nats_nkey_file,
            &self.nats_creds_file,
        ) {
            (Some(password), _, _) => match &self.nats_user {
                Some(user) => Proof::Password(user.clone(), password.clone()),
                None => {
                    return Err(
                        "--nats-password-file needs --nats-user, whose password it is".to_owned(),
                    );
                }
            },
            (None, Some(seed), _) => Proof::Nkey(seed.clone()),
            (None, None, Some(creds)) => Proof::Creds(creds.clone()),
            (None, None, None) => match &self.nats_user {
                Some(user) => {
                    return Err(format!(
                        "--nats-user {user} needs --nats-password-file, --nats-nkey-file or \
                         --nats-creds-file"
                    ));
                }
                None => Proof::None,
            },
        };
        Ok(Access {
            url: url.to_owned(),
            user: self.nats_user.clone(),
            proof,
            ca: self.nats_ca.clone(),
            certificate: self.nats_cert.clone().zip(self.nats_cert_key.clone()),
        })
    }
}

/// How the broker is reached: its address, and who asks.
#[derive(Debug, Clone)]
pub struct Access {
    pub(crate) url: String,
    // Names the inboxes, which nobody else may listen to.
    pub(crate) user: Option<String>,
    pub(crate) proof: Proof,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
}

/// What proves who asks.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    None,
    Password(String, Secret),
    Nkey(Secret),
    Creds(Secret),
}

impl From<&str> for Access {
    /// Without a user: for a broker that lets anybody in.
    fn from(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            user: None,
            proof: Proof::None,
            ca: None,
            certificate: None,
        }
    }
}

impl From<&String> for Access {
    fn from(url: &String) -> Self {
        Self::from(url.as_str())
    }
}

impl From<&Access> for Access {
    fn from(access: &Access) -> Self {
        access.clone()
    }
}

impl Access {
    /// The address, without what nobody should read.
    #[must_use]
    pub fn shown(&self) -> String {
        match url::Url::parse(&self.url) {
            Ok(mut url) if url.password().is_some() || !url.username().is_empty() => {
                let _ = url.set_password(None);
                let _ = url.set_username("");
                url.to_string()
            }
            _ => self.url.clone(),
        }
    }
}

/// Something that is read from a file, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    path: PathBuf,
}

impl Secret {
    /// Reads the file of a flag.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn read(path: &str) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("the file cannot be read: {error}"))?;
        match text.trim() {
            "" => Err("the file is empty".to_owned()),
            secret => Ok(Self {
                text: secret.to_owned(),
                path: path.into(),
            }),
        }
    }

    /// What must not be shown.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A user whose name can be part of a subject.
fn user(name: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match !name.is_empty() && name.chars().all(fine) {
        true => Ok(name.to_owned()),
        false => Err("must be letters, digits, `-` and `_`".to_owned()),
    }
}

fn readable(path: &str) -> Result<PathBuf, String> {
    match std::fs::File::open(Path::new(path)) {
        Ok(_) => Ok(path.into()),
        Err(error) => Err(format!("the file cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret {
            text: text.to_owned(),
            path: "password.txt".into(),
        }
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let args = AccessArgs {
            nats_user: Some("order".to_owned()),
            nats_password_file: Some(secret("hunter2")),
            ..AccessArgs::default()
        };
        let access = args
            .access("nats://u:hunter2@host:4222")
            .expect("an access");
        for shown in [
            format!("{args:?}"),
            format!("{:?}", access.proof),
            access.shown(),
            args.flags(),
        ] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert_eq!(access.shown(), "nats://host:4222");
        let flags = " --nats-user order --nats-password-file password.txt";
        assert_eq!(args.flags(), flags);
    }

    #[test]
    fn a_user_needs_a_proof_and_a_password_a_user() {
        let user = Some("order".to_owned());
        let without = AccessArgs {
            nats_user: user,
            ..AccessArgs::default()
        };
        let error = without.access("nats://h").expect_err("no password");
        assert!(error.contains("--nats-password-file"), "{error}");
        let nobody = AccessArgs {
            nats_password_file: Some(secret("x")),
            ..AccessArgs::default()
        };
        let error = nobody.access("nats://h").expect_err("no user");
        assert!(error.contains("--nats-user"), "{error}");
    }
}
