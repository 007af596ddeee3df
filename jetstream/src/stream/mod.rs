//! The broker: its connection, the stream and its consumers as data, and reading back what
//! was said.

pub mod access;
pub mod bare;
pub mod broker;
pub mod difference;
pub mod guard;
pub mod history;
pub mod inspect;
pub mod local_server;
pub mod permissions;
pub mod position;
pub mod reader;
pub mod timeline;
pub mod topology;
