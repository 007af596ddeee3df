//! The system, whole.

mod smoke;
