//! The command line of Ensemble, built with failpoints: what the fault runs start.

fn main() -> std::process::ExitCode {
    ensemble::main()
}
