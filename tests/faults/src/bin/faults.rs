//! The fault runs.

fn main() -> std::process::ExitCode {
    faults::main()
}
